package treeops

import (
	"context"
	"path"
	"strings"
	"syscall"

	"echo9/internal/wire"
)

// Mkdir makes a directory; with parents also those above it, and then one that
// is there already is no error.
func (t *Tree) Mkdir(ctx context.Context, name string, mode uint32, parents bool) error {
	if !parents {
		dir, base, err := t.parent(ctx, name)
		if isErrno(err, syscall.EBUSY) {
			err = syscall.EEXIST
		}
		if err != nil {
			return pathErr("mkdir", name, err)
		}
		defer dir.Release()
		obj, _, err := dir.Obj.Mkdir(ctx, t.cred, base, mode, t.cred.GID)
		if err != nil {
			return pathErr("mkdir", name, err)
		}
		obj.Release()
		return nil
	}
	n, err := t.Find(ctx, "/", true)
	if err != nil {
		return err
	}
	elems := elements(name)
	for i, e := range elems {
		if e == "." || e == ".." {
			n.Release()
			if n, err = t.Find(ctx, strings.Join(elems[:i+1], "/"), true); err != nil {
				return err
			}
			continue
		}
		next, err := t.mkdirIn(ctx, n, e, mode)
		n.Release()
		if err != nil {
			return err
		}
		n = next
	}
	n.Release()
	return nil
}

// mkdirAt makes the directory name, or finds it.
func (t *Tree) mkdirAt(ctx context.Context, name string, mode uint32) (*Node, error) {
	if clean(name) == "/" {
		return t.Find(ctx, "/", true)
	}
	dir, base, err := t.parent(ctx, name)
	if err != nil {
		return nil, pathErr("mkdir", name, err)
	}
	defer dir.Release()
	return t.mkdirIn(ctx, dir, base, mode)
}

// mkdirIn makes the directory name in dir, or finds it, through links too.
func (t *Tree) mkdirIn(ctx context.Context, dir *Node, name string, mode uint32) (*Node, error) {
	p := path.Join(dir.Path, name)
	obj, attr, err := dir.Obj.Mkdir(ctx, t.cred, name, mode, t.cred.GID)
	if err == nil {
		return &Node{Obj: obj, Attr: attr, Path: p}, nil
	}
	if !isErrno(err, syscall.EEXIST) {
		return nil, pathErr("mkdir", p, err)
	}
	n, err := t.Find(ctx, p, true)
	if err != nil {
		return nil, err
	}
	if !n.IsDir() {
		n.Release()
		return nil, pathErr("mkdir", p, syscall.EEXIST)
	}
	return n, nil
}

func (t *Tree) symlinkIn(ctx context.Context, dir *Node, name, target string) error {
	obj, _, err := dir.Obj.Symlink(ctx, t.cred, name, target, t.cred.GID)
	if err == nil {
		obj.Release()
	}
	return err
}

// Symlink makes name a symbolic link to target.
func (t *Tree) Symlink(ctx context.Context, target, name string) error {
	dir, base, err := t.target(ctx, name, path.Base(target))
	if err == nil {
		defer dir.Release()
		err = t.symlinkIn(ctx, dir, base, target)
	}
	return pathErr("ln -s", name, err)
}

// Link makes name another name of the file old.
func (t *Tree) Link(ctx context.Context, old, name string) error {
	n, err := t.Find(ctx, old, false)
	if err != nil {
		return err
	}
	defer n.Release()
	dir, base, err := t.target(ctx, name, path.Base(clean(old)))
	if err == nil {
		defer dir.Release()
		err = dir.Obj.Link(ctx, t.cred, unwrap(n.Obj), base)
	}
	return pathErr("ln", name, err)
}

// target is where a new name goes: name itself or, if that is a directory, base in it.
func (t *Tree) target(ctx context.Context, name, base string) (*Node, string, error) {
	if n, err := t.find(ctx, name, true); err == nil {
		if n.IsDir() {
			return n, base, nil
		}
		n.Release()
	}
	return t.parent(ctx, strings.TrimRight(name, "/"))
}

// Rename moves old to name; into it, if name is a directory.
func (t *Tree) Rename(ctx context.Context, old, name string) error {
	from, oldBase, err := t.parent(ctx, old)
	if err != nil {
		return pathErr("mv", old, err)
	}
	defer from.Release()
	to, newBase, err := t.target(ctx, name, oldBase)
	if err == nil {
		defer to.Release()
		err = from.Obj.Rename(ctx, t.cred, oldBase, unwrap(to.Obj), newBase, 0)
	}
	return pathErr("mv", old+" to "+name, err)
}

