package cachefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"echo9/cachefs/backlog"
	"echo9/cachefs/spool"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// doomed is a cache whose process will be killed, in effect: at a certain point its backlog is copied as it is then, and its connection ends.
type doomed struct {
	*FS
	copied string // where the backlog is as of the death
	dead   atomic.Bool
	die    func()
}

// doom opens a cache with a backlog that dies at the n-th use of the connection (0: when told), before or after that.
func (w *world) doom(t *testing.T, n int, after bool, change func(*Options)) *doomed {
	t.Helper()
	dir := t.TempDir()
	store, _, err := backlog.Open(dir, "server", "", "/mnt")
	ok(t, err)
	d := &doomed{}
	c := &mortal{Conn: w.pipe(), at: int64(n), after: after}
	var once sync.Once
	c.die = func() {
		once.Do(func() {
			d.dead.Store(true)
			d.copied = asOfNow(t, dir)
			c.Conn.Close()
		})
	}
	d.die = c.die
	conn, err := p9client.NewConn(bg, c, p9client.Options{Extension: true})
	ok(t, err)
	o := Options{Backlog: store, Place: "/mnt", Server: "server", WriteBehind: time.Hour, Logf: t.Logf, Cred: processCred()}
	if change != nil {
		change(&o)
	}
	c.live.Store(true)
	if d.FS, err = OpenConn(bg, conn, o); err != nil {
		if !d.dead.Load() {
			t.Fatal(err)
		}
		return d
	}
	t.Cleanup(func() {
		d.die()
		d.fail(errClosed)
		d.workers.Wait()
		store.Close()
	})
	return d
}

// asOfNow copies a backlog, and gives where the copy is.
func asOfNow(t *testing.T, dir string) string {
	for {
		copied := t.TempDir()
		err := os.CopyFS(copied, os.DirFS(dir))
		if errors.Is(err, fs.ErrNotExist) { // a new file was put in place of the old one just then
			continue
		}
		if err != nil {
			t.Error(err)
		}
		return copied
	}
}

// mortal is a connection that dies.
type mortal struct {
	net.Conn
	live  atomic.Bool
	uses  atomic.Int64
	at    int64
	after bool
	die   func()
}

func (m *mortal) use(do func() (int, error)) (int, error) {
	last := m.live.Load() && m.uses.Add(1) == m.at
	if last && !m.after {
		m.die()
	}
	n, err := do()
	if last {
		m.die()
	}
	return n, err
}

func (m *mortal) Write(p []byte) (int, error) {
	return m.use(func() (int, error) { return m.Conn.Write(p) })
}

func (m *mortal) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if err != nil {
		return n, err
	}
	return m.use(func() (int, error) { return n, nil })
}

// next does what the next process does at its start, with the backlog in dir.
func (w *world) next(t *testing.T, dir string, change func(*Options)) (Recovered, error) {
	t.Helper()
	store, state, err := backlog.Open(dir, "server", "", "/mnt")
	ok(t, err)
	defer store.Close()
	if state.Session == nil {
		return Recovered{}, nil
	}
	dial := func(ctx context.Context) (*p9client.Conn, error) {
		return p9client.NewConn(ctx, w.pipe(), p9client.Options{Extension: true})
	}
	conn, err := dial(bg)
	ok(t, err)
	o := Options{Backlog: store, Place: "/mnt", Server: "server", Logf: t.Logf, Dial: dial, Cred: processCred()}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(bg, 5*patience)
	defer cancel()
	r, err := Recover(ctx, conn, o, state, nil)
	if err == nil {
		if files, _ := filepath.Glob(filepath.Join(dir, "*.backlog")); len(files) > 0 {
			t.Errorf("it is still there: %v", files)
		}
	}
	return r, err
}

