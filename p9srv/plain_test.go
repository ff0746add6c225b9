package p9srv

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/wire"
)

func newTestServer(t testing.TB, cfg Config) (*Server, *memFS) {
	fs := newMemFS()
	cfg.Backend = fs
	if cfg.Logf == nil {
		cfg.Logf = t.Logf
	}
	return New(cfg), fs
}

func TestVersions(t *testing.T) {
	s, _ := newTestServer(t, Config{MaxMsize: 1 << 20})
	c := dialServer(t, s)
	for _, v := range []struct {
		asked, answer string
		msize, gets   uint32
	}{
		{"9P2000.L", "9P2000.L", 65536, 65536},
		{"9P2000.L", "9P2000.L", 1 << 30, 1 << 20},
		{"9P2000.L.Google.7", "9P2000.L.Google.7", 8192, 8192},
		{"9P2000.L.Google.3", "9P2000.L.Google.3", 8192, 8192},
		{"9P2000.L.Google.99", "9P2000.L.Google.7", 8192, 8192},
		{"9P2000.L.Google.0", "9P2000.L", 8192, 8192},
		{"9P2000.L.Google.x", "unknown", 8192, 8192},
		{"9P2000", "unknown", 8192, 8192},
		{"9P2000.u", "unknown", 8192, 8192},
		{wire.ExtVersion, "unknown", 8192, 8192},
		{"", "unknown", 8192, 8192},
		{"9P2000.L", "unknown", 100, 100},
	} {
		if r := c.version(v.msize, v.asked); r.Version != v.answer || r.Msize != v.gets {
			t.Errorf("%q, %d: %v", v.asked, v.msize, r)
		}
	}
	c.fails(&wire.Tattach{Afid: wire.NoFid}, syscall.EPROTO) // after "unknown"
	c.version(65536, wire.Version9P)
	c.fails(&wire.Twalkgetattr{}, syscall.EOPNOTSUPP)
	c.fails(&wire.Trenew{}, syscall.EOPNOTSUPP)
}

// Tversion in the middle clunks everything.
func TestVersionResets(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	fs.put("a/f", "x")
	c := dialRaw(t, s)
	c.walk(0, 1, "a", "f")
	c.ok(&wire.Tlopen{Fid: 1}, &wire.Rlopen{})
	c.version(8192, wire.Version9P)
	if refs, files := fs.out(); refs != 0 || files != 0 {
		t.Errorf("%d objects and %d files are left", refs, files)
	}
	c.fails(&wire.Tgetattr{Fid: 1}, syscall.EBADF)
	c.attach(1)
}

