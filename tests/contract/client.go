package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"echo9/cachefs"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// client is a client of the server, that a story's steps are done by.
type client struct {
	policy
	w     *world
	nc    *link
	cache *cachefs.FS // nil for a plain one
	trees map[uint32]*p9client.Tree
	conn  *p9client.Conn
	open  map[string]opened
	// dying: the connection is cut before the next cut is sent.
	dying atomic.Bool
}

type opened struct {
	o   p9srv.Object
	f   p9srv.File
	uid uint32
}

func (w *world) join(ctx context.Context, p policy, mutant string) (*client, error) {
	c := &client{policy: p, w: w, open: map[string]opened{}}
	var err error
	if c.nc, err = w.connect(); err != nil {
		return nil, err
	}
	if c.conn, err = p9client.NewConn(ctx, c.nc, p9client.Options{Extension: !p.plain}); err != nil {
		return nil, err
	}
	if p.plain {
		c.trees = map[uint32]*p9client.Tree{}
		return c, nil
	}
	o := cachefs.Options{WriteBehind: time.Hour, Mutant: mutant, Cred: *cred(0)}
	if o.Order, err = cachefs.ParseOrder(p.order); err != nil {
		return nil, err
	}
	if o.Writes, err = cachefs.ParseWrites(p.writes); err != nil {
		return nil, err
	}
	if p.eager {
		o.WriteBehind, o.CutOps, o.CutBytes = 300*time.Microsecond, 2, 2000
	}
	o.Hooks.Commit = func(cachefs.CutInfo) {
		if c.dying.Load() {
			c.nc.Close()
		}
	}
	c.cache, err = cachefs.OpenConn(ctx, c.conn, o)
	return c, err
}

// kill ends the client at once, as when its process is killed.
func (c *client) kill(ctx context.Context) error {
	c.nc.Close()
	if c.cache == nil {
		return nil
	}
	_ = c.cache.Close(ctx)
	c.nc.mu.Lock()
	who := c.nc.who
	c.nc.mu.Unlock()
	if who == nil {
		return errors.New("the session's opening was not seen")
	}
	if err := c.w.bury(ctx, who); err != nil {
		return fmt.Errorf("burying a client: %w", err)
	}
	return nil
}

// leave ends the client well.
func (c *client) leave(ctx context.Context) error {
	for name, h := range c.open {
		_ = h.f.Close(ctx)
		h.o.Release()
		delete(c.open, name)
	}
	if c.cache != nil {
		return c.cache.Close(ctx)
	}
	return c.conn.Close()
}

func cred(uid uint32) *p9srv.Cred { return &p9srv.Cred{UID: uid, GID: uid} }

func (c *client) root(ctx context.Context, uid uint32) (p9srv.Object, error) {
	if c.cache != nil {
		return c.cache.Root(ctx, cred(uid), "")
	}
	t := c.trees[uid]
	if t == nil {
		var err error
		if t, err = p9client.Attach(ctx, c.conn, p9client.Options{UID: &uid}); err != nil {
			return nil, err
		}
		c.trees[uid] = t
	}
	return t.Root(ctx, cred(uid), "")
}