// deeds are what a program does, one after the other: each one update at most, so that a death leaves the state before it or
// the one after it.
var deeds = []func(f *FS) error{
	func(f *FS) error { return f.Mkdir(bg, "d", 0o755) },
	func(f *FS) error { return create(f, "d/a", 0o644) },
	func(f *FS) error { return appendTo(f, "d/a", "first") },
	func(f *FS) error { return create(f, "b", 0o600) },
	func(f *FS) error { return appendTo(f, "b", strings.Repeat("b", 3000)) },
	func(f *FS) error { return f.Sync(bg) },
	func(f *FS) error { return create(f, "d/new", 0o644) },
	func(f *FS) error { return appendTo(f, "d/new", "new content") },
	func(f *FS) error { return f.Rename(bg, "d/new", "d/a") },
	func(f *FS) error { return appendTo(f, "b", "more") },
	func(f *FS) error { return appendTo(f, "b", "and more") },
	func(f *FS) error { return f.Mkdir(bg, "e", 0o700) },
	func(f *FS) error { return f.Rename(bg, "d", "e/d") },
	func(f *FS) error { return f.Sync(bg) },
	func(f *FS) error { return f.Symlink(bg, "e/d/a", "link") },
	func(f *FS) error { return f.Remove(bg, "b") },
	func(f *FS) error { return create(f, "b", 0o644) },
	func(f *FS) error { return appendTo(f, "b", "again") },
	func(f *FS) error { return appendTo(f, "e/d/a", "!") },
}

func create(f *FS, name string, mode uint32) error {
	h, err := f.OpenFile(bg, name, wire.OWronly|wire.OCreat|wire.OExcl, mode)
	if err != nil {
		return err
	}
	return h.Close(bg)
}

func appendTo(f *FS, name, text string) error {
	h, err := f.OpenFile(bg, name, wire.OWronly|wire.OAppend, 0)
	if err != nil {
		return err
	}
	_, err = h.WriteAt(bg, []byte(text), 0)
	return errors.Join(err, h.Close(bg))
}

// shape is all that a directory of the host has.
func shape(t *testing.T, dir string) string {
	t.Helper()
	text := ""
	ok(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == ".echo9":
			return fs.SkipDir
		case e.Type().IsRegular():
			b, err := os.ReadFile(filepath.Join(dir, path))
			text += fmt.Sprintf("%s: %q\n", path, b)
			return err
		}
		text += fmt.Sprintf("%s %v\n", path, e.Type())
		return nil
	}))
	return text
}

// states are what the deeds leave, one by one.
func states(t *testing.T) []string {
	w := newWorld(t)
	f := w.direct()
	all := []string{shape(t, w.dir)}
	for _, deed := range deeds {
		if err := deed(f); err != nil {
			t.Fatal(err)
		}
		all = append(all, shape(t, w.dir))
	}
	return all
}

// TestKilledAnywhere: wherever a client is killed, everything that returned to its caller is at the server when the next
// process has sent the backlog, done once and in order, and nothing is told lost. A client that writes its backlog later (the mutant) loses something.
func TestKilledAnywhere(t *testing.T) {
	want := states(t)
	for _, mutant := range []string{"", mutantLateBacklog} {
		lost, deaths := 0, 0
		for _, after := range []bool{false, true} {
			for n := 1; ; n++ {
				w := newWorld(t)
				d := w.doom(t, n, after, func(o *Options) { o.Mutant = mutant })
				done := 0
				if d.FS != nil {
					for _, deed := range deeds {
						if d.dead.Load() {
							break
						}
						if err := deed(d.FS); err != nil || d.dead.Load() {
							break
						}
						done++
					}
				}
				if !d.dead.Load() && done < len(deeds) {
					t.Fatalf("use %d: deed %d failed before the death", n, done)
				}
				last := !d.dead.Load()
				d.die()
				deaths++
				r, err := w.next(t, d.copied, nil)
				ok(t, err)
				got := shape(t, w.dir)
				if whole := got == want[done] || done < len(deeds) && got == want[done+1]; !whole || r.Lost > 0 {
					lost++
					if mutant == "" {
						t.Fatalf("killed at use %d (after: %v): %d deeds had returned; %+v; the server has\n%s\nwant\n%s", n, after, done, r, got, want[done])
					}
				}
				if last {
					break
				}
			}
		}
		t.Logf("mutant %q: %d deaths, %d with something lost", mutant, deaths, lost)
		if mutant != "" && lost == 0 {
			t.Errorf("mutant %q: nothing was lost in %d deaths", mutant, deaths)
		}
	}
}

