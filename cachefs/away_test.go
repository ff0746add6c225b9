package cachefs

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/internal/boottime"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// line is a client's way to the server, which can be cut.
type line struct {
	w     *world
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (l *line) dial(ctx context.Context) (*p9client.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, syscall.EHOSTUNREACH
	}
	nc, err := l.w.dial()
	if err != nil {
		return nil, err
	}
	l.conns = append(l.conns, nc)
	return p9client.NewConn(ctx, nc, p9client.Options{Extension: true})
}

// down cuts the line, up mends it.
func (l *line) down() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, nc := range l.conns {
		nc.Close()
	}
	l.conns = nil
}

func (l *line) up() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// lined opens a cache that connects again, over a line that can be cut.
func (w *world) lined(change ...func(*Options)) (*FS, *line) {
	w.t.Helper()
	l := &line{w: w}
	return w.over(l, change...), l
}

// over opens a cache over a line.
func (w *world) over(l *line, change ...func(*Options)) *FS {
	w.t.Helper()
	conn, err := l.dial(bg)
	ok(w.t, err)
	o := Options{WriteBehind: time.Hour, Logf: w.t.Logf, Cred: processCred(), Dial: l.dial}
	for _, c := range change {
		c(&o)
	}
	f, err := OpenConn(bg, conn, o)
	ok(w.t, err)
	w.t.Cleanup(func() {
		l.up()
		if f.Status().Error == "" {
			f.Close(bg)
		}
	})
	return f
}

// patience is how long tests wait for what comes soon on a machine that has time for it.
const patience = time.Minute

// until waits for a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	if !soon(cond) {
		t.Fatalf("never: %s", what)
	}
}

