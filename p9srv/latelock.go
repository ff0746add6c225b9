package p9srv

import (
	"math"

	"echo9/internal/wire"
)

// lateLocks are the file locks that were asked for in this life of the server since its grace period, as long as there are sessions
// that missed it: these may still claim the locks that nobody else has asked for in conflict. Who asks is noted before he gets the lock, so a claim
// that finds nothing noted, and has the lock then, was not overtaken. Guarded by Authority.mu.
type lateLocks struct {
	awaited map[uint64]struct{}
	of      map[uint64][]askedLock // by object
	objects bool                   // there were too many objects: nothing can be claimed any more
}

// askedLock is a lock that a session asked for, or a plain client (0).
type askedLock struct {
	session    uint64
	shared     bool
	start, end uint64
}

const (
	maxLateObjects = 1 << 16
	maxLateLocks   = 64 // of an object
	// somebody stands for several sessions.
	somebody = math.MaxUint64
)

// await: a session missed the grace period.
func (l *lateLocks) await(session uint64) {
	if l.awaited == nil {
		l.awaited, l.of = map[uint64]struct{}{}, map[uint64][]askedLock{}
	}
	l.awaited[session] = struct{}{}
}

// came: a session will claim nothing more.
func (l *lateLocks) came(session uint64) {
	delete(l.awaited, session)
	if len(l.awaited) == 0 {
		*l = lateLocks{}
	}
}

func newAsked(session uint64, k *wire.Lock) askedLock {
	end := k.Start + k.Length
	if k.Length == 0 || end < k.Start {
		end = math.MaxUint64
	}
	return askedLock{session, k.Type == wire.LockRead, k.Start, end}
}

// asked: a session, or a plain client, asks for a lock.
func (l *lateLocks) asked(id, session uint64, k *wire.Lock) {
	if len(l.awaited) == 0 || l.objects {
		return
	}
	now, had := newAsked(session, k), l.of[id]
	for _, h := range had {
		if (h.session == session || h.session == somebody) && (now.shared || !h.shared) && h.start <= now.start && now.end <= h.end {
			return
		}
	}
	switch {
	case len(had) == 0 && len(l.of) >= maxLateObjects:
		l.objects, l.of = true, nil
	case len(had) >= maxLateLocks:
		l.of[id] = []askedLock{{session: somebody, end: math.MaxUint64}}
	default:
		l.of[id] = append(had, now)
	}
}

// may tells whether a session that missed the grace period may claim a lock.
func (l *lateLocks) may(session, id uint64, k *wire.Lock) bool {
	if _, late := l.awaited[session]; !late || l.objects {
		return false
	}
	mine := newAsked(session, k)
	for _, h := range l.of[id] {
		if h.session != session && !(h.shared && mine.shared) && h.start < mine.end && mine.start < h.end {
			return false
		}
	}
	return true
}