// walk follows a path; symlinks are not followed.
func (c *client) walk(ctx context.Context, uid uint32, path string) (p9srv.Object, error) {
	at, err := c.root(ctx, uid)
	if err != nil || path == "." || path == "" {
		return at, err
	}
	for _, name := range strings.Split(path, "/") {
		next, _, err := at.Walk(ctx, cred(uid), name)
		at.Release()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// outcome is what a step has answered.
type outcome struct {
	err   error
	value string
	attr  *wire.Attr
}

func (o outcome) String() string {
	if o.err != nil {
		var e syscall.Errno
		if errors.As(o.err, &e) {
			return fmt.Sprintf("%s (%v)", unix.ErrnoName(e), o.err)
		}
		return o.err.Error()
	}
	return fmt.Sprintf("success, %q", o.value)
}

// do does a step.
func (c *client) do(ctx context.Context, s step) (out outcome) {
	switch s.verb {
	case "sync":
		if c.cache != nil {
			out.err = c.cache.Sync(ctx)
		}
		return out
	case "drop":
		if c.cache != nil {
			out.err = c.cache.Drop(ctx)
		}
		return out
	}
	if handleVerbs[s.verb] != nil {
		h, ok := c.open[s.args[0]]
		if !ok {
			return outcome{err: errors.New("the handle is not open")}
		}
		c.useHandle(ctx, s, h, &out)
		return out
	}
	switch s.verb {
	case "mkdir", "create", "symlink", "mkfifo", "unlink", "rmdir", "rename":
		dir, base := splitPath(s.args[0])
		d, err := c.walk(ctx, s.uid, dir)
		if err != nil {
			return outcome{err: err}
		}
		defer d.Release()
		out.err = c.change(ctx, s, d, base)
		return out
	}
	o, err := c.walk(ctx, s.uid, s.args[0])
	if err != nil {
		return outcome{err: err}
	}
	defer o.Release()
	c.use(ctx, s, o, &out)
	return out
}

func splitPath(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// change does a step that changes a directory's names.
func (c *client) change(ctx context.Context, s step, d p9srv.Object, base string) error {
	who := cred(s.uid)
	release := func(o p9srv.Object, err error) error {
		if err == nil {
			o.Release()
		}
		return err
	}
	switch s.verb {
	case "mkdir":
		o, _, err := d.Mkdir(ctx, who, base, uint32(s.num(1)), who.GID)
		return release(o, err)
	case "symlink":
		o, _, err := d.Symlink(ctx, who, base, s.args[1], who.GID)
		return release(o, err)
	case "mkfifo":
		o, _, err := d.Mknod(ctx, who, base, typeFifo|uint32(s.num(1)), 0, 0, who.GID)
		return release(o, err)
	case "create":
		o, f, _, err := d.Create(ctx, who, base, wire.ORdwr|wire.OExcl, uint32(s.num(1)), who.GID)
		if err == nil {
			c.keep(ctx, s.args[2], opened{o, f, s.uid})
		}
		return err
	case "unlink":
		return d.Unlink(ctx, who, base, 0)
	case "rmdir":
		return d.Unlink(ctx, who, base, wire.AtRemoveDir)
	}
	dir2, base2 := splitPath(s.args[1])
	d2, err := c.walk(ctx, s.uid, dir2)
	if err != nil {
		return err
	}
	defer d2.Release()
	flags := map[string]uint32{"exchange": wire.RenameExchange, "noreplace": wire.RenameNoReplace}
	var f uint32
	if len(s.args) > 2 {
		f = flags[s.args[2]]
	}
	return d.Rename(ctx, who, base, d2, base2, f)
}

// keep remembers an open file under a name.
func (c *client) keep(ctx context.Context, name string, h opened) {
	if old, ok := c.open[name]; ok {
		_ = old.f.Close(ctx)
		old.o.Release()
	}
	c.open[name] = h
}

// use does a step on the object at a path.
func (c *client) use(ctx context.Context, s step, o p9srv.Object, out *outcome) {
	who := cred(s.uid)
	switch s.verb {
	case "stat":
		out.stat(ctx, o, who)
	case "cat":
		f, err := o.Open(ctx, who, wire.ORdonly)
		if err != nil {
			out.err = err
			return
		}
		buf := make([]byte, 1<<20)
		n, err := f.ReadAt(ctx, buf, 0)
		out.value, out.err = short(buf[:n]), err
		if cerr := f.Close(ctx); out.err == nil {
			out.err = cerr
		}
	case "ls":
		out.list(ctx, o, who)
	case "readlink":
		out.value, out.err = o.Readlink(ctx, who)
	case "link":
		dir, base := splitPath(s.args[1])
		d, err := c.walk(ctx, s.uid, dir)
		if err != nil {
			out.err = err
			return
		}
		defer d.Release()
		out.err = d.Link(ctx, who, o, base)
	case "open":
		f, err := o.Open(ctx, who, openFlags(s.args[1]))
		if err != nil {
			out.err = err
			return
		}
		held, err := c.walk(ctx, s.uid, s.args[0])
		if err != nil {
			out.err = fmt.Errorf("looking for the open file again: %w", err)
			return
		}
		c.keep(ctx, s.args[2], opened{held, f, s.uid})
	case "chmod":
		out.err = o.SetAttr(ctx, who, nil, wire.SetAttr{Valid: wire.SetMode, Mode: uint32(s.num(1))})
	case "chown":
		out.err = o.SetAttr(ctx, who, nil, wire.SetAttr{Valid: wire.SetUID | wire.SetGID, UID: uint32(s.num(1)), GID: uint32(s.num(2))})
	case "utime":
		out.err = o.SetAttr(ctx, who, nil, wire.SetAttr{Valid: wire.SetAtime | wire.SetAtimeSet | wire.SetMtime | wire.SetMtimeSet, Atime: s.num(1), Mtime: s.num(1)})
	case "truncate":
		out.err = o.SetAttr(ctx, who, nil, wire.SetAttr{Valid: wire.SetSize, Size: uint64(s.num(1))})
	case "setxattr":
		var flags uint32
		if len(s.args) > 3 {
			flags = map[string]uint32{"create": wire.XattrCreate, "replace": wire.XattrReplace}[s.args[3]]
		}
		out.err = o.SetXattr(ctx, who, s.args[1], []byte(s.args[2]), flags)
	case "getxattr":
		v, err := o.GetXattr(ctx, who, s.args[1])
		out.value, out.err = string(v), err
	case "rmxattr":
		out.err = o.RemoveXattr(ctx, who, s.args[1])
	case "listxattr":
		names, err := o.ListXattr(ctx, who)
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "user.") })
		slices.Sort(names)
		out.value, out.err = strings.Join(names, " "), err
	case "fsync":
		f, err := o.Open(ctx, who, wire.ORdonly)
		if err != nil {
			out.err = err
			return
		}
		out.err = f.Fsync(ctx, false)
		if cerr := f.Close(ctx); out.err == nil {
			out.err = cerr
		}
	case "barrier":
		if c.cache != nil {
			out.err = c.cache.Barrier(o)
		}
	default:
		panic("contract: no verb " + s.verb)
	}
}

