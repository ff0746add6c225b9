package dirfs

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"echo9/internal/cut"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// credOf gives the credentials of a user that records name.
func (a *apply) credOf(uid uint32) *p9srv.Cred {
	if uid == a.cred.UID {
		return a.cred
	}
	c := a.creds[uid]
	if c == nil {
		c = &p9srv.Cred{UID: uid, GID: 65534, Session: a.cred.Session}
		if a.fs.opt.Groups != nil {
			c.GID, c.Groups = a.fs.opt.Groups(uid)
		}
		a.creds[uid] = c
	}
	return c
}

// may asks the host whether a user may access o. What the cut creates its creator may.
func (a *apply) may(uid uint32, o *cutObj, mask uint32) error {
	if o.created() || a.fs.switches && uid == 0 {
		return nil
	}
	key := permKey{uid, o.id, mask}
	err, ok := a.allowed[key]
	if !ok {
		err = o.with(func(fd int) error {
			return a.fs.look(a.credOf(uid), func() error {
				return unix.Faccessat2(fd, "", mask, unix.AT_EMPTY_PATH|unix.AT_EACCESS)
			})
		})
		a.allowed[key] = err
	}
	return err
}

// mayChange is may for content, times and attributes: the owner always may, for it could
// give itself the permission, and may have had it when it opened the file.
func (a *apply) mayChange(uid uint32, o *cutObj) error {
	err := a.may(uid, o, unix.W_OK)
	if err == syscall.EACCES && a.owns(uid, o) == nil {
		return nil
	}
	return err
}

// owns answers EPERM for who is neither the owner nor root.
func (a *apply) owns(uid uint32, o *cutObj) error {
	if !a.fs.switches {
		uid = a.fs.uid
	}
	if uid == 0 {
		return nil
	}
	owner := uint32(0)
	if o.created() {
		owner = a.c.Records[o.rec].UserID
	} else {
		st, err := o.stat()
		if err != nil {
			return err
		}
		owner = st.Uid
	}
	if owner != uid {
		return syscall.EPERM
	}
	return nil
}

// inGroup says whether a user is in a group.
func (a *apply) inGroup(uid, gid uint32) bool {
	c := a.credOf(uid)
	return c.GID == gid || slices.Contains(c.Groups, gid)
}

// checkRights checks, record by record, that the acting user may. A server that acts
// for nobody else leaves owners and modes to the host.
func (a *apply) checkRights() error {
	for i := range a.c.Records {
		a.rec = i
		if err := a.checkRight(&a.c.Records[i]); err != nil {
			return fmt.Errorf("user %d: %w", a.c.Records[i].UID, err)
		}
	}
	return nil
}

func (a *apply) checkRight(r *cut.Record) error {
	switch r.Kind {
	case cut.Create:
		return a.mayCreate(r)
	case cut.Bind:
		return a.mayBind(a.slots[slotKey{r.Dir, r.Name}], r.UID)
	case cut.Truncate, cut.Data, cut.Zero, cut.Allocate:
		return a.mayChange(r.UID, a.objs[r.ID])
	case cut.Copy:
		if len(a.objs[r.Source].content) > 0 {
			return fmt.Errorf("copy from what the cut changes: %w", syscall.EOPNOTSUPP)
		}
		if err := a.may(r.UID, a.objs[r.Source], unix.R_OK); err != nil {
			return err
		}
		return a.mayChange(r.UID, a.objs[r.ID])
	case cut.Attr:
		return a.mayAttr(a.objs[r.ID], r)
	case cut.SetXattr, cut.RemoveXattr:
		return a.mayXattr(a.objs[r.ID], r)
	}
	return nil
}

func (a *apply) mayCreate(r *cut.Record) error {
	if !a.fs.switches || r.UID == 0 {
		return nil
	}
	if r.UserID != r.UID {
		return fmt.Errorf("create for user %d: %w", r.UserID, syscall.EPERM)
	}
	if !a.inGroup(r.UID, r.GroupID) {
		// Only a directory with the setgid bit gives another group.
		for _, s := range a.objs[r.ID].gains {
			if a.setgid(s.dir, r.GroupID) {
				if r.Mode&unix.S_ISGID != 0 && r.Mode&unix.S_IFMT == unix.S_IFREG {
					return fmt.Errorf("setgid with a group of others: %w", syscall.EPERM)
				}
				return nil
			}
		}
		return fmt.Errorf("create for group %d: %w", r.GroupID, syscall.EPERM)
	}
	return nil
}