// soon waits for a condition, and says whether it came.
func soon(cond func() bool) bool {
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// hasEvent tells whether an event says that.
func hasEvent(f *FS, text string) bool {
	for _, e := range f.Events() {
		if strings.Contains(e.Text, text) {
			return true
		}
	}
	return false
}

// TestAwayUncontended: a client that was cut off for longer than its lease loses nothing that nobody wanted. While it is away
// it serves and takes on what it holds until the lease is over, and then nothing.
func TestAwayUncontended(t *testing.T) {
	w, clock, skew := skewed(t)
	a, l := w.lined(func(o *Options) { o.Clock = clock })
	ok(t, a.WriteFile(bg, "f", []byte("one"), 0o644))
	ok(t, a.Sync(bg))
	l.down()
	ok(t, a.WriteFile(bg, "f", []byte("two"), 0o644))
	hasContent(t, a, "f", "two")
	skew.Store(int64(time.Hour))
	ctx, cancel := context.WithTimeout(bg, 50*time.Millisecond)
	defer cancel()
	_, err := a.ReadFile(ctx, "f")
	fails(t, err, syscall.EINTR)
	if a.TTL(a.root.id) != 0 {
		t.Error("a kernel above may go on serving")
	}
	back := make(chan error, 1)
	go func() {
		got, err := a.ReadFile(bg, "f")
		if err == nil && string(got) != "two" {
			err = syscall.EILSEQ
		}
		back <- err
	}()
	l.up()
	ok(t, <-back)
	ok(t, a.Sync(bg))
	hasContent(t, w.direct(), "f", "two")
	same(t, "lost", a.Status().Lost, 0)
	for _, text := range []string{"broken", "the lease is over", "back"} {
		if !hasEvent(a, text) {
			t.Errorf("no event says %q: %v", text, a.Events())
		}
	}
}

// TestAwayContended: what somebody wanted was taken, and what was pending on it, and came after that, is lost and told; the rest is not.
func TestAwayContended(t *testing.T) {
	w, clock, skew := skewed(t)
	a, l := w.lined(func(o *Options) { o.Clock = clock })
	ok(t, a.Mkdir(bg, "d", 0o755))
	for _, name := range []string{"d/taken", "d/kept", "d/read"} {
		ok(t, a.WriteFile(bg, name, []byte("old"), 0o644))
	}
	ok(t, a.Sync(bg))
	h := open(t, a, "d/taken", wire.ORdwr)
	k := open(t, a, "d/kept", wire.ORdwr)
	l.down()
	_, err := h.WriteAt(bg, []byte("lost"), 0)
	ok(t, err)
	_, err = k.WriteAt(bg, []byte("kept"), 0)
	ok(t, err)
	skew.Store(int64(time.Hour))
	b := w.cache(func(o *Options) { o.Clock = clock })
	ok(t, b.WriteFile(bg, "d/taken", []byte("theirs"), 0o644))
	hasContent(t, b, "d/read", "old") // down to read
	ok(t, b.Sync(bg))
	l.up()
	hasContent(t, a, "d/taken", "theirs")
	same(t, "lost", a.Status().Lost, 1)
	_, err = h.WriteAt(bg, []byte("x"), 0)
	fails(t, err, syscall.EIO)
	fails(t, h.Fsync(bg, false), syscall.EIO)
	ok(t, k.Fsync(bg, false))
	fails(t, a.Sync(bg), syscall.EIO)
	ok(t, a.Sync(bg))
	hasContent(t, w.direct(), "d/kept", "kept")
	hasContent(t, w.direct(), "d/taken", "theirs")
	hasContent(t, b, "d/kept", "kept")
	if !hasEvent(a, "went to somebody else") || !hasEvent(a, "1 updates were lost") {
		t.Errorf("events: %v", a.Events())
	}
	fails(t, h.Close(bg), syscall.EIO)
	ok(t, k.Close(bg))
}

// TestServeOverMutant: a client that serves on when its lease is over shows what is not true any more.
func TestServeOverMutant(t *testing.T) {
	for _, mutant := range []string{"", mutantServeOver} {
		w, clock, skew := skewed(t)
		a, l := w.lined(func(o *Options) { o.Clock, o.Mutant = clock, mutant })
		ok(t, a.WriteFile(bg, "f", []byte("old"), 0o644))
		ok(t, a.Sync(bg))
		l.down()
		skew.Store(int64(10 * time.Minute))
		b := w.cache(func(o *Options) { o.Clock = clock })
		ok(t, b.WriteFile(bg, "f", []byte("new"), 0o644))
		wait := 100 * time.Millisecond // until it is taken for one that does not serve
		if mutant != "" {
			wait = patience
		}
		ctx, cancel := context.WithTimeout(bg, wait)
		got, err := a.ReadFile(ctx, "f")
		cancel()
		if stale := err == nil && string(got) != "new"; stale != (mutant != "") {
			t.Errorf("with mutant %q: %q, %v", mutant, got, err)
		}
		l.up()
	}
}

// TestSoft: with Soft an operation fails with EIO when the server is away for so long and the lease is over; later all is well.
func TestSoft(t *testing.T) {
	w, clock, skew := skewed(t)
	a, l := w.lined(func(o *Options) { o.Clock, o.Soft = clock, 200*time.Millisecond })
	ok(t, a.WriteFile(bg, "f", []byte("one"), 0o644))
	h := open(t, a, "f", wire.ORdwr)
	l.down()
	skew.Store(int64(time.Hour))
	_, err := a.ReadFile(bg, "f")
	fails(t, err, syscall.EIO)
	_, err = a.Stat(bg, "not cached")
	fails(t, err, syscall.EIO)
	fails(t, h.Fsync(bg, false), syscall.EIO)
	fails(t, a.Sync(bg), syscall.EIO)
	l.up()
	until(t, "it is back", func() bool { return a.Status().Lease > 0 })
	ok(t, h.Fsync(bg, false))
	ok(t, h.Close(bg))
	hasContent(t, w.direct(), "f", "one")
	same(t, "lost", a.Status().Lost, 0)
}

// TestStopped: a client whose lease ran out while its connection was idle, as in a process that was stopped or a machine that slept,
// resumes on that connection before it serves anything, and learns what was taken.
func TestStopped(t *testing.T) {
	var skew atomic.Int64
	clock := func() int64 { return boottime.Now() + skew.Load() }
	w := newWorld(t, func(c *p9srv.AuthorityConfig) { c.Clock = clock })
	a := w.cache(func(o *Options) { o.Clock = clock })
	for _, name := range []string{"taken", "kept"} {
		ok(t, a.WriteFile(bg, name, []byte("old"), 0o644))
	}
	ok(t, a.Sync(bg))
	ok(t, a.WriteFile(bg, "taken", []byte("lost"), 0o644))
	ok(t, a.WriteFile(bg, "kept", []byte("kept"), 0o644))
	skew.Store(int64(time.Minute))
	b := w.cache()
	ok(t, b.WriteFile(bg, "taken", []byte("theirs"), 0o644))
	ok(t, b.Sync(bg))
	hasContent(t, a, "taken", "theirs")
	hasContent(t, a, "kept", "kept")
	fails(t, a.Sync(bg), syscall.EIO)
	ok(t, a.Sync(bg))
	hasContent(t, w.direct(), "kept", "kept")
	hasContent(t, w.direct(), "taken", "theirs")
	if hasEvent(a, "broken") {
		t.Errorf("it connected again: %v", a.Events())
	}
	// Set back, the clock makes nothing last longer.
	skew.Store(-int64(time.Hour))
	if left := a.Status().Lease; left > 11*time.Second {
		t.Errorf("the lease lasts for %v", left)
	}
	ok(t, a.WriteFile(bg, "kept", []byte("more"), 0o644))
	ok(t, a.Sync(bg))
}

// gate lets everything through, or nothing.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil: open
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !open && g.shut == nil:
		g.shut = make(chan struct{})
	case open && g.shut != nil:
		close(g.shut)
		g.shut = nil
	}
}

