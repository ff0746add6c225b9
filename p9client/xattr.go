package p9client

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// maxXattr is Linux's limit of an attribute's size, and of a list of names.
const maxXattr = 64 << 10

func (o *object) GetXattr(ctx context.Context, cred *p9srv.Cred, name string) ([]byte, error) {
	if err := checkXattr(name); err != nil {
		return nil, err
	}
	return o.readXattr(ctx, name)
}

func (o *object) ListXattr(ctx context.Context, cred *p9srv.Cred) ([]string, error) {
	p, err := o.readXattr(ctx, "")
	if err != nil || len(p) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(p), "\x00"), "\x00"), nil
}

func (o *object) readXattr(ctx context.Context, name string) ([]byte, error) {
	fid := o.t.c.NewFid()
	var r wire.Rxattrwalk
	if err := o.t.c.RPC(ctx, &wire.Txattrwalk{Fid: o.fid, NewFid: fid, Name: name}, &r); err != nil {
		if ctx.Err() != nil {
			o.t.clunk(fid)
		} else {
			o.t.c.FreeFid(fid)
		}
		return nil, err
	}
	defer o.t.clunk(fid)
	if r.Size > maxXattr {
		return nil, fmt.Errorf("an extended attribute of %d bytes: %w", r.Size, syscall.E2BIG)
	}
	p := make([]byte, r.Size)
	n, err := o.t.readAt(ctx, fid, o.t.payload(), p, 0)
	return p[:n], err
}

// SetXattr sets an attribute; the server does when the fid is clunked.
// 9P2000.L's way to remove one is to set no bytes with XATTR_REPLACE, so an empty value
// cannot be set with that flag.
func (o *object) SetXattr(ctx context.Context, cred *p9srv.Cred, name string, value []byte, flags uint32) error {
	if name == p9srv.BarrierXattr {
		return nil // all that came before is done, whatever the server is
	}
	if err := checkXattr(name); err != nil {
		return err
	}
	if len(value) > maxXattr {
		return fmt.Errorf("an extended attribute of %d bytes: %w", len(value), syscall.E2BIG)
	}
	if len(value) == 0 {
		flags &^= wire.XattrReplace
	}
	return o.writeXattr(ctx, name, value, flags)
}

func (o *object) RemoveXattr(ctx context.Context, cred *p9srv.Cred, name string) error {
	if err := checkXattr(name); err != nil {
		return err
	}
	return o.writeXattr(ctx, name, nil, wire.XattrReplace)
}

func (o *object) writeXattr(ctx context.Context, name string, value []byte, flags uint32) error {
	fid, _, err := o.walk(ctx)
	if err != nil {
		return err
	}
	t := &wire.Txattrcreate{Fid: fid, Name: name, Size: uint64(len(value)), Flags: flags}
	err = o.t.c.RPC(ctx, t, &wire.Rxattrcreate{})
	if err == nil && len(value) > 0 {
		_, err = o.t.writeAt(ctx, fid, o.t.payload(), value, 0)
	}
	if err != nil {
		o.t.clunk(fid)
		return err
	}
	return o.t.clunkWait(ctx, fid)
}

func checkXattr(name string) error {
	switch {
	case name == "" || strings.Contains(name, "\x00"):
		return fmt.Errorf("the attribute name %q: %w", name, syscall.EINVAL)
	case len(name) > 255:
		return fmt.Errorf("an attribute name of %d bytes: %w", len(name), syscall.ERANGE)
	}
	return nil
}