// TestRecoverTwice: a process that is killed while it sends what another one left leaves that to the next one.
func TestRecoverTwice(t *testing.T) {
	want := states(t)
	w := newWorld(t)
	d := w.doom(t, 0, false, nil)
	for _, deed := range deeds {
		ok(t, deed(d.FS))
	}
	d.die()
	for n := 1; ; n++ {
		dir, copied := t.TempDir(), ""
		ok(t, os.CopyFS(dir, os.DirFS(d.copied)))
		store, state, err := backlog.Open(dir, "server", "", "/mnt")
		ok(t, err)
		if state.Session == nil {
			store.Close()
			break
		}
		c := &mortal{Conn: w.pipe(), at: int64(n)}
		var died atomic.Bool
		var once sync.Once
		c.die = func() {
			once.Do(func() {
				died.Store(true)
				copied = asOfNow(t, dir)
				c.Conn.Close()
			})
		}
		conn, err := p9client.NewConn(bg, c, p9client.Options{Extension: true})
		ok(t, err)
		c.live.Store(true)
		r, err := Recover(bg, conn, Options{Backlog: store, Place: "/mnt", Server: "server", Cred: processCred()}, state, nil)
		store.Close()
		if r.Lost > 0 {
			t.Fatalf("death %d: %+v, %v", n, r, err)
		}
		if !died.Load() {
			ok(t, err)
			break
		}
		c.die() // waits for the copy
		d.copied = copied
	}
	same(t, "at the server", shape(t, w.dir), want[len(deeds)])
}

// TestRecoverTooLate: what was taken away meanwhile, and what comes after it in the order, is lost and kept; all else is sent.
func TestRecoverTooLate(t *testing.T) {
	w, clock, skew := skewed(t)
	clocked := func(o *Options) { o.Clock = clock }
	d := w.doom(t, 0, false, clocked)
	ok(t, d.Mkdir(bg, "d", 0o755))
	ok(t, d.WriteFile(bg, "d/f", []byte("old"), 0o644))
	ok(t, d.WriteFile(bg, "g", []byte("old"), 0o644))
	ok(t, d.Sync(bg))
	f, g := open(t, d.FS, "d/f", wire.OWronly), open(t, d.FS, "g", wire.OWronly)
	for _, h := range []*File{f, g} {
		_, err := h.WriteAt(bg, []byte("NEW"), 0)
		ok(t, err)
	}
	d.die()
	skew.Store(int64(time.Hour))
	other := w.cache(clocked)
	ok(t, appendTo(other, "d/f", "+other"))
	ok(t, other.Sync(bg))

	lost := spool.Open(t.TempDir(), 1<<20)
	r, err := w.next(t, d.copied, func(o *Options) { o.Spool, o.Clock = lost, clock })
	ok(t, err)
	if r.Updates != 2 || r.Lost != 1 {
		t.Errorf("%+v", r)
	}
	same(t, "at the server", shape(t, w.dir), ". d---------\nd d---------\nd/f: \"old+other\"\ng: \"NEW\"\n")
	entries, err := lost.List()
	ok(t, err)
	if len(entries) != 1 || entries[0].Cause != spool.Taken {
		t.Errorf("kept: %+v", entries)
	}
}

// forget has the server forget all sessions.
func (w *world) forget() {
	w.srv.Close()
	w.auth.Close()
	w.auth = p9srv.NewAuthority(p9srv.AuthorityConfig{Backend: w.backend, Users: p9srv.AsClient(), Lease: 10 * time.Second})
	w.srv = p9srv.New(p9srv.Config{Backend: w.backend, Authority: w.auth, Users: p9srv.AsClient()})
}

// TestRecoverRefused: a server with another tree will never have the session: everything is lost, and kept.
func TestRecoverRefused(t *testing.T) {
	d := newWorld(t).doom(t, 0, false, nil)
	ok(t, d.WriteFile(bg, "f", []byte("content"), 0o644))
	d.die()
	lost := spool.Open(t.TempDir(), 1<<20)
	r, err := newWorld(t).next(t, d.copied, func(o *Options) { o.Spool = lost })
	ok(t, err)
	if r.Lost == 0 || r.Lost != r.Updates {
		t.Errorf("%+v", r)
	}
	entries, err := lost.List()
	ok(t, err)
	if len(entries) != 1 || entries[0].Cause != spool.Forgotten {
		t.Errorf("kept: %+v", entries)
	}
}