// held is a connection behind a gate.
type held struct {
	net.Conn
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (c *held) wait() error {
	c.gate.mu.Lock()
	shut := c.gate.shut
	c.gate.mu.Unlock()
	if shut == nil {
		return nil
	}
	select {
	case <-shut:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *held) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if e := c.wait(); e != nil {
		return 0, e
	}
	return n, err
}

func (c *held) Write(p []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Close does not reach the other end.
func (c *held) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// TestHalfOpen: a connection that is there and brings nothing is given up, and another one made.
func TestHalfOpen(t *testing.T) {
	w := newWorld(t, func(c *p9srv.AuthorityConfig) { c.Lease = 2 * time.Second })
	g, dials := &gate{}, 0
	dial := func(ctx context.Context) (*p9client.Conn, error) {
		nc, err := w.dial()
		if err != nil {
			return nil, err
		}
		if dials++; dials == 1 {
			nc = &held{Conn: nc, gate: g, closed: make(chan struct{})}
		}
		return p9client.NewConn(ctx, nc, p9client.Options{Extension: true})
	}
	conn, err := dial(bg)
	ok(t, err)
	a, err := OpenConn(bg, conn, Options{WriteBehind: time.Hour, Logf: t.Logf, Cred: processCred(), Dial: dial})
	ok(t, err)
	ok(t, a.WriteFile(bg, "f", []byte("x"), 0o644))
	g.set(false)
	until(t, "it has connected again", func() bool { return hasEvent(a, "back") })
	ok(t, a.Sync(bg))
	hasContent(t, w.direct(), "f", "x")
	g.set(true)
	ok(t, a.Close(bg))
}

// TestLocksLost: with a file lock that was lost goes all that was done since it was taken, on whatever file; not what was done
// before. The client hears of it when it connects again, or on the connection that it has, when a cut is fenced.
func TestLocksLost(t *testing.T) {
	t.Run("cut off", func(t *testing.T) { testLocksLost(t, false, "") })
	t.Run("fenced", func(t *testing.T) { testLocksLost(t, true, "") })
}

// TestLockedOnMutant: a client that lets him who lost a lock go on writes over what another did under it.
func TestLockedOnMutant(t *testing.T) { testLocksLost(t, false, mutantLockedOn) }

func testLocksLost(t *testing.T, fenced bool, mutant string) {
	w, clock, skew := skewed(t)
	a, l := w.lined(func(o *Options) {
		o.Mutant = mutant
		if !fenced {
			o.Clock = clock
		}
	})
	cred := processCred()
	for _, name := range []string{"lock", "data", "other"} {
		ok(t, a.WriteFile(bg, name, []byte("old"), 0o644))
	}
	ok(t, a.Sync(bg))
	lockOn := func(f *FS) (p9srv.Object, wire.Lock) {
		t.Helper()
		root, err := f.Root(bg, &cred, "")
		ok(t, err)
		defer root.Release()
		o, _, err := root.Walk(bg, &cred, "lock")
		ok(t, err)
		t.Cleanup(o.Release)
		return o, wire.Lock{Type: wire.LockWrite, ProcID: 7, ClientID: f.opt.Name}
	}
	o, lock := lockOn(a)
	locked := open(t, a, "lock", wire.ORdwr)
	d := open(t, a, "data", wire.ORdwr)
	_, err := d.WriteAt(bg, []byte("before"), 0)
	ok(t, err)
	st, err := o.Lock(bg, &cred, lock)
	ok(t, err)
	same(t, "lock", st, wire.LockSuccess)
	_, err = d.WriteAt(bg, []byte(" under the lock"), 6)
	ok(t, err)
	ok(t, a.WriteFile(bg, "other", []byte("under the lock"), 0o644))
	if !fenced { // otherwise the lease is over there, and the client does not know
		l.down()
	}
	skew.Store(int64(time.Hour))
	b := w.cache(func(o *Options) { o.Clock = clock })
	o2, lock2 := lockOn(b)
	until(t, "b has the lock", func() bool {
		st, err := o2.Lock(bg, &cred, lock2)
		ok(t, err)
		return st == wire.LockSuccess
	})
	if fenced {
		fails(t, a.Sync(bg), syscall.EIO)
	} else {
		l.up()
		until(t, "a knows", func() bool { return hasEvent(a, "a file lock of object") })
		fails(t, a.Sync(bg), syscall.EIO)
	}
	if !hasEvent(a, "a file lock of object") || fenced && hasEvent(a, "broken") {
		t.Errorf("events: %v", a.Events())
	}
	ok(t, a.Sync(bg))
	hasContent(t, w.direct(), "data", "before")
	if got, err := w.direct().ReadFile(bg, "other"); err != nil || strings.Contains(string(got), "under") {
		t.Errorf("other contains %q, %v", got, err)
	}
	_, err = d.WriteAt(bg, []byte("x"), 0)
	fails(t, err, syscall.EIO)
	fails(t, d.Close(bg), syscall.EIO)
	// He who had the lock hears of it from what he locked, too, until he opens it again.
	_, err = locked.WriteAt(bg, []byte("x"), 0)
	if mutant != "" {
		ok(t, err)
		ok(t, locked.Fsync(bg, false))
		hasContent(t, w.direct(), "lock", "xld")
		ok(t, locked.Close(bg))
		return
	}
	fails(t, err, syscall.EIO)
	fails(t, locked.Fsync(bg, false), syscall.EIO)
	fails(t, locked.Close(bg), syscall.EIO)
	again := open(t, a, "lock", wire.ORdwr)
	_, err = again.WriteAt(bg, []byte("new"), 0)
	ok(t, err)
	ok(t, again.Close(bg))
}
