package cachefs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
)

// step is one change, and what somebody else must see after it and not before.
type step struct {
	name string
	do   func(f *FS) error
	seen func(f *FS) error
}

func wantContent(name, content string) func(*FS) error {
	return func(f *FS) error {
		b, err := f.ReadFile(bg, name)
		if err == nil && string(b) != content {
			err = fmt.Errorf("%s has %q, want %q", name, b, content)
		}
		return err
	}
}

func wantGone(name string) func(*FS) error {
	return func(f *FS) error {
		if _, err := f.Lstat(bg, name); !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("%s: %v, want ENOENT", name, err)
		}
		return nil
	}
}

func wantAttr(name string, good func(a wire.Attr) bool) func(*FS) error {
	return func(f *FS) error {
		a, err := f.Lstat(bg, name)
		if err == nil && !good(a) {
			err = fmt.Errorf("%s has %+v", name, a)
		}
		return err
	}
}

func wantNames(dir, want string) func(*FS) error {
	return func(f *FS) error {
		list, err := f.ReadDir(bg, dir)
		if err != nil {
			return err
		}
		have := map[string]bool{}
		for _, d := range list {
			have[d.Name] = true
		}
		if n := len(strings.Fields(want)); n != len(have) {
			return fmt.Errorf("%s lists %v, want %s", dir, have, want)
		}
		for _, name := range strings.Fields(want) {
			if !have[name] {
				return fmt.Errorf("%s lists %v, want %s", dir, have, want)
			}
		}
		return nil
	}
}

// changes are all kinds of updates, each visible to others.
var changes = []step{
	{"mkdir", func(f *FS) error { return f.Mkdir(bg, "d", 0o755) }, wantNames("d", "")},
	{"create", func(f *FS) error { return f.WriteFile(bg, "d/f", []byte("one"), 0o644) }, wantContent("d/f", "one")},
	{"listing", func(f *FS) error { return f.WriteFile(bg, "d/e", nil, 0o644) }, wantNames("d", "e f")},
	{"overwrite", func(f *FS) error { return f.WriteFile(bg, "d/f", []byte("two"), 0o644) }, wantContent("d/f", "two")},
	{"truncate", func(f *FS) error { return f.Truncate(bg, "d/f", 1) }, wantContent("d/f", "t")},
	{"grow", func(f *FS) error { return f.Truncate(bg, "d/f", 3) }, wantContent("d/f", "t\x00\x00")},
	{"chmod", func(f *FS) error { return f.Chmod(bg, "d/f", 0o600) },
		wantAttr("d/f", func(a wire.Attr) bool { return a.Mode&0o777 == 0o600 })},
	{"utimes", func(f *FS) error { return f.Chtimes(bg, "d/f", 5, 7) },
		wantAttr("d/f", func(a wire.Attr) bool { return a.Mtime == 7 })},
	{"link", func(f *FS) error { return f.Link(bg, "d/f", "d/g") },
		wantAttr("d/f", func(a wire.Attr) bool { return a.Nlink == 2 })},
	{"write by the other name", func(f *FS) error { return f.WriteFile(bg, "d/g", []byte("both"), 0o644) }, wantContent("d/f", "both")},
	{"unlink", func(f *FS) error { return f.Remove(bg, "d/g") }, wantGone("d/g")},
	{"name known not to exist", func(f *FS) error { return f.WriteFile(bg, "d/g", []byte("again"), 0o644) }, wantContent("d/g", "again")},
	{"rename over", func(f *FS) error { return f.Rename(bg, "d/g", "d/f") }, wantContent("d/f", "again")},
	{"symlink", func(f *FS) error { return f.Symlink(bg, "f", "d/s") }, wantContent("d/s", "again")},
	{"tree", func(f *FS) error {
		return errors.Join(f.MkdirAll(bg, "tmp/a/b", 0o755), f.WriteFile(bg, "tmp/a/b/deep", []byte("x"), 0o644))
	}, wantContent("tmp/a/b/deep", "x")},
	{"directory rename", func(f *FS) error { return f.Rename(bg, "tmp", "d/tree") }, wantContent("d/tree/a/b/deep", "x")},
	{"and its old name", func(f *FS) error { return f.Mkdir(bg, "tmp", 0o700) }, wantNames("tmp", "")},
	{"xattr", func(f *FS) error {
		return f.onPath(bg, "setxattr", "d/f", true, func(o p9srv.Object, _ wire.Attr) error {
			return o.SetXattr(bg, &f.opt.Cred, "user.k", []byte("v"), 0)
		})
	}, func(f *FS) error {
		return f.onPath(bg, "getxattr", "d/f", true, func(o p9srv.Object, _ wire.Attr) error {
			v, err := o.GetXattr(bg, &f.opt.Cred, "user.k")
			if err == nil && string(v) != "v" {
				err = fmt.Errorf("user.k is %q", v)
			}
			return err
		})
	}},
	{"remove all", func(f *FS) error { return f.RemoveAll(bg, "d") }, wantGone("d")},
}

