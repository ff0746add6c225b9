package durable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"echo9/cachefs"
	"echo9/p9client"
	"echo9/p9srv"
)

// clients write at the same time.
const clients = 3

// writer is one client: where it works, and which rounds.
type writer struct {
	addr   string
	seed   uint64
	client uint64
	from   uint64 // rounds that are there already
	until  uint64 // 0: no end
}

// dirName is the directory of a client in the export.
func dirName(client uint64) string { return fmt.Sprintf("c%d", client) }

// run does rounds until ctx ends or something fails, and tells each one that is durable.
func (w writer) run(ctx context.Context, acked func(rounds uint64) error) error {
	s := newStory(w.seed, w.client)
	for range w.from {
		s.next()
	}
	// So that a round is one cut, whatever is in it.
	var mu sync.Mutex
	var cuts []string // of the round, and why they went
	conn, err := p9client.DialConn(ctx, w.addr, p9client.Options{Extension: true})
	if err != nil {
		return fmt.Errorf("client %d: %w", w.client, err)
	}
	// It does not connect again: its end is the server's.
	fs, err := cachefs.OpenConn(ctx, conn, cachefs.Options{
		WriteBehind: time.Hour, CutOps: 16000, CutBytes: 16 << 20,
		Hooks: cachefs.Hooks{Commit: func(c cachefs.CutInfo) {
			mu.Lock()
			defer mu.Unlock()
			cuts = append(cuts, fmt.Sprintf("%s: %d operations", c.Why, len(c.Ops)))
		}},
	})
	if err != nil {
		return fmt.Errorf("client %d: %w", w.client, err)
	}
	defer func() {
		// The server is dead, or the test is at its end: nothing is waited for.
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		fs.Close(ended)
	}()
	t := &tree{ctx: ctx, cred: &p9srv.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, b: fs, dir: dirName(w.client)}
	if err := t.warmUp(); err != nil {
		return fmt.Errorf("client %d: %w", w.client, err)
	}
	if err := fs.Sync(ctx); err != nil {
		return fmt.Errorf("client %d: %w", w.client, err)
	}
	cuts = nil
	for n := w.from + 1; ctx.Err() == nil && (w.until == 0 || n <= w.until); n++ {
		r := s.next()
		for _, o := range r.ops {
			if err := t.do(o); err != nil {
				return fmt.Errorf("client %d, round %d: %w", w.client, n, err)
			}
		}
		if r.fsync == "" {
			err = fs.Sync(ctx)
		} else {
			err = t.fsync(r.fsync)
		}
		if err != nil {
			return fmt.Errorf("client %d, round %d: fsync: %w", w.client, n, err)
		}
		mu.Lock()
		whole := len(cuts) < 2
		if !whole {
			err = fmt.Errorf("client %d, round %d went in several cuts, so a test that takes it for one says nothing: %q", w.client, n, cuts)
		}
		cuts = nil
		mu.Unlock()
		if !whole {
			return err
		}
		if err := acked(n); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// warmUp sets one extended attribute of each kind, elsewhere: the first of its name space goes
// through to the server, and would divide a round.
func (t *tree) warmUp() error {
	elsewhere := *t
	elsewhere.dir = ""
	dir := "warm-" + t.dir
	for _, o := range []op{{do: "rmtree", path: dir}, {do: "mkdir", path: dir, mode: 0o755}, {do: "create", path: dir + "/f", mode: 0o644, data: []byte("x")}} {
		if err := elsewhere.do(o); err != nil && !(o.do == "rmtree" && errors.Is(err, syscall.ENOENT)) {
			return err
		}
	}
	for _, path := range []string{dir, dir + "/f"} {
		for _, o := range []op{{do: "setxattr", path: path, text: "user.x", data: []byte("1")}, {do: "acl", path: path, data: acl(6, 1000)}} {
			if err := elsewhere.do(o); err != nil {
				return err
			}
		}
	}
	return nil
}
