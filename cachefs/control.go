package cachefs

import (
	"context"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// Control is the synthetic directory .echo9 as a tree of its own: it answers also when nothing else does, since nothing in it waits for
// the server (but what is written to ctl). Nil when nothing is cached.
func (f *FS) Control() p9srv.Backend {
	if f.plain != nil {
		return nil
	}
	return control{f}
}

type control struct{ f *FS }

// Root is the directory; there are no others.
func (c control) Root(ctx context.Context, _ *p9srv.Cred, aname string) (p9srv.Object, error) {
	if len(split(aname)) > 0 {
		return nil, syscall.ENOENT
	}
	return c.Lookup(ctx, ctlDirID)
}

// Lookup finds the directory and its files.
func (c control) Lookup(_ context.Context, id uint64) (p9srv.Object, error) {
	o, ok := c.f.ctlObject(id).(*ctl)
	if !ok {
		return nil, syscall.ESTALE
	}
	o.top = true
	return o, nil
}

// StatFS tells that there is no space.
func (c control) StatFS(context.Context) (wire.StatFS, error) {
	return wire.StatFS{BlockSize: 4096, NameLen: 255}, nil
}