// runChanges does the changes by turns as one client and has the others look before and after.
func runChanges(clients []*FS) error {
	for i, c := range changes {
		for j, f := range clients {
			if err := c.seen(f); err == nil {
				return fmt.Errorf("%s is seen by client %d before it was done", c.name, j)
			}
		}
		if err := c.do(clients[i%len(clients)]); err != nil {
			return fmt.Errorf("%s by client %d: %w", c.name, i%len(clients), err)
		}
		for j := range clients {
			// The one who did it looks last.
			k := (i + 1 + j) % len(clients)
			if err := c.seen(clients[k]); err != nil {
				return fmt.Errorf("after %s by client %d, client %d: %w", c.name, i%len(clients), k, err)
			}
		}
	}
	return nil
}

// TestClientsSeeEachOther: two caches and a plain client are coherent in everything they do.
func TestClientsSeeEachOther(t *testing.T) {
	w := newWorld(t)
	a, b := w.cache(), w.cache()
	ok(t, runChanges([]*FS{a, b, w.plain()}))
	for _, f := range []*FS{a, b} {
		if s := f.Status(); s.Lost > 0 || s.Recalls == 0 {
			t.Fatalf("lost %d, recalls %d", s.Lost, s.Recalls)
		}
	}
}

// TestMutantsAreSeen: a cache that gives a token back before its cut is applied, or that serves on after it, is noticed.
func TestMutantsAreSeen(t *testing.T) {
	for _, m := range []string{mutantSkipRecall, mutantIgnoreRecall} {
		t.Run(m, func(t *testing.T) {
			w := newWorld(t)
			mutant := func(o *Options) { o.Mutant = m; o.Logf = func(string, ...any) {} }
			if err := runChanges([]*FS{w.cache(mutant), w.cache(mutant), w.plain()}); err == nil {
				t.Fatal("nobody noticed")
			} else {
				t.Log(err)
			}
		})
	}
}

// TestRecallSendsTheIdeal: what a recall sends is what precedes, and nothing else.
func TestRecallSendsTheIdeal(t *testing.T) {
	w := newWorld(t)
	var sent commits
	a, b := w.cache(sent.hook), w.cache()
	for i := range 11 {
		ok(t, a.Mkdir(bg, fmt.Sprintf("d%d", i), 0o755))
	}
	ok(t, a.Sync(bg))
	for i := range 1000 {
		ok(t, a.WriteFile(bg, fmt.Sprintf("d%d/f%d", i%10, i), []byte("other"), 0o644))
	}
	ok(t, a.WriteFile(bg, "d10/before", []byte("x"), 0o644))
	ok(t, a.WriteFile(bg, "d10/wanted", []byte("y"), 0o644))
	pending := a.Status().Pending
	sent.ops.Store(0)
	hasContent(t, b, "d10/wanted", "y")
	// The two creations in its directory; the content of the one.
	if n := sent.ops.Load(); n < 3 || n > 4 {
		t.Fatalf("%d operations were sent for a file that 3 precede", n)
	}
	if n := a.Status().Pending; n < pending-4 {
		t.Fatalf("%d operations are pending of %d", n, pending)
	}
	same(t, "other files", names(t, b, "d3") != "", true)
}

