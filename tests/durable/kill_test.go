package durable

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/rig"
)

func TestMain(m *testing.M) {
	syscall.Umask(0) // what is made has the modes that are asked for
	if os.Getenv(childAddr) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, "clients:", err)
			os.Exit(1)
		}
		return
	}
	echo9bin.Main(m)
}

// place is an exported directory with its clients' shadows.
type place struct {
	dir, sock, work string
	seed            uint64
	shadows         []*shadow
	acked           [clients]atomic.Uint64
	rounds          uint64 // acknowledged in all
}

func newPlace(t *testing.T, dir string, seed uint64) *place {
	t.Helper()
	p := &place{dir: dir, work: t.TempDir(), seed: seed}
	p.sock = filepath.Join(p.work, "s")
	for c := range uint64(clients) {
		if err := os.Mkdir(filepath.Join(dir, dirName(c)), 0o755); err != nil {
			t.Fatal(err)
		}
		s, err := newShadow(filepath.Join(p.work, dirName(c)), seed, c)
		if err != nil {
			t.Fatal(err)
		}
		p.shadows = append(p.shadows, s)
	}
	return p
}

// serve starts a server, which recovers what the last one left.
func (p *place) serve(t *testing.T, flags ...string) *rig.Process {
	t.Helper()
	return p.start(t, func() bool {
		c, err := net.Dial("unix", p.sock)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, flags...)
}

// start starts a server without waiting for more than ready.
func (p *place) start(t *testing.T, ready func() bool, flags ...string) *rig.Process {
	t.Helper()
	os.Remove(p.sock)
	args := append([]string{echo9bin.Echo9(t), "serve", "--listen", "unix!" + p.sock}, flags...)
	srv, err := rig.Start(append(args, p.dir), ready)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// check compares all clients' directories with their shadows.
func (p *place) check(t *testing.T) {
	t.Helper()
	if err := p.compare(); err != nil {
		t.Fatal(err)
	}
}

func (p *place) compare() error {
	for c, s := range p.shadows {
		before := s.rounds
		if err := s.check(filepath.Join(p.dir, dirName(uint64(c))), p.acked[c].Load()); err != nil {
			return err
		}
		p.rounds += s.rounds - before
	}
	return nil
}

// write lets all clients work until the server is gone; a client that fails before is an error.
func (p *place) write(t *testing.T, kill func(dead *atomic.Bool)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var dead atomic.Bool
	errs := make(chan error, clients)
	for c := range uint64(clients) {
		w := writer{addr: "unix!" + p.sock, seed: p.seed, client: c, from: p.shadows[c].rounds}
		p.acked[c].Store(w.from)
		wg.Go(func() {
			err := w.run(ctx, func(n uint64) error { p.acked[c].Store(n); return nil })
			if !dead.Load() {
				errs <- fmt.Errorf("before the server was killed: %w", err)
			}
		})
	}
	kill(&dead)
	// What the dead server does not answer fails by itself; only that is waited for.
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		cancel()
		t.Error("clients do not notice within 2 minutes that their server is dead")
		<-done
	}
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
}

// working waits until the clients have done so many rounds since the last check.
func (p *place) working(t *testing.T, rounds uint64) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		done := uint64(0)
		for c, s := range p.shadows {
			done += p.acked[c].Load() - s.rounds
		}
		if done >= rounds {
			return
		}
		if time.Now().After(end) {
			t.Error("the clients get hardly anything done")
			return
		}
	}
}

// TestRounds does rounds without any crash: what the crashing tests compare with is right, and a
// round is one cut.
func TestRounds(t *testing.T) {
	need.Root(t)
	p := newPlace(t, t.TempDir(), 2)
	srv := p.serve(t)
	const rounds = 60
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for c := range uint64(clients) {
		w := writer{addr: "unix!" + p.sock, seed: p.seed, client: c, until: rounds}
		wg.Go(func() { errs <- w.run(t.Context(), func(n uint64) error { p.acked[c].Store(n); return nil }) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.check(t)
	for c, s := range p.shadows {
		if s.rounds != rounds {
			t.Errorf("client %d has %d rounds", c, s.rounds)
		}
	}
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	p.check(t)
}

// TestKilledServer kills the server at random moments while clients write and
// fsync: after each restart all that was acknowledged is there, and nothing half.
func TestKilledServer(t *testing.T) {
	need.Root(t) // owners are changed, devices made
	kills := 20
	if need.Full() {
		kills = 200
	}
	seed := uint64(1)
	rng := rand.New(rand.NewPCG(seed, 99))
	p := newPlace(t, t.TempDir(), seed)
	lease := []string{"--lease", "5s"} // so long each life waits for those of the one before
	start := time.Now()
	for n := range kills {
		srv := p.serve(t, lease...)
		p.write(t, func(dead *atomic.Bool) {
			if n%4 == 0 { // when something is done, however long that takes; else at any moment, most often while it waits for who was there before
				p.working(t, 4)
			}
			time.Sleep(time.Duration(rng.IntN(150)) * time.Millisecond)
			dead.Store(true)
			srv.Kill()
		})
		// Recovery runs, and is killed itself now and then.
		for rng.IntN(3) == 0 {
			srv := p.start(t, func() bool { return true })
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
			srv.Kill()
		}
		srv = p.serve(t, lease...)
		p.check(t)
		if err := srv.Stop(); err != nil {
			t.Fatalf("kill %d: %v", n, err)
		}
		if n%2 == 0 {
			p.check(t) // and it is still so after a clean end
		}
	}
	t.Logf("%d kills, %d rounds acknowledged or found, in %v", kills, p.rounds, time.Since(start).Round(time.Millisecond))
	if least := uint64(kills); p.rounds < least {
		t.Errorf("only %d rounds in %d kills: the clients hardly worked", p.rounds, kills)
	}
}
