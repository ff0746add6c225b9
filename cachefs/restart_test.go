package cachefs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// newLives is a world whose server's sessions outlive it.
func newLives(t *testing.T, change ...func(*p9srv.AuthorityConfig)) *world {
	w := newWorld(t, change...)
	w.stop()
	w.durable = true
	w.start()
	return w
}

// restart stops the server, does something while it is down, and starts it again.
func (w *world) restart(meanwhile func()) {
	w.t.Helper()
	w.stop()
	if meanwhile != nil {
		meanwhile()
	}
	w.start()
}

// TestRestart: over the server's restart open files stay open, what is cached stays cached, what is pending goes, and others wait for it.
func TestRestart(t *testing.T) {
	w := newLives(t)
	a, _ := w.lined()
	b, _ := w.lined()
	ok(t, a.Mkdir(bg, "d", 0o755))
	ok(t, a.WriteFile(bg, "d/f", []byte("one"), 0o644))
	ok(t, a.WriteFile(bg, "d/cached", []byte("cached"), 0o644))
	ok(t, a.WriteFile(bg, "d/gone", []byte("unlinked"), 0o644))
	ok(t, a.Sync(bg))
	h := open(t, a, "d/f", wire.ORdwr)
	u := open(t, a, "d/gone", wire.ORdwr)
	ok(t, b.Remove(bg, "d/gone"))
	ok(t, b.Sync(bg))
	hasContent(t, a, "d/cached", "cached")
	_, err := h.WriteAt(bg, []byte("two"), 0)
	ok(t, err)
	ok(t, a.WriteFile(bg, "d/new", []byte("new"), 0o644))
	ok(t, a.Rename(bg, "d/new", "d/newer"))

	w.restart(nil)
	_, err = h.WriteAt(bg, []byte("!"), 3)
	ok(t, err)
	hasContent(t, b, "d/f", "two!") // recalled from a
	hasContent(t, b, "d/newer", "new")
	p := make([]byte, 20)
	n, err := u.ReadAt(bg, p, 0)
	ok(t, err)
	same(t, "what has no name any more", string(p[:n]), "unlinked")
	_, err = u.WriteAt(bg, []byte("UN"), 0)
	ok(t, err)
	ok(t, u.Fsync(bg, false))
	fetches, asks := a.stats.fetches, a.stats.asks
	hasContent(t, a, "d/cached", "cached")
	if a.stats.fetches != fetches || a.stats.asks != asks {
		t.Error("what was cached was fetched again")
	}
	ok(t, h.Fsync(bg, false))
	ok(t, h.Close(bg))
	ok(t, u.Close(bg))
	for _, f := range []*FS{a, b} {
		ok(t, f.Sync(bg))
		same(t, "lost", f.Status().Lost, 0)
		if !hasEvent(f, "started again") {
			t.Errorf("events: %v", f.Events())
		}
	}
	want := dump(t, w.direct())
	same(t, "a's view", dump(t, a), want)
	same(t, "b's view", dump(t, b), want)
}

// TestNoReclaimMutant: a client that does not reclaim shows what is not true any more.
func TestNoReclaimMutant(t *testing.T) {
	for _, mutant := range []string{"", mutantNoReclaim} {
		w := newLives(t)
		a, _ := w.lined(func(o *Options) { o.Mutant = mutant })
		b, _ := w.lined()
		ok(t, b.WriteFile(bg, "f", []byte("old"), 0o644))
		ok(t, b.Sync(bg))
		hasContent(t, a, "f", "old")
		w.restart(nil)
		for _, f := range []*FS{a, b} {
			until(t, "it is back", func() bool { return hasEvent(f, "started again") })
		}
		ok(t, b.WriteFile(bg, "f", []byte("new"), 0o644))
		got, err := a.ReadFile(bg, "f")
		ok(t, err)
		if stale := string(got) != "new"; stale != (mutant != "") {
			t.Errorf("with mutant %q: %q", mutant, got)
		}
	}
}

