package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// work is one timed piece of work on a tree; it is done with so many in flight.
type work struct {
	name string
	ops  int // operations or, with bytes, MiB
	unit string
	run  func(ctx context.Context, t *tree) error
}

// tree is the root of a client under test.
type tree struct {
	b    p9srv.Backend
	cred *p9srv.Cred
	root p9srv.Object
	flow int // operations in flight
}

// spread runs fn(0..n-1), t.flow at a time.
func (t *tree) spread(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.flow)
	for i := range n {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait()
}

const dirs = 100

func (t *tree) dir(ctx context.Context, i int) (p9srv.Object, error) {
	o, _, err := t.root.Walk(ctx, t.cred, fmt.Sprintf("dir%02d", i))
	return o, err
}

// inDirs walks to each directory once and runs fn for each of its files.
func (t *tree) inDirs(ctx context.Context, files int, fn func(ctx context.Context, d p9srv.Object, i int) error) error {
	return t.spread(ctx, dirs, func(ctx context.Context, k int) error {
		d, err := t.dir(ctx, k)
		if err != nil {
			return err
		}
		defer d.Release()
		for i := k; i < files; i += dirs {
			if err := fn(ctx, d, i); err != nil {
				return err
			}
		}
		return nil
	})
}

func smallFiles(n int) []work {
	content := make([]byte, 4096)
	for i := range content {
		content[i] = byte(i)
	}
	return []work{
		{"create+write 4 KiB", n, "op", func(ctx context.Context, t *tree) error {
			for i := range dirs {
				o, _, err := t.root.Mkdir(ctx, t.cred, fmt.Sprintf("dir%02d", i), 0o755, 0)
				if err != nil {
					return err
				}
				o.Release()
			}
			return t.inDirs(ctx, n, func(ctx context.Context, d p9srv.Object, i int) error {
				o, f, _, err := d.Create(ctx, t.cred, fmt.Sprintf("file%05d", i), wire.OWronly|wire.OExcl, 0o644, 0)
				if err != nil {
					return err
				}
				defer o.Release()
				if _, err := f.WriteAt(ctx, content, 0); err != nil {
					return err
				}
				return f.Close(ctx)
			})
		}},
		{"open+read 4 KiB", n, "op", func(ctx context.Context, t *tree) error {
			return t.inDirs(ctx, n, func(ctx context.Context, d p9srv.Object, i int) error {
				o, _, err := d.Walk(ctx, t.cred, fmt.Sprintf("file%05d", i))
				if err != nil {
					return err
				}
				defer o.Release()
				f, err := o.Open(ctx, t.cred, wire.ORdonly)
				if err != nil {
					return err
				}
				buf := make([]byte, 4096)
				if n, err := f.ReadAt(ctx, buf, 0); err != nil || n != len(buf) {
					return fmt.Errorf("read %d of %d bytes: %w", n, len(buf), err)
				}
				return f.Close(ctx)
			})
		}},
		{"rename", n, "op", func(ctx context.Context, t *tree) error {
			return t.inDirs(ctx, n, func(ctx context.Context, d p9srv.Object, i int) error {
				return d.Rename(ctx, t.cred, fmt.Sprintf("file%05d", i), d, fmt.Sprintf("done%05d", i), 0)
			})
		}},
		{"unlink", n, "op", func(ctx context.Context, t *tree) error {
			if err := t.inDirs(ctx, n, func(ctx context.Context, d p9srv.Object, i int) error {
				return d.Unlink(ctx, t.cred, fmt.Sprintf("done%05d", i), 0)
			}); err != nil {
				return err
			}
			for i := range dirs {
				if err := t.root.Unlink(ctx, t.cred, fmt.Sprintf("dir%02d", i), wire.AtRemoveDir); err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

func stream(mib int) []work {
	const piece = 1 << 20
	return []work{
		{"write", mib, "MiB", func(ctx context.Context, t *tree) error {
			o, f, _, err := t.root.Create(ctx, t.cred, "big", wire.OWronly, 0o644, 0)
			if err != nil {
				return err
			}
			defer o.Release()
			buf := make([]byte, piece)
			for i := range mib {
				buf[0] = byte(i)
				if _, err := f.WriteAt(ctx, buf, int64(i)*piece); err != nil {
					return err
				}
			}
			return f.Close(ctx)
		}},
		{"read", mib, "MiB", func(ctx context.Context, t *tree) error {
			o, _, err := t.root.Walk(ctx, t.cred, "big")
			if err != nil {
				return err
			}
			defer o.Release()
			f, err := o.Open(ctx, t.cred, wire.ORdonly)
			if err != nil {
				return err
			}
			buf := make([]byte, piece)
			for i := range mib {
				n, err := f.ReadAt(ctx, buf, int64(i)*piece)
				if err != nil || n != piece || buf[0] != byte(i) {
					return fmt.Errorf("reading MiB %d: %d bytes: %w", i, n, err)
				}
			}
			return f.Close(ctx)
		}},
	}
}

// realTree copies the local directory src in, walks it, and removes it.
func realTree(src string) ([]work, error) {
	count := 0
	err := filepath.WalkDir(src, func(string, fs.DirEntry, error) error { count++; return nil })
	if err != nil {
		return nil, fmt.Errorf("counting %s: %w", src, err)
	}
	return []work{
		{"copy in", count, "file", func(ctx context.Context, t *tree) error { return t.copyIn(ctx, src, t.root, "tree") }},
		{"walk (find -ls)", count, "file", func(ctx context.Context, t *tree) error {
			n, err := t.walk(ctx, t.root, "tree")
			if err == nil && n != count {
				err = fmt.Errorf("%d files found, %d copied", n, count)
			}
			return err
		}},
		{"remove", count, "file", func(ctx context.Context, t *tree) error { return t.remove(ctx, t.root, "tree") }},
	}, nil
}

func (t *tree) copyIn(ctx context.Context, src string, parent p9srv.Object, name string) error {
	d, _, err := parent.Mkdir(ctx, t.cred, name, 0o755, 0)
	if err != nil {
		return err
	}
	defer d.Release()
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	var files []string
	for _, e := range entries {
		switch {
		case e.IsDir():
			if err := t.copyIn(ctx, filepath.Join(src, e.Name()), d, e.Name()); err != nil {
				return err
			}
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(filepath.Join(src, e.Name()))
			if err != nil {
				return err
			}
			o, _, err := d.Symlink(ctx, t.cred, e.Name(), target, 0)
			if err != nil {
				return err
			}
			o.Release()
		default:
			files = append(files, e.Name())
		}
	}
	return t.spread(ctx, len(files), func(ctx context.Context, i int) error {
		data, err := os.ReadFile(filepath.Join(src, files[i]))
		if err != nil {
			return err
		}
		o, f, _, err := d.Create(ctx, t.cred, files[i], wire.OWronly|wire.OExcl, 0o644, 0)
		if err != nil {
			return err
		}
		defer o.Release()
		if len(data) > 0 {
			if _, err := f.WriteAt(ctx, data, 0); err != nil {
				return err
			}
		}
		return f.Close(ctx)
	})
}

// list gives the names in a directory and which are directories.
func (t *tree) list(ctx context.Context, d p9srv.Object) (names []string, isDir []bool, err error) {
	f, err := d.Open(ctx, t.cred, wire.ORdonly|wire.ODirectory)
	if err != nil {
		return nil, nil, err
	}
	err = f.ReadDir(ctx, 0, func(e wire.Dirent) bool {
		if e.Name != "." && e.Name != ".." {
			names, isDir = append(names, e.Name), append(isDir, e.QID.Type&wire.QTDir != 0)
		}
		return true
	})
	if cerr := f.Close(ctx); err == nil {
		err = cerr
	}
	return names, isDir, err
}

// each lists a directory and runs fn for each entry, subdirectories after one another.
func (t *tree) each(ctx context.Context, d p9srv.Object, fn func(ctx context.Context, name string, dir bool) error) error {
	names, isDir, err := t.list(ctx, d)
	if err != nil {
		return err
	}
	var files []string
	for i, n := range names {
		if !isDir[i] {
			files = append(files, n)
			continue
		}
		if err := fn(ctx, n, true); err != nil {
			return err
		}
	}
	return t.spread(ctx, len(files), func(ctx context.Context, i int) error { return fn(ctx, files[i], false) })
}

func (t *tree) walk(ctx context.Context, parent p9srv.Object, name string) (int, error) {
	d, _, err := parent.Walk(ctx, t.cred, name)
	if err != nil {
		return 0, err
	}
	defer d.Release()
	var mu sync.Mutex
	count := 1
	err = t.each(ctx, d, func(ctx context.Context, name string, dir bool) error {
		n := 1
		if dir {
			if n, err = t.walk(ctx, d, name); err != nil {
				return err
			}
		} else {
			o, _, err := d.Walk(ctx, t.cred, name)
			if err != nil {
				return err
			}
			o.Release()
		}
		mu.Lock()
		count += n
		mu.Unlock()
		return nil
	})
	return count, err
}

func (t *tree) remove(ctx context.Context, parent p9srv.Object, name string) error {
	d, _, err := parent.Walk(ctx, t.cred, name)
	if err != nil {
		return err
	}
	defer d.Release()
	err = t.each(ctx, d, func(ctx context.Context, name string, dir bool) error {
		if dir {
			return t.remove(ctx, d, name)
		}
		return d.Unlink(ctx, t.cred, name, 0)
	})
	if err != nil {
		return err
	}
	return parent.Unlink(ctx, t.cred, name, wire.AtRemoveDir)
}
