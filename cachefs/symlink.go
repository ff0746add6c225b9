package cachefs

import (
	"context"
	"slices"
	"strings"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// pointee is the object that a new symlink in dir leads to, 0 when it leads nowhere or out of the tree. With the order
// causal the symlink comes after all that is pending on that object, and below it: who switches a
// symlink to what he has just built means that.
func (f *FS) pointee(ctx context.Context, cred *p9srv.Cred, dir *node, target string) uint64 {
	if rest, absolute := strings.CutPrefix(target, "/"); absolute {
		if f.opt.Mountpoint != "" {
			below, ok := strings.CutPrefix(target, strings.TrimSuffix(f.opt.Mountpoint, "/")+"/")
			if !ok {
				return 0
			}
			rest = below
		}
		dir, target = f.root, rest
	}
	f.mu.Lock()
	at := p9srv.Object(dir.ref())
	f.mu.Unlock()
	o, _, err := f.walkFrom(ctx, cred, at, split(target), true)
	if err != nil {
		return 0
	}
	defer o.Release()
	return o.ID()
}

// reached are the objects with pending operations that something new in dir, which leads to object to, shows. Called with f.mu held.
func (f *FS) reached(to uint64, made, dir *node) []uint64 {
	n := f.nodes[to]
	if to == 0 || n == nil {
		return nil
	}
	var ids []uint64
	if n.qid.Type&wire.QTDir != 0 {
		ids = f.log.Below(to)
	}
	if f.pendingOn(n) > 0 {
		ids = append(ids, to)
	}
	return slices.DeleteFunc(ids, func(id uint64) bool { return id == made.id || id == dir.id })
}
