package p9srv

import (
	"slices"
	"time"

	"echo9/tokens"
)

// Status is a picture of an Authority, for people and tests.
type Status struct {
	Epoch    uint64
	Lease    time.Duration
	Sessions []SessionStatus
	Waiting  []WaitStatus

	// What has happened since the start.
	PlainAsked, PlainWaited              uint64 // operations of plain clients that asked for tokens; that had to wait
	Grants, Recalls, Returns             uint64
	CutsApplied, CutsRefused, CutsFenced uint64
	LeasesOver, TokensTaken              uint64
	// LongestRecall is the longest from wanting a token back to having it, those still wanted included.
	LongestRecall time.Duration
}

// SessionStatus is one session.
type SessionStatus struct {
	ID        uint64
	Name      string
	Peer      string
	Connected bool
	Expired   bool
	Pending   bool // it said that it has work that is not committed
	Tokens    int
	Recalls   int // Trecalls posted
	Cuts      int // under way
}

// WaitStatus is an operation or a request that waits for tokens.
type WaitStatus struct {
	Session uint64 // who waits; 0: a plain client
	Objects []uint64
	Names   []string // of the elements that are asked for by name
	For     []uint64 // the sessions that hold what it wants
}

// Status looks at everything.
func (a *Authority) Status() Status {
	st := Status{
		Epoch: a.cfg.Epoch, Lease: a.cfg.Lease,
		PlainAsked: a.count.plain.Load(), PlainWaited: a.count.plainWaited.Load(),
		Grants: a.count.grants.Load(), Recalls: a.count.recalls.Load(), Returns: a.count.returns.Load(),
		CutsApplied: a.count.applied.Load(), CutsRefused: a.count.refused.Load(), CutsFenced: a.count.fenced.Load(),
		LeasesOver: a.count.expired.Load(), TokensTaken: a.count.revoked.Load(),
	}
	a.mu.Lock()
	defer a.unlock(nil)
	now := a.cfg.Clock()
	st.LongestRecall = time.Duration(a.recallMax)
	held := map[uint64][]tokens.Token{}
	for _, s := range a.sessions {
		held[s.id] = a.m.HeldBy(tokens.SessionID(s.id), nil)
		st.Sessions = append(st.Sessions, SessionStatus{
			ID: s.id, Name: s.name, Peer: s.peer.Addr, Connected: s.conn != nil, Pending: s.pending,
			Expired: a.m.Expired(now, tokens.SessionID(s.id)),
			Tokens:  len(held[s.id]), Recalls: len(s.posted), Cuts: len(s.cuts) + len(s.committed),
		})
		for _, t := range held[s.id] {
			if since, ok := a.m.Recalled(tokens.SessionID(s.id), t.ID); ok {
				st.LongestRecall = max(st.LongestRecall, time.Duration(now-since))
			}
		}
	}
	slices.SortFunc(st.Sessions, func(x, y SessionStatus) int { return int(x.ID) - int(y.ID) })
	for _, x := range a.asks {
		if x.state == askWaiting && len(x.tokens) == 0 {
			st.Waiting = append(st.Waiting, x.status(held))
		}
	}
	slices.SortFunc(st.Waiting, func(x, y WaitStatus) int { return int(x.Session) - int(y.Session) })
	return st
}

// status tells who has what x waits for.
func (x *ask) status(held map[uint64][]tokens.Token) WaitStatus {
	w := WaitStatus{}
	if x.s != nil {
		w.Session = x.s.id
	} else if r, ok := x.w.(*request); ok {
		w.Session = r.c.sessionID()
	}
	for _, e := range x.elems {
		w.Objects = append(w.Objects, e.ID)
		if e.Name != "" {
			w.Names = append(w.Names, e.Name)
		}
		for id, toks := range held {
			i, ok := slices.BinarySearchFunc(toks, e.ID, func(t tokens.Token, id uint64) int {
				switch {
				case t.ID < id:
					return -1
				case t.ID > id:
					return 1
				}
				return 0
			})
			if ok && id != w.Session && tokens.Conflict(toks[i].Mode, e.Mode) && !slices.Contains(w.For, id) {
				w.For = append(w.For, id)
			}
		}
	}
	slices.Sort(w.For)
	return w
}
