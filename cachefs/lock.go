package cachefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"echo9/cachefs/spool"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// File locks are the server's: they are forwarded. What they protect needs nothing more,
// for tokens keep it coherent. Those held are remembered, to be claimed again when the session is resumed: with a lock
// that is lost goes all that was done since it was taken.

// heldLock is a lock, or a part of one, that somebody here has.
type heldLock struct {
	lock  wire.Lock
	since uint64 // the first operation that may have been issued under it
}

// endless is the end of locks to the end of the file.
const endless = ^uint64(0)

func lockEnd(l *wire.Lock) uint64 {
	if l.Length == 0 || l.Length > endless-l.Start {
		return endless
	}
	return l.Start + l.Length
}

// noteLock gives the locks after l was taken or released, as POSIX has it: what its owner had in its range is replaced.
func noteLock(held []heldLock, l wire.Lock, since uint64) []heldLock {
	var after []heldLock
	end := lockEnd(&l)
	for _, h := range held {
		hEnd := lockEnd(&h.lock)
		if h.lock.ProcID != l.ProcID || h.lock.ClientID != l.ClientID || hEnd <= l.Start || end <= h.lock.Start {
			after = append(after, h)
			continue
		}
		if h.lock.Start < l.Start {
			head := h
			head.lock.Length = l.Start - h.lock.Start
			after = append(after, head)
		}
		if end < hEnd {
			tail := h
			tail.lock.Start, tail.lock.Length = end, 0
			if hEnd != endless {
				tail.lock.Length = hEnd - end
			}
			after = append(after, tail)
		}
		since = min(since, h.since) // what was done under the one that it replaces was done under it
	}
	if l.Type != wire.LockUnlock {
		l.Flags = 0
		after = append(after, heldLock{l, since})
	}
	return after
}

// graceRetry is how often a lock is asked for while the server waits for those who had locks before its restart.
const graceRetry = 100 * time.Millisecond

// Lock takes or releases a POSIX byte-range lock.
func (n *node) Lock(ctx context.Context, cred *p9srv.Cred, l wire.Lock) (wire.LockStatus, error) {
	f := n.fs
	for {
		r := new(wire.Rlock)
		err := n.onLockFid(ctx, cred, func(ctx context.Context, d fid) error {
			return f.callOn(ctx, d.conn, &wire.Tlock{Fid: d.n, Lock: l}, r, func() {
				if r.Status != wire.LockSuccess {
					return
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				n.locks = noteLock(n.locks, l, f.log.Mark())
				f.lockers[n] = len(n.locks) > 0
			})
		})
		if err != nil {
			return wire.LockError, fmt.Errorf("locking object %d: %w", n.id, err)
		}
		if r.Status != wire.LockGrace {
			return r.Status, nil
		}
		select {
		case <-time.After(graceRetry):
		case <-ctx.Done():
			return wire.LockError, interrupted(ctx)
		}
	}
}

// GetLock tells the lock that would conflict with l.
func (n *node) GetLock(ctx context.Context, cred *p9srv.Cred, l wire.Lock) (wire.Lock, error) {
	r := new(wire.Rgetlock)
	err := n.onLockFid(ctx, cred, func(ctx context.Context, d fid) error {
		return n.fs.callOn(ctx, d.conn, &wire.Tgetlock{Fid: d.n, Lock: l}, r, nil)
	})
	if err != nil {
		return wire.Lock{}, fmt.Errorf("asking for locks of object %d: %w", n.id, err)
	}
	return r.Lock, nil
}

// onLockFid runs fn with a fid for locks; it lives as long as the object is used here, for a clunk may end locks. The object
// must be at the server for that.
func (n *node) onLockFid(ctx context.Context, cred *p9srv.Cred, fn func(context.Context, fid) error) error {
	f := n.fs
	ctx, stop := f.softly(ctx)
	defer stop()
	f.mu.Lock()
	fresh, gone := n.fresh, n.gone
	f.mu.Unlock()
	if fresh && !gone {
		if err := f.flushObject(ctx, n, "lock"); err != nil {
			return err
		}
	}
	uid := f.actor()
	if f.session.UID == wire.NoUID {
		uid = cred.UID
	}
	f.mu.Lock()
	if n.lockUID == nil {
		n.lockUID = &uid
	}
	f.mu.Unlock()
	return f.persist(ctx, func(conn *p9client.Conn) error {
		d, err := f.nodeFid(ctx, conn, n, fidBare, uid)
		if err != nil {
			return err
		}
		return fn(ctx, d)
	})
}

// claimLocks claims all file locks again, when the session was resumed.
func (f *FS) claimLocks(s *resumption) error {
	f.mu.Lock()
	var nodes []*node
	for n, any := range f.lockers {
		if any {
			nodes = append(nodes, n)
		}
	}
	f.mu.Unlock()
	slices.SortFunc(nodes, func(a, b *node) int { return int(int64(a.id) - int64(b.id)) })
	for _, n := range nodes {
		f.mu.Lock()
		locks := slices.Clone(n.locks)
		uid := n.lockUID
		f.mu.Unlock()
		if uid == nil {
			continue
		}
		d, gone := f.nodeFid(context.Background(), s.conn, n, fidBare, *uid)
		for _, h := range locks {
			err := gone
			if err == nil {
				err = f.claimLock(s.conn, d, h.lock)
			}
			s.alive()
			switch {
			case errors.Is(err, p9client.ErrEnded):
				return err
			case err != nil:
				f.lostLock(n, h, err)
			}
		}
	}
	return nil
}

func (f *FS) claimLock(conn *p9client.Conn, d fid, l wire.Lock) error {
	l.Flags = wire.LockFlagReclaim
	r := new(wire.Rlock)
	if err := f.rpc(conn, &wire.Tlock{Fid: d.n, Lock: l}, r, nil); err != nil {
		return err
	}
	if r.Status != wire.LockSuccess {
		return syscall.ENOLCK
	}
	return nil
}

// lostLock drops what was done since a lock was taken that is lost. What was open of the object then is of no more use: whoever
// had the lock by it must not go on as if he still had.
func (f *FS) lostLock(n *node, h heldLock, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	unlock := h.lock
	unlock.Type = wire.LockUnlock
	n.locks = noteLock(n.locks, unlock, 0)
	f.lockers[n] = len(n.locks) > 0
	if f.opt.Mutant != mutantLockedOn {
		n.lost++
	}
	seqs := f.log.Since(h.since)
	f.event("a file lock of object %d is lost (%v), and with it %d updates that were made since it was taken", n.id, why, len(seqs))
	f.drop(seqs, loss{cause: spool.Taken, errno: syscall.EIO, reason: "a file lock that was held then is lost"}, false)
}

// loseLocks forgets all locks: the session that had them is no more, and what they were had by is of no more use. Called with f.mu held.
func (f *FS) loseLocks() {
	for n, any := range f.lockers {
		if n.locks = nil; any && f.opt.Mutant != mutantLockedOn {
			n.lost++
		}
	}
	clear(f.lockers)
}

// unlocked forgets the locks of an object that nobody uses any more. Called with f.mu held.
func (f *FS) unlocked(n *node) {
	n.locks, n.lockUID = nil, nil
	delete(f.lockers, n)
}
