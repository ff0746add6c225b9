package p9srv

import (
	"fmt"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv/stable"
	"echo9/tokens"
)

// LockKeeper is what a Committer offers whose locks can be taken from sessions that are away.
type LockKeeper interface {
	// LockHolders tells the sessions whose locks on the object are in the way of l; 0 stands for plain clients.
	LockHolders(cred *Cred, id uint64, l wire.Lock) []uint64
	// DropSessionLocks gives back all that the session has locked on the object.
	DropSessionLocks(session, id uint64)
}

// File locks and faults. A session's locks outlive its connections. After the lease they are taken, object by object, when somebody
// else wants them; that is durable before he gets them. A client that has come back claims its locks; a claim is refused if
// the lock was taken. After a restart they are claimed in the grace period, for the locks themselves are not durable; who missed it may claim
// what nobody else has asked for since (see latelock.go), but not in a later life of the server.

func (r *request) lock() error {
	var m wire.Tlock
	if err := r.decode(&m); err != nil {
		return err
	}
	if m.Lock.Type > wire.LockUnlock || r.f.xattr != nil {
		return syscall.EINVAL
	}
	a, claim := r.c.srv.cfg.Authority, m.Lock.Flags&wire.LockFlagReclaim != 0
	if m.Lock.Type != wire.LockUnlock {
		if a != nil {
			may, err := a.mayLock(r, r.f.obj.ID(), &m.Lock, claim)
			if err != nil {
				return err
			}
			if !may {
				r.reply = &wire.Rlock{Status: wire.LockError}
				return nil
			}
		}
		// Noted before it is taken: when the fid ends meanwhile the lock goes with it.
		r.c.noteOwner(r.f, lockOwner{m.Lock.ProcID, m.Lock.ClientID})
	}
	st, err := r.f.obj.Lock(r, r.f.cred, m.Lock)
	if err == nil && st == wire.LockBlocked && a != nil {
		var taken bool
		if taken, err = a.takeLocks(r.f.cred, r.f.obj.ID(), m.Lock); taken && err == nil {
			st, err = r.f.obj.Lock(r, r.f.cred, m.Lock)
		}
	}
	if err != nil {
		return err
	}
	if st == wire.LockSuccess && claim && a != nil && a.overtaken(r.c, r.f.obj.ID(), &m.Lock) {
		unlock := m.Lock
		unlock.Type = wire.LockUnlock
		if _, err := r.f.obj.Lock(r, r.f.cred, unlock); err != nil {
			return err
		}
		st = wire.LockError
	}
	r.reply = &wire.Rlock{Status: st}
	return nil
}

// maxOwners bounds the lock owners noted for one fid.
const maxOwners = 1024

func (c *conn) noteOwner(f *fid, o lockOwner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, have := range f.owners {
		if have == o {
			return
		}
	}
	if len(f.owners) < maxOwners {
		f.owners = append(f.owners, o)
	}
}

func (r *request) getlock() error {
	var m wire.Tgetlock
	if err := r.decode(&m); err != nil {
		return err
	}
	if m.Lock.Type > wire.LockUnlock || r.f.xattr != nil {
		return syscall.EINVAL
	}
	if a := r.c.srv.cfg.Authority; a != nil {
		if _, err := a.mayLock(r, r.f.obj.ID(), &m.Lock, true); err != nil {
			return err // what others have locked is not known yet
		}
	}
	ask := m.Lock
	if ask.Type == wire.LockUnlock {
		ask.Type = wire.LockWrite // v9fs asks so for a write lock
	}
	l, err := r.f.obj.GetLock(r, r.f.cred, ask)
	if err != nil {
		return err
	}
	if l.Type == wire.LockUnlock {
		l = m.Lock
		l.Type = wire.LockUnlock
	}
	r.reply = &wire.Rgetlock{Lock: l}
	return nil
}

// mayLock decides about a lock of an object, that is asked for or claimed. It answers errParked when that must wait for the end of
// the grace period.
func (a *Authority) mayLock(r *request, id uint64, l *wire.Lock, claim bool) (bool, error) {
	if r.granted { // it has waited
		r.granted = false
		err := r.denied
		r.denied = nil
		r.done()
		if err != nil {
			return false, err
		}
	}
	a.mu.Lock()
	defer a.unlock(r.c)
	s := a.mine(r.c)
	if a.grace && (s == nil || !s.reclaiming()) {
		x := &ask{a: a, w: r}
		r.ticket, r.shared = x, true
		a.afterGrace = append(a.afterGrace, x)
		a.someoneWaits()
		return false, errParked
	}
	if s == nil {
		if !claim {
			a.late.asked(id, 0, l)
		}
		return !claim, nil // plain clients' locks end with their connections
	}
	if a.grace || claim {
		_, lost := s.lostLocks[id]
		lost = lost && a.mutant != mutantKeepLocks
		in := s.locks || a.grace && s.missed == 0 || a.late.may(s.id, id, l) || a.mutant == mutantBlindLate
		return !lost && in && s.mustResume == 0, nil
	}
	a.late.asked(id, s.id, l)
	if len(s.lostLocks) > 0 && s.mustResume == 0 {
		// It asks for a new lock: so it has claimed the others, and knows which are lost.
		s.lostLocks = nil
		a.note(stable.Record{Kind: stable.LockTold, Session: s.id})
	}
	return true, nil
}

// overtaken tells whether somebody else has asked for a lock while it was claimed late: he may have had it, and be done with it.
func (a *Authority) overtaken(c *conn, id uint64, l *wire.Lock) bool {
	a.mu.Lock()
	defer a.unlock(c)
	s := a.mine(c)
	return s == nil || !s.locks && !a.grace && !a.late.may(s.id, id, l) && a.mutant != mutantBlindLate
}

// takeLocks takes from sessions whose lease is over what they have locked in the way of l. It answers false
// when others have, too.
func (a *Authority) takeLocks(cred *Cred, id uint64, l wire.Lock) (bool, error) {
	keeper, ok := a.cfg.Backend.(LockKeeper)
	if !ok {
		return false, nil
	}
	holders := keeper.LockHolders(cred, id, l)
	records, done := make([]stable.Record, 0, len(holders)), make(chan error, 1)
	a.mu.Lock()
	for _, h := range holders {
		s := a.sessions[h]
		if s == nil || !a.m.Expired(a.cfg.Clock(), tokens.SessionID(h)) || len(s.committed) > 0 {
			a.unlock(nil)
			return false, nil
		}
		records = append(records, stable.Record{Kind: stable.LockLost, Session: h, ID: id})
	}
	if len(records) == 0 {
		a.unlock(nil)
		return true, nil // somebody has just given it back
	}
	for _, h := range holders {
		s := a.sessions[h]
		if s.lostLocks == nil {
			s.lostLocks = map[uint64]struct{}{}
		}
		s.lostLocks[id] = struct{}{}
		s.mustResume = id // and until then nothing that it wrote under the lock is taken
		a.event(s, "session %s: lost its locks on object %d: its lease is over and somebody wants them", s.label(), id)
	}
	a.durably(func(err error) { done <- err }, records...)
	a.unlock(nil)
	if err := <-done; err != nil {
		// It has lost them all the same, since it may have been told; but nobody else gets them.
		return false, fmt.Errorf("taking a lock: %w", err)
	}
	for _, h := range holders {
		keeper.DropSessionLocks(h, id)
	}
	return true, nil
}