// TestRecoverForgotten: when the server does not know the session any more everything is lost, and kept; what was on its way is in doubt.
func TestRecoverForgotten(t *testing.T) {
	w := newWorld(t)
	d := w.doom(t, 0, false, nil)
	ok(t, d.WriteFile(bg, "f", []byte("content"), 0o644))
	d.die()
	w.forget()
	lost := spool.Open(t.TempDir(), 1<<20)
	r, err := w.next(t, d.copied, func(o *Options) { o.Spool = lost })
	if err == nil && (r.Lost == 0 || r.Lost != r.Updates) {
		t.Errorf("%+v", r)
	}
	ok(t, err)
	entries, err := lost.List()
	ok(t, err)
	if len(entries) != 1 || entries[0].Cause != spool.Forgotten {
		t.Errorf("kept: %+v", entries)
	}
}

// TestRecoverAfterRestart: client and server are killed; the next client reclaims what the backlog needs at the next server. What was
// changed on the host meanwhile is another thing than what the operations were done to: those are lost, and kept.
func TestRecoverAfterRestart(t *testing.T) {
	want := states(t)
	for k := 1; k <= len(deeds); k++ {
		w := newLives(t)
		d := w.doom(t, 0, false, nil)
		for _, deed := range deeds[:k] {
			ok(t, deed(d.FS))
		}
		d.die()
		w.restart(nil)
		r, err := w.next(t, d.copied, nil)
		ok(t, err)
		if got := shape(t, w.dir); got != want[k] || r.Lost > 0 {
			t.Fatalf("after %d deeds: %+v; the server has\n%s\nwant\n%s", k, r, got, want[k])
		}
	}
}

func TestRecoverAfterChange(t *testing.T) {
	w := newLives(t)
	d := w.doom(t, 0, false, nil)
	for _, name := range []string{"f", "g"} {
		ok(t, d.WriteFile(bg, name, []byte("old"), 0o644))
	}
	ok(t, d.Sync(bg))
	for _, name := range []string{"f", "g"} {
		h := open(t, d.FS, name, wire.OWronly)
		_, err := h.WriteAt(bg, []byte("NEW"), 0)
		ok(t, err)
	}
	d.die()
	w.restart(func() { ok(t, os.WriteFile(filepath.Join(w.dir, "f"), []byte("host's own"), 0o644)) })
	lost := spool.Open(t.TempDir(), 1<<20)
	r, err := w.next(t, d.copied, func(o *Options) { o.Spool = lost })
	ok(t, err)
	if r.Updates != 2 || r.Lost != 1 {
		t.Errorf("%+v", r)
	}
	same(t, "at the server", shape(t, w.dir), ". d---------\nf: \"host's own\"\ng: \"NEW\"\n")
	if entries, err := lost.List(); err != nil || len(entries) != 1 {
		t.Errorf("kept: %+v, %v", entries, err)
	}
}

// TestBacklogIsBounded: however much is written, the backlog is about as long as what is pending.
func TestBacklogIsBounded(t *testing.T) {
	w := newWorld(t)
	d := w.doom(t, 0, false, nil)
	h := open(t, d.FS, "f", wire.OWronly|wire.OCreat)
	most := int64(0)
	for i := range 100 {
		_, err := h.WriteAt(bg, make([]byte, 1<<20), int64(i%4)<<20)
		ok(t, err)
		most = max(most, d.opt.Backlog.Size())
		if i%4 == 3 {
			ok(t, d.Sync(bg))
		}
	}
	if most > 3*backlogSlack {
		t.Errorf("it grew to %d bytes", most)
	}
}

// TestBacklogFails: when the backlog cannot be written operations wait for the server instead.
func TestBacklogFails(t *testing.T) {
	w := newWorld(t)
	d := w.doom(t, 0, false, nil)
	ok(t, d.WriteFile(bg, "f", []byte("one"), 0o644))
	same(t, "not sent", shape(t, w.dir), ". d---------\n")
	d.opt.Backlog.Fail(errors.New("no space"))
	ok(t, d.WriteFile(bg, "g", []byte("two"), 0o644))
	if _, err := os.Stat(filepath.Join(w.dir, "g")); err != nil {
		t.Errorf("it returned, and is neither in the backlog nor at the server: %v", err)
	}
}
