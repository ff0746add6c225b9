package cachefs

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/internal/boottime"
	"echo9/internal/wire"
	"echo9/p9srv"
)

// TestOverIsNotStale: requests that wait at the server when the lease ends there are denied with ESTALE. That is no answer to who
// made them: they are made again when the session was resumed. Who takes it for one says that what is there is gone.
func TestOverIsNotStale(t *testing.T) {
	for _, mutant := range []string{"", mutantBelieveStale} {
		var skew atomic.Int64
		clock := func() int64 { return boottime.Now() + skew.Load() }
		w := newWorld(t, func(c *p9srv.AuthorityConfig) { c.Clock = clock })
		a := w.cache(func(o *Options) { o.Clock, o.Mutant = clock, mutant })
		ok(t, a.Mkdir(bg, "d", 0o755))
		ok(t, a.WriteFile(bg, "d/f", []byte("old"), 0o644))
		ok(t, a.Sync(bg))
		dir, file := open(t, a, "d", wire.ORdonly|wire.ODirectory), open(t, a, "d/f", wire.ORdonly)
		b, l := w.lined(func(o *Options) { o.Clock = clock })
		ok(t, b.WriteFile(bg, "d/f", []byte("new"), 0o644))
		ok(t, b.WriteFile(bg, "d/g", nil, 0o644))
		l.down() // it gives nothing back until its lease is over
		listed, read := make(chan error, 1), make(chan error, 1)
		go func() { listed <- dir.ReadDir(bg, 0, func(wire.Dirent) bool { return true }) }()
		go func() {
			_, err := file.ReadAt(bg, make([]byte, 10), 0)
			read <- err
		}()
		until(t, "both wait at the server", func() bool { return len(w.auth.Status().Waiting) == 2 })
		skew.Store(int64(time.Minute))
		for what, got := range map[string]chan error{"listing": listed, "reading": read} {
			if err := <-got; mutant == "" {
				ok(t, err)
			} else if err == nil {
				t.Errorf("%s: the mutant %s is not noticed", what, mutant)
			} else {
				fails(t, err, syscall.ESTALE)
			}
		}
		l.up()
	}
}
