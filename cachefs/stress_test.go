package cachefs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
)

// expected are the errors that racing clients may see.
var expected = []error{syscall.ENOENT, syscall.EEXIST, syscall.ENOTEMPTY, syscall.EISDIR, syscall.ENOTDIR,
	syscall.EINVAL, syscall.EPERM}

func surprising(err error) bool {
	return err != nil && !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) })
}

// TestStress: caches and a plain client do everything to the same few objects at once. Nothing hangs, nothing is
// lost, no error comes that a local file system would not give, each knows where the objects lie whose tokens it has, and in the
// end all see the same.
func TestStress(t *testing.T) {
	w := newWorld(t)
	caches := []*FS{
		w.cache(func(o *Options) { o.WriteBehind = 20 * time.Millisecond }),
		w.cache(),
		w.cache(func(o *Options) { o.Cache, o.CutOps, o.Inline = 32<<10, 5, 16 }),
	}
	clients := append(slices.Clone(caches), w.plain())
	for i := range 3 {
		ok(t, clients[0].Mkdir(bg, fmt.Sprintf("d%d", i), 0o777))
	}
	ctx, cancel := context.WithTimeout(bg, 5*patience)
	defer cancel()
	errs := make(chan error, 100)
	var wg sync.WaitGroup
	for c, f := range clients {
		for g := range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				r := rand.New(rand.NewPCG(uint64(c), uint64(g)))
				for i := range 100 {
					if err := stressStep(ctx, f, r, fmt.Sprintf("%d.%d.%d", c, g, i)); surprising(err) {
						errs <- fmt.Errorf("client %d: %w", c, err)
						return
					}
					if err := f.misplaced(); err != nil {
						errs <- fmt.Errorf("client %d: %w", c, err)
						return
					}
				}
			}()
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	for i, f := range caches {
		if err := f.Sync(ctx); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
		if s := f.Status(); s.Lost > 0 {
			t.Errorf("client %d lost %d updates: %v", i, s.Lost, s.Events)
		}
	}
	want := dump(t, w.direct())
	for i, f := range clients {
		if got := dump(t, f); got != want {
			t.Errorf("client %d sees\n%s\nthe server has\n%s", i, got, want)
		}
	}
}

func stressStep(ctx context.Context, f *FS, r *rand.Rand, tag string) error {
	dir := func() string { return fmt.Sprintf("d%d", r.IntN(3)) }
	file := func() string { return fmt.Sprintf("%s/f%d", dir(), r.IntN(4)) }
	switch r.IntN(13) {
	case 0, 1:
		return f.WriteFile(ctx, file(), []byte(strings.Repeat(tag, 1+r.IntN(50))), 0o666)
	case 2:
		_, err := f.ReadFile(ctx, file())
		return err
	case 3:
		_, err := f.ReadDir(ctx, dir())
		return err
	case 4:
		return f.Rename(ctx, file(), file())
	case 5:
		return f.Remove(ctx, file())
	case 6:
		return f.Link(ctx, file(), file())
	case 7:
		return f.Truncate(ctx, file(), uint64(r.IntN(200)))
	case 8:
		return f.Mkdir(ctx, fmt.Sprintf("%s/sub%d", dir(), r.IntN(2)), 0o777)
	case 9:
		return f.Rename(ctx, fmt.Sprintf("%s/sub%d", dir(), r.IntN(2)), fmt.Sprintf("%s/sub%d", dir(), r.IntN(2)))
	case 10:
		return f.RemoveAll(ctx, fmt.Sprintf("%s/sub%d", dir(), r.IntN(2)))
	case 11:
		h, err := f.OpenFile(ctx, file(), wire.ORdwr|wire.OCreat, 0o666)
		if err != nil {
			return err
		}
		_, err = h.WriteAt(ctx, []byte(tag), int64(r.IntN(100)))
		if err == nil {
			_, err = h.ReadAt(ctx, make([]byte, 100), 0)
		}
		if r.IntN(3) == 0 && err == nil {
			err = h.Fsync(ctx, false)
		}
		return errors.Join(err, h.Close(ctx))
	default:
		return f.Chmod(ctx, file(), uint32(0o600+r.IntN(0o200)))
	}
}

// dump gives all that can be seen of a tree.
func dump(t *testing.T, f *FS) string {
	t.Helper()
	var b strings.Builder
	var visit func(dir string)
	visit = func(dir string) {
		list, err := f.ReadDir(bg, dir)
		ok(t, err)
		slices.SortFunc(list, func(x, y wire.Dirent) int { return strings.Compare(x.Name, y.Name) })
		for _, d := range list {
			if d.Name == ".echo9" {
				continue
			}
			name := strings.TrimPrefix(dir+"/"+d.Name, "/")
			a, err := f.Lstat(bg, name)
			ok(t, err)
			fmt.Fprintf(&b, "%s id %d mode %o links %d", name, a.QID.Path, a.Mode, a.Nlink)
			if isRegular(a.Mode) {
				content, err := f.ReadFile(bg, name)
				ok(t, err)
				fmt.Fprintf(&b, " size %d mtime %d %q", a.Size, a.Mtime, content)
			}
			b.WriteByte('\n')
			if isDir(a.Mode) {
				visit(name)
			}
		}
	}
	visit("")
	return b.String()
}

// TestDirectoryMoves: clients that move directories into each other at once never make a loop, and no move that
// was taken on is refused later.
func TestDirectoryMoves(t *testing.T) {
	w := newWorld(t)
	clients := []*FS{w.cache(), w.cache(), w.cache(func(o *Options) { o.WriteBehind = 5 * time.Millisecond })}
	const dirs = 6
	for i := range dirs {
		ok(t, clients[0].Mkdir(bg, fmt.Sprintf("n%d", i), 0o777))
	}
	ctx, cancel := context.WithTimeout(bg, 5*patience)
	defer cancel()
	// Directories are named for themselves, so where one is can be found by looking everywhere.
	find := func(f *FS, name string) string {
		var found string
		var visit func(dir string)
		visit = func(dir string) {
			list, err := f.ReadDir(ctx, dir)
			if err != nil {
				return
			}
			for _, d := range list {
				p := strings.TrimPrefix(dir+"/"+d.Name, "/")
				if d.Name == name {
					found = p
				} else if found == "" && d.Name != ".echo9" {
					visit(p)
				}
			}
		}
		visit("")
		return found
	}
	var wg sync.WaitGroup
	for c, f := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(7, uint64(c)))
			for range 25 {
				what := fmt.Sprintf("n%d", r.IntN(dirs))
				from, to := find(f, what), find(f, fmt.Sprintf("n%d", r.IntN(dirs)))
				if from == "" {
					continue
				}
				if err := f.Rename(ctx, from, to+"/"+what); surprising(err) {
					t.Errorf("client %d: %v", c, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	for i, f := range clients {
		if err := f.Sync(ctx); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
		if s := f.Status(); s.Lost > 0 {
			t.Errorf("client %d lost %d updates: %v", i, s.Lost, s.Events)
		}
	}
	for i := range dirs {
		for c, f := range append(clients, w.direct()) {
			if find(f, fmt.Sprintf("n%d", i)) == "" {
				t.Errorf("client %d does not find n%d: it is in a loop, or gone", c, i)
			}
		}
	}
}