// TestManyRenamesFewMessages: 1,000 files created, written and renamed in one directory go in a few messages.
func TestManyRenamesFewMessages(t *testing.T) {
	w := newWorld(t)
	var sent commits
	a := w.cache(sent.hook)
	ok(t, a.Mkdir(bg, "d", 0o755))
	ok(t, a.Sync(bg))
	sent.messages.Store(0)
	before := a.stats.messages.Load()
	for i := range 1000 {
		ok(t, a.WriteFile(bg, "d/tmp", []byte("content"), 0o644))
		ok(t, a.Rename(bg, "d/tmp", fmt.Sprintf("d/f%d", i)))
	}
	ok(t, a.Sync(bg))
	if n := a.stats.messages.Load() - before; n > 10 {
		t.Fatalf("%d messages", n)
	}
	list, err := w.plain().ReadDir(bg, "d")
	ok(t, err)
	same(t, "files at the server", len(list), 1000)
}

// TestRemovedBeforeWriteBack: a file that is written and removed sends no data.
func TestRemovedBeforeWriteBack(t *testing.T) {
	w := newWorld(t)
	var sent commits
	a := w.cache(sent.hook)
	ok(t, a.WriteFile(bg, "f", make([]byte, 1<<20), 0o644))
	ok(t, a.Remove(bg, "f"))
	ok(t, a.Sync(bg))
	same(t, "bytes sent", sent.bytes.Load(), 0)
	same(t, "pending", a.Status().Pending, 0)
	same(t, "cached bytes", a.Status().CachedBytes, 0)
}

// TestFsyncSendsTheIdeal: fsync of one file leaves others pending.
func TestFsyncSendsTheIdeal(t *testing.T) {
	w := newWorld(t)
	a, p := w.cache(), w.direct()
	ok(t, a.Mkdir(bg, "d", 0o755))
	ok(t, a.Mkdir(bg, "e", 0o755))
	ok(t, a.WriteFile(bg, "d/other", []byte("o"), 0o644))
	ok(t, a.WriteFile(bg, "e/f", []byte("f"), 0o644))
	ok(t, a.Fsync(bg, "e/f"))
	hasContent(t, p, "e/f", "f")
	if _, err := p.Stat(bg, "d/other"); !errors.Is(err, syscall.ENOENT) {
		t.Fatalf("a file in another directory: %v, want it still pending", err)
	}
}

// TestWriteBehindByAge: what is old goes by itself.
func TestWriteBehindByAge(t *testing.T) {
	w := newWorld(t)
	sent := make(chan string, 10)
	a := w.cache(func(o *Options) {
		o.WriteBehind = time.Millisecond
		o.Hooks.Commit = func(i CutInfo) { sent <- i.Why }
	})
	ok(t, a.WriteFile(bg, "f", []byte("x"), 0o644))
	same(t, "why", <-sent, "age")
}

// TestDirtyLimit: writers wait for write-back at the limit, and their contexts end that.
func TestDirtyLimit(t *testing.T) {
	w := newWorld(t)
	gate := make(chan struct{})
	a := w.cache(func(o *Options) {
		o.Dirty = 1 << 20
		o.Hooks.Commit = func(CutInfo) { <-gate }
	})
	h := open(t, a, "f", wire.OWronly|wire.OCreat)
	for i := range 4 {
		_, err := h.WriteAt(bg, make([]byte, 256<<10), int64(i)<<18)
		ok(t, err)
	}
	ctx, cancel := context.WithTimeout(bg, 20*time.Millisecond)
	defer cancel()
	_, err := h.WriteAt(ctx, make([]byte, 256<<10), 1<<20)
	fails(t, err, syscall.EINTR)
	close(gate)
	_, err = h.WriteAt(bg, make([]byte, 256<<10), 1<<20)
	ok(t, err)
	ok(t, h.Close(bg))
	ok(t, a.Sync(bg))
	a2, err := w.direct().Stat(bg, "f")
	ok(t, err)
	same(t, "size", a2.Size, 5<<18)
}

