package p9srv

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"

	"echo9/internal/wire"
	"echo9/tokens"
)

// Status is a picture of an Authority, for people, scripts and tests. Fields are only ever added to its JSON.
type Status struct {
	Epoch uint64        `json:"epoch"`
	Up    time.Duration `json:"up_ns"`
	Lease time.Duration `json:"lease_ns"`
	// Grace is there in a grace period.
	Grace *GraceStatus `json:"grace,omitempty"`
	// Others are the sessions of other users that are not shown to who asks.
	Others   int             `json:"others,omitempty"`
	Sessions []SessionStatus `json:"sessions"`
	// Waiting has the slowest first.
	Waiting []WaitStatus `json:"waiting"`

	// What has happened since the start.
	PlainAsked  uint64 `json:"plain_asked"` // operations of plain clients that asked for tokens
	PlainWaited uint64 `json:"plain_waited"`
	Grants      uint64 `json:"grants"`
	Recalls     uint64 `json:"recalls"`
	Returns     uint64 `json:"returns"`
	CutsApplied uint64 `json:"cuts_applied"`
	CutsRefused uint64 `json:"cuts_refused"`
	CutsFenced  uint64 `json:"cuts_fenced"`
	Stale       uint64 `json:"stale"`     // requests of sessions that were no more, returns of old generations
	Reclaimed   uint64 `json:"reclaimed"` // tokens, after a restart
	LeasesOver  uint64 `json:"leases_over"`
	TokensTaken uint64 `json:"tokens_taken"`
	// LongestRecall is the longest from wanting a token back to having it, those still wanted included.
	LongestRecall time.Duration `json:"longest_recall_ns"`
	Events        []Event       `json:"events"`
}

// GraceStatus is a grace period: how long it goes on at most, and how many sessions it waits for.
type GraceStatus struct {
	Left    time.Duration `json:"left_ns"`
	Awaited int           `json:"awaited"`
}

// SessionStatus is one session.
type SessionStatus struct {
	ID        uint64        `json:"session"`
	Name      string        `json:"name"`
	Peer      string        `json:"peer"`
	UID       uint32        `json:"uid"`
	AnyUser   bool          `json:"any_user,omitempty"` // it acts for others, too
	Connected bool          `json:"connected"`
	Since     time.Duration `json:"since_ns"` // of being connected, or away
	Left      time.Duration `json:"lease_left_ns"`
	Expired   bool          `json:"expired"`
	Pending   bool          `json:"pending"` // it said that it has work that is not committed
	Tokens    int           `json:"tokens"`
	Writes    int           `json:"writes"`   // of Tokens
	Recalled  int           `json:"recalled"` // of Tokens: wanted back, the oldest since
	Wanted    time.Duration `json:"wanted_ns,omitempty"`
	Recalls   int           `json:"trecalls"` // posted
	Cuts      int           `json:"cuts"`     // under way
}

// WaitStatus is an operation or a request that waits for tokens.
type WaitStatus struct {
	Session uint64        `json:"session,omitempty"` // who waits; 0: a plain client
	Who     string        `json:"who"`
	Since   time.Duration `json:"since_ns"`
	Wants   []WantStatus  `json:"wants"`
	// Objects and Names are those of Wants.
	Objects []uint64 `json:"-"`
	Names   []string `json:"-"`   // of the elements that are asked for by name
	For     []uint64 `json:"for"` // the sessions that hold what it wants
}

// WantStatus is an element of what somebody waits for.
type WantStatus struct {
	Object uint64 `json:"object"`
	Name   string `json:"name,omitempty"` // in the directory Object
	Path   string `json:"path,omitempty"` // of Object, where it is known
	Mode   string `json:"mode"`
}

