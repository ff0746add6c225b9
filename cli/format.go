package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"echo9/internal/treeops"
	"echo9/internal/wire"
)

// entryJSON is how an entry is printed with --json.
type entryJSON struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Type   string `json:"type"`
	Mode   string `json:"mode"` // octal, permissions only
	Size   uint64 `json:"size"`
	Nlink  uint64 `json:"nlink"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Rdev   uint64 `json:"rdev,omitempty"`
	Blocks uint64 `json:"blocks"`
	Atime  string `json:"atime"`
	Mtime  string `json:"mtime"`
	Ctime  string `json:"ctime"`
	ID     uint64 `json:"id"`
	Target string `json:"target,omitempty"`
}

func toJSON(e treeops.Entry) entryJSON {
	a := e.Attr
	return entryJSON{
		Name: e.Name, Path: e.Path, Type: typeName(e.Type), Mode: fmt.Sprintf("%04o", a.Mode&0o7777),
		Size: a.Size, Nlink: a.Nlink, UID: a.UID, GID: a.GID, Rdev: a.Rdev, Blocks: a.Blocks,
		Atime: stamp(a.Atime), Mtime: stamp(a.Mtime), Ctime: stamp(a.Ctime),
		ID: a.QID.Path, Target: e.Target,
	}
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

func typeName(t uint8) string {
	switch t {
	case 1:
		return "fifo"
	case 2:
		return "char"
	case 4:
		return "dir"
	case 6:
		return "block"
	case 8:
		return "file"
	case 10:
		return "symlink"
	case 12:
		return "socket"
	}
	return "unknown"
}

// modeString is the first column of ls -l.
func modeString(mode uint32) string {
	m := fs.FileMode(mode & 0o777).String()[1:]
	b := []byte(map[string]string{
		"fifo": "p", "char": "c", "dir": "d", "block": "b", "symlink": "l", "socket": "s",
	}[typeName(uint8(mode>>12&0xf))] + m)
	if len(b) == 9 {
		b = append([]byte{'-'}, b...)
	}
	for _, s := range []struct {
		bit       uint32
		at        int
		set, over byte
	}{{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'}} {
		if mode&s.bit != 0 {
			if b[s.at] == 'x' {
				b[s.at] = s.set
			} else {
				b[s.at] = s.over
			}
		}
	}
	return string(b)
}

// longLine is a line of ls -l.
func longLine(e treeops.Entry) string {
	a := e.Attr
	size := strconv.FormatUint(a.Size, 10)
	if t := typeName(e.Type); t == "char" || t == "block" {
		major, minor := deviceNumbers(a.Rdev)
		size = fmt.Sprintf("%d, %d", major, minor)
	}
	line := fmt.Sprintf("%s %3d %5d %5d %10s %s %s", modeString(a.Mode), a.Nlink, a.UID, a.GID, size,
		time.Unix(0, a.Mtime).Format("2006-01-02 15:04:05"), quoteName(e.Name))
	if e.Target != "" {
		line += " -> " + quoteName(e.Target)
	}
	return line
}

func deviceNumbers(dev uint64) (major, minor uint64) {
	return dev>>8&0xfff | dev>>32&^0xfff, dev&0xff | dev>>12&^0xff
}

// quoteName keeps names with control characters from playing with the terminal.
func quoteName(s string) string {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\ufffd' {
			return strconv.Quote(s)
		}
	}
	return s
}

// byteCount is a size for people.
func byteCount(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatUint(n, 10)
	}
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.1f%c", f, units[i])
}

func statText(w io.Writer, e treeops.Entry) {
	a := e.Attr
	name := quoteName(e.Path)
	if e.Target != "" {
		name += " -> " + quoteName(e.Target)
	}
	fmt.Fprintf(w, "  File: %s\n", name)
	fmt.Fprintf(w, "  Size: %-12d Blocks: %-10d %s\n", a.Size, a.Blocks, typeName(e.Type))
	fmt.Fprintf(w, "    Id: %-12d Links: %-11d Version: %d\n", a.QID.Path, a.Nlink, a.QID.Version)
	fmt.Fprintf(w, "  Mode: %04o/%s  Uid: %d  Gid: %d\n", a.Mode&0o7777, modeString(a.Mode), a.UID, a.GID)
	for _, t := range []struct {
		name string
		ns   int64
	}{{"Access", a.Atime}, {"Modify", a.Mtime}, {"Change", a.Ctime}} {
		fmt.Fprintf(w, "%s: %s\n", t.name, stamp(t.ns))
	}
}

// statfsJSON is what df --json prints.
type statfsJSON struct {
	BlockSize uint32 `json:"block_size"`
	Bytes     uint64 `json:"bytes"`
	Free      uint64 `json:"free"`
	Available uint64 `json:"available"`
	Files     uint64 `json:"files"`
	FreeFiles uint64 `json:"free_files"`
	NameLen   uint32 `json:"name_len"`
}

func statfsToJSON(st wire.StatFS) statfsJSON {
	b := uint64(st.BlockSize)
	return statfsJSON{
		BlockSize: st.BlockSize, Bytes: st.Blocks * b, Free: st.Bfree * b, Available: st.Bavail * b,
		Files: st.Files, FreeFiles: st.Ffree, NameLen: st.NameLen,
	}
}
