package p9srv

import (
	"math"
	"syscall"

	"echo9/internal/wire"
	"echo9/tokens"
)

func (r *request) lopen() error {
	m := &r.hot.open
	if err := r.decode(m); err != nil {
		return err
	}
	switch {
	case r.f.xattr != nil:
		return syscall.EINVAL
	case r.f.open.Load() != nil:
		return syscall.EBUSY
	}
	mode := tokens.Read
	if m.Flags&wire.OTrunc != 0 {
		if r.c.version == wire.ExtVersion {
			return errUpdate
		}
		mode = tokens.Write
	}
	if err := r.admit(tokens.Elem{ID: r.f.obj.ID(), Mode: mode}); err != nil {
		return err
	}
	file, err := r.f.obj.Open(r, r.f.cred, m.Flags&^(wire.OCreat|wire.OExcl))
	if err != nil {
		return err
	}
	if !r.f.open.CompareAndSwap(nil, &openFile{file, m.Flags}) {
		file.Close(r)
		return syscall.EBUSY
	}
	r.hot.ropen = wire.Rlopen{QID: r.f.obj.QID(), Iounit: r.c.iounit()}
	r.reply = &r.hot.ropen
	return nil
}

func (r *request) read() error {
	m := &r.hot.read
	if err := r.decode(m); err != nil {
		return err
	}
	if m.Offset > math.MaxInt64 {
		return syscall.EINVAL
	}
	n := int(min(m.Count, wire.MaxRead(r.c.msize)))
	if x := r.f.xattr; x != nil {
		if err := r.reserve(n + wire.RreadOverhead); err != nil {
			return err
		}
		return r.readXattr(x, m.Offset, n)
	}
	o := r.f.open.Load()
	if o == nil {
		return syscall.EBADF
	}
	if err := r.admit(tokens.Elem{ID: r.f.obj.ID(), Mode: tokens.Read}); err != nil {
		return err
	}
	if err := r.reserve(n + wire.RreadOverhead); err != nil {
		return err
	}
	p := newFrame(n)
	got, err := o.ReadAt(r, p.b[wire.RreadOverhead:wire.RreadOverhead+n], int64(m.Offset))
	if err != nil {
		p.free()
		return err
	}
	r.payload(p, got)
	return nil
}

// payload makes a buffer with n bytes behind the room for the header the Rread that answers.
func (r *request) payload(p *buffer, n int) {
	wire.AppendRreadHeader(p.b[:0], r.tag, n)
	p.b = p.b[:wire.RreadOverhead+n]
	r.frame = p
}

func (r *request) write() error {
	m := &r.hot.write
	if err := r.decode(m); err != nil {
		return err
	}
	defer func() { m.Data = nil }()
	if m.Offset > math.MaxInt64 {
		return syscall.EINVAL
	}
	n := 0
	if x := r.f.xattr; x != nil {
		if err := x.write(m.Offset, m.Data); err != nil {
			return err
		}
		n = len(m.Data)
	} else {
		o := r.f.open.Load()
		if o == nil {
			return syscall.EBADF
		}
		if err := r.admit(tokens.Elem{ID: r.f.obj.ID(), Mode: tokens.Write}); err != nil {
			return err
		}
		if err := r.mayGrow(m.Offset, len(m.Data)); err != nil {
			return err
		}
		var err error
		if n, err = o.WriteAt(r, m.Data, int64(m.Offset)); err != nil {
			return err
		}
	}
	r.hot.rwrite.Count = uint32(n)
	r.reply = &r.hot.rwrite
	return nil
}

// mayGrow refuses a plain client's write that makes a file longer by what is set aside for others.
func (r *request) mayGrow(off uint64, n int) error {
	if r.c.srv.cfg.Authority.roomFor(uint64(n)) {
		return nil
	}
	a, err := r.f.obj.GetAttr(r, r.f.cred)
	if err == nil && off+uint64(n) > a.Size {
		err = syscall.ENOSPC
	}
	return err
}

func (r *request) fsync() error {
	var m wire.Tfsync
	if err := r.decode(&m); err != nil {
		return err
	}
	o := r.f.open.Load()
	if o == nil {
		return syscall.EBADF
	}
	r.reply = &wire.Rfsync{}
	return o.Fsync(r, m.DataSync != 0)
}

func (r *request) flushf() error {
	// Writes are not kept back here: there is nothing to do but to check the message.
	r.reply = &wire.Rflushf{}
	return r.decode(&wire.Tflushf{})
}
