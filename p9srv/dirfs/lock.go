package dirfs

import (
	"context"
	"fmt"
	"syscall"

	"echo9/internal/bytelock"
	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// lockOwner is whose lock a request of cred is about.
func lockOwner(cred *p9srv.Cred, l wire.Lock) bytelock.Owner {
	o := bytelock.Owner{Proc: l.ProcID, Client: l.ClientID}
	if cred != nil {
		o.Session, o.Conn = cred.Session, cred.Owner
	}
	return o
}

// Lock takes or gives back a byte range. Locks are among the server's clients:
// the host's own processes do not see them.
func (n *node) Lock(ctx context.Context, cred *p9srv.Cred, l wire.Lock) (wire.LockStatus, error) {
	if n.typ != unix.S_IFREG {
		return wire.LockError, fmt.Errorf("lock: %w", syscall.EINVAL)
	}
	s := n.fs.locks.Set(n.id, bytelock.Lock{
		Owner: lockOwner(cred, l), Type: bytelock.Type(l.Type), Start: l.Start, Length: l.Length,
	})
	switch s {
	case bytelock.Success:
		return wire.LockSuccess, nil
	case bytelock.Blocked:
		return wire.LockBlocked, nil
	}
	return wire.LockError, nil
}

// GetLock tells the lock that would conflict with l. Linux's client asks with
// Unlock where a program asked for a write lock: that is what is answered.
func (n *node) GetLock(ctx context.Context, cred *p9srv.Cred, l wire.Lock) (wire.Lock, error) {
	if n.typ != unix.S_IFREG {
		return wire.Lock{}, fmt.Errorf("get lock: %w", syscall.EINVAL)
	}
	want := bytelock.Lock{Owner: lockOwner(cred, l), Type: bytelock.Type(l.Type), Start: l.Start, Length: l.Length}
	if l.Type == wire.LockUnlock {
		want.Type = bytelock.Write
	}
	got, hit := n.fs.locks.Get(n.id, want)
	if !hit {
		l.Type = wire.LockUnlock
		return l, nil
	}
	return wire.Lock{
		Type: uint8(got.Type), Start: got.Start, Length: got.Length,
		ProcID: got.Owner.Proc, ClientID: got.Owner.Client,
	}, nil
}

// LockHolders tells the sessions whose locks on an object are in the way of l; 0 stands for plain clients.
func (fs *FS) LockHolders(cred *p9srv.Cred, id uint64, l wire.Lock) []uint64 {
	return fs.locks.Holders(id, bytelock.Lock{Owner: lockOwner(cred, l), Type: bytelock.Type(l.Type), Start: l.Start, Length: l.Length})
}

// DropSessionLocks gives back all that a session has locked on an object.
func (fs *FS) DropSessionLocks(session, id uint64) { fs.locks.DropSessionOn(id, session) }

// DropLocks gives back the locks that a plain client's connection holds, which
// its credentials name as Owner.
func (fs *FS) DropLocks(owner uint64) { fs.locks.DropConn(owner) }