// setgid says whether directory d gives its group, gid, to what is made in it.
func (a *apply) setgid(d *cutObj, gid uint32) bool {
	if d.created() {
		return d.attr.Mode&unix.S_ISGID != 0 && d.attr.GroupID == gid
	}
	st, err := d.stat()
	return err == nil && st.Mode&unix.S_ISGID != 0 && st.Gid == gid
}

func (a *apply) mayBind(s *slot, uid uint32) error {
	if s.before == s.after {
		return nil
	}
	if err := a.may(uid, s.dir, unix.W_OK|unix.X_OK); err != nil {
		return err
	}
	if !a.fs.switches || uid == 0 {
		return nil
	}
	if s.before != nil {
		if err := a.sticky(s, uid); err != nil {
			return err
		}
	}
	o := s.after
	if o == nil || o.created() {
		return nil
	}
	if o.isDir() {
		// Its ".." changes when it moves to another directory.
		for _, from := range o.loses {
			if from.dir != s.dir {
				return a.may(uid, o, unix.W_OK)
			}
		}
		return nil
	}
	if len(o.gains) > len(o.loses) && o.private.none() {
		// A further name: as with fs.protected_hardlinks.
		if a.owns(uid, o) != nil {
			if o.typ != unix.S_IFREG || a.may(uid, o, unix.R_OK|unix.W_OK) != nil {
				return fmt.Errorf("link to a file of others: %w", syscall.EPERM)
			}
		}
	}
	return nil
}

// sticky checks that a user may take an entry out of a directory with the sticky bit.
func (a *apply) sticky(s *slot, uid uint32) error {
	if s.dir.created() {
		return nil
	}
	st, err := s.dir.stat()
	if err != nil {
		return err
	}
	if st.Mode&unix.S_ISVTX == 0 || st.Uid == uid {
		return nil
	}
	return a.owns(uid, s.before)
}

func (a *apply) mayAttr(o *cutObj, r *cut.Record) error {
	if !a.fs.switches || r.UID == 0 {
		return nil
	}
	old := unix.Statx_t{}
	if o.created() {
		c := &a.c.Records[o.rec]
		old.Mode, old.Uid, old.Gid = uint16(c.Mode), c.UserID, c.GroupID
	} else {
		st, err := o.stat()
		if err != nil {
			return err
		}
		old = *st
	}
	gid := old.Gid
	if r.Valid&cut.AttrUID != 0 && r.UserID != old.Uid {
		return fmt.Errorf("change owner: %w", syscall.EPERM)
	}
	if r.Valid&cut.AttrGID != 0 && r.GroupID != old.Gid {
		if a.owns(r.UID, o) != nil || !a.inGroup(r.UID, r.GroupID) {
			return fmt.Errorf("change group: %w", syscall.EPERM)
		}
		gid = r.GroupID
	}
	if was := uint32(old.Mode & 0o7777); r.Valid&cut.AttrMode != 0 && r.Mode&0o7777 != was {
		switch {
		case a.owns(r.UID, o) == nil:
			if r.Mode&^was&unix.S_ISGID != 0 && !o.isDir() && !a.inGroup(r.UID, gid) {
				return fmt.Errorf("setgid with a group of others: %w", syscall.EPERM)
			}
		case r.Mode&0o7777 == was&^(unix.S_ISUID|unix.S_ISGID), r.Mode&0o7777 == was&^unix.S_ISUID:
			// What a write does to a setuid file.
			if err := a.may(r.UID, o, unix.W_OK); err != nil {
				return err
			}
		default:
			return fmt.Errorf("change mode: %w", syscall.EPERM)
		}
	}
	if r.Valid&(cut.AttrSize|cut.AttrMtime) != 0 {
		return a.mayChange(r.UID, o)
	}
	if r.Valid&cut.AttrAtime != 0 && a.owns(r.UID, o) != nil && a.may(r.UID, o, unix.W_OK) != nil {
		return a.may(r.UID, o, unix.R_OK)
	}
	return nil
}

func (a *apply) mayXattr(o *cutObj, r *cut.Record) error {
	if !a.fs.switches || r.UID == 0 {
		return nil
	}
	switch {
	case strings.HasPrefix(r.Name, "user."):
		if o.typ != unix.S_IFREG && o.typ != unix.S_IFDIR {
			return syscall.EPERM
		}
		return a.mayChange(r.UID, o)
	case strings.HasPrefix(r.Name, "system."):
		return a.owns(r.UID, o)
	}
	return syscall.EPERM
}
