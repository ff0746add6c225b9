package treeops

import (
	"context"
	"crypto/rand"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"echo9/internal/wire"
)

// tempName is a name for a file that is being written.
func tempName() string { return ".echo9-part-" + rand.Text()[:12] }

// cleanupTime bounds the removal of a temporary file after a cancel.
const cleanupTime = 5 * time.Second

// Put copies a local file, or with Recursive a tree, to the path name. A link
// named by local is followed; links inside a tree are copied as they are.
func (t *Tree) Put(ctx context.Context, local, name string, opt CopyOptions) error {
	fi, err := os.Stat(local)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		src, err := os.Open(local)
		if err != nil {
			return err
		}
		defer src.Close()
		dir, base, err := t.parent(ctx, name)
		if err != nil {
			return pathErr("put", name, err)
		}
		defer dir.Release()
		return t.putFile(ctx, dir, base, src, fileAttr(fi, opt))
	}
	if !opt.Recursive {
		return pathErr("put", local, syscall.EISDIR)
	}
	dst, err := t.mkdirAt(ctx, name, dirMode(fi))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(local)
	if err != nil {
		dst.Release()
		return err
	}
	defer root.Close()
	g := &putter{t: t, root: root, opt: opt}
	return runPool(ctx, t.opt.Workers, func(ctx context.Context, p *pool) error {
		g.pool = p
		return g.dir(ctx, ".", fi, p.own(dst), nil)
	})
}

// PutStream writes all of r to the path name, with permissions mode.
func (t *Tree) PutStream(ctx context.Context, r io.Reader, name string, mode fs.FileMode) error {
	dir, base, err := t.parent(ctx, name)
	if err != nil {
		return pathErr("put", name, err)
	}
	defer dir.Release()
	return t.putFile(ctx, dir, base, newPump(ctx, r), wire.SetAttr{Valid: wire.SetMode, Mode: uint32(mode.Perm())})
}

// pump reads a stream that may have nothing to say for long, until ctx ends. A
// read that is under way then goes on alone, until the stream says something.
type pump struct {
	ctx    context.Context
	pieces chan []byte
	rest   []byte
	err    error // valid when pieces is closed
}

func newPump(ctx context.Context, r io.Reader) *pump {
	p := &pump{ctx: ctx, pieces: make(chan []byte, 4)}
	go func() {
		defer close(p.pieces)
		for {
			buf := make([]byte, 128<<10)
			n, err := r.Read(buf)
			if n > 0 {
				select {
				case p.pieces <- buf[:n]:
				case <-ctx.Done():
					p.err = ctx.Err()
					return
				}
			}
			if err != nil {
				p.err = err
				return
			}
		}
	}()
	return p
}

func (p *pump) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		select {
		case piece, ok := <-p.pieces:
			if !ok {
				return 0, p.err
			}
			p.rest = piece
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// dirMode is what a directory is made with: writable for us until it is complete.
func dirMode(fi fs.FileInfo) uint32 { return uint32(fi.Mode().Perm()) | 0o700 }

// fileAttr is what a copy of fi gets.
func fileAttr(fi fs.FileInfo, opt CopyOptions) wire.SetAttr {
	set := wire.SetAttr{Valid: wire.SetMode, Mode: uint32(fi.Mode().Perm())}
	if opt.Times {
		set.Valid |= wire.SetAtime | wire.SetAtimeSet | wire.SetMtime | wire.SetMtimeSet
		set.Mtime = fi.ModTime().UnixNano()
		set.Atime = set.Mtime
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			set.Atime = st.Atim.Nano()
		}
	}
	return set
}

