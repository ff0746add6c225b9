package cachefs

import (
	"context"
	"slices"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/wire"
	"echo9/p9srv"
)

// Barrier orders all that was done to an object so far before all that is done later to any object. It does not wait.
func (f *FS) Barrier(o p9srv.Object) error {
	if f.plain != nil {
		return nil
	}
	n, ok := o.(*node)
	if !ok || n.fs != f {
		return syscall.EINVAL
	}
	return f.barrier(n.id)
}

// BarrierAll orders all that was done so far before all that is done later. It does not wait.
func (f *FS) BarrierAll() error {
	if f.plain != nil {
		return nil
	}
	f.mu.Lock()
	ids := slices.Collect(f.log.Objects())
	f.mu.Unlock()
	return f.barrier(ids...)
}

// BarrierAt is Barrier of the object at a path.
func (f *FS) BarrierAt(ctx context.Context, name string) error {
	return f.onPath(ctx, "barrier", name, true, func(o p9srv.Object, _ wire.Attr) error { return f.Barrier(o) })
}

func (f *FS) barrier(ids ...uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead != nil || f.opt.Mutant == mutantIgnoreBarrier {
		return f.dead
	}
	ids = slices.DeleteFunc(ids, func(id uint64) bool { return id == order.DirMove })
	if len(ids) > 0 {
		f.log.Append(&order.Op{Kind: order.Barrier, ID: ids[0], Reads: ids[1:], At: f.clock()})
	}
	return nil
}
