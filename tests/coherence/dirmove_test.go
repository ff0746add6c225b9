package coherence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"echo9/cachefs"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tests/internal/served"
)

// TestDirectoryMoves: three clients move directories into one another. Nothing is lost, there is
// never a loop, and no move fails when it is committed.
func TestDirectoryMoves(t *testing.T) {
	const directories, moves = 10, 60
	srv := served.Start(t, "")
	a, fa := caching(t, srv, "A", "")
	b, fb := caching(t, srv, "B", "")
	p := plain(t, srv)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	root, err := p.Backend.Root(ctx, p.Cred, "")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Release()
	for i := range directories {
		o, _, err := root.Mkdir(ctx, p.Cred, fmt.Sprintf("d%d", i), 0o755, 0)
		if err != nil {
			t.Fatal(err)
		}
		o.Release()
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := map[string]int{}
	for i, c := range []Client{a, b, p} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			for range moves {
				what, err := move(ctx, c, rng)
				if err != nil {
					t.Errorf("client %s: %v", c.Name, err)
					return
				}
				mu.Lock()
				made[what]++
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	t.Logf("outcomes: %v", made)
	if made["moved"] < moves/2 {
		t.Errorf("only %d moves of %d succeeded: the test shows little", made["moved"], 3*moves)
	}
	for name, fs := range map[string]*cachefs.FS{"A": fa, "B": fb} {
		if err := fs.Sync(ctx); err != nil {
			t.Errorf("syncing %s: %v", name, err)
		}
		if s := fs.Status(); s.Lost != 0 {
			t.Errorf("%s lost %d operations: %+v", name, s.Lost, s.Events)
		}
	}
	for _, c := range []Client{a, b, p} {
		seen := map[string]int{}
		r, err := c.Backend.Root(ctx, c.Cred, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := count(ctx, c, r, seen, 0); err != nil {
			t.Fatalf("client %s walks the tree: %v", c.Name, err)
		}
		r.Release()
		for i := range directories {
			if n := seen[fmt.Sprintf("d%d", i)]; n != 1 {
				t.Errorf("client %s finds directory d%d %d times", c.Name, i, n)
			}
		}
	}
}

// move takes a random directory into another; what it gives is the outcome.
func move(ctx context.Context, c Client, rng *rand.Rand) (string, error) {
	root, err := c.Backend.Root(ctx, c.Cred, "")
	if err != nil {
		return "", err
	}
	defer root.Release()
	from, name, err := descend(ctx, c, root, rng)
	if err != nil {
		return outcome(err)
	}
	defer from.Release()
	to, _, err := descend(ctx, c, root, rng)
	if err != nil {
		return outcome(err)
	}
	defer to.Release()
	if name == "" {
		return "nothing there", nil
	}
	if err := from.Rename(ctx, c.Cred, name, to, name, 0); err != nil {
		return outcome(err)
	}
	return "moved", nil
}

// outcome: these errors are what a race of renames may give.
func outcome(err error) (string, error) {
	for _, e := range []syscall.Errno{syscall.ENOENT, syscall.EINVAL, syscall.ENOTEMPTY, syscall.EEXIST, syscall.ESTALE} {
		if errors.Is(err, e) {
			return e.Error(), nil
		}
	}
	return "", err
}

// descend walks down a random way and gives the directory where it stops and a name in it.
func descend(ctx context.Context, c Client, root p9srv.Object, rng *rand.Rand) (p9srv.Object, string, error) {
	at, _, err := root.Walk(ctx, c.Cred, "..")
	if err != nil {
		return nil, "", err
	}
	for {
		names, err := list(ctx, c, at)
		if err != nil {
			at.Release()
			return nil, "", err
		}
		if len(names) == 0 {
			return at, "", nil
		}
		name := names[rng.IntN(len(names))]
		if rng.IntN(3) == 0 {
			return at, name, nil
		}
		next, _, err := at.Walk(ctx, c.Cred, name)
		at.Release()
		if err != nil {
			return nil, "", err
		}
		at = next
	}
}

func list(ctx context.Context, c Client, d p9srv.Object) ([]string, error) {
	f, err := d.Open(ctx, c.Cred, wire.ORdonly|wire.ODirectory)
	if err != nil {
		return nil, err
	}
	defer f.Close(ctx)
	var names []string
	err = f.ReadDir(ctx, 0, func(e wire.Dirent) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	return names, err
}

func count(ctx context.Context, c Client, d p9srv.Object, seen map[string]int, depth int) error {
	if depth > 50 {
		return fmt.Errorf("a loop: %v", seen)
	}
	names, err := list(ctx, c, d)
	if err != nil {
		return err
	}
	for _, n := range names {
		seen[n]++
		o, _, err := d.Walk(ctx, c.Cred, n)
		if err != nil {
			return err
		}
		err = count(ctx, c, o, seen, depth+1)
		o.Release()
		if err != nil {
			return err
		}
	}
	return nil
}
