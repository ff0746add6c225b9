package treeops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"echo9/internal/wire"
)

// CopyOptions say what a copy keeps besides content, types and permissions.
type CopyOptions struct {
	// Recursive copies directories with all that is in them.
	Recursive bool
	// Times keeps the times of access and modification.
	Times bool
}

// Get copies a file, or with Recursive a tree, to the local path. A link named
// by name is followed; links inside a tree are copied as they are.
func (t *Tree) Get(ctx context.Context, name, local string, opt CopyOptions) error {
	n, err := t.Find(ctx, name, true)
	if err != nil {
		return err
	}
	if n.IsDir() && !opt.Recursive {
		n.Release()
		return pathErr("get", name, syscall.EISDIR)
	}
	if !n.IsDir() {
		defer n.Release()
		root, err := os.OpenRoot(filepath.Dir(local))
		if err != nil {
			return err
		}
		defer root.Close()
		return t.getFile(ctx, n, root, filepath.Base(local), opt)
	}
	root, err := makeRoot(local)
	if err != nil {
		n.Release()
		return err
	}
	defer root.Close()
	g := &getter{t: t, root: root, opt: opt}
	return runPool(ctx, t.opt.Workers, func(ctx context.Context, p *pool) error {
		g.pool = p
		return g.dir(ctx, p.own(n), ".", nil)
	})
}

func makeRoot(local string) (*os.Root, error) {
	if err := os.MkdirAll(local, 0o777); err != nil {
		return nil, err
	}
	return os.OpenRoot(local)
}

// getter copies one tree below a local root, which no name or link leads out of.
type getter struct {
	t    *Tree
	root *os.Root
	opt  CopyOptions
	pool *pool
}

// dir copies the entries of n to the local directory rel, which is there, and
// sets the directory's mode and times, and frees n, after all else below it is done.
func (g *getter) dir(ctx context.Context, n *Node, rel string, parent *countdown) error {
	list, err := g.t.readDir(ctx, n)
	if err != nil {
		return err
	}
	c := &countdown{n: 1, done: func() error {
		defer g.pool.free(n)
		if err := g.finish(rel, n.Attr); err != nil {
			return err
		}
		if parent != nil {
			return parent.release()
		}
		return nil
	}}
	c.take(len(list))
	for _, e := range list {
		g.pool.add(func(ctx context.Context) error {
			return g.entry(ctx, n, e.Name, path.Join(rel, e.Name), c)
		})
	}
	return c.release()
}

func (g *getter) entry(ctx context.Context, dir *Node, name, rel string, c *countdown) error {
	obj, attr, err := dir.Obj.Walk(ctx, g.t.cred, name)
	if err != nil {
		return pathErr("find", path.Join(dir.Path, name), err)
	}
	n := &Node{Obj: obj, Attr: attr, Path: path.Join(dir.Path, name)}
	if n.IsDir() {
		// Writable for us until it is complete.
		if err := g.root.Mkdir(rel, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			n.Release()
			return err
		}
		return g.dir(ctx, g.pool.own(n), rel, c)
	}
	defer n.Release()
	switch {
	case n.IsRegular():
		err = g.t.getFile(ctx, n, g.root, rel, g.opt)
	case n.IsSymlink():
		err = g.symlink(ctx, n, rel)
	default:
		g.t.opt.Warn(n.Path, "left out: neither a file, a directory nor a link")
	}
	if err != nil {
		return err
	}
	return c.release()
}

func (g *getter) symlink(ctx context.Context, n *Node, rel string) error {
	target, err := n.Obj.Readlink(ctx, g.t.cred)
	if err != nil {
		return pathErr("readlink", n.Path, err)
	}
	err = g.root.Symlink(target, rel)
	if errors.Is(err, fs.ErrExist) {
		if err = g.root.Remove(rel); err == nil {
			err = g.root.Symlink(target, rel)
		}
	}
	g.t.opt.Progress(1, 0)
	return err
}

// finish gives a directory its own mode and times.
func (g *getter) finish(rel string, a wire.Attr) error {
	if err := g.root.Chmod(rel, fs.FileMode(a.Mode&0o777)); err != nil {
		return err
	}
	if g.opt.Times {
		return g.root.Chtimes(rel, time.Unix(0, a.Atime), time.Unix(0, a.Mtime))
	}
	return nil
}

// getFile copies a regular file to rel below root by way of a temporary name.
func (t *Tree) getFile(ctx context.Context, n *Node, root *os.Root, rel string, opt CopyOptions) (err error) {
	if fi, err := root.Lstat(rel); err == nil && fi.IsDir() {
		return pathErr("get", rel, syscall.EISDIR)
	}
	tmp := path.Join(path.Dir(filepath.ToSlash(rel)), tempName())
	w, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(tmp)
		}
	}()
	err = t.readNode(ctx, n, w)
	if err == nil {
		err = w.Chmod(fs.FileMode(n.Attr.Mode & 0o777))
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err == nil && opt.Times {
		err = root.Chtimes(tmp, time.Unix(0, n.Attr.Atime), time.Unix(0, n.Attr.Mtime))
	}
	if err == nil {
		err = root.Rename(tmp, rel)
	}
	if err == nil {
		t.opt.Progress(1, 0)
	}
	return pathErr("get", n.Path, err)
}

// readNode copies the content of a found file to w.
func (t *Tree) readNode(ctx context.Context, n *Node, w io.Writer) error {
	if n.IsDir() {
		return syscall.EISDIR
	}
	f, err := n.Obj.Open(ctx, t.cred, wire.ORdonly)
	if err != nil {
		return err
	}
	err = t.readOut(ctx, f, n.Attr.Size, w)
	if cerr := f.Close(context.WithoutCancel(ctx)); err == nil && cerr != nil {
		err = fmt.Errorf("close: %w", cerr)
	}
	return err
}