// TestUnlinkedByOthers: a file that is open here works on when another client removes it.
func TestUnlinkedByOthers(t *testing.T) {
	w := newWorld(t)
	a, b := w.cache(), w.cache()
	ok(t, b.WriteFile(bg, "f", []byte("content"), 0o644))
	h := open(t, a, "f", wire.ORdwr)
	ok(t, b.Remove(bg, "f"))
	ok(t, b.Sync(bg))
	p := make([]byte, 20)
	n, err := h.ReadAt(bg, p, 0)
	ok(t, err)
	same(t, "content", string(p[:n]), "content")
	_, err = h.WriteAt(bg, []byte("C"), 0)
	ok(t, err)
	ok(t, h.Fsync(bg, false))
	ok(t, a.Drop(bg))
	n, err = h.ReadAt(bg, p, 0)
	ok(t, err)
	same(t, "content", string(p[:n]), "Content")
	ok(t, h.Close(bg))
	ok(t, a.Sync(bg))
}

// refuser is a backend that refuses cuts with certain records.
type refuser struct {
	p9srv.Committer
	refuse atomic.Pointer[func(r *cut.Record) error]
}

func (r *refuser) Apply(ctx context.Context, cred *p9srv.Cred, c *cut.Cut) error {
	if fn := r.refuse.Load(); fn != nil {
		for i := range c.Records {
			if err := (*fn)(&c.Records[i]); err != nil {
				return &cut.Refusal{Record: i, Err: err}
			}
		}
	}
	return r.Committer.Apply(ctx, cred, c)
}

// refusing gives a world whose backend refuses what fn says.
func refusing(t *testing.T) (*world, *refuser) {
	r := &refuser{}
	w := newWorld(t, func(c *p9srv.AuthorityConfig) {
		r.Committer = c.Backend
		c.Backend = r
	})
	return w, r
}

func quiet(o *Options) { o.Logf = func(string, ...any) {} }

// TestRefusedAttribute: a refused chmod takes nothing else along.
func TestRefusedAttribute(t *testing.T) {
	w, r := refusing(t)
	a := w.cache(quiet)
	for i := range 20 {
		ok(t, a.WriteFile(bg, fmt.Sprintf("f%02d", i), []byte("x"), 0o644))
	}
	h := open(t, a, "f07", wire.ORdwr)
	other := open(t, a, "f08", wire.ORdwr)
	o := object(t, a, "f07")
	ok(t, a.Sync(bg))
	ok(t, o.SetAttr(bg, &a.opt.Cred, nil, wire.SetAttr{Valid: wire.SetMode, Mode: 0o751}))
	ok(t, a.WriteFile(bg, "later", []byte("survives"), 0o644))
	fn := func(rec *cut.Record) error {
		if rec.Kind == cut.Attr && rec.Valid&cut.AttrMode != 0 && rec.Mode&0o777 == 0o751 {
			return syscall.EPERM
		}
		return nil
	}
	r.refuse.Store(&fn)
	err := a.Sync(bg)
	fails(t, err, syscall.EIO)
	ok(t, a.Sync(bg)) // told once
	hasContent(t, w.direct(), "later", "survives")
	at, err := a.Stat(bg, "f07")
	ok(t, err)
	same(t, "mode", at.Mode&0o777, 0o644)
	_, err = h.ReadAt(bg, make([]byte, 1), 0)
	fails(t, err, syscall.EIO)
	fails(t, h.Fsync(bg, false), syscall.EIO)
	fails(t, h.Close(bg), syscall.EIO)
	_, err = other.WriteAt(bg, []byte("y"), 0)
	ok(t, err)
	ok(t, other.Fsync(bg, false))
	ok(t, other.Close(bg))
	hasContent(t, a, "f07", "x") // opened anew
	if s := a.Status(); s.Lost != 1 || len(s.Events) == 0 {
		t.Fatalf("lost %d, events %v", s.Lost, s.Events)
	}
}

