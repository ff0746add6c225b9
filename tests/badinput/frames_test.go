package badinput

import (
	"encoding/binary"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
)

func size(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// badFrames: frames that are truncated, oversized, or of types that there are not.
func badFrames(t *testing.T, v victim) {
	for what, b := range map[string][]byte{
		"size 0":            size(0),
		"size 6":            append(size(6), 24, 1),
		"larger than msize": append(size(1<<20+1), wire.TypeTgetattr, 1, 0),
		"4 GiB":             append(size(1<<32-1), wire.TypeTwrite, 1, 0),
		"a web browser":     []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		c := connect(t, v.addr) // before a version is agreed, too
		must(t, c.bytes(b))
		c.hungUp(what + ", first")
		c = plain(t, v.addr)
		must(t, c.bytes(b))
		c.hungUp(what)
	}
	// Messages before Tversion.
	c := connect(t, v.addr)
	c.send(1, &wire.Tattach{Fid: 0, Afid: wire.NoFid, UID: 0})
	if _, m, err := c.next(); err == nil && m.Type() == wire.TypeRattach {
		t.Error("an attach without a version succeeds")
	}
	// Bodies of all lengths of all types, replies and unknown ones among them.
	for _, version := range []string{wire.Version9P, wire.ExtVersion} {
		c := dial(t, v.addr, 1<<16, version)
		for typ := range 256 {
			if uint8(typ) == wire.TypeTversion || uint8(typ) == wire.TypeTflush {
				continue
			}
			for _, n := range []int{0, 1, 5, 64} {
				b := append(size(uint32(7+n)), uint8(typ), byte(typ), 7)
				for i := range n {
					b = append(b, byte(0xff>>(i%3)))
				}
				must(t, c.bytes(b))
				m := c.reply(uint16(typ) | 7<<8)
				if e, ok := m.(*wire.Rlerror); !ok || e.Errno == 0 {
					t.Errorf("%s: type %d with %d bytes: %v", version, typ, n, m)
				}
			}
		}
	}
	// A frame that breaks off, many times: the connection goes, and nothing stays.
	whole := wire.AppendFrame(nil, 1, &wire.Twrite{Fid: 0, Data: make([]byte, 60_000)})
	for i := range 100 {
		c := plain(t, v.addr)
		must(t, c.bytes(whole[:1+i*len(whole)/101]))
		c.nc.Close()
	}
}

// badFids: fids that are used twice, never made, never opened.
func badFids(t *testing.T, v victim) {
	c := plain(t, v.addr)
	c.walk(0, 1, "big")
	c.walk(0, 2, "sub")
	for _, m := range []wire.Message{ // in use
		&wire.Tattach{Fid: 1, Afid: wire.NoFid, UID: 0}, &wire.Twalk{Fid: 0, NewFid: 1}, &wire.Twalk{Fid: 0, NewFid: 2, Names: []string{"big"}},
		&wire.Txattrwalk{Fid: 1, NewFid: 2},
	} {
		c.refused(m, syscall.EBADF, syscall.EBUSY, syscall.EINVAL)
	}
	for _, m := range []wire.Message{ // not open
		&wire.Tread{Fid: 1, Count: 10}, &wire.Twrite{Fid: 1, Data: []byte("x")}, &wire.Treaddir{Fid: 2, Count: 100},
	} {
		c.refused(m, syscall.EBADF, syscall.EINVAL)
	}
	const no = 77 // never made
	for _, m := range []wire.Message{
		&wire.Twalk{Fid: no, NewFid: 5}, &wire.Tclunk{Fid: no}, &wire.Tremove{Fid: no}, &wire.Tlopen{Fid: no}, &wire.Tlcreate{Fid: no, Name: "x"},
		&wire.Tread{Fid: no, Count: 1}, &wire.Twrite{Fid: no}, &wire.Tgetattr{Fid: no, Mask: wire.GetAll}, &wire.Tsetattr{Fid: no},
		&wire.Treaddir{Fid: no, Count: 1}, &wire.Tstatfs{Fid: no}, &wire.Tfsync{Fid: no}, &wire.Tmkdir{Dfid: no, Name: "x"},
		&wire.Tsymlink{Dfid: no, Name: "x", Target: "y"}, &wire.Tmknod{Dfid: no, Name: "x"}, &wire.Trename{Fid: no, Dfid: 0, Name: "x"},
		&wire.Trename{Fid: 1, Dfid: no, Name: "x"}, &wire.Trenameat{OldDfid: no, OldName: "big", NewDfid: 0, NewName: "x"},
		&wire.Trenameat{OldDfid: 0, OldName: "big", NewDfid: no, NewName: "x"}, &wire.Tunlinkat{Dfid: no, Name: "big"},
		&wire.Tlink{Dfid: 0, Fid: no, Name: "x"}, &wire.Tlink{Dfid: no, Fid: 1, Name: "x"}, &wire.Treadlink{Fid: no},
		&wire.Txattrwalk{Fid: no, NewFid: 5}, &wire.Txattrcreate{Fid: no, Name: "user.x"}, &wire.Tlock{Fid: no}, &wire.Tgetlock{Fid: no},
		&wire.Tattach{Fid: 5, Afid: no, UID: 0}, &wire.Tauth{Afid: 5, UID: 0},
	} {
		c.refused(m)
	}
	c.ok(&wire.Tlopen{Fid: 1})
	c.refused(&wire.Tlopen{Fid: 1}, syscall.EBADF, syscall.EBUSY, syscall.EINVAL) // open already
	c.refused(&wire.Twrite{Fid: 1, Data: []byte("x")}, syscall.EBADF, syscall.EINVAL)
	c.refused(&wire.Twalk{Fid: 1, NewFid: 5, Names: []string{"x"}}, syscall.ENOTDIR, syscall.EBADF, syscall.EBUSY, syscall.EINVAL)
	c.refused(&wire.Tread{Fid: 1, Offset: 1 << 63, Count: 1}, syscall.EINVAL, syscall.EFBIG, syscall.EOVERFLOW)
	c.ok(&wire.Tclunk{Fid: 1})
	c.refused(&wire.Tclunk{Fid: 1}, syscall.EBADF)
	// Many fids, left open.
	c.walk(0, 4, "big")
	c.ok(&wire.Tlopen{Fid: 4})
	for i := range uint32(1000) {
		c.walk(0, 1000+2*i, "dirs", "1", "file")
		c.ok(&wire.Tlopen{Fid: 1000 + 2*i})
	}
}

// badNames: names that are no names, in every message that has one.
func badNames(t *testing.T, v victim) {
	outside := filepath.Join(filepath.Dir(v.dir), "outside")
	must(t, os.WriteFile(outside, []byte("secret"), 0o600))
	defer os.Remove(outside)
	must(t, os.Symlink("..", filepath.Join(v.dir, "up"))) // a way out, if symlinks were followed
	defer os.Remove(filepath.Join(v.dir, "up"))
	c := plain(t, v.addr)
	root := c.walk(0, 1, "sub")
	c.walk(0, 2, "big")
	for i, name := range []string{"a/b", "/", "/etc", "../outside", "sub/../..", ".", "..", "", "nul\x00nul", "\x00", strings.Repeat("n", 256), strings.Repeat("n", wire.MaxString)} {
		walks := name == ".." || name == "."
		for _, m := range []wire.Message{
			&wire.Tlcreate{Fid: 1, Name: name, Flags: wire.ORdwr, Mode: 0o644}, &wire.Tmkdir{Dfid: 1, Name: name, Mode: 0o755},
			&wire.Tsymlink{Dfid: 1, Name: name, Target: "x"}, &wire.Tmknod{Dfid: 1, Name: name, Mode: syscall.S_IFIFO | 0o644},
			&wire.Tlink{Dfid: 1, Fid: 2, Name: name}, &wire.Trename{Fid: 2, Dfid: 1, Name: name},
			&wire.Trenameat{OldDfid: 0, OldName: "big", NewDfid: 1, NewName: name}, &wire.Trenameat{OldDfid: 1, OldName: name, NewDfid: 0, NewName: "new"},
			&wire.Tunlinkat{Dfid: 1, Name: name}, &wire.Tunlinkat{Dfid: 1, Name: name, Flags: wire.AtRemoveDir},
		} {
			c.refused(m)
		}
		if r, ok := c.do(&wire.Twalk{Fid: 1, NewFid: uint32(100 + i), Names: []string{name}}).(*wire.Rwalk); ok && !walks && len(r.QIDs) > 0 {
			t.Errorf("a walk to %q succeeds", name)
		}
	}
	// Up and out: by "..", by a symlink.
	ups := []string{"..", "..", "..", ".."}
	r, ok := c.do(&wire.Twalk{Fid: 1, NewFid: 200, Names: ups}).(*wire.Rwalk)
	if ok && len(r.QIDs) == len(ups) && r.QIDs[3].Path == root {
		t.Errorf("up from sub is sub: %v", r)
	}
	for i, names := range [][]string{{"..", "..", "outside"}, {"up", "outside"}, {"..", "up", "outside"}} {
		if r, ok := c.do(&wire.Twalk{Fid: 1, NewFid: uint32(201 + i), Names: names}).(*wire.Rwalk); ok && len(r.QIDs) == len(names) {
			t.Errorf("a walk of %q leaves the export", names)
		}
	}
	// NULs and slashes in other strings.
	c.refused(&wire.Tsymlink{Dfid: 1, Name: "link", Target: "a\x00b"})
	c.refused(&wire.Tsymlink{Dfid: 1, Name: "link", Target: ""})
	c.refused(&wire.Tsymlink{Dfid: 1, Name: "link", Target: strings.Repeat("t", 5000)})
	c.walk(0, 299, "big")
	if e, bad := c.do(&wire.Txattrcreate{Fid: 299, Name: "user.\x00", Size: 1}).(*wire.Rlerror); !bad {
		c.ok(&wire.Twrite{Fid: 299, Data: []byte("x")})
		c.refused(&wire.Tclunk{Fid: 299})
	} else if e.Errno == uint32(syscall.EIO) {
		t.Error("an attribute with NUL gives EIO")
	}
	c.refused(&wire.Tattach{Fid: 300, Afid: wire.NoFid, UID: 0, Aname: "../../etc"})
	c.refused(&wire.Tattach{Fid: 300, Afid: wire.NoFid, UID: 0, Aname: "up"})
	c.refused(&wire.Tattach{Fid: 300, Afid: wire.NoFid, UID: 0, Aname: "sub/file"}, syscall.ENOTDIR)
	// The tree of the server's status: not the private directory, which nobody gets into.
	c.refused(&wire.Tattach{Fid: 300, Afid: wire.NoFid, UID: 0, Aname: ".echo9/log"})
	c.ok(&wire.Tattach{Fid: 300, Afid: wire.NoFid, UID: 0, Aname: ".echo9"})
	for i, name := range []string{"log", "tmp", "orphans", "lock", "sessions", ".."} {
		r, ok := c.do(&wire.Twalk{Fid: 300, NewFid: uint32(301 + i), Names: []string{name}}).(*wire.Rwalk)
		if ok && len(r.QIDs) > 0 && (name != ".." || r.QIDs[0].Path == root) {
			t.Errorf("a walk to %q from the status tree succeeds", name)
		}
	}
	c.refused(&wire.Tmkdir{Dfid: 300, Name: "x", Mode: 0o755})
	c.refused(&wire.Tlink{Dfid: 300, Fid: 2, Name: "x"})
	c.refused(&wire.Trenameat{OldDfid: 0, OldName: "big", NewDfid: 300, NewName: "x"})
	c.refused(&wire.Tunlinkat{Dfid: 300, Name: "status"})
	// The server's private directory is nobody's business.
	if r, ok := c.do(&wire.Twalk{Fid: 0, NewFid: 301, Names: []string{".echo9"}}).(*wire.Rwalk); ok && len(r.QIDs) > 0 {
		t.Error("the private directory can be walked to")
	}
	c.refused(&wire.Tunlinkat{Dfid: 0, Name: ".echo9", Flags: wire.AtRemoveDir})
	c.refused(&wire.Trenameat{OldDfid: 0, OldName: ".echo9", NewDfid: 0, NewName: "mine"})
	c.refused(&wire.Trenameat{OldDfid: 0, OldName: "sub", NewDfid: 0, NewName: ".echo9"})
}

// randomBytes: whatever comes, with a beginning that makes some of it look true.
func randomBytes(t *testing.T, v victim) {
	for seed := range int64(60) {
		rng := rand.New(rand.NewSource(seed))
		var c *raw
		switch seed % 3 {
		case 0:
			c = connect(t, v.addr)
		case 1:
			c = plain(t, v.addr)
		case 2:
			c = session(t, v.addr, "random"+string(rune('A'+seed)), 0)
		}
		go c.drain()
		for range 200 {
			n := rng.Intn(100)
			b := make([]byte, 7+n)
			rng.Read(b)
			if rng.Intn(20) > 0 { // a frame, with a type that exists
				binary.LittleEndian.PutUint32(b, uint32(len(b)))
				b[4] = byte(2 * rng.Intn(80))
				for i := 7; i < len(b); i++ {
					if rng.Intn(3) > 0 { // small numbers make sense more often
						b[i] &= 3
					}
				}
			}
			if c.bytes(b) != nil {
				break // hung up on
			}
		}
		c.nc.Close()
	}
	plain(t, v.addr)
}

// repliesNobodyTakes: 65,535 reads of 1 MiB whose replies nobody takes. The server stops reading, and others go on.
func repliesNobodyTakes(t *testing.T, v victim) {
	before := memory(t, v.pid)
	c := plain(t, v.addr)
	c.walk(0, 1, "big")
	c.ok(&wire.Tlopen{Fid: 1})
	var b []byte
	for i := range uint16(65535) {
		b = wire.AppendFrame(b, i, &wire.Tread{Fid: 1, Count: 1 << 20})
	}
	must(t, c.nc.SetWriteDeadline(time.Now().Add(700*time.Millisecond)))
	n, err := c.nc.Write(b)
	most := int64(0)
	for range 20 {
		others := plain(t, v.addr)
		others.ok(&wire.Tgetattr{Fid: 0, Mask: wire.GetBasic})
		others.nc.Close()
		most = max(most, memory(t, v.pid))
	}
	const growth = 64 << 20 // the replies are 64 GiB
	if most-before > growth {
		t.Errorf("the server has grown from %d to %d MiB", before>>20, most>>20)
	}
	t.Logf("%d of %d bytes of requests were taken (%v); the server grew from %d to %d MiB", n, len(b), err, before>>20, most>>20)
}
