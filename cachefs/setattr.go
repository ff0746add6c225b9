package cachefs

import (
	"context"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

// SetAttr sets what set.Valid says.
func (n *node) SetAttr(ctx context.Context, cred *p9srv.Cred, by p9srv.File, set wire.SetAttr) error {
	f := n.fs
	cred = f.who(cred)
	opened, _ := inner(by).(*file)
	return f.update(ctx, cred, n, 0, func(t *turn) error {
		t.want(n, tokens.Write)
		if err := t.pin(); err != nil {
			return err
		}
		if opened != nil {
			if err := opened.check(); err != nil {
				return err
			}
		}
		if err := n.maySet(cred, opened, &set); err != nil {
			return err
		}
		t.setattr(n, &set)
		return nil
	})
}

// maySet checks permissions, and takes bits off set that the user may not set. Called with fs.mu held.
func (n *node) maySet(cred *p9srv.Cred, by *file, set *wire.SetAttr) error {
	a := &n.attr
	root := cred.UID == 0
	if set.Valid&wire.SetSize != 0 {
		switch {
		case n.ents != nil:
			return syscall.EISDIR
		case !isRegular(a.Mode):
			return syscall.EINVAL
		case set.Size > maxSize:
			return syscall.EFBIG
		}
		if by == nil || by.flags&wire.OAccMode == wire.ORdonly {
			if err := access(cred, a, mayWrite); err != nil {
				return err
			}
		}
	}
	if set.Valid&wire.SetMode != 0 {
		if a.Mode&modeType == modeSymlink {
			return syscall.EOPNOTSUPP
		}
		if err := owns(cred, a); err != nil {
			return err
		}
		gid := a.GID
		if set.Valid&wire.SetGID != 0 {
			gid = set.GID
		}
		if !root && !inGroup(cred, gid) {
			set.Mode &^= modeSetgid
		}
	}
	if set.Valid&wire.SetUID != 0 && !root && (cred.UID != a.UID || set.UID != a.UID) {
		return syscall.EPERM
	}
	if set.Valid&wire.SetGID != 0 && !root && (cred.UID != a.UID || set.GID != a.GID && !inGroup(cred, set.GID)) {
		return syscall.EPERM
	}
	explicit := set.Valid&wire.SetAtimeSet != 0 || set.Valid&wire.SetMtimeSet != 0
	if set.Valid&(wire.SetAtime|wire.SetMtime) != 0 && !root && cred.UID != a.UID {
		if explicit {
			return syscall.EPERM
		}
		// "Now" is also for who may write; a truncation through a file opened for writing brings it along.
		if by == nil || by.flags&wire.OAccMode == wire.ORdonly {
			if err := access(cred, a, mayWrite); err != nil {
				return err
			}
		}
	}
	return nil
}

// setattr does it. Called with fs.mu held, with n's token pinned for writing.
func (t *turn) setattr(n *node, set *wire.SetAttr) {
	if set.Valid&wire.SetSize != 0 {
		t.truncate(n, set.Size)
	}
	a := &n.attr
	var valid uint32
	if set.Valid&(wire.SetUID|wire.SetGID) != 0 {
		if set.Valid&wire.SetUID != 0 {
			a.UID = set.UID
			valid |= cut.AttrUID
		}
		if set.Valid&wire.SetGID != 0 {
			a.GID = set.GID
			valid |= cut.AttrGID
		}
		if n.ents == nil && isRegular(a.Mode) {
			if mode := afterWrite(a.Mode); mode != a.Mode {
				a.Mode = mode
				valid |= cut.AttrMode
			}
		}
	}
	if set.Valid&wire.SetMode != 0 {
		a.Mode = a.Mode&^modePerm | set.Mode&modePerm
		valid |= cut.AttrMode
	}
	if valid == 0 && set.Valid&(wire.SetAtime|wire.SetMtime|wire.SetCtime) == 0 {
		return
	}
	n.touch(false)
	if set.Valid&wire.SetAtime != 0 {
		a.Atime = a.Ctime
		if set.Valid&wire.SetAtimeSet != 0 {
			a.Atime = set.Atime
		}
		valid |= cut.AttrAtime
	}
	if set.Valid&wire.SetMtime != 0 {
		a.Mtime = a.Ctime
		if set.Valid&wire.SetMtimeSet != 0 {
			a.Mtime = set.Mtime
		}
		valid |= cut.AttrMtime
	}
	seq := t.append(&order.Op{Kind: order.SetAttr, ID: n.id, Attrs: []order.Attr{n.final(valid | cut.AttrCtime)}})
	if valid&(cut.AttrMode|cut.AttrUID|cut.AttrGID) != 0 {
		n.rights, n.rightsBy = seq, t.cred.UID
	}
	if valid&cut.AttrMode != 0 {
		t.chmodACL(n)
	}
}