// Every message does what it is for.
func TestEveryMessage(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	c := dialRaw(t, s)
	c.fails(&wire.Tauth{Afid: 9, Uname: "x", UID: 0}, syscall.EOPNOTSUPP)
	c.ok(&wire.Tstatfs{Fid: 0}, &wire.Rstatfs{})

	var md wire.Rmkdir
	c.ok(&wire.Tmkdir{Dfid: 0, Name: "d", Mode: 0o755}, &md)
	if md.QID.Type != wire.QTDir {
		t.Errorf("mkdir: %v", md.QID)
	}
	c.walk(0, 1, "d")
	var cr wire.Rlcreate
	c.ok(&wire.Tlcreate{Fid: 1, Name: "f", Flags: wire.ORdwr | wire.OExcl, Mode: 0o640}, &cr)
	var wr wire.Rwrite
	c.ok(&wire.Twrite{Fid: 1, Offset: 0, Data: []byte("hello")}, &wr)
	if wr.Count != 5 {
		t.Errorf("wrote %d", wr.Count)
	}
	c.ok(&wire.Tfsync{Fid: 1}, &wire.Rfsync{})
	var rd wire.Rread
	c.ok(&wire.Tread{Fid: 1, Offset: 1, Count: 100}, &rd)
	if string(rd.Data) != "ello" {
		t.Errorf("read %q", rd.Data)
	}
	c.ok(&wire.Tsetattr{Fid: 1, SetAttr: wire.SetAttr{Valid: wire.SetMode | wire.SetSize, Mode: 0o600, Size: 2}}, &wire.Rsetattr{})
	var ga wire.Rgetattr
	c.ok(&wire.Tgetattr{Fid: 1, Mask: wire.GetBasic}, &ga)
	if ga.Attr.Mode != syscall.S_IFREG|0o600 || ga.Attr.Size != 2 || ga.Attr.QID != cr.QID {
		t.Errorf("getattr: %+v", ga.Attr)
	}
	c.walk(0, 2, "d")
	c.walk(2, 3, "f")
	c.ok(&wire.Tlink{Dfid: 0, Fid: 3, Name: "hard"}, &wire.Rlink{})
	c.ok(&wire.Tsymlink{Dfid: 0, Name: "sym", Target: "d/f"}, &wire.Rsymlink{})
	c.walk(0, 4, "sym")
	var rl wire.Rreadlink
	c.ok(&wire.Treadlink{Fid: 4}, &rl)
	if rl.Target != "d/f" {
		t.Errorf("readlink %q", rl.Target)
	}
	c.ok(&wire.Tmknod{Dfid: 0, Name: "fifo", Mode: syscall.S_IFIFO | 0o600}, &wire.Rmknod{})
	c.ok(&wire.Trenameat{OldDfid: 0, OldName: "hard", NewDfid: 2, NewName: "moved"}, &wire.Rrenameat{})
	c.ok(&wire.Trename{Fid: 3, Dfid: 0, Name: "f2"}, &wire.Rrename{})
	c.ok(&wire.Tunlinkat{Dfid: 2, Name: "moved"}, &wire.Runlinkat{})
	c.ok(&wire.Tremove{Fid: 3}, &wire.Rremove{}) // by its new name
	c.fails(&wire.Tgetattr{Fid: 3}, syscall.EBADF)
	c.ok(&wire.Tread{Fid: 1, Count: 10}, &rd) // open, without a name
	if string(rd.Data) != "he" {
		t.Errorf("unlinked file reads %q", rd.Data)
	}
	c.clunk(1)
	c.clunk(2)
	c.ok(&wire.Tunlinkat{Dfid: 0, Name: "d", Flags: wire.AtRemoveDir}, &wire.Runlinkat{})

	c.walk(0, 5)
	c.ok(&wire.Tlopen{Fid: 5, Flags: wire.ODirectory}, &wire.Rlopen{})
	var dir wire.Rreaddir
	c.ok(&wire.Treaddir{Fid: 5, Count: 8192}, &dir)
	var names []string
	for e := range dir.Entries() {
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != ". .. fifo sym" {
		t.Errorf("readdir: %s", got)
	}
	c.clunk(5)
	c.clunk(4)
	c.clunk(0)
	if refs, files := fs.out(); refs != 0 || files != 0 {
		t.Errorf("%d objects and %d files are left", refs, files)
	}
}

func TestGoogleMessages(t *testing.T) {
	s, _ := newTestServer(t, Config{})
	c := dialServer(t, s)
	c.version(65536, wire.VersionGoogle+"7")
	c.attach(0)
	c.ok(&wire.Tumkdir{Tmkdir: wire.Tmkdir{Dfid: 0, Name: "d", Mode: 0o755}, UID: wire.NoUID}, &wire.Rumkdir{})
	var w wire.Rwalkgetattr
	c.ok(&wire.Twalkgetattr{Fid: 0, NewFid: 1, Names: []string{"d"}}, &w)
	if len(w.QIDs) != 1 || w.Attr.Mode != syscall.S_IFDIR|0o755 {
		t.Errorf("walkgetattr: %+v", w)
	}
	c.ok(&wire.Twalkgetattr{Fid: 1, NewFid: 2}, &w)
	if len(w.QIDs) != 0 || w.Attr.Mode != syscall.S_IFDIR|0o755 {
		t.Errorf("walkgetattr of no names: %+v", w)
	}
	c.fails(&wire.Twalkgetattr{Fid: 0, NewFid: 3, Names: []string{"d", "no"}}, syscall.ENOENT)
	c.ok(&wire.Tucreate{Tlcreate: wire.Tlcreate{Fid: 2, Name: "f", Flags: wire.ORdwr, Mode: 0o600}, UID: wire.NoUID}, &wire.Rucreate{})
	c.ok(&wire.Tflushf{Fid: 2}, &wire.Rflushf{})
	c.ok(&wire.Tusymlink{Tsymlink: wire.Tsymlink{Dfid: 1, Name: "s", Target: "f"}, UID: wire.NoUID}, &wire.Rusymlink{})
	c.ok(&wire.Tumknod{Tmknod: wire.Tmknod{Dfid: 1, Name: "p", Mode: syscall.S_IFIFO}, UID: wire.NoUID}, &wire.Rumknod{})
	c.version(65536, wire.VersionGoogle+"1")
	c.attach(0)
	c.fails(&wire.Twalkgetattr{Fid: 0, NewFid: 1}, syscall.EOPNOTSUPP)
}

func TestWalk(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	fs.put("a/b/c", "x")
	c := dialRaw(t, s)
	var r wire.Rwalk
	c.ok(&wire.Twalk{Fid: 0, NewFid: 1, Names: []string{"a", "b", "no", "c"}}, &r)
	if len(r.QIDs) != 2 {
		t.Errorf("partial walk: %v", r.QIDs)
	}
	c.fails(&wire.Tgetattr{Fid: 1}, syscall.EBADF) // not made
	c.fails(&wire.Twalk{Fid: 0, NewFid: 1, Names: []string{"no"}}, syscall.ENOENT)
	c.walk(0, 1, "a")
	c.fails(&wire.Twalk{Fid: 0, NewFid: 1}, syscall.EINVAL) // in use
	c.fails(&wire.Twalk{Fid: 0, NewFid: wire.NoFid}, syscall.EINVAL)
	c.fails(&wire.Twalk{Fid: 77, NewFid: 2}, syscall.EBADF)
	c.walk(1, 1, "b", "c") // onto itself
	var ga wire.Rgetattr
	c.ok(&wire.Tgetattr{Fid: 1}, &ga)
	if ga.Attr.Size != 1 {
		t.Errorf("walk onto itself: %+v", ga.Attr)
	}
	c.fails(&wire.Twalk{Fid: 1, NewFid: 2, Names: []string{"x"}}, syscall.ENOTDIR)
	c.ok(&wire.Tlopen{Fid: 1}, &wire.Rlopen{})
	c.fails(&wire.Tlopen{Fid: 1}, syscall.EBUSY)
	c.fails(&wire.Twalk{Fid: 1, NewFid: 1}, syscall.EBUSY)
	c.walk(1, 2) // a clone of an open fid is not open
	c.fails(&wire.Tread{Fid: 2, Count: 1}, syscall.EBADF)
	if q := c.walk(0, 3, "a", "..", "..", "a"); q[1] != q[2] || q[0] != q[3] {
		t.Errorf("dot-dot: %v", q)
	}
	long := strings.Repeat("n", 256)
	for name, want := range map[string]syscall.Errno{
		"": syscall.ENOENT, ".": syscall.EINVAL, "a/b": syscall.EINVAL, "a\x00": syscall.EINVAL, long: syscall.ENAMETOOLONG,
	} {
		c.fails(&wire.Twalk{Fid: 0, NewFid: 9, Names: []string{name}}, want)
		c.fails(&wire.Tmkdir{Dfid: 0, Name: name}, want)
		c.fails(&wire.Tlcreate{Fid: 3, Name: name, Flags: wire.ORdwr}, want)
		c.fails(&wire.Tsymlink{Dfid: 0, Name: name, Target: "x"}, want)
		c.fails(&wire.Tmknod{Dfid: 0, Name: name}, want)
		c.fails(&wire.Tlink{Dfid: 0, Fid: 2, Name: name}, want)
		c.fails(&wire.Tunlinkat{Dfid: 0, Name: name}, want)
		c.fails(&wire.Trenameat{OldDfid: 0, OldName: name, NewDfid: 0, NewName: "z"}, want)
		c.fails(&wire.Trenameat{OldDfid: 0, OldName: "a", NewDfid: 0, NewName: name}, want)
		c.fails(&wire.Trename{Fid: 2, Dfid: 0, Name: name}, want)
	}
	c.fails(&wire.Tmkdir{Dfid: 0, Name: ".."}, syscall.EINVAL)
}

func TestRemove(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	fs.put("d/f", "x")
	c := dialRaw(t, s)
	c.walk(0, 1, "d")
	c.fails(&wire.Tremove{Fid: 1}, syscall.ENOTEMPTY)
	c.fails(&wire.Tgetattr{Fid: 1}, syscall.EBADF) // clunked all the same
	c.walk(0, 1)
	c.fails(&wire.Tremove{Fid: 1}, syscall.EINVAL) // a root
	// Somebody else replaced it: what was walked to is not there any more.
	c.walk(0, 1, "d", "f")
	c.ok(&wire.Tmknod{Dfid: 0, Name: "g", Mode: syscall.S_IFREG}, &wire.Rmknod{})
	c.walk(0, 2, "d")
	c.ok(&wire.Trenameat{OldDfid: 0, OldName: "g", NewDfid: 2, NewName: "f"}, &wire.Rrenameat{})
	c.fails(&wire.Tremove{Fid: 1}, syscall.ENOENT)
	c.walk(2, 3, "f")
}

func TestXattrs(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	fs.put("f", "x")
	c := dialRaw(t, s)
	c.walk(0, 1, "f")
	set := func(name, value string, size uint64, flags uint32) {
		c.walk(1, 2)
		c.ok(&wire.Txattrcreate{Fid: 2, Name: name, Size: size, Flags: flags}, &wire.Rxattrcreate{})
		for i := 0; i < len(value); i += 3 {
			c.ok(&wire.Twrite{Fid: 2, Offset: uint64(i), Data: []byte(value[i:min(i+3, len(value))])}, &wire.Rwrite{})
		}
	}
	get := func(name string) string {
		var w wire.Rxattrwalk
		c.ok(&wire.Txattrwalk{Fid: 1, NewFid: 3, Name: name}, &w)
		var r wire.Rread
		c.ok(&wire.Tread{Fid: 3, Count: 1000}, &r)
		if uint64(len(r.Data)) != w.Size {
			t.Errorf("%s: size %d, %d read", name, w.Size, len(r.Data))
		}
		c.clunk(3)
		return string(r.Data)
	}
	set("user.a", "value", 5, 0)
	c.clunk(2)
	set("user.b", "", 0, 0)
	c.clunk(2)
	if a, l := get("user.a"), get(""); a != "value" || l != "user.a\x00user.b\x00" {
		t.Errorf("%q, list %q", a, l)
	}
	set("user.a", "val", 5, 0) // not all of it
	c.fails(&wire.Tclunk{Fid: 2}, syscall.EINVAL)
	c.fails(&wire.Tclunk{Fid: 2}, syscall.EBADF)
	set("user.a", "other", 5, wire.XattrCreate)
	c.fails(&wire.Tclunk{Fid: 2}, syscall.EEXIST)
	set("user.a", "", 0, wire.XattrReplace) // v9fs's way to remove
	c.clunk(2)
	c.fails(&wire.Txattrwalk{Fid: 1, NewFid: 3, Name: "user.a"}, syscall.ENODATA)
	set("user.c", "", 4, 0)
	c.fails(&wire.Twrite{Fid: 2, Offset: 2, Data: []byte("abc")}, syscall.ENOSPC)
	c.fails(&wire.Tread{Fid: 2, Count: 1}, syscall.EBADF)
	c.fails(&wire.Twalk{Fid: 2, NewFid: 5}, syscall.EINVAL)
	c.fails(&wire.Tlopen{Fid: 2}, syscall.EINVAL)
	c.fails(&wire.Txattrcreate{Fid: 2, Name: "z"}, syscall.EINVAL)
	c.fails(&wire.Tremove{Fid: 2}, syscall.EINVAL)
	c.fails(&wire.Txattrcreate{Fid: 1, Name: "user.z", Size: 1 << 20}, syscall.E2BIG)
	c.fails(&wire.Txattrwalk{Fid: 1, NewFid: 0, Name: ""}, syscall.EINVAL)
}

func TestLocks(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	id := fs.put("f", "x")
	a, b := dialRaw(t, s), dialRaw(t, s)
	for _, c := range []*rawClient{a, b} {
		c.walk(0, 1, "f")
		c.ok(&wire.Tlopen{Fid: 1, Flags: wire.ORdwr}, &wire.Rlopen{})
	}
	lock := func(c *rawClient, typ uint8) wire.LockStatus {
		var r wire.Rlock
		c.ok(&wire.Tlock{Fid: 1, Lock: wire.Lock{Type: typ, Start: 10, Length: 5, ProcID: 1, ClientID: "host"}}, &r)
		return r.Status
	}
	if st := lock(a, wire.LockWrite); st != wire.LockSuccess {
		t.Fatal(st)
	}
	if st := lock(b, wire.LockRead); st != wire.LockBlocked { // the same names, another connection
		t.Fatal(st)
	}
	var g wire.Rgetlock
	b.ok(&wire.Tgetlock{Fid: 1, Lock: wire.Lock{Type: wire.LockUnlock, ProcID: 1, ClientID: "host"}}, &g) // as v9fs asks
	if g.Lock.Type != wire.LockWrite || g.Lock.Start != 10 || g.Lock.Length != 5 {
		t.Errorf("getlock: %+v", g.Lock)
	}
	a.ok(&wire.Tgetlock{Fid: 1, Lock: wire.Lock{Type: wire.LockWrite, Start: 3, ProcID: 1, ClientID: "host"}}, &g)
	if g.Lock.Type != wire.LockUnlock || g.Lock.Start != 3 {
		t.Errorf("getlock without a conflict: %+v", g.Lock)
	}
	a.clunk(1) // the lock goes with the fid that took it
	if st := lock(b, wire.LockRead); st != wire.LockSuccess {
		t.Fatal(st)
	}
	b.nc.Close() // and with the connection
	eventually(t, "the lock is free", func() bool { return fs.locks.Len(id) == 0 })
	a.fails(&wire.Tlock{Fid: 0, Lock: wire.Lock{Type: 7}}, syscall.EINVAL)
}

// A reply is never larger than the msize.
func TestMsize(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	fs.put("f", strings.Repeat("x", 1<<20))
	for i := range 500 {
		fs.put("d/"+strings.Repeat("n", 200)+string(rune('a'+i%26))+strings.Repeat("m", i/26), "")
	}
	c := dialServer(t, s)
	c.version(wire.MinMsize, wire.Version9P)
	c.rd.SetMax(wire.MinMsize)
	c.attach(0)
	c.walk(0, 1, "f")
	c.ok(&wire.Tlopen{Fid: 1}, &wire.Rlopen{})
	var r wire.Rread
	for _, n := range []uint32{wire.MinMsize - 11, wire.MinMsize, 1 << 31, 1<<32 - 1} {
		c.ok(&wire.Tread{Fid: 1, Count: n}, &r)
		if len(r.Data) != wire.MinMsize-11 {
			t.Errorf("read of %d gives %d", n, len(r.Data))
		}
	}
	c.ok(&wire.Tread{Fid: 1, Offset: 1 << 20, Count: 1}, &r)
	if len(r.Data) != 0 {
		t.Error("bytes behind the end")
	}
	c.fails(&wire.Tread{Fid: 1, Offset: 1 << 63, Count: 1}, syscall.EINVAL)
	c.walk(0, 2, "d")
	c.ok(&wire.Tlopen{Fid: 2}, &wire.Rlopen{})
	var d wire.Rreaddir
	seen, off := 0, uint64(0)
	for {
		c.ok(&wire.Treaddir{Fid: 2, Offset: off, Count: 1 << 31}, &d)
		if len(d.Data) == 0 {
			break
		}
		for e := range d.Entries() {
			seen, off = seen+1, e.Offset
		}
	}
	if seen != 502 {
		t.Errorf("%d entries", seen)
	}
	c.fails(&wire.Treaddir{Fid: 2, Offset: 2, Count: 50}, syscall.EINVAL) // room for no entry
	c.ok(&wire.Tsymlink{Dfid: 0, Name: "s", Target: strings.Repeat("t", 4000)}, &wire.Rsymlink{})
	c.walk(0, 3, "s")
	c.ok(&wire.Treadlink{Fid: 3}, &wire.Rreadlink{})
	fs.mu.Lock()
	fs.nodes[fs.nodes[1].ents["s"]].target = strings.Repeat("t", 5000)
	fs.mu.Unlock()
	c.fails(&wire.Treadlink{Fid: 3}, syscall.EMSGSIZE)
}

func TestTrace(t *testing.T) {
	var b bytes.Buffer
	done := make(chan struct{})
	lines := make(chan string, 100)
	go func() {
		for l := range lines {
			b.WriteString(l + "\n")
		}
		close(done)
	}()
	s, fs := newTestServer(t, Config{Trace: func(l string) { lines <- l }})
	fs.put("f", "hello")
	c := dialRaw(t, s)
	c.walk(0, 1, "f")
	c.ok(&wire.Tlopen{Fid: 1}, &wire.Rlopen{})
	c.ok(&wire.Tread{Fid: 1, Count: 2}, &wire.Rread{})
	c.fails(&wire.Tclunk{Fid: 5}, syscall.EBADF)
	close(lines)
	<-done
	for _, want := range []string{
		" -> Twalk tag 2 fid 0 newfid 1 names", " <- Rwalk tag 2", " -> Tread tag 4 fid 1 offset 0 count 2\n", " <- Rread tag 4", " <- Rlerror tag 5",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
