package fusefs

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const lockEOF = 1<<63 - 1

// lockOf translates the kernel's lock. flock(2) is a lock on the whole file by an owner of its own, as NFS
// does it: 9P has no other.
func (f *fileSystem) lockOf(in *fuse.LkIn) (wire.Lock, error) {
	l := wire.Lock{Start: in.Lk.Start, ProcID: in.Lk.Pid, ClientID: f.lockClient(in.Owner)}
	if l.ProcID == 0 {
		l.ProcID = in.Pid
	}
	if in.LkFlags&fuse.LK_FLOCK != 0 {
		l.Start = 0
	} else if in.Lk.End < lockEOF {
		l.Length = in.Lk.End - in.Lk.Start + 1
	}
	switch in.Lk.Typ {
	case syscall.F_RDLCK:
		l.Type = wire.LockRead
	case syscall.F_WRLCK:
		l.Type = wire.LockWrite
	case syscall.F_UNLCK:
		l.Type = wire.LockUnlock
	default:
		return l, syscall.EINVAL
	}
	return l, nil
}

// lockClient names the owner of a lock: the kernel's owner is what counts, not the process.
func (f *fileSystem) lockClient(owner uint64) string { return fmt.Sprintf("%s/%x", f.clientID, owner) }

func (f *fileSystem) lockCred(in *fuse.LkIn) *p9srv.Cred {
	c := f.cred(&in.InHeader)
	c.Owner = in.Owner
	return c
}

func (f *fileSystem) GetLk(cancel <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	return f.withNode(cancel, &in.InHeader, func(r *request, n *node, obj p9srv.Object) error {
		l, err := f.lockOf(in)
		if err != nil {
			return err
		}
		got, err := obj.GetLock(r, f.lockCred(in), l)
		if err != nil {
			return err
		}
		out.Lk = fuse.FileLock{Start: got.Start, End: lockEOF, Typ: syscall.F_UNLCK, Pid: got.ProcID}
		if got.Length > 0 {
			out.Lk.End = got.Start + got.Length - 1
		}
		switch got.Type {
		case wire.LockRead:
			out.Lk.Typ = syscall.F_RDLCK
		case wire.LockWrite:
			out.Lk.Typ = syscall.F_WRLCK
		}
		return nil
	})
}

func (f *fileSystem) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return f.withNode(cancel, &in.InHeader, func(r *request, n *node, obj p9srv.Object) error {
		return f.setLock(r, n, obj, in)
	})
}

// The pauses between two tries for a lock that somebody else has: 9P has no other way to wait.
const (
	lockPauseMin = time.Millisecond
	lockPauseMax = 50 * time.Millisecond
)

func (f *fileSystem) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return f.withNode(cancel, &in.InHeader, func(r *request, n *node, obj p9srv.Object) error {
		r.anySignal = true
		for pause := lockPauseMin; ; pause = min(2*pause, lockPauseMax) {
			if err := f.setLock(r, n, obj, in); err != syscall.EAGAIN {
				return err
			}
			if !sleep(r, pause) {
				return syscall.EINTR
			}
		}
	})
}

// setLock tries once; EAGAIN when somebody else has the lock.
func (f *fileSystem) setLock(ctx context.Context, n *node, obj p9srv.Object, in *fuse.LkIn) error {
	l, err := f.lockOf(in)
	if err != nil {
		return err
	}
	// To the backend an owner is also a process; to the kernel several processes may be one owner (after a
	// fork), and an unlock has no process. So an owner is always the process that was first. It is noted before the
	// lock is there, so that a close cannot miss it.
	n.mu.Lock()
	if pid, ok := n.lockOwners[in.Owner]; ok {
		l.ProcID = pid
	} else if l.Type != wire.LockUnlock {
		if n.lockOwners == nil {
			n.lockOwners = map[uint64]uint32{}
		}
		n.lockOwners[in.Owner] = l.ProcID
	}
	n.mu.Unlock()
	st, err := obj.Lock(ctx, f.lockCred(in), l)
	if err != nil {
		return err
	}
	switch st {
	case wire.LockSuccess:
		return nil
	case wire.LockBlocked, wire.LockGrace:
		return syscall.EAGAIN
	}
	return syscall.ENOLCK
}

// unlockAll takes all locks of owner on n back: a descriptor of it was closed.
func (f *fileSystem) unlockAll(n *node, obj p9srv.Object, cred *p9srv.Cred, owner uint64) error {
	n.mu.Lock()
	pid, had := n.lockOwners[owner]
	delete(n.lockOwners, owner)
	n.mu.Unlock()
	if !had {
		return nil
	}
	c := *cred
	c.Owner = owner
	// Not with the request's context: nobody would try again.
	_, err := obj.Lock(f.bg, &c, wire.Lock{Type: wire.LockUnlock, ProcID: pid, ClientID: f.lockClient(owner)})
	return err
}
