package p9srv_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// hostLife is a life of a server of a host directory.
type hostLife struct {
	t    testing.TB
	fs   *dirfs.FS
	a    *p9srv.Authority
	s    *p9srv.Server
	addr string
}

func newHostLife(t testing.TB, dir string) *hostLife {
	t.Helper()
	fs, err := dirfs.Open(dir, dirfs.Options{Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	a := p9srv.NewAuthority(p9srv.AuthorityConfig{Backend: fs, Logf: t.Logf, Lease: time.Hour})
	if err := a.Restore(); err != nil {
		t.Fatal(err)
	}
	s := p9srv.New(p9srv.Config{Backend: fs, Authority: a, Logf: t.Logf})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(context.Background(), l)
	return &hostLife{t, fs, a, s, l.Addr().String()}
}

func (h *hostLife) end() {
	h.t.Helper()
	h.s.Close()
	h.a.Close()
	if err := h.fs.Close(); err != nil {
		h.t.Error(err)
	}
}

// session opens or resumes one.
func (h *hostLife) session(name string, flags uint32) *client {
	h.t.Helper()
	nc, err := net.Dial("unix", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := p9client.NewConn(context.Background(), nc, p9client.Options{Extension: true, Msize: 1 << 20})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	c := &client{Conn: conn, t: h.t}
	m := &wire.Tsession{Name: name, Flags: flags}
	copy(m.Client[:], name)
	c.do(m, &c.s)
	return c
}

// What a session had of a host directory it has again in the server's next life: by ids that are inode numbers too, at the
// versions that its own cuts left, and what it had open though it has no name any more.
func TestHostDirectoryOverRestarts(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"mine": "1", "theirs": "1", "read": "1", "open": "kept"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := newHostLife(t, dir)
	a := h.session("a", 0)
	root := a.s.Root.Path
	var g wire.Rgrant
	elems := []wire.GrantElem{{ID: root, Mode: 2}}
	for _, name := range []string{"mine", "theirs", "read", "open"} {
		elems = append(elems, wire.GrantElem{ID: root, Name: name, Mode: 2})
	}
	a.do(&wire.Tgrant{Elems: elems}, &g)
	mine, theirs, read, open := g.Tokens[1], g.Tokens[2], g.Tokens[3], g.Tokens[4]
	made := a.s.IDs.First
	const ctime = int64(1_700_000_000_000_000_001)
	var r wire.Rcommit
	a.do(&wire.Tcommit{Cut: 1, Flags: wire.CommitLast, Fence: fence(&g), Records: []cut.Record{
		{Kind: cut.Create, ID: made, Mode: syscall.S_IFREG | 0o644, UserID: a.s.UID, GroupID: a.s.GID},
		{Kind: cut.Bind, Dir: root, Name: "made", ID: made},
		{Kind: cut.Data, ID: mine.ID, Bytes: []byte("22")},
		{Kind: cut.Attr, ID: mine.ID, Valid: cut.AttrMtime | cut.AttrCtime, Mtime: ctime, Ctime: ctime},
		{Kind: cut.Attr, ID: made, Valid: cut.AttrMtime | cut.AttrCtime, Mtime: ctime, Ctime: ctime},
		{Kind: cut.Keep, ID: open.ID},
		{Kind: cut.Bind, Dir: root, Name: "open", Before: open.ID},
		{Kind: cut.Attr, ID: root, Valid: cut.AttrMtime | cut.AttrCtime, Mtime: ctime, Ctime: ctime},
	}}, &r)
	if r.Status != wire.CommitApplied {
		t.Fatalf("commit: %+v", r)
	}
	h.end()
	if err := os.WriteFile(filepath.Join(dir, "theirs"), []byte("somebody else"), 0o644); err != nil {
		t.Fatal(err)
	}
	h = newHostLife(t, dir)
	a = h.session("a", wire.SessionResume)
	if a.s.Flags != wire.SessionResume|wire.SessionGrace || a.s.LastCut != 1 {
		t.Fatalf("resumed: %+v", a.s)
	}
	version := func(mode uint32, size uint64) uint64 { return wire.DataVersion(mode, ctime, size) }
	a.do(&wire.Tgrant{Flags: wire.GrantReclaim, Elems: []wire.GrantElem{
		{ID: root, Mode: 2, Version: version(syscall.S_IFDIR, 0)}, {ID: mine.ID, Mode: 2, Version: version(syscall.S_IFREG, 2)},
		{ID: theirs.ID, Mode: 2, Version: theirs.Attr.DataVersion}, {ID: read.ID, Mode: 1, Version: read.Attr.DataVersion},
		{ID: made, Mode: 2, Version: version(syscall.S_IFREG, 0)}, {ID: open.ID, Mode: 2},
	}}, &g)
	for i, want := range []struct{ mode, flags uint8 }{{2, 0}, {2, 0}, {2, wire.GrantedChanged}, {1, 0}, {2, 0}, {2, wire.GrantedChanged}} {
		if got := g.Tokens[i]; got.Mode != want.mode || got.Flags != want.flags {
			t.Errorf("element %d: mode %d, flags %d, want %+v", i, got.Mode, got.Flags, want)
		}
	}
	a.do(&wire.Tgrant{Flags: wire.GrantReclaimComplete}, &wire.Rgrant{})
	var b wire.Rread
	a.do(&wire.Tbind{Fid: 1, ID: open.ID, UID: wire.NoUID}, &wire.Rbind{})
	a.do(&wire.Tread{Fid: 1, Count: 10}, &b)
	if string(b.Data) != "kept" {
		t.Errorf("what was open: %q", b.Data)
	}
	var rc wire.Rcommit
	a.do(&wire.Tcommit{Cut: 2, Flags: wire.CommitLast, Fence: fence(&g)[:2], Records: []cut.Record{
		{Kind: cut.Create, ID: made + 1, Mode: syscall.S_IFREG | 0o644, UserID: a.s.UID, GroupID: a.s.GID},
		{Kind: cut.Bind, Dir: root, Name: "more", ID: made + 1},
		{Kind: cut.Data, ID: mine.ID, Bytes: []byte("333")},
	}}, &rc)
	if rc.Status != wire.CommitApplied {
		t.Fatalf("the next cut: %+v", rc)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "mine")); err != nil || string(got) != "333" {
		t.Errorf("on the host: %q, %v", got, err)
	}
	a.do(&wire.Tsession{Flags: wire.SessionEnd}, &wire.Rsession{})
	h.end()
	if left, err := os.ReadDir(filepath.Join(dir, ".echo9/orphans")); err != nil || len(left) > 0 {
		t.Errorf("left after the session's end: %v, %v", left, err)
	}
}

// BenchmarkReclaim is the reclaim of a token on a host directory, by many sessions after a restart.
func BenchmarkReclaim(b *testing.B) {
	const files, sessions = 1000, 10
	dir := b.TempDir()
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	h := newHostLife(b, dir)
	m := &wire.Tgrant{}
	for i := range sessions {
		c := h.session(fmt.Sprint("s", i), 0)
		if i > 0 {
			continue
		}
		for k := range files {
			m.Elems = append(m.Elems, wire.GrantElem{ID: c.s.Root.Path, Name: fmt.Sprint(k), Mode: 1})
		}
		m.Elems = append(m.Elems, wire.GrantElem{ID: c.s.Root.Path, Mode: 1})
		var g wire.Rgrant
		c.do(m, &g)
		for k := range m.Elems {
			m.Elems[k] = wire.GrantElem{ID: g.Tokens[k].ID, Mode: 1, Version: g.Tokens[k].Attr.DataVersion}
		}
	}
	h.end()
	m.Flags = wire.GrantReclaim
	h = newHostLife(b, dir)
	var all []*client
	for i := range sessions {
		all = append(all, h.session(fmt.Sprint("s", i), wire.SessionResume))
	}
	b.ResetTimer()
	for i := 0; i < b.N; i += len(m.Elems) {
		var g wire.Rgrant
		all[i/len(m.Elems)%sessions].do(m, &g)
		if t := g.Tokens[len(g.Tokens)-1]; t.Mode != 1 || t.Flags != 0 {
			b.Fatalf("%+v", t)
		}
	}
	b.StopTimer()
	h.end()
}
