package cachefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

// Limits of extended attributes, as Linux has them.
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
)

// capability is the extended attribute that a change of the content removes.
const capability = "security.capability"

// xattr is an extended attribute's value as far as known: known is false when only the server can tell,
// exists is false when there is none. Called with fs.mu held.
func (n *node) xattr(name string) (value []byte, exists, known bool) {
	v, ok := n.xattrs[name]
	switch {
	case !ok:
		return nil, false, n.xlist
	case v == nil:
		return nil, false, true
	case isUnknown(v):
		return nil, true, false
	}
	return v, true, true
}

func isUnknown(v []byte) bool { return len(v) == 1 && &v[0] == &xUnknown[0] }

// wantXattr makes an attribute's value known, or the turn wait for it. The names come first: mostly there are none, and
// then nothing is asked for again.
func (t *turn) wantXattr(n *node, name string) error {
	if _, _, known := n.xattr(name); known {
		return nil
	}
	f := t.fs
	if !n.xlist {
		name = ""
	}
	gen := f.holder.Gen(n.id)
	t.wait = func(ctx context.Context) error { return f.fetchXattr(ctx, n, name, gen) }
	return errAgain
}

// GetXattr gives the value of an extended attribute.
func (n *node) GetXattr(ctx context.Context, cred *p9srv.Cred, name string) (value []byte, err error) {
	f := n.fs
	cred = f.who(cred)
	err = f.do(ctx, cred, func(t *turn) error {
		t.want(n, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		if err := mayXattr(cred, &n.attr, name, false); err != nil {
			return err
		}
		if err := t.wantXattr(n, name); err != nil {
			return err
		}
		f.observe(n)
		v, exists, _ := n.xattr(name)
		if !exists {
			return syscall.ENODATA
		}
		value = slices.Clone(v)
		return nil
	})
	return value, err
}

// ListXattr names the extended attributes.
func (n *node) ListXattr(ctx context.Context, cred *p9srv.Cred) (names []string, err error) {
	f := n.fs
	cred = f.who(cred)
	err = f.do(ctx, cred, func(t *turn) error {
		t.want(n, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		if !n.xlist {
			gen := f.holder.Gen(n.id)
			t.wait = func(ctx context.Context) error { return f.fetchXattr(ctx, n, "", gen) }
			return errAgain
		}
		f.observe(n)
		names = nil
		for name, v := range n.xattrs {
			if v != nil && (cred.UID == 0 || !strings.HasPrefix(name, "trusted.")) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

// SetXattr sets an extended attribute.
func (n *node) SetXattr(ctx context.Context, cred *p9srv.Cred, name string, value []byte, flags uint32) error {
	if name == p9srv.BarrierXattr {
		return n.barrierFor(ctx, cred)
	}
	switch {
	case len(name) > maxXattrName:
		return syscall.ERANGE
	case len(value) > maxXattrValue:
		return syscall.E2BIG
	}
	value = slices.Clone(value)
	if value == nil {
		value = []byte{}
	}
	return n.changeXattr(ctx, cred, name, func(t *turn, exists bool) error {
		switch {
		case flags&wire.XattrCreate != 0 && exists:
			return syscall.EEXIST
		case flags&wire.XattrReplace != 0 && !exists:
			return syscall.ENODATA
		}
		t.putXattr(n, name, value)
		return nil
	})
}

// barrierFor is a barrier on n by somebody who may change its extended attributes: who may order
// what is written to it.
func (n *node) barrierFor(ctx context.Context, cred *p9srv.Cred) error {
	f := n.fs
	cred = f.who(cred)
	err := f.do(ctx, cred, func(t *turn) error {
		t.want(n, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		return mayXattr(cred, &n.attr, p9srv.BarrierXattr, true)
	})
	if err != nil {
		return err
	}
	return f.barrier(n.id)
}

// RemoveXattr removes an extended attribute.
func (n *node) RemoveXattr(ctx context.Context, cred *p9srv.Cred, name string) error {
	return n.changeXattr(ctx, cred, name, func(t *turn, exists bool) error {
		if !exists {
			return syscall.ENODATA
		}
		t.putXattr(n, name, nil)
		return nil
	})
}

// changeXattr runs a change of an attribute. Hosts differ in what they take, so the first change of each
// name space goes through, and its answer is the server's.
func (n *node) changeXattr(ctx context.Context, cred *p9srv.Cred, name string, change func(t *turn, exists bool) error) error {
	f := n.fs
	cred = f.who(cred)
	space, _, _ := strings.Cut(name, ".")
	space = fmt.Sprint(space, n.ents != nil)
	through := false
	var seqs []uint64
	err := f.update(ctx, cred, n, 0, func(t *turn) error {
		t.want(n, tokens.Write)
		if err := t.pin(); err != nil {
			return err
		}
		if err := mayXattr(cred, &n.attr, name, true); err != nil {
			return err
		}
		if err := t.wantXattr(n, name); err != nil {
			return err
		}
		_, exists, _ := n.xattr(name)
		if err := change(t, exists); err != nil {
			return err
		}
		if through = !f.takesXattr[space]; through {
			seqs = slices.Clone(t.seqs)
			f.await(seqs)
		}
		return nil
	})
	if err != nil || !through {
		return err
	}
	if err := f.awaited(ctx, seqs); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.takesXattr == nil {
		f.takesXattr = make(map[string]bool)
	}
	f.takesXattr[space] = true
	return nil
}

// putXattr changes an attribute; nil removes it. Called with fs.mu held, with n's token pinned for writing.
func (t *turn) putXattr(n *node, name string, value []byte) {
	n.touch(false)
	if n.xattrs == nil {
		n.xattrs = make(map[string][]byte)
	}
	valid := cut.AttrCtime
	onlyMode := false
	if name == aclAccess && value != nil {
		// An access ACL and the permission bits are two views of one thing. One that says no
		// more than the bits is not kept, as by Linux's own file systems.
		if mode, ok := aclMode(value); ok {
			n.attr.Mode = n.attr.Mode&^0o777 | mode
			valid |= cut.AttrMode
			if !aclExtended(value) {
				onlyMode = n.xattrs[name] == nil
				value = nil
			}
		}
	}
	n.xattrs[name] = value
	n.attr.Flags &^= wire.AttrNoXattrs
	op := &order.Op{Kind: order.SetXattr, ID: n.id, Name: name, Bytes: value}
	switch {
	case onlyMode:
		op = &order.Op{Kind: order.SetAttr, ID: n.id}
	case value == nil:
		op.Kind = order.RemoveXattr
	}
	op.Attrs = []order.Attr{n.final(valid)}
	if seq := t.append(op); name == aclAccess {
		n.rights, n.rightsBy = seq, t.cred.UID
	}
}

// mayXattr checks permissions and name spaces.
func mayXattr(cred *p9srv.Cred, a *wire.Attr, name string, change bool) error {
	space, rest, ok := strings.Cut(name, ".")
	if !ok || rest == "" {
		return syscall.EOPNOTSUPP
	}
	switch space {
	case "user":
		if !isRegular(a.Mode) && !isDir(a.Mode) {
			if change {
				return syscall.EPERM
			}
			return syscall.ENODATA
		}
		if change && isDir(a.Mode) && a.Mode&modeSticky != 0 && cred.UID != 0 && cred.UID != a.UID {
			return syscall.EPERM
		}
		if change {
			return access(cred, a, mayWrite)
		}
		return access(cred, a, mayRead)
	case "trusted":
		if cred.UID != 0 {
			if change {
				return syscall.EPERM
			}
			return syscall.ENODATA
		}
	case "security":
		if change && cred.UID != 0 {
			return syscall.EPERM
		}
	case "system":
		if name != aclAccess && name != aclDefault {
			return syscall.EOPNOTSUPP
		}
		if change {
			if a.Mode&modeType == modeSymlink || name == aclDefault && !isDir(a.Mode) {
				return syscall.EOPNOTSUPP
			}
			return owns(cred, a)
		}
	default:
		return syscall.EOPNOTSUPP
	}
	return nil
}

// fetchXattr asks the server for an attribute's value; for all names when name is empty.
func (f *FS) fetchXattr(ctx context.Context, n *node, name string, gen tokens.Gen) error {
	value, err := f.readXattr(ctx, n, name)
	absent := errors.Is(err, syscall.ENODATA)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		absent, value = true, nil // the host knows no such attributes: there are none
		if name == "" {
			err = nil
		}
	}
	if err != nil && !absent {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.holder.StillHeld(n.id, gen) || !n.attrOK || n.suspect {
		return nil
	}
	if n.xattrs == nil {
		n.xattrs = make(map[string][]byte)
	}
	learn := func(name string, v []byte) {
		if old, ok := n.xattrs[name]; !ok || isUnknown(old) {
			n.xattrs[name] = v
		}
	}
	switch {
	case name == "":
		for _, x := range strings.Split(string(value), "\x00") {
			if _, ok := n.xattrs[x]; !ok && x != "" {
				learn(x, xUnknown)
			}
		}
		n.xlist = true
	case absent:
		learn(name, nil)
	default:
		if value == nil {
			value = []byte{}
		}
		learn(name, value)
	}
	return nil
}

func (f *FS) readXattr(ctx context.Context, n *node, name string) ([]byte, error) {
	var value []byte
	err := f.onFid(ctx, n.id, func(d fid) (err error) {
		if value, err = f.readXattrOn(ctx, d, name); err != nil {
			return fmt.Errorf("extended attribute %q of object %d: %w", name, n.id, err)
		}
		return nil
	})
	return value, err
}

func (f *FS) readXattrOn(ctx context.Context, d fid, name string) ([]byte, error) {
	r := new(wire.Rxattrwalk)
	x := fid{d.conn, d.conn.NewFid()}
	if err := f.callOn(ctx, d.conn, &wire.Txattrwalk{Fid: d.n, NewFid: x.n, Name: name}, r, nil); err != nil {
		d.conn.FreeFid(x.n)
		return nil, err
	}
	defer f.clunk(x)
	value := make([]byte, 0, min(r.Size, 1<<20))
	for uint64(len(value)) < r.Size {
		want := min(r.Size-uint64(len(value)), uint64(wire.MaxRead(d.conn.Msize())), 1<<20)
		rd := new(wire.Rread)
		if err := f.callOn(ctx, d.conn, &wire.Tread{Fid: x.n, Offset: uint64(len(value)), Count: uint32(want)}, rd, nil); err != nil {
			return nil, err
		}
		if len(rd.Data) == 0 {
			break
		}
		value = append(value, rd.Data...)
	}
	return value, nil
}