// TestRefusedData: a file whose data is refused never gets its final name; others do.
func TestRefusedData(t *testing.T) {
	w, r := refusing(t)
	a := w.cache(quiet)
	ok(t, a.WriteFile(bg, "final", []byte("old"), 0o644))
	ok(t, a.Sync(bg))
	fn := func(rec *cut.Record) error {
		if rec.Kind == cut.Data && len(rec.Bytes) == 3000 {
			return syscall.ENOSPC
		}
		return nil
	}
	r.refuse.Store(&fn)
	ok(t, a.WriteFile(bg, "good.tmp", []byte("good"), 0o644))
	ok(t, a.Rename(bg, "good.tmp", "good"))
	ok(t, a.WriteFile(bg, "bad.tmp", make([]byte, 3000), 0o644))
	ok(t, a.Rename(bg, "bad.tmp", "final"))
	dir := open(t, a, "", wire.ORdonly|wire.ODirectory)
	ok(t, a.WriteFile(bg, "after", []byte("after"), 0o644))
	fails(t, a.Sync(bg), syscall.EIO)
	for _, f := range []*FS{a, w.direct()} {
		hasContent(t, f, "final", "old")
		hasContent(t, f, "good", "good")
		hasContent(t, f, "after", "after")
	}
	fails(t, dir.Fsync(bg, false), syscall.EIO)
	ok(t, dir.Fsync(bg, false)) // once
	ok(t, dir.Close(bg))
}

// TestRefusedCreation: what needs a refused object to exist goes with it; its handles are dead.
func TestRefusedCreation(t *testing.T) {
	w, r := refusing(t)
	a := w.cache(quiet)
	ok(t, a.Mkdir(bg, "keep", 0o755))
	ok(t, a.Sync(bg))
	fn := func(rec *cut.Record) error {
		if rec.Kind == cut.Bind && rec.Name == "bad" && rec.ID != 0 {
			return syscall.EDQUOT
		}
		return nil
	}
	r.refuse.Store(&fn)
	ok(t, a.WriteFile(bg, "before", []byte("1"), 0o644))
	ok(t, a.Mkdir(bg, "bad", 0o755))
	ok(t, a.WriteFile(bg, "bad/child", []byte("2"), 0o644))
	h := open(t, a, "bad/child", wire.ORdwr)
	ok(t, a.WriteFile(bg, "keep/f", []byte("3"), 0o644))
	fails(t, a.Sync(bg), syscall.EIO)
	for _, f := range []*FS{a, w.direct()} {
		hasContent(t, f, "before", "1")
		hasContent(t, f, "keep/f", "3")
		_, err := f.Stat(bg, "bad")
		fails(t, err, syscall.ENOENT)
	}
	_, err := h.WriteAt(bg, []byte("x"), 0)
	fails(t, err, syscall.EIO)
	fails(t, h.Close(bg), syscall.EIO)
	r.refuse.Store(nil)
	ok(t, a.Mkdir(bg, "bad", 0o755))
	ok(t, a.Sync(bg))
}

// TestRefusedThrough: with the policy sync, a refusal is the call's own error, and nothing is lost.
func TestRefusedThrough(t *testing.T) {
	w, r := refusing(t)
	a := w.cache(func(o *Options) { o.Writes = Sync })
	fn := func(rec *cut.Record) error {
		if rec.Kind == cut.Bind && rec.Name == "bad" {
			return syscall.EDQUOT
		}
		return nil
	}
	r.refuse.Store(&fn)
	fails(t, a.Mkdir(bg, "bad", 0o755), syscall.EDQUOT)
	_, err := a.Stat(bg, "bad")
	fails(t, err, syscall.ENOENT)
	ok(t, a.Mkdir(bg, "good", 0o755))
	same(t, "lost", a.Status().Lost, 0)
	ok(t, a.Sync(bg))
}