// TestRestartChanged: what somebody changed on the host while the server was down is seen; what was pending on that is lost, the rest is not.
func TestRestartChanged(t *testing.T) {
	w := newLives(t)
	a, _ := w.lined()
	for _, name := range []string{"clean", "dirty", "mine"} {
		ok(t, a.WriteFile(bg, name, []byte("old"), 0o644))
	}
	ok(t, a.Sync(bg))
	m := open(t, a, "mine", wire.ORdwr)
	d := open(t, a, "dirty", wire.ORdwr)
	hasContent(t, a, "clean", "old")
	_, err := m.WriteAt(bg, []byte("mine"), 0)
	ok(t, err)
	_, err = d.WriteAt(bg, []byte("lost"), 0)
	ok(t, err)
	w.restart(func() {
		for _, name := range []string{"clean", "dirty"} {
			ok(t, os.WriteFile(filepath.Join(w.dir, name), []byte("by the host"), 0o644))
		}
	})
	until(t, "it is back", func() bool { return hasEvent(a, "started again") })
	hasContent(t, a, "clean", "by the host")
	hasContent(t, a, "dirty", "by the host")
	fails(t, d.Fsync(bg, false), syscall.EIO)
	ok(t, m.Fsync(bg, false))
	hasContent(t, w.direct(), "mine", "mine")
	same(t, "lost", a.Status().Lost, 1)
	fails(t, d.Close(bg), syscall.EIO)
	ok(t, m.Close(bg))
}

// TestRestartShorterLease: when the server's next life gives shorter leases they are renewed in time, and not when the longer ones
// would have been.
func TestRestartShorterLease(t *testing.T) {
	lease := 10 * time.Minute
	w := newLives(t, func(c *p9srv.AuthorityConfig) { c.Lease = lease })
	a, _ := w.lined()
	ok(t, a.WriteFile(bg, "f", []byte("x"), 0o644))
	w.restart(func() { lease = 12 * time.Second })
	until(t, "it is back", func() bool { return hasEvent(a, "started again") })
	renewals, left := 0, a.Status().Lease
	until(t, "it has renewed its lease twice", func() bool {
		was := left
		if left = a.Status().Lease; left > was {
			renewals++
		}
		return renewals == 2
	})
	hasContent(t, a, "f", "x")
	if hasEvent(a, "the lease is over") {
		t.Errorf("events: %v", a.Events())
	}
}

// TestForgotten: a server that knows nothing of the session gives a new one; all that was pending is lost and told, what
// survives is read afresh, and work goes on.
func TestForgotten(t *testing.T) {
	w := newWorld(t) // its sessions end with it
	a, _ := w.lined()
	ok(t, a.WriteFile(bg, "f", []byte("durable"), 0o644))
	ok(t, a.Sync(bg))
	r := open(t, a, "f", wire.ORdonly)
	ok(t, a.WriteFile(bg, "new", []byte("lost"), 0o644))
	h := open(t, a, "new", wire.ORdwr)
	w.restart(func() { ok(t, os.WriteFile(filepath.Join(w.dir, "f"), []byte("changed"), 0o644)) })
	until(t, "it is back", func() bool { return hasEvent(a, "forgotten the session") })
	p := make([]byte, 20)
	n, err := r.ReadAt(bg, p, 0)
	ok(t, err)
	same(t, "read through a handle from before", string(p[:n]), "changed")
	_, err = h.WriteAt(bg, []byte("x"), 0)
	fails(t, err, syscall.EIO)
	_, err = a.ReadFile(bg, "new")
	fails(t, err, syscall.ENOENT)
	fails(t, a.Sync(bg), syscall.EIO)
	ok(t, a.WriteFile(bg, "new", []byte("again"), 0o644))
	ok(t, a.Sync(bg))
	hasContent(t, w.direct(), "new", "again")
	fails(t, h.Close(bg), syscall.EIO)
	ok(t, r.Close(bg))
}

