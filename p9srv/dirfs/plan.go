package dirfs

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"echo9/internal/cut"

	"golang.org/x/sys/unix"
)

func asErrno(err error, errno *syscall.Errno) bool { return errors.As(err, errno) }

// index sorts the records by object and by name, and refuses what makes no sense.
func (a *apply) index() error {
	// Creations first, since the order of records carries no meaning.
	for i := range a.c.Records {
		if r := &a.c.Records[i]; r.Kind == cut.Create {
			a.rec = i
			if err := a.indexCreate(r); err != nil {
				return fmt.Errorf("create object %d: %w", r.ID, err)
			}
		}
	}
	for i := range a.c.Records {
		a.rec = i
		r := &a.c.Records[i]
		if r.Kind == cut.Create {
			continue
		}
		if r.Kind == cut.Bind {
			if err := a.indexBind(r); err != nil {
				return fmt.Errorf("bind %q: %w", r.Name, err)
			}
			continue
		}
		if r.Kind == cut.Release {
			continue // it may be gone long since
		}
		o, err := a.obj(r.ID)
		if err != nil {
			return err
		}
		if err := a.indexRecord(o, r); err != nil {
			return fmt.Errorf("object %d: %w", o.id, err)
		}
	}
	return nil
}

func (a *apply) indexCreate(r *cut.Record) error {
	if a.objs[r.ID] != nil || a.fs.exists(r.ID) {
		return syscall.EEXIST
	}
	if !a.fs.ids.given(r.ID) {
		return fmt.Errorf("the id was not given out: %w", syscall.EINVAL)
	}
	typ := r.Mode & unix.S_IFMT
	switch typ {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFLNK:
		if r.Target == "" {
			return syscall.ENOENT
		}
		if len(r.Target) >= unix.PathMax {
			return syscall.ENAMETOOLONG
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if r.UID != 0 {
			return syscall.EPERM
		}
	default:
		return syscall.EINVAL
	}
	o := &cutObj{id: r.ID, rec: a.rec, typ: typ}
	o.attr = cut.Record{
		Valid: cut.AttrMode | cut.AttrUID | cut.AttrGID,
		Mode:  r.Mode & 0o7777, UserID: r.UserID, GroupID: r.GroupID,
	}
	a.objs[r.ID] = o
	a.list = append(a.list, o)
	return nil
}

// exists says whether an id belongs to an object.
func (fs *FS) exists(id uint64) bool {
	fs.mu.Lock()
	n := fs.byID[id]
	fs.mu.Unlock()
	if n != nil {
		return true
	}
	_, ok := fs.ids.row(id)
	return ok
}

// obj finds an object of the cut. That it still exists shows when it is used.
func (a *apply) obj(id uint64) (*cutObj, error) {
	if o := a.objs[id]; o != nil {
		return o, nil
	}
	fs := a.fs
	fs.mu.Lock()
	n := fs.byID[id]
	if n != nil && n.gone {
		n = nil
	}
	if n != nil {
		n.refs++
	}
	fs.mu.Unlock()
	if n == nil {
		var err error
		if n, err = fs.lookupRow(id); err != nil {
			return nil, err
		}
	}
	o := &cutObj{id: id, rec: -1, n: n, typ: n.typ}
	fs.mu.Lock()
	if n.orphan {
		o.private = a.orphanPlace(o)
	}
	fs.mu.Unlock()
	a.objs[id] = o
	a.list = append(a.list, o)
	return o, nil
}

func (a *apply) indexBind(r *cut.Record) error {
	d, err := a.obj(r.Dir)
	if err != nil {
		return err
	}
	if !d.isDir() {
		return syscall.ENOTDIR
	}
	if err := checkName(r.Name); err != nil {
		return err
	}
	if len(r.Name) > a.fs.nameMax {
		return syscall.ENAMETOOLONG
	}
	if d.n == a.fs.root && r.Name == privateName || strings.HasPrefix(r.Name, asidePrefix) {
		return syscall.EPERM
	}
	key := slotKey{r.Dir, r.Name}
	if a.slots[key] != nil {
		return fmt.Errorf("the name is bound twice: %w", syscall.EINVAL)
	}
	s := &slot{dir: d, name: r.Name, rec: a.rec}
	if r.Before != 0 {
		if s.before, err = a.obj(r.Before); err != nil {
			return err
		}
		if s.before.created() || d.created() {
			return fmt.Errorf("what the cut creates was not there before it: %w", syscall.ENOENT)
		}
	}
	if r.ID != 0 {
		if s.after, err = a.obj(r.ID); err != nil {
			return err
		}
		d.gets++
	}
	s.now = s.before
	a.slots[key] = s
	a.binds = append(a.binds, s)
	if s.before != s.after {
		if s.before != nil {
			s.before.loses = append(s.before.loses, s)
		}
		if s.after != nil {
			s.after.gains = append(s.after.gains, s)
		}
	}
	return nil
}

func (a *apply) indexRecord(o *cutObj, r *cut.Record) error {
	const most = 1<<63 - 1
	switch r.Kind {
	case cut.Attr:
		o.attrs = append(o.attrs, a.rec)
		mergeAttr(&o.attr, r)
		if r.Valid&cut.AttrSize != 0 {
			if o.typ != unix.S_IFREG {
				return syscall.EINVAL
			}
			if r.Size > most {
				return syscall.EFBIG
			}
		}
		if r.Valid&cut.AttrMode != 0 && o.typ == unix.S_IFLNK && !o.created() {
			return syscall.EOPNOTSUPP
		}
	case cut.Truncate, cut.Data, cut.Zero, cut.Allocate, cut.Copy:
		if o.typ != unix.S_IFREG {
			return syscall.EINVAL
		}
		length := max(r.Len, uint64(len(r.Bytes)))
		if r.Size > most || r.Off > most || length > most || r.Off+length > most {
			return syscall.EFBIG
		}
		if r.Kind == cut.Copy {
			src, err := a.obj(r.Source)
			if err != nil {
				return err
			}
			if src.typ != unix.S_IFREG || src == o || src.created() {
				return fmt.Errorf("copy from what the cut makes: %w", syscall.EOPNOTSUPP)
			}
		}
		o.content = append(o.content, a.rec)
	case cut.SetXattr, cut.RemoveXattr:
		if r.Name == "" || len(r.Name) > 255 {
			return syscall.ERANGE
		}
		o.xattrs = append(o.xattrs, a.rec)
	case cut.Keep:
		o.keep = true
	default:
		return fmt.Errorf("unknown record %d: %w", r.Kind, syscall.EINVAL)
	}
	return nil
}

// mergeAttr lays the attributes that r names over those of all.
func mergeAttr(all, r *cut.Record) {
	all.Valid |= r.Valid
	if r.Valid&cut.AttrMode != 0 {
		all.Mode = r.Mode & 0o7777
	}
	if r.Valid&cut.AttrUID != 0 {
		all.UserID = r.UserID
	}
	if r.Valid&cut.AttrGID != 0 {
		all.GroupID = r.GroupID
	}
	if r.Valid&cut.AttrSize != 0 {
		all.Size = r.Size
	}
	if r.Valid&cut.AttrAtime != 0 {
		all.Atime = r.Atime
	}
	if r.Valid&cut.AttrMtime != 0 {
		all.Mtime = r.Mtime
	}
	if r.Valid&cut.AttrCtime != 0 {
		all.Ctime = r.Ctime
	}
}