// TestReleaseIsNotKept: that what has no name is closed goes to the server at once when a policy lets nothing wait, though
// no program waits for it; and it is a cut of its own.
func TestReleaseIsNotKept(t *testing.T) {
	for _, policy := range []Writes{Sync, OnClose} {
		a := newWorld(t).cache(func(o *Options) { o.Writes, o.WriteBehind = policy, time.Hour })
		h := open(t, a, "f", wire.OCreat|wire.ORdwr)
		ok(t, a.Remove(bg, "f"))
		ok(t, h.Close(bg))
		until(t, "it has gone", func() bool { return a.Status().Pending == 0 })
		ok(t, a.Mkdir(bg, "d", 0o755))
		if st := a.Status(); st.Cuts < st.Updates {
			t.Errorf("%v: %d updates went in %d cuts", policy, st.Updates, st.Cuts)
		}
	}
}

// TestRevokers: what is above is told before somebody else can change an object, and may cache nothing meanwhile.
func TestRevokers(t *testing.T) {
	w := newWorld(t)
	a, b := w.cache(), w.cache()
	ok(t, a.WriteFile(bg, "f", []byte("a"), 0o644))
	ok(t, a.Sync(bg))
	hasContent(t, a, "f", "a")
	id := object(t, a, "f").ID()
	if ttl := a.TTL(id); ttl <= 0 || ttl > time.Second {
		t.Fatalf("TTL of what is held is %v", ttl)
	}
	called := make(chan struct{})
	proceed := make(chan struct{})
	var once sync.Once
	a.OnRevoke(func(_ context.Context, revs []p9srv.Revocation) {
		for _, r := range revs {
			if r.ID == id {
				once.Do(func() { close(called); <-proceed })
			}
		}
	})
	wrote := make(chan error, 1)
	go func() { wrote <- b.WriteFile(bg, "f", []byte("b"), 0o644) }()
	<-called
	same(t, "TTL while it is wanted back", a.TTL(id), 0)
	hasContent(t, a, "f", "a") // reads do not wait for the revoker
	select {
	case <-wrote:
		t.Fatal("another client wrote before the revoker had returned")
	default:
	}
	close(proceed)
	ok(t, <-wrote)
	hasContent(t, a, "f", "b")
}

// TestCancelWhileWaiting: who waits for a token that somebody does not give back can go.
func TestCancelWhileWaiting(t *testing.T) {
	w := newWorld(t)
	stop := make(chan struct{})
	a := w.cache(func(o *Options) { o.Hooks.BeforeReturn = func(context.Context, []uint64) { <-stop } })
	b := w.cache()
	ok(t, a.WriteFile(bg, "f", []byte("a"), 0o644))
	ctx, cancel := context.WithTimeout(bg, 30*time.Millisecond)
	defer cancel()
	_, err := b.ReadFile(ctx, "f")
	fails(t, err, syscall.EINTR)
	close(stop)
	hasContent(t, b, "f", "a")
}

// TestLostConnection: nothing hangs, nothing stale is served, and the loss is told.
func TestLostConnection(t *testing.T) {
	w := newWorld(t)
	a := w.cache(quiet)
	ok(t, a.WriteFile(bg, "f", []byte("a"), 0o644))
	h := open(t, a, "f", wire.ORdwr)
	a.conn.NetConn().Close()
	<-a.ended
	_, err := a.ReadFile(bg, "f")
	fails(t, err, syscall.EIO)
	_, err = h.WriteAt(bg, []byte("b"), 0)
	fails(t, err, syscall.EIO)
	fails(t, h.Fsync(bg, false), syscall.EIO)
	fails(t, a.Sync(bg), syscall.EIO)
	fails(t, a.Close(bg), syscall.EIO)
	if len(a.Events()) == 0 {
		t.Fatal("no event")
	}
}

