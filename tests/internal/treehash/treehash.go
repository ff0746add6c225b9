// Package treehash describes a tree so that two of them can be compared: one
// line a name, with type, permissions, owner, links, times, extended
// attributes and a hash of the content.
//
// It reads the tree, and changes nothing but times of access.
package treehash

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Fields says what is compared besides names, types, permissions, sizes, targets and content.
type Fields struct {
	Owner, Links, Mtime, Xattrs bool
}

// All is every field.
var All = Fields{Owner: true, Links: true, Mtime: true, Xattrs: true}

// Tree maps the names below dir, from it and with slashes, to descriptions. It leaves out what is in skip, with all below it.
func Tree(dir string, f Fields, skip ...string) (map[string]string, error) {
	out := make(map[string]string)
	first := make(map[[2]uint64]string) // (device, inode) → first name, for hard links
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel(dir, p); err == nil && slices.Contains(skip, filepath.ToSlash(rel)) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		out[rel], err = describe(p, rel, f, first)
		return err
	})
	return out, err
}

func describe(p, rel string, f Fields, first map[[2]uint64]string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return "", fmt.Errorf("lstat %s: %w", p, err)
	}
	var b strings.Builder
	kind := st.Mode & unix.S_IFMT
	fmt.Fprintf(&b, "%06o", st.Mode)
	if f.Owner {
		fmt.Fprintf(&b, " %d:%d", st.Uid, st.Gid)
	}
	if f.Mtime {
		fmt.Fprintf(&b, " mtime=%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	if f.Links && kind != unix.S_IFDIR {
		fmt.Fprintf(&b, " links=%d", st.Nlink)
		key := [2]uint64{st.Dev, st.Ino}
		if same, ok := first[key]; ok {
			fmt.Fprintf(&b, " same as %s", same)
		} else if st.Nlink > 1 {
			first[key] = rel
		}
	}
	switch kind {
	case unix.S_IFREG:
		sum, n, err := hashFile(p)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " size=%d read=%d sha256=%s", st.Size, n, sum)
	case unix.S_IFLNK:
		target, err := os.Readlink(p)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " -> %q", target)
	case unix.S_IFCHR, unix.S_IFBLK:
		fmt.Fprintf(&b, " dev=%d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if f.Xattrs && kind != unix.S_IFLNK {
		x, err := xattrs(p)
		if err != nil {
			return "", err
		}
		b.WriteString(x)
	}
	return b.String(), nil
}

func hashFile(p string) (sum string, n int64, err error) {
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if n, err = io.Copy(h, f); err != nil {
		return "", 0, fmt.Errorf("read %s: %w", p, err)
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

func xattrs(p string) (string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, list)
	if err == unix.ENOTSUP {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("listxattr %s: %w", p, err)
	}
	names := bytes.FieldsFunc(list[:n], func(r rune) bool { return r == 0 })
	slices.SortFunc(names, bytes.Compare)
	var b strings.Builder
	for _, name := range names {
		val := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(p, string(name), val)
		if err != nil {
			return "", fmt.Errorf("getxattr %s %s: %w", p, name, err)
		}
		fmt.Fprintf(&b, " %s=%x", name, val[:n])
	}
	return b.String(), nil
}

// Diff tells how two trees differ, at most limit lines (0: all); "" if they do not.
func Diff(a, b map[string]string, limit int) string {
	var lines []string
	for name, da := range a {
		db, ok := b[name]
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s: only in the first: %s", name, da))
		case da != db:
			lines = append(lines, fmt.Sprintf("%s:\n  first  %s\n  second %s", name, da, db))
		}
	}
	for name, db := range b {
		if _, ok := a[name]; !ok {
			lines = append(lines, fmt.Sprintf("%s: only in the second: %s", name, db))
		}
	}
	slices.Sort(lines)
	if n := len(lines); limit > 0 && n > limit {
		lines = append(lines[:limit], fmt.Sprintf("… and %d more", n-limit))
	}
	return strings.Join(lines, "\n")
}