// Status looks at everything.
func (a *Authority) Status() Status {
	st := Status{
		Epoch: a.cfg.Epoch, Lease: a.cfg.Lease,
		PlainAsked: a.count.plain.Load(), PlainWaited: a.count.plainWaited.Load(),
		Grants: a.count.grants.Load(), Recalls: a.count.recalls.Load(), Returns: a.count.returns.Load(),
		CutsApplied: a.count.applied.Load(), CutsRefused: a.count.refused.Load(), CutsFenced: a.count.fenced.Load(),
		Stale: a.count.stale.Load(), Reclaimed: a.count.reclaimed.Load(),
		LeasesOver: a.count.expired.Load(), TokensTaken: a.count.revoked.Load(),
	}
	a.mu.Lock()
	defer a.unlock(nil)
	now := a.cfg.Clock()
	st.Up = time.Duration(now - a.started)
	st.Stale += a.m.OldReturns()
	st.LongestRecall = time.Duration(a.recallMax)
	if until, awaited, on := a.m.Grace(); on {
		st.Grace = &GraceStatus{time.Duration(max(0, until-now)), len(awaited)}
	}
	held := map[uint64][]tokens.Token{}
	for _, s := range a.sessions {
		held[s.id] = a.m.HeldBy(tokens.SessionID(s.id), nil)
		t := SessionStatus{
			ID: s.id, Name: s.name, Peer: s.peer.Addr, UID: s.owner(), AnyUser: s.uid == wire.NoUID,
			Connected: s.conn != nil, Since: time.Duration(now - s.since), Pending: s.pending, Left: time.Duration(max(0, s.until-now)),
			Expired: a.m.Expired(now, tokens.SessionID(s.id)),
			Tokens:  len(held[s.id]), Recalls: len(s.posted), Cuts: len(s.cuts) + len(s.committed),
		}
		for _, h := range held[s.id] {
			if h.Mode == tokens.Write {
				t.Writes++
			}
			if since, ok := a.m.Recalled(tokens.SessionID(s.id), h.ID); ok {
				t.Recalled++
				t.Wanted = max(t.Wanted, time.Duration(now-since))
			}
		}
		st.LongestRecall = max(st.LongestRecall, t.Wanted)
		st.Sessions = append(st.Sessions, t)
	}
	slices.SortFunc(st.Sessions, func(x, y SessionStatus) int { return cmp.Compare(x.ID, y.ID) })
	for _, x := range a.asks {
		if x.state == askWaiting && len(x.tokens) == 0 {
			st.Waiting = append(st.Waiting, x.status(now, held))
		}
	}
	slices.SortFunc(st.Waiting, func(x, y WaitStatus) int { return cmp.Compare(y.Since, x.Since) })
	return st
}

// status tells who has what x waits for.
func (x *ask) status(now int64, held map[uint64][]tokens.Token) WaitStatus {
	w := WaitStatus{Who: "a plain client", Since: time.Duration(now - x.since), For: []uint64{}}
	if x.s != nil {
		w.Session, w.Who = x.s.id, x.s.name
	} else if r, ok := x.w.(*request); ok {
		w.Session, w.Who = r.c.sessionID(), r.c.peer.Addr
	}
	for _, e := range x.elems {
		want := WantStatus{Object: e.ID, Name: e.Name, Mode: "read"}
		if e.Mode == tokens.Write {
			want.Mode = "write"
		}
		w.Wants = append(w.Wants, want)
		w.Objects = append(w.Objects, e.ID)
		if e.Name != "" {
			w.Names = append(w.Names, e.Name)
		}
		for id, toks := range held {
			i, ok := slices.BinarySearchFunc(toks, e.ID, func(t tokens.Token, id uint64) int { return cmp.Compare(t.ID, id) })
			if ok && id != w.Session && tokens.Conflict(toks[i].Mode, e.Mode) && !slices.Contains(w.For, id) {
				w.For = append(w.For, id)
			}
		}
	}
	slices.Sort(w.For)
	return w
}

// sees tells whether somebody sees everything of everybody: root, and the server's own user. Others see what is theirs.
func sees(cred *Cred) bool { return cred.UID == 0 || cred.UID == uint32(os.Geteuid()) }

// mayKnow tells of which events somebody may know.
func mayKnow(cred *Cred) func(Event) bool {
	return func(e Event) bool { return sees(cred) || e.UID == cred.UID }
}

// maxPaths bounds the objects whose paths are looked up for one picture.
const maxPaths = 100

// StatusFor is Status as far as the user may see it, with the last events, and the paths of what is waited for.
func (a *Authority) StatusFor(ctx context.Context, cred *Cred) Status {
	st := a.Status()
	st.Events = a.events.last(statusEvents, mayKnow(cred))
	if !sees(cred) {
		st.only(cred.UID)
	}
	paths, known := a.cfg.Backend.(Pather)
	looked := map[uint64]string{}
	for i := range st.Waiting {
		for j := range st.Waiting[i].Wants {
			w := &st.Waiting[i].Wants[j]
			path, have := looked[w.Object]
			if !have && known && len(looked) < maxPaths && w.Object != tokens.DirMove {
				path = paths.PathOf(ctx, w.Object)
				looked[w.Object] = path
			}
			w.Path = path
		}
	}
	return st
}

// only leaves what is the user's: his sessions, and what waits for them or is waited for by them.
func (st *Status) only(uid uint32) {
	mine := map[uint64]bool{}
	all := len(st.Sessions)
	st.Sessions = slices.DeleteFunc(st.Sessions, func(s SessionStatus) bool {
		mine[s.ID] = s.UID == uid
		return !mine[s.ID]
	})
	st.Others = all - len(st.Sessions)
	st.Waiting = slices.DeleteFunc(st.Waiting, func(w WaitStatus) bool {
		return !mine[w.Session]
	})
}

// Pather is what a Backend offers that can tell people where an object lies.
type Pather interface {
	// PathOf is a path of the object from the root as of now, "" when it has none, or none is known.
	PathOf(ctx context.Context, id uint64) string
}
