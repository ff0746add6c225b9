package p9srv

import (
	"fmt"
	"syscall"

	"echo9/internal/wire"
	"echo9/tokens"
)

func (r *request) getattr() error {
	m := &r.hot.getattr
	if err := r.decode(m); err != nil {
		return err
	}
	if err := r.admit(tokens.Elem{ID: r.f.obj.ID(), Mode: tokens.Read}); err != nil {
		return err
	}
	attr, err := r.f.obj.GetAttr(r, r.f.cred)
	if err != nil {
		return err
	}
	r.hot.rgetattr = wire.Rgetattr{Valid: wire.GetBasic | m.Mask&wire.GetAll, Attr: attr}
	r.reply = &r.hot.rgetattr
	return nil
}

func (r *request) setattr() error {
	var m wire.Tsetattr
	if err := r.decode(&m); err != nil {
		return err
	}
	if r.f.xattr != nil {
		return syscall.EINVAL
	}
	if err := r.admit(tokens.Elem{ID: r.f.obj.ID(), Mode: tokens.Write}); err != nil {
		return err
	}
	var file File
	if o := r.f.open.Load(); o != nil && o.writable() {
		file = o.File
	}
	r.reply = &wire.Rsetattr{}
	return r.f.obj.SetAttr(r, r.f.cred, file, m.SetAttr)
}

func (r *request) readlink() error {
	if err := r.decode(&wire.Treadlink{}); err != nil {
		return err
	}
	// The target of a symbolic link never changes: no token is needed.
	target, err := r.f.obj.Readlink(r, r.f.cred)
	if err != nil {
		return err
	}
	if len(target) > wire.MaxString {
		return syscall.ENAMETOOLONG
	}
	r.reply = &wire.Rreadlink{Target: target}
	return nil
}

func (r *request) statfs() error {
	if err := r.decode(&wire.Tstatfs{}); err != nil {
		return err
	}
	st, err := r.c.srv.cfg.Backend.StatFS(r)
	if err != nil {
		return err
	}
	r.reply = &wire.Rstatfs{StatFS: st}
	return nil
}

// Bounds of extended attributes: of one value, and of what the fids of one connection hold.
const (
	maxXattr      = 1 << 16
	maxXattrTotal = 4 << 20
)

// holdXattr counts n bytes that a fid will hold.
func (c *conn) holdXattr(n int64) error {
	if n > maxXattr {
		return syscall.E2BIG
	}
	if c.xattrBytes.Add(n) > maxXattrTotal {
		c.xattrBytes.Add(-n)
		return syscall.ENOMEM
	}
	return nil
}

func (r *request) xattrwalk() error {
	var m wire.Txattrwalk
	if err := r.decode(&m); err != nil {
		return err
	}
	if r.f.xattr != nil {
		return syscall.EINVAL
	}
	if err := r.c.freeFid(m.NewFid); err != nil {
		return err
	}
	if err := r.admit(tokens.Elem{ID: r.f.obj.ID(), Mode: tokens.Read}); err != nil {
		return err
	}
	var value []byte
	if m.Name == "" {
		names, err := r.f.obj.ListXattr(r, r.f.cred)
		if err != nil {
			return err
		}
		for _, n := range names {
			value = append(append(value, n...), 0)
		}
	} else {
		var err error
		if value, err = r.f.obj.GetXattr(r, r.f.cred, m.Name); err != nil {
			return err
		}
	}
	r.done()
	if err := r.c.holdXattr(int64(len(value))); err != nil {
		return err
	}
	f := newFid(r.f.obj.share(), r.f.cred, nil, "")
	f.xattr = &xattrFid{name: m.Name, size: uint64(len(value)), value: value}
	if err := r.c.putFid(m.NewFid, f); err != nil {
		f.end(r.c)
		return err
	}
	r.reply = &wire.Rxattrwalk{Size: uint64(len(value))}
	return nil
}

func (r *request) readXattr(x *xattrFid, off uint64, n int) error {
	if x.create {
		return syscall.EBADF
	}
	part := x.value[min(off, uint64(len(x.value))):]
	part = part[:min(n, len(part))]
	p := newBuffer(len(part) + wire.RreadOverhead)
	copy(p.b[wire.RreadOverhead:], part)
	r.payload(p, len(part))
	return nil
}

func (r *request) xattrcreate() error {
	var m wire.Txattrcreate
	if err := r.decode(&m); err != nil {
		return err
	}
	switch {
	case r.f.xattr != nil, r.f.open.Load() != nil, m.Name == "", len(m.Name) > nameMax:
		return syscall.EINVAL
	case m.Size > maxXattr:
		return syscall.E2BIG
	}
	if err := r.c.holdXattr(int64(m.Size)); err != nil {
		return err
	}
	f := newFid(r.f.obj.share(), r.f.cred, nil, "")
	f.xattr = &xattrFid{name: m.Name, create: true, size: m.Size, flags: m.Flags}
	if err := r.c.swapFid(m.Fid, r.f, f); err != nil {
		f.end(r.c)
		return err
	}
	r.reply = &wire.Rxattrcreate{}
	return nil
}

// write takes a part of the value. Parts may come in any order, within the size announced.
func (x *xattrFid) write(off uint64, p []byte) error {
	if !x.create {
		return syscall.EBADF
	}
	if off > x.size || uint64(len(p)) > x.size-off {
		return syscall.ENOSPC
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if end := int(off) + len(p); end > len(x.value) {
		x.value = append(x.value, make([]byte, end-len(x.value))...)
	}
	copy(x.value[off:], p)
	return nil
}

// setXattr sets the attribute that a fid made by Txattrcreate stands for; others have nothing to set.
func (r *request) setXattr() error {
	x := r.f.xattr
	if x == nil || !x.create {
		return nil
	}
	x.mu.Lock()
	value := x.value
	x.mu.Unlock()
	if uint64(len(value)) != x.size {
		return fmt.Errorf("%d bytes of %d were written: %w", len(value), x.size, syscall.EINVAL)
	}
	if err := r.admit(tokens.Elem{ID: r.f.obj.ID(), Mode: tokens.Write}); err != nil {
		return err
	}
	defer r.done()
	if x.size == 0 && x.flags&wire.XattrReplace != 0 {
		return r.f.obj.RemoveXattr(r, r.f.cred, x.name) // v9fs's removexattr
	}
	return r.f.obj.SetXattr(r, r.f.cred, x.name, value, x.flags)
}