// putFile writes r to base in dir by way of a temporary name.
func (t *Tree) putFile(ctx context.Context, dir *Node, base string, r io.Reader, set wire.SetAttr) (err error) {
	name := path.Join(dir.Path, base)
	tmp := tempName()
	obj, f, attr, err := dir.Obj.Create(ctx, t.cred, tmp, wire.OWronly|wire.OExcl, set.Mode, t.cred.GID)
	if err != nil {
		if ctx.Err() != nil { // a server may have made it all the same
			t.cleanUp(ctx, dir, tmp)
		}
		return pathErr("create", name, err)
	}
	defer obj.Release()
	defer func() {
		if err != nil {
			t.cleanUp(ctx, dir, tmp)
		}
	}()
	_, err = t.writeIn(ctx, f, r)
	// The create made it with that mode, unless the server has a umask.
	if err == nil && (set.Valid != wire.SetMode || attr.Mode&0o7777 != set.Mode) {
		err = obj.SetAttr(ctx, t.cred, f, set)
	}
	if cerr := f.Close(context.WithoutCancel(ctx)); err == nil {
		err = cerr
	}
	if err == nil {
		err = dir.Obj.Rename(ctx, t.cred, tmp, unwrap(dir.Obj), base, 0)
	}
	if err == nil {
		t.opt.Progress(1, 0)
	}
	return pathErr("put", name, err)
}

// cleanUp removes a temporary file, after a cancel too.
func (t *Tree) cleanUp(ctx context.Context, dir *Node, tmp string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	_ = dir.Obj.Unlink(ctx, t.cred, tmp, 0)
}

// putter copies one local tree.
type putter struct {
	t    *Tree
	root *os.Root
	opt  CopyOptions
	pool *pool
}

// dir copies the local directory rel into dst, which it frees in the end.
func (g *putter) dir(ctx context.Context, rel string, fi fs.FileInfo, dst *Node, parent *countdown) error {
	list, err := fs.ReadDir(g.root.FS(), rel)
	if err != nil {
		return err
	}
	c := &countdown{n: 1, done: func() error {
		defer g.pool.free(dst)
		// The tasks of a pool end before its context does.
		if set := fileAttr(fi, g.opt); set.Valid != wire.SetMode || dst.Attr.Mode&0o7777 != set.Mode {
			if err := dst.Obj.SetAttr(g.pool.ctx, g.t.cred, nil, set); err != nil {
				return pathErr("set attributes of", dst.Path, err)
			}
		}
		if parent != nil {
			return parent.release()
		}
		return nil
	}}
	c.take(len(list))
	for _, e := range list {
		g.pool.add(func(ctx context.Context) error {
			return g.entry(ctx, path.Join(rel, e.Name()), e, dst, c)
		})
	}
	return c.release()
}

func (g *putter) entry(ctx context.Context, rel string, e fs.DirEntry, dst *Node, c *countdown) error {
	fi, err := e.Info()
	if err != nil {
		return err
	}
	name := e.Name()
	switch {
	case fi.IsDir():
		sub, err := g.t.mkdirIn(ctx, dst, name, dirMode(fi))
		if err != nil {
			return err
		}
		return g.dir(ctx, rel, fi, g.pool.own(sub), c)
	case fi.Mode().IsRegular():
		src, err := g.root.Open(rel)
		if err != nil {
			return err
		}
		err = g.t.putFile(ctx, dst, name, src, fileAttr(fi, g.opt))
		src.Close()
		if err != nil {
			return err
		}
	case fi.Mode()&fs.ModeSymlink != 0:
		target, err := g.root.Readlink(rel)
		if err == nil {
			err = g.t.replaceLink(ctx, dst, name, target)
		}
		if err != nil {
			return pathErr("put", filepath.Join(g.root.Name(), rel), err)
		}
	default:
		g.t.opt.Warn(filepath.Join(g.root.Name(), rel), "left out: neither a file, a directory nor a link")
	}
	return c.release()
}

// replaceLink makes a symbolic link, in place of whatever file had the name.
func (t *Tree) replaceLink(ctx context.Context, dir *Node, name, target string) error {
	err := t.symlinkIn(ctx, dir, name, target)
	if isErrno(err, syscall.EEXIST) {
		if err = dir.Obj.Unlink(ctx, t.cred, name, 0); err == nil {
			err = t.symlinkIn(ctx, dir, name, target)
		}
	}
	if err == nil {
		t.opt.Progress(1, 0)
	}
	return err
}
