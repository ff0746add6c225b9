package durable

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// tree is a client's directory, through a cache or plainly.
type tree struct {
	ctx  context.Context
	cred *p9srv.Cred
	b    p9srv.Backend
	dir  string // the directory's name in the export
}

// walk gives the object at path; whoever asked releases it.
func (t *tree) walk(path string) (p9srv.Object, error) {
	o, err := t.b.Root(t.ctx, t.cred, t.dir)
	if err != nil || path == "." || path == "" {
		return o, err
	}
	for _, name := range strings.Split(path, "/") {
		next, _, err := o.Walk(t.ctx, t.cred, name)
		o.Release()
		if err != nil {
			return nil, fmt.Errorf("walking to %s: %w", path, err)
		}
		o = next
	}
	return o, nil
}

// in runs fn with the directory that path is in, and its last name.
func (t *tree) in(path string, fn func(d p9srv.Object, name string) error) error {
	d, err := t.walk(dirOf(path))
	if err != nil {
		return err
	}
	defer d.Release()
	return fn(d, path[strings.LastIndexByte(path, '/')+1:])
}

func (t *tree) with(path string, fn func(o p9srv.Object) error) error {
	o, err := t.walk(path)
	if err != nil {
		return err
	}
	defer o.Release()
	return fn(o)
}

// do does an operation.
func (t *tree) do(o op) error {
	if err := t.op(o); err != nil {
		return fmt.Errorf("%v: %w", o, err)
	}
	return nil
}

func (t *tree) op(o op) error {
	ctx, cred := t.ctx, t.cred
	switch o.do {
	case "create", "mkdir", "symlink", "fifo", "device", "unlink":
		return t.in(o.path, func(d p9srv.Object, name string) error { return t.entry(d, name, o) })
	case "link":
		return t.with(o.path, func(f p9srv.Object) error {
			return t.in(o.to, func(d p9srv.Object, name string) error { return d.Link(ctx, cred, f, name) })
		})
	case "rename", "exchange":
		flags := map[string]uint32{"exchange": wire.RenameExchange}[o.do]
		return t.in(o.path, func(d p9srv.Object, name string) error {
			return t.in(o.to, func(d2 p9srv.Object, name2 string) error {
				return d.Rename(ctx, cred, name, d2, name2, flags)
			})
		})
	case "rmtree":
		return t.in(o.path, t.removeTree)
	case "write":
		return t.with(o.path, func(f p9srv.Object) error { return t.write(f, o) })
	}
	return t.with(o.path, func(f p9srv.Object) error { return t.attribute(f, o) })
}

// entry makes or removes a name.
func (t *tree) entry(d p9srv.Object, name string, o op) (err error) {
	var made p9srv.Object
	switch o.do {
	case "create":
		var f p9srv.File
		made, f, _, err = d.Create(t.ctx, t.cred, name, wire.OWronly|wire.OExcl, o.mode, t.cred.GID)
		if err != nil {
			return err
		}
		if _, err = f.WriteAt(t.ctx, o.data, 0); err == nil {
			err = f.Close(t.ctx)
		}
	case "mkdir":
		made, _, err = d.Mkdir(t.ctx, t.cred, name, o.mode, t.cred.GID)
	case "symlink":
		made, _, err = d.Symlink(t.ctx, t.cred, name, o.text, t.cred.GID)
	case "fifo":
		made, _, err = d.Mknod(t.ctx, t.cred, name, unix.S_IFIFO|o.mode, 0, 0, t.cred.GID)
	case "device":
		made, _, err = d.Mknod(t.ctx, t.cred, name, unix.S_IFCHR|o.mode, 1, 3, t.cred.GID)
	case "unlink":
		return d.Unlink(t.ctx, t.cred, name, 0)
	}
	if made != nil {
		made.Release()
	}
	return err
}

func (t *tree) removeTree(d p9srv.Object, name string) error {
	o, attr, err := d.Walk(t.ctx, t.cred, name)
	if err != nil {
		return err
	}
	defer o.Release()
	if attr.QID.Type&wire.QTDir == 0 {
		return d.Unlink(t.ctx, t.cred, name, 0)
	}
	f, err := o.Open(t.ctx, t.cred, wire.ORdonly|wire.ODirectory)
	if err != nil {
		return err
	}
	defer f.Close(t.ctx)
	var entries []string
	if err := f.ReadDir(t.ctx, 0, func(e wire.Dirent) bool {
		if e.Name != "." && e.Name != ".." {
			entries = append(entries, e.Name)
		}
		return true
	}); err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.removeTree(o, e); err != nil {
			return err
		}
	}
	return d.Unlink(t.ctx, t.cred, name, wire.AtRemoveDir)
}

func (t *tree) write(o p9srv.Object, p op) error {
	f, err := o.Open(t.ctx, t.cred, wire.OWronly)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(t.ctx, p.data, p.off); err != nil {
		f.Close(t.ctx)
		return err
	}
	return f.Close(t.ctx)
}

func (t *tree) attribute(f p9srv.Object, o op) error {
	switch o.do {
	case "truncate":
		return f.SetAttr(t.ctx, t.cred, nil, wire.SetAttr{Valid: wire.SetSize, Size: uint64(o.off)})
	case "chmod":
		return f.SetAttr(t.ctx, t.cred, nil, wire.SetAttr{Valid: wire.SetMode, Mode: o.mode})
	case "chown":
		return f.SetAttr(t.ctx, t.cred, nil, wire.SetAttr{Valid: wire.SetUID | wire.SetGID, UID: o.uid, GID: o.uid})
	case "acl":
		return f.SetXattr(t.ctx, t.cred, "system.posix_acl_access", o.data, 0)
	case "setxattr":
		return f.SetXattr(t.ctx, t.cred, o.text, o.data, 0)
	case "removexattr":
		err := f.RemoveXattr(t.ctx, t.cred, o.text)
		if errors.Is(err, syscall.ENODATA) {
			err = nil
		}
		return err
	}
	return fmt.Errorf("there is no such operation")
}

// fsync makes what was done to path durable, and all that precedes it.
func (t *tree) fsync(path string) error {
	return t.with(path, func(o p9srv.Object) error {
		f, err := o.Open(t.ctx, t.cred, wire.ORdonly)
		if err != nil {
			return err
		}
		if err := f.Fsync(t.ctx, false); err != nil {
			f.Close(t.ctx)
			return err
		}
		return f.Close(t.ctx)
	})
}
