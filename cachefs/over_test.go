package cachefs

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/internal/boottime"
	"echo9/internal/wire"
	"echo9/p9srv"
)

// skewed gives a server with long leases, and a clock for it and its clients that can be set forward: so leases end when the test
// wants that, however slow the machine is.
func skewed(t *testing.T, change ...func(*p9srv.AuthorityConfig)) (w *world, clock func() int64, skew *atomic.Int64) {
	skew = new(atomic.Int64)
	clock = func() int64 { return boottime.Now() + skew.Load() }
	w = newWorld(t, append([]func(*p9srv.AuthorityConfig){func(c *p9srv.AuthorityConfig) {
		c.Clock, c.Lease = clock, 2*time.Minute
	}}, change...)...)
	return w, clock, skew
}

// denied has a client list a directory and read a file, both of which wait at the server for another one, when its lease ends there.
func denied(t *testing.T, mutant string) (listed, read error) {
	w, clock, skew := skewed(t)
	a, _ := w.lined(func(o *Options) { o.Clock, o.Mutant = clock, mutant })
	ok(t, a.Mkdir(bg, "d", 0o755))
	ok(t, a.WriteFile(bg, "d/f", []byte("old"), 0o644))
	ok(t, a.Sync(bg))
	dir, file := open(t, a, "d", wire.ORdonly|wire.ODirectory), open(t, a, "d/f", wire.ORdonly)
	b, l := w.lined(func(o *Options) { o.Clock = clock })
	ok(t, b.WriteFile(bg, "d/f", []byte("new"), 0o644))
	ok(t, b.WriteFile(bg, "d/g", nil, 0o644))
	l.down() // it gives nothing back until its lease is over
	lists, reads := make(chan error, 1), make(chan error, 1)
	go func() { lists <- dir.ReadDir(bg, 0, func(wire.Dirent) bool { return true }) }()
	go func() {
		_, err := file.ReadAt(bg, make([]byte, 10), 0)
		reads <- err
	}()
	until(t, "both wait at the server", func() bool { return len(w.auth.Status().Waiting) == 2 })
	skew.Store(int64(time.Hour))
	return <-lists, <-reads
}

// TestOverIsNotStale: requests that wait at the server when the lease ends there are denied with ESTALE. That is no answer to who
// made them: they are made again when the session was resumed. Who takes it for one says that what is there is gone.
func TestOverIsNotStale(t *testing.T) {
	listed, read := denied(t, "")
	ok(t, listed)
	ok(t, read)
	for range 5 { // a connection that breaks just then brings no answer
		listed, read = denied(t, mutantBelieveStale)
		if errors.Is(listed, syscall.ESTALE) && errors.Is(read, syscall.ESTALE) {
			return
		}
	}
	t.Errorf("that it is believed does not show: %v, %v", listed, read)
}
