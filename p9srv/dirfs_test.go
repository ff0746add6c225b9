package p9srv_test

import (
	"context"
	"errors"
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

// A host directory, the authority and the server together, seen by two sessions and a plain client.

// patience is how long is waited for what must happen, however little the machine lets run.
const patience = time.Minute

type world struct {
	t    *testing.T
	dir  string
	addr string
	a    *p9srv.Authority
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	fs, err := dirfs.Open(dir, dirfs.Options{Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	a := p9srv.NewAuthority(p9srv.AuthorityConfig{Backend: fs, Logf: t.Logf, Lease: time.Hour})
	s := p9srv.New(p9srv.Config{Backend: fs, Authority: a, Logf: t.Logf})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(context.Background(), l)
	t.Cleanup(func() {
		s.Close()
		a.Close()
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{t, dir, l.Addr().String(), a}
}

// client is a connection whose requests fail the test when they fail.
type client struct {
	*p9client.Conn
	t testing.TB
	s wire.Rsession
}

func (w *world) dial(ext bool) *client {
	w.t.Helper()
	nc, err := net.Dial("unix", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := p9client.NewConn(context.Background(), nc, p9client.Options{Extension: ext})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return &client{Conn: conn, t: w.t}
}

func (w *world) session(name string) *client {
	w.t.Helper()
	c := w.dial(true)
	if !c.Ext() {
		w.t.Fatal("no extension")
	}
	m := &wire.Tsession{Name: name}
	copy(m.Client[:], name)
	c.do(m, &c.s)
	return c
}

func (w *world) plain() *client {
	w.t.Helper()
	c := w.dial(false)
	c.do(&wire.Tattach{Fid: 0, Afid: wire.NoFid, UID: wire.NoUID}, &wire.Rattach{})
	return c
}

func (c *client) do(t, r wire.Message) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.RPC(ctx, t, r); err != nil {
		c.t.Fatalf("%v: %v", t, err)
	}
}

// begin starts a request; the function waits for its end.
func (c *client) begin(t, r wire.Message) func() error {
	done := make(chan error, 1)
	c.Go(t, r, func(err error) { done <- err })
	return func() error {
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("no reply")
		}
	}
}

func (c *client) wait(f func() error) {
	c.t.Helper()
	if err := f(); err != nil {
		c.t.Fatal(err)
	}
}

func fence(g *wire.Rgrant) (f []cut.Fence) {
	for _, t := range g.Tokens {
		f = append(f, cut.Fence{ID: t.ID, Gen: t.Gen, Mode: t.Mode})
	}
	return f
}

func giveBack(r *wire.Rrecall) *wire.Treturn {
	m := &wire.Treturn{}
	for _, e := range r.Tokens {
		m.Tokens = append(m.Tokens, wire.ReturnElem{ID: e.ID, Gen: e.Gen, Keep: e.Keep})
	}
	return m
}

func TestTwoSessionsAndAPlainClientOverAHostDirectory(t *testing.T) {
	w := newWorld(t)
	a, b, p := w.session("a"), w.session("b"), w.plain()
	root := a.s.Root.Path

	// a builds a directory with a file, in memory, and is asked for it.
	var recall wire.Rrecall
	recalled := a.begin(&wire.Trecall{}, &recall)
	var g wire.Rgrant
	a.do(&wire.Tgrant{Elems: []wire.GrantElem{{ID: root, Mode: 2}}}, &g)
	var gb wire.Rgrant
	granted := b.begin(&wire.Tgrant{Inline: 4096, Elems: []wire.GrantElem{{ID: root, Mode: 1}, {ID: root, Name: "d", Mode: 1}}}, &gb)
	a.wait(recalled)
	if len(recall.Tokens) != 1 || recall.Tokens[0].ID != root || recall.Tokens[0].Keep != 1 {
		t.Fatalf("recall: %+v", recall)
	}
	dir, file := a.s.IDs.First, a.s.IDs.First+1
	now := time.Now().UnixNano()
	records := []cut.Record{
		{Kind: cut.Create, ID: dir, Mode: syscall.S_IFDIR | 0o755, UserID: a.s.UID, GroupID: a.s.GID},
		{Kind: cut.Create, ID: file, Mode: syscall.S_IFREG | 0o644, UserID: a.s.UID, GroupID: a.s.GID},
		{Kind: cut.Data, ID: file, Bytes: []byte("hello")},
		{Kind: cut.Attr, ID: file, Valid: cut.AttrSize | cut.AttrMtime, Size: 5, Mtime: now},
		{Kind: cut.Bind, Dir: dir, Name: "f", ID: file},
		{Kind: cut.Bind, Dir: root, Name: "d", ID: dir},
	}
	var refused, applied wire.Rcommit
	a.do(&wire.Tcommit{Cut: 1, Flags: wire.CommitLast, Fence: fence(&g), Records: append(records[:len(records):len(records)],
		cut.Record{Kind: cut.Bind, Dir: root, Name: "x", Before: 4711, ID: file})}, &refused)
	if refused.Status == wire.CommitApplied {
		t.Errorf("a cut whose before is wrong: %+v", refused)
	}
	if ents, err := os.ReadDir(w.dir); err != nil || len(ents) != 1 { // the private directory
		t.Errorf("a refused cut left a trace: %v, %v", ents, err)
	}
	a.do(&wire.Tcommit{Cut: 1, Flags: wire.CommitLast, Fence: fence(&g), Records: records}, &applied)
	if applied.Status != wire.CommitApplied {
		t.Fatalf("commit: %+v", applied)
	}
	if data, err := os.ReadFile(filepath.Join(w.dir, "d/f")); err != nil || string(data) != "hello" {
		t.Errorf("on the host: %q, %v", data, err)
	}
	recalled = a.begin(&wire.Trecall{}, &recall)
	a.do(giveBack(&recall), &wire.Rreturn{})

	// b gets the directory's read token when a has given up writing the new directory.
	a.wait(recalled)
	if recall.Tokens[0].ID != dir {
		t.Errorf("recall of what was born: %+v", recall)
	}
	a.do(giveBack(&recall), &wire.Rreturn{})
	b.wait(granted)
	if gb.Tokens[1].ID != dir || gb.Tokens[1].Attr.Mode != syscall.S_IFDIR|0o755 {
		t.Errorf("b: %+v", gb.Tokens)
	}

	// The plain client reads the file: the id is final, and a keeps reading, too.
	recalled = a.begin(&wire.Trecall{}, &recall)
	var wk wire.Rwalk
	p.do(&wire.Twalk{Fid: 0, NewFid: 1, Names: []string{"d"}}, &wk)
	p.do(&wire.Twalk{Fid: 1, NewFid: 2, Names: []string{"f"}}, &wk)
	if wk.QIDs[0].Path != file {
		t.Errorf("the id of the file is %d, was %d", wk.QIDs[0].Path, file)
	}
	var ga wire.Rgetattr
	attrs := p.begin(&wire.Tgetattr{Fid: 2}, &ga)
	a.wait(recalled)
	if len(recall.Tokens) != 1 || recall.Tokens[0].ID != file || recall.Tokens[0].Keep != 1 || recall.Tokens[0].Gen != a.s.IDs.Gen {
		t.Errorf("recall of the file: %+v", recall)
	}
	a.do(giveBack(&recall), &wire.Rreturn{})
	p.wait(attrs)
	if ga.Attr.Size != 5 || ga.Attr.Mtime != now {
		t.Errorf("the plain client: %+v", ga.Attr)
	}

	// The plain client removes it: those who read the directory are asked, then a for the file itself.
	var ra, rb wire.Rrecall
	recalledA, recalledB := a.begin(&wire.Trecall{}, &ra), b.begin(&wire.Trecall{}, &rb)
	removed := p.begin(&wire.Tunlinkat{Dfid: 1, Name: "f"}, &wire.Runlinkat{})
	b.wait(recalledB)
	b.do(giveBack(&rb), &wire.Rreturn{})
	a.wait(recalledA)
	recalledA = a.begin(&wire.Trecall{}, &recall)
	a.do(giveBack(&ra), &wire.Rreturn{})
	a.wait(recalledA)
	if len(recall.Tokens) != 1 || recall.Tokens[0].ID != file || recall.Tokens[0].Why != wire.WhyUnlink {
		t.Errorf("recall for the unlink: %+v", recall)
	}
	a.do(giveBack(&recall), &wire.Rreturn{})
	p.wait(removed)
	if _, err := os.Stat(filepath.Join(w.dir, "d/f")); !os.IsNotExist(err) {
		t.Errorf("after the removal: %v", err)
	}
}
