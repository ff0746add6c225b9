package cachefs

import (
	"context"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

const (
	// maxCopy is the largest piece that is copied at the server by one operation, and maxCopying what may be
	// pending of them in all: a cut that holds them takes the server a bounded time.
	maxCopy    = 16 << 20
	maxCopying = 64 << 20
)

// CopyFrom copies at most n bytes of from to off, at the server: no byte comes here, and none is sent. What was
// written to from and is not at the server yet is known here, and copied by reading and writing: EXDEV says so, and so it does for
// a copy within one file.
func (h *file) CopyFrom(ctx context.Context, from p9srv.File, fromOff, off, n int64) (int64, error) {
	src, ok := inner(from).(*file)
	switch {
	case !ok || src.n.fs != h.n.fs || src.n == h.n:
		return 0, syscall.EXDEV
	case h.n.ents != nil || src.n.ents != nil:
		return 0, syscall.EISDIR
	case h.flags&wire.OAccMode == wire.ORdonly || src.flags&wire.OAccMode == wire.OWronly || h.flags&wire.OAppend != 0:
		return 0, syscall.EBADF
	case fromOff < 0 || off < 0 || n < 0:
		return 0, syscall.EINVAL
	case off > maxSize-n:
		return 0, syscall.EFBIG
	}
	f := h.n.fs
	copied := int64(0)
	err := f.update(ctx, &h.cred, h.n, 0, func(t *turn) error {
		for _, h := range []*file{h, src} {
			if err := h.check(); err != nil {
				return err
			}
		}
		t.want(h.n, tokens.Write)
		t.want(src.n, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		if t.contentPending(src.n) || access(&src.cred, &src.n.attr, mayRead) != nil {
			return syscall.EXDEV // the server would look at the user's rights again, who had opened it before
		}
		f.observe(src.n)
		copied = min(n, maxCopy, int64(src.n.attr.Size)-fromOff)
		if copied <= 0 {
			copied = 0
			return nil
		}
		if f.copying > 0 && f.copying+copied > maxCopying {
			t.wait = f.nextDemand(&demand{why: "copies", upTo: f.lastSeq})
			return errAgain
		}
		size := int64(h.n.attr.Size)
		attr := h.n.wrote(uint64(max(size, off+copied)))
		t.strip(h.n, &attr)
		seq := t.append(&order.Op{Kind: order.Copy, ID: h.n.id, Off: uint64(off), Len: uint64(copied),
			Source: src.n.id, SourceOff: uint64(fromOff), Attrs: []order.Attr{attr}})
		f.copying += copied
		c := h.n.content()
		if off > size {
			c.zero(size, off, seq)
		}
		c.copied(off, src.n.content(), fromOff, copied, seq)
		return nil
	})
	return copied, err
}

// contentPending says whether something is pending that changes what n contains. Called with fs.mu held.
func (t *turn) contentPending(n *node) bool {
	if t.fs.pendingOn(n) == 0 {
		return false
	}
	for _, seq := range t.fs.log.Touching(order.ByWrite, n.id) {
		switch t.fs.log.Op(seq).Kind {
		case order.Write, order.Truncate, order.Allocate, order.Punch, order.Copy:
			return true
		}
	}
	return false
}

// nextDemand gives a function that has d met.
func (f *FS) nextDemand(d *demand) func(context.Context) error {
	return func(ctx context.Context) error { return f.demand(ctx, d) }
}

// copyDone notes that an operation is no longer pending. Called with f.mu held.
func (f *FS) copyDone(op *order.Op) {
	if op.Kind == order.Copy {
		f.copying -= int64(op.Len)
	}
}