func openFlags(how string) uint32 {
	var f uint32
	switch r, w := strings.Contains(how, "r"), strings.Contains(how, "w"); {
	case r && w:
		f = wire.ORdwr
	case w:
		f = wire.OWronly
	}
	if strings.Contains(how, "a") {
		f |= wire.OAppend
	}
	if strings.Contains(how, "t") {
		f |= wire.OTrunc
	}
	return f
}

func (out *outcome) stat(ctx context.Context, o p9srv.Object, who *p9srv.Cred) {
	a, err := o.GetAttr(ctx, who)
	if err != nil {
		out.err = err
		return
	}
	size := fmt.Sprint(a.Size)
	if a.Mode&typeMask == typeDir {
		size = "-"
	}
	out.value = fmt.Sprintf("%06o %d:%d links=%d size=%s", a.Mode, a.UID, a.GID, a.Nlink, size)
	out.attr = &a
}

func (out *outcome) list(ctx context.Context, o p9srv.Object, who *p9srv.Cred) {
	f, err := o.Open(ctx, who, wire.ORdonly|wire.ODirectory)
	if err != nil {
		out.err = err
		return
	}
	var names []string
	for cookie := uint64(0); ; {
		n := 0
		err := f.ReadDir(ctx, cookie, func(d wire.Dirent) bool {
			n++
			cookie = d.Offset
			if d.Name != "." && d.Name != ".." && d.Name != ".echo9" {
				names = append(names, fmt.Sprintf("%s:%o", d.Name, d.Type))
			}
			return true
		})
		if err != nil || n == 0 {
			out.err = err
			break
		}
	}
	slices.Sort(names)
	out.value = strings.Join(names, " ")
	if cerr := f.Close(ctx); out.err == nil {
		out.err = cerr
	}
}

// useHandle does a step on an open file.
func (c *client) useHandle(ctx context.Context, s step, h opened, out *outcome) {
	switch s.verb {
	case "close":
		out.err = h.f.Close(ctx)
		h.o.Release()
		delete(c.open, s.args[0])
	case "write":
		p := expand(s.args[2])
		n, err := h.f.WriteAt(ctx, p, s.num(1))
		if out.err = err; err == nil && n != len(p) {
			out.err = fmt.Errorf("%d bytes of %d are written", n, len(p))
		}
	case "read":
		p := make([]byte, s.num(2))
		n, err := h.f.ReadAt(ctx, p, s.num(1))
		out.value, out.err = short(p[:n]), err
	case "hstat":
		out.stat(ctx, h.o, cred(h.uid))
	case "htruncate":
		out.err = h.o.SetAttr(ctx, cred(h.uid), h.f, wire.SetAttr{Valid: wire.SetSize, Size: uint64(s.num(1))})
	case "alloc":
		out.err = h.f.Allocate(ctx, uint32(s.num(1)), uint64(s.num(2)), uint64(s.num(3)))
	case "hfsync":
		out.err = h.f.Fsync(ctx, false)
	}
}