// TestInDoubtAfterBreak: what was on its way to a server that has forgotten the session may have come through.
func TestInDoubtAfterBreak(t *testing.T) {
	w := newWorld(t)
	var l *line
	var once sync.Once
	a, l := w.lined(func(o *Options) {
		o.Hooks.Sent = func(int) { once.Do(func() { l.down() }) } // the cut never has an answer
	})
	ok(t, a.WriteFile(bg, "f", []byte("x"), 0o644))
	synced := make(chan error, 1)
	go func() { synced <- a.Sync(bg) }()
	until(t, "the line is cut", func() bool { return hasEvent(a, "broken") })
	w.restart(nil)
	l.up()
	fails(t, <-synced, syscall.EIO)
	if !hasEvent(a, "in doubt") {
		t.Errorf("events: %v", a.Events())
	}
}

// TestRestartsUnderLoad: the server is started again, and again within its grace period, beneath clients that work: nobody gets
// an error, nothing is lost, and in the end all see the same.
func TestRestartsUnderLoad(t *testing.T) {
	w := newLives(t)
	const clients = 3
	ctx, cancel := context.WithTimeout(bg, 5*patience)
	defer cancel()
	var all []*FS
	for range clients {
		f, _ := w.lined(func(o *Options) { o.WriteBehind = 5 * time.Millisecond })
		all = append(all, f)
	}
	ok(t, all[0].Mkdir(ctx, "shared", 0o777))
	var stop atomic.Bool
	var wg sync.WaitGroup
	rounds := make([]int, clients)
	for c, f := range all {
		wg.Add(1)
		go func() {
			defer wg.Done()
			dir := fmt.Sprintf("c%d", c)
			if err := f.Mkdir(ctx, dir, 0o755); err != nil {
				t.Errorf("client %d: %v", c, err)
			}
			for i := 0; !stop.Load() && !t.Failed(); i++ {
				if err := restartRound(ctx, f, dir, i); err != nil {
					t.Errorf("client %d, round %d: %v", c, i, err)
				}
				rounds[c] = i
			}
		}()
	}
	restarts := 4
	if os.Getenv("ECHO9_FULL") != "" {
		restarts = 40
	}
	for i := range restarts {
		time.Sleep(100 * time.Millisecond)
		w.restart(nil)
		if i%2 == 1 { // within the grace period, or just after it
			w.restart(nil)
		}
	}
	until(t, "all work again", func() bool { return t.Failed() || all[0].Status().Lease > 0 })
	stop.Store(true)
	wg.Wait()
	for c, f := range all {
		ok(t, f.Sync(ctx))
		same(t, fmt.Sprintf("lost by client %d: %v", c, f.Events()), f.Status().Lost, 0)
	}
	want := dump(t, w.direct())
	for _, f := range all {
		same(t, "view", dump(t, f), want)
	}
	t.Logf("%d restarts, rounds: %v", restarts*3/2, rounds)
}

// restartRound makes, fills, renames, reads back and removes, in a directory of one's own and in one that all use.
func restartRound(ctx context.Context, f *FS, dir string, i int) error {
	tmp, name := dir+"/tmp", fmt.Sprintf("%s/f%d", dir, i%5)
	text := fmt.Sprintf("%s, round %d", dir, i)
	if err := f.WriteFile(ctx, tmp, []byte(text), 0o644); err != nil {
		return err
	}
	if err := f.Rename(ctx, tmp, name); err != nil {
		return err
	}
	if i%3 == 0 {
		if err := f.Fsync(ctx, name); err != nil {
			return err
		}
	}
	if got, err := f.ReadFile(ctx, name); err != nil || string(got) != text {
		return fmt.Errorf("%s: %q, %v", name, got, err)
	}
	shared := "shared/of-" + dir
	if err := f.WriteFile(ctx, shared, []byte(text), 0o644); err != nil {
		return err
	}
	if i%4 == 3 {
		if err := f.Remove(ctx, shared); err != nil {
			return err
		}
	}
	_, err := f.ReadDir(ctx, "shared")
	return err
}
