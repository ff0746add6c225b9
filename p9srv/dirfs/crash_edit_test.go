package dirfs

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// nextTick waits until the clock by which the host gives files their times is past this moment: it goes on by steps, which
// come late when the machine has other things to do.
func nextTick() {
	now := time.Now().UnixNano()
	for {
		var coarse unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &coarse); err != nil {
			panic(err)
		}
		if coarse.Nano() > now {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// edit is a change that does not come by a cut: somebody works in the directory on
// the host itself, or is a plain client.
type edit struct {
	kind string // save, append, unlink, create, chmod
	dir  uint64
	name string
	data []byte
	at   int64 // the time that it shows
}

// path is where an object is in the export, by one of its names.
func (m *model) path(root, id uint64) string {
	var find func(d uint64, at string) string
	find = func(d uint64, at string) string {
		if d == id {
			return at
		}
		for name, c := range m.objs[d].entries {
			p := filepath.Join(at, name)
			if c == id {
				return p
			}
			if m.objs[c].dir() {
				if got := find(c, p); got != "" {
					return got
				}
			}
		}
		return ""
	}
	return find(root, ".")
}

// chooseEdit finds an edit that m allows, of directories and names that ok likes; nil if there is none.
func (m *model) chooseEdit(d dice, root uint64, clock *int64, ok func(dir uint64, name string, kind string) bool) *edit {
	for range 60 {
		e := &edit{kind: oneOf(d, []string{"save", "save", "append", "unlink", "create", "chmod"}), name: oneOf(d, modelNames), data: someBytes(d, 1, 10)}
		e.dir = oneOf(d, m.ids(func(o *mobj) bool { return o.dir() && m.below(o.id, root) }))
		id, bound := m.objs[e.dir].entries[e.name]
		o := m.objs[id]
		file := bound && o.mode&unix.S_IFMT == unix.S_IFREG && !o.open
		if file != (e.kind != "create") || e.kind == "create" && bound || !ok(e.dir, e.name, e.kind) {
			continue
		}
		*clock += 1e9
		e.at = *clock
		return e
	}
	return nil
}

// onHost does the edit as a person does, who works in the directory. Nobody is so fast that
// it is in the same tick of the host's clock as the server's last change.
func (e *edit) onHost(dir string) error {
	nextTick()
	path := filepath.Join(dir, e.name)
	write := func(p string) error {
		if err := os.WriteFile(p, e.data, 0o640); err != nil {
			return err
		}
		return settime(p, e.at)
	}
	var err error
	switch e.kind {
	case "save":
		tmp := filepath.Join(dir, ".swp")
		if err = write(tmp); err == nil {
			err = os.Rename(tmp, path)
		}
	case "create":
		err = write(path)
	case "unlink":
		err = os.Remove(path)
	case "chmod":
		return unix.Chmod(path, 0o606)
	case "append":
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
			return err
		}
		_, err = f.Write(e.data)
		f.Close()
		if err == nil {
			err = settime(path, e.at)
		}
		return err
	}
	if err == nil {
		err = settime(dir, e.at)
	}
	return err
}

func settime(path string, ns int64) error {
	t := time.Unix(0, ns)
	return os.Chtimes(path, t, t)
}

// byPlain does the edit as a plain client does, through the server.
func (e *edit) byPlain(fs *FS) error {
	d, err := fs.Lookup(ctx, e.dir)
	if err != nil {
		return err
	}
	defer d.Release()
	mtime := func(o p9srv.Object) error {
		return o.SetAttr(ctx, nil, nil, wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeSet, Mtime: e.at})
	}
	write := func(name string) error {
		o, f, _, err := d.Create(ctx, nil, name, wire.OWronly|wire.OExcl, 0o640, fs.gid)
		if err != nil {
			return err
		}
		defer o.Release()
		if _, err = f.WriteAt(ctx, e.data, 0); err == nil {
			err = f.Close(ctx)
		}
		if err == nil {
			err = mtime(o)
		}
		return err
	}
	with := func(fn func(o p9srv.Object) error) error {
		o, _, err := d.Walk(ctx, nil, e.name)
		if err != nil {
			return err
		}
		defer o.Release()
		return fn(o)
	}
	switch e.kind {
	case "save":
		if err = write(".swp"); err == nil {
			err = d.Rename(ctx, nil, ".swp", d, e.name, 0)
		}
	case "create":
		err = write(e.name)
	case "unlink":
		err = d.Unlink(ctx, nil, e.name, 0)
	case "chmod":
		return with(func(o p9srv.Object) error {
			return o.SetAttr(ctx, nil, nil, wire.SetAttr{Valid: wire.SetMode, Mode: 0o606})
		})
	case "append":
		return with(func(o p9srv.Object) error {
			f, err := o.Open(ctx, nil, wire.OWronly|wire.OAppend)
			if err != nil {
				return err
			}
			if _, err = f.WriteAt(ctx, e.data, 0); err == nil {
				err = f.Close(ctx)
			}
			if err == nil {
				err = mtime(o)
			}
			return err
		})
	}
	if err == nil {
		err = mtime(d)
	}
	return err
}

// onModel does the edit in the model; a new file gets id.
func (e *edit) onModel(m *model, id uint64) error {
	d := m.objs[e.dir]
	if d == nil {
		return fmt.Errorf("edit in directory %d: %w", e.dir, syscall.ENOENT)
	}
	at, bound := d.entries[e.name]
	switch e.kind {
	case "save", "create":
		m.objs[id] = &mobj{id: id, mode: unix.S_IFREG | 0o640, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), data: append([]byte{}, e.data...), mtime: e.at, xattrs: map[string]string{}, entries: map[string]uint64{}}
		d.entries[e.name], d.mtime = id, e.at
	case "unlink":
		delete(d.entries, e.name)
		d.mtime = e.at
	case "chmod":
		m.objs[at].mode = m.objs[at].mode&unix.S_IFMT | 0o606
		m.objs[at].aclFollowsMode()
		return nil
	case "append":
		m.objs[at].data = append(m.objs[at].data, e.data...)
		m.objs[at].mtime = e.at
		return nil
	}
	if bound && m.linked()[at] == 0 {
		delete(m.objs, at)
	}
	return nil
}