// Remove removes a file or, with recursive, a tree.
func (t *Tree) Remove(ctx context.Context, name string, recursive bool) error {
	dir, base, err := t.parent(ctx, strings.TrimRight(name, "/"))
	if err != nil {
		return pathErr("rm", name, err)
	}
	err = dir.Obj.Unlink(ctx, t.cred, base, 0)
	if err == nil || !recursive || !mayBeDir(err) {
		dir.Release()
		return pathErr("rm", name, err)
	}
	return runPool(ctx, t.opt.Workers, func(ctx context.Context, p *pool) error {
		r := &remover{t: t, pool: p}
		p.own(dir)
		return r.dir(ctx, dir, base, err, &countdown{n: 1, done: func() error { p.free(dir); return nil }})
	})
}

// mayBeDir says whether an unlink may have failed because the name is a
// directory's: Linux says EISDIR, POSIX EPERM, some servers try rmdir(2).
func mayBeDir(err error) bool {
	for _, e := range []syscall.Errno{syscall.EISDIR, syscall.EPERM, syscall.ENOTEMPTY, syscall.EEXIST} {
		if isErrno(err, e) {
			return true
		}
	}
	return false
}

// remover removes one tree.
type remover struct {
	t    *Tree
	pool *pool
}

// dir removes the directory name in parent, after all that is in it. If it is
// none, why is the answer to its unlink.
func (r *remover) dir(ctx context.Context, parent *Node, name string, why error, up *countdown) error {
	p := path.Join(parent.Path, name)
	obj, attr, err := parent.Obj.Walk(ctx, r.t.cred, name)
	if err != nil {
		return pathErr("rm", p, err)
	}
	n := &Node{Obj: obj, Attr: attr, Path: p}
	r.pool.own(n)
	if !n.IsDir() {
		return pathErr("rm", p, why)
	}
	list, err := r.t.readDir(ctx, n)
	if err != nil {
		return err
	}
	c := &countdown{n: 1, done: func() error {
		r.pool.free(n)
		if err := parent.Obj.Unlink(r.pool.ctx, r.t.cred, name, wire.AtRemoveDir); err != nil {
			return pathErr("rm", p, err)
		}
		r.t.opt.Progress(1, 0)
		return up.release()
	}}
	c.take(len(list))
	for _, e := range list {
		r.pool.add(func(ctx context.Context) error {
			if e.Type == TypeDir {
				return r.dir(ctx, n, e.Name, syscall.ENOTDIR, c)
			}
			err := n.Obj.Unlink(ctx, r.t.cred, e.Name, 0)
			if err != nil && mayBeDir(err) {
				return r.dir(ctx, n, e.Name, err, c)
			}
			if err != nil && !isErrno(err, syscall.ENOENT) {
				return pathErr("rm", e.Path, err)
			}
			r.t.opt.Progress(1, 0)
			return c.release()
		})
	}
	return c.release()
}

// SetAttr changes attributes of what a path leads to.
func (t *Tree) SetAttr(ctx context.Context, op, name string, set wire.SetAttr) error {
	n, err := t.Find(ctx, name, true)
	if err != nil {
		return err
	}
	defer n.Release()
	return pathErr(op, name, n.Obj.SetAttr(ctx, t.cred, nil, set))
}

// Chmod sets permissions as change makes them of the present ones.
func (t *Tree) Chmod(ctx context.Context, name string, change func(mode uint32) uint32) error {
	n, err := t.Find(ctx, name, true)
	if err != nil {
		return err
	}
	defer n.Release()
	set := wire.SetAttr{Valid: wire.SetMode, Mode: change(n.Attr.Mode) & 0o7777}
	return pathErr("chmod", name, n.Obj.SetAttr(ctx, t.cred, nil, set))
}

// Touch sets the times to now, and makes the file if there is none and create is set.
func (t *Tree) Touch(ctx context.Context, name string, create bool) error {
	err := t.SetAttr(ctx, "touch", name, wire.SetAttr{Valid: wire.SetAtime | wire.SetMtime})
	if !isErrno(err, syscall.ENOENT) {
		return err
	}
	if !create {
		return nil
	}
	return pathErr("touch", name, t.createEmpty(ctx, name))
}

// Truncate sets a file's size, and makes the file if there is none and create is set.
func (t *Tree) Truncate(ctx context.Context, name string, size uint64, create bool) error {
	set := wire.SetAttr{Valid: wire.SetSize, Size: size}
	err := t.SetAttr(ctx, "truncate", name, set)
	if !isErrno(err, syscall.ENOENT) || !create {
		return err
	}
	if err := t.createEmpty(ctx, name); err != nil {
		return pathErr("truncate", name, err)
	}
	return t.SetAttr(ctx, "truncate", name, set)
}

func (t *Tree) createEmpty(ctx context.Context, name string) error {
	dir, base, err := t.parent(ctx, name)
	if err != nil {
		return err
	}
	defer dir.Release()
	obj, f, _, err := dir.Obj.Create(ctx, t.cred, base, wire.OWronly, 0o666&^t.opt.Umask, t.cred.GID)
	if err != nil {
		return err
	}
	defer obj.Release()
	return f.Close(ctx)
}
