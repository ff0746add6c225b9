package cachefs

import (
	"context"
	"fmt"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// File locks are the server's: they are forwarded. What they protect needs nothing more,
// for tokens keep it coherent.

// Lock takes or releases a POSIX byte-range lock.
func (n *node) Lock(ctx context.Context, cred *p9srv.Cred, l wire.Lock) (wire.LockStatus, error) {
	fid, err := n.lockFid(ctx, cred)
	if err != nil {
		return wire.LockError, err
	}
	r := new(wire.Rlock)
	if err := n.fs.call(ctx, &wire.Tlock{Fid: fid, Lock: l}, r, nil); err != nil {
		return wire.LockError, fmt.Errorf("locking object %d: %w", n.id, err)
	}
	return r.Status, nil
}

// GetLock tells the lock that would conflict with l.
func (n *node) GetLock(ctx context.Context, cred *p9srv.Cred, l wire.Lock) (wire.Lock, error) {
	fid, err := n.lockFid(ctx, cred)
	if err != nil {
		return wire.Lock{}, err
	}
	r := new(wire.Rgetlock)
	if err := n.fs.call(ctx, &wire.Tgetlock{Fid: fid, Lock: l}, r, nil); err != nil {
		return wire.Lock{}, fmt.Errorf("asking for locks of object %d: %w", n.id, err)
	}
	return r.Lock, nil
}

// lockFid gives a fid for locks; it lives as long as the object is used here, for a clunk may end locks. The object
// must be at the server for that.
func (n *node) lockFid(ctx context.Context, cred *p9srv.Cred) (uint32, error) {
	f := n.fs
	f.mu.Lock()
	fresh, gone := n.fresh, n.gone
	f.mu.Unlock()
	if fresh && !gone {
		if err := f.flushObject(ctx, n, "lock"); err != nil {
			return 0, err
		}
	}
	uid := f.actor()
	if f.session.UID == wire.NoUID {
		uid = cred.UID
	}
	return f.nodeFid(ctx, n, fidBare, uid)
}
