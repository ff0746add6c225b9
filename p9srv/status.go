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
	// More: there are more who wait than are shown.
	More bool `json:"waiting_more,omitempty"`

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
func (a *Authority) Status() Status { return a.picture(func(*ask) bool { return true }) }

// picture has those of the waiting that are shown.
func (a *Authority) picture(shown func(*ask) bool) Status {
	st := a.look(shown)
	slices.SortFunc(st.Sessions, func(x, y SessionStatus) int { return cmp.Compare(x.ID, y.ID) })
	return st
}

// look takes in what there is. What it does under the mutex is bounded by the sessions, not by what they hold.
func (a *Authority) look(shown func(*ask) bool) Status {
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
	st.Sessions = make([]SessionStatus, 0, len(a.sessions))
	for _, s := range a.sessions {
		has := a.m.Counts(tokens.SessionID(s.id))
		t := SessionStatus{
			ID: s.id, Name: s.name, Peer: s.peer.Addr, UID: s.owner(), AnyUser: s.uid == wire.NoUID,
			Connected: s.conn != nil, Since: time.Duration(now - s.since), Pending: s.pending, Left: time.Duration(max(0, s.until-now)),
			Expired: a.m.Expired(now, tokens.SessionID(s.id)),
			Tokens:  has.Tokens, Writes: has.Writes, Recalled: has.Recalled, Recalls: len(s.posted), Cuts: len(s.cuts) + len(s.committed),
		}
		if has.Recalled > 0 {
			t.Wanted = time.Duration(now - has.Since)
		}
		st.LongestRecall = max(st.LongestRecall, t.Wanted)
		st.Sessions = append(st.Sessions, t)
	}
	a.waiting(&st, now, shown)
	return st
}

// What one picture has of those who wait, so that it is made in a moment: how many are looked at, how
// many are shown, with how many elements and sessions that are in the way.
const (
	maxLooked = 10_000
	maxShown  = 200
	maxWants  = 16
	maxFor    = 32
)

// waiting tells of those who wait, the slowest first. Called with a.mu held.
func (a *Authority) waiting(st *Status, now int64, shown func(*ask) bool) {
	looked := 0
	a.m.Waiting(func(id tokens.ReqID) bool {
		if looked++; looked > maxLooked {
			st.More = true
			return false
		}
		x := a.asks[id]
		if x == nil || !shown(x) {
			return true
		}
		if st.More = len(st.Waiting) == maxShown; st.More {
			return false
		}
		w := x.status(now)
		for _, s := range a.m.InTheWay(id, maxFor, nil) {
			w.For = append(w.For, uint64(s))
		}
		st.Waiting = append(st.Waiting, w)
		return true
	})
}

// session is the session that x is of, or whose connection it came on; 0: of a plain client.
func (x *ask) session() uint64 {
	if x.s != nil {
		return x.s.id
	}
	if r, ok := x.w.(*request); ok {
		return r.c.sessionID()
	}
	return 0
}

// status tells what x waits for.
func (x *ask) status(now int64) WaitStatus {
	w := WaitStatus{Session: x.session(), Who: "a plain client", Since: time.Duration(now - x.since), For: []uint64{}}
	if x.s != nil {
		w.Who = x.s.name
	} else if r, ok := x.w.(*request); ok {
		w.Who = r.c.peer.Addr
	}
	for _, e := range x.elems[:min(len(x.elems), maxWants)] {
		want := WantStatus{Object: e.ID, Name: e.Name, Mode: "read"}
		if e.Mode == tokens.Write {
			want.Mode = "write"
		}
		w.Wants = append(w.Wants, want)
		w.Objects = append(w.Objects, e.ID)
		if e.Name != "" {
			w.Names = append(w.Names, e.Name)
		}
	}
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
	all := sees(cred)
	st := a.picture(func(x *ask) bool {
		if all {
			return true
		}
		s := a.sessions[x.session()]
		return s != nil && s.owner() == cred.UID
	})
	st.Events = a.events.last(statusEvents, mayKnow(cred))
	if !all {
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