// TestLeaseOver: past its lease a cache serves nothing until it is extended.
func TestLeaseOver(t *testing.T) {
	w := newWorld(t)
	var skew atomic.Int64
	real := Options{}.withDefaults().Clock
	a := w.cache(func(o *Options) { o.Clock = func() int64 { return real() + skew.Load() } })
	ok(t, a.WriteFile(bg, "f", []byte("a"), 0o644))
	// Ten seconds pass for the client in an instant, as in a suspended machine; it asks for the lease before it serves.
	before := a.stats.messages.Load()
	skew.Store(int64(11 * time.Second))
	hasContent(t, a, "f", "a")
	if a.stats.messages.Load() == before {
		t.Fatal("served without a lease")
	}
}

// TestCtl: the synthetic directory works, and is in no listing.
func TestCtl(t *testing.T) {
	w := newWorld(t)
	a := w.cache()
	ok(t, a.WriteFile(bg, "f", []byte("a"), 0o644))
	same(t, "names", names(t, a, ""), "f")
	list, err := a.ReadDir(bg, "")
	ok(t, err)
	same(t, "entries", len(list), 1)
	b, err := a.ReadFile(bg, ".echo9/status")
	ok(t, err)
	if want := fmt.Sprintf("pending  %d updates", a.Status().Pending); len(b) < len(want) || string(b[:len(want)]) != want {
		t.Fatalf("status is %q", b)
	}
	b, err = a.ReadFile(bg, ".echo9/pending")
	ok(t, err)
	if len(b) == 0 {
		t.Fatal("nothing is listed as pending")
	}
	h := open(t, a, ".echo9/ctl", wire.OWronly)
	for _, cmd := range []string{"barrier /f\n", "barrier\n", "sync\n", "drop\n"} {
		_, err = h.WriteAt(bg, []byte(cmd), 0)
		ok(t, err)
	}
	_, err = h.WriteAt(bg, []byte("nonsense\n"), 0)
	fails(t, err, syscall.EINVAL)
	ok(t, h.Close(bg))
	hasContent(t, w.direct(), "f", "a")
	same(t, "pending", a.Status().Pending, 0)
	list, err = a.ReadDir(bg, ".echo9")
	ok(t, err)
	same(t, "files in .echo9", len(list), len(ctlFiles))
	fails(t, a.Remove(bg, ".echo9"), syscall.EPERM)
	fails(t, a.Rename(bg, "f", ".echo9"), syscall.EPERM)
	_, err = a.OpenFile(bg, ".echo9/status", wire.OWronly, 0)
	fails(t, err, syscall.EACCES)
}

// TestObjectsBounded: tokens of objects that nobody uses go back when there are too many, and the objects stay right.
func TestObjectsBounded(t *testing.T) {
	w := newWorld(t)
	d := w.direct()
	const files = 400
	for i := range files {
		ok(t, d.WriteFile(bg, fmt.Sprintf("f%d", i), []byte{byte(i)}, 0o644))
	}
	a := w.cache(func(o *Options) { o.Objects = 50 })
	for range 2 {
		same(t, "names", len(strings.Fields(names(t, a, ""))), files)
		for i := range files {
			hasContent(t, a, fmt.Sprintf("f%d", i), string([]byte{byte(i)}))
		}
	}
	deadline := time.Now().Add(patience)
	for a.Status().Tokens > 60 {
		if time.Now().After(deadline) {
			t.Fatalf("%d tokens are held for 50 objects", a.Status().Tokens)
		}
		_, err := a.Stat(bg, "f1") // something goes on, and so things move
		ok(t, err)
	}
}

// TestStatFSCountsPending: space that pending data will need is not free.
func TestStatFSCountsPending(t *testing.T) {
	w := newWorld(t)
	a := w.cache()
	before, err := a.StatFS(bg)
	ok(t, err)
	ok(t, a.WriteFile(bg, "f", make([]byte, 4<<20), 0o644))
	after, err := a.StatFS(bg)
	ok(t, err)
	if got := (before.Bfree - after.Bfree) * uint64(before.BlockSize); got < 4<<20-uint64(before.BlockSize) {
		t.Fatalf("4 MiB pending took %d bytes off what is free", got)
	}
}
