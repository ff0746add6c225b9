package stable

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
)

// State is what records come to.
type State struct {
	Epoch    uint64 // the last one, 0: there was none
	Last     uint64 // the highest number that a session had
	Sessions map[uint64]*Session
	Deaths   []Death // that their users were not told of, the oldest first
}

// Session is one that is known.
type Session struct {
	ID                uint64
	Client, Secret    [16]byte
	Aname, Name, Peer string
	Proc              string // its process, if it is one of this machine
	UID               uint32 // whose it is, for messages
	Flags             uint32 // what its client wished for: as in Tsession
	Users             []uint32

	Ranges  []IDs
	Pending bool                // it has work that is not committed
	Lost    map[uint64]uint8    // object → mode left, until it was told
	Locks   map[uint64]struct{} // objects of which it lost locks, until it was told
	Kept    map[uint64]struct{} // objects that are kept alive for it
	Missed  uint64              // the first epoch whose grace period it missed, 0: none
}

// IDs is a range of ids.
type IDs struct{ First, Count, Gen uint64 }

// Death is the end of a session that had work pending.
type Death struct {
	Session    uint64
	UID        uint32
	Name, Peer string
	Time       int64 // ns since 1970
}

// maxDeaths bounds those that are remembered.
const maxDeaths = 1000

// NewState knows nothing.
func NewState() *State { return &State{Sessions: map[uint64]*Session{}} }

// Apply takes a record in. What is about a session that is not known changes nothing.
func (s *State) Apply(r *Record) {
	switch r.Kind {
	case Epoch:
		s.Epoch, s.Last = max(s.Epoch, r.Epoch), max(s.Last, r.Session)
	case Open:
		s.Last = max(s.Last, r.Session)
		s.Sessions[r.Session] = &Session{
			ID: r.Session, Client: r.Client, Secret: r.Secret, Aname: r.Aname, Name: r.Name, Peer: r.Peer, Proc: r.Proc,
			UID: r.UID, Flags: r.Flags, Users: slices.Clone(r.Users),
			Lost: map[uint64]uint8{}, Locks: map[uint64]struct{}{}, Kept: map[uint64]struct{}{},
		}
	case Missed:
		for _, id := range r.Sessions {
			if c := s.Sessions[id]; c != nil && c.Missed == 0 {
				c.Missed = r.Epoch
			}
		}
	case Died:
		s.died(Death{r.Session, r.UID, r.Name, r.Peer, r.Time})
	case DeathTold:
		s.Deaths = slices.DeleteFunc(s.Deaths, func(d Death) bool { return slices.Contains(r.Sessions, d.Session) })
	default:
		if c := s.Sessions[r.Session]; c != nil {
			s.about(c, r)
		}
	}
}

// about is a record about session c.
func (s *State) about(c *Session, r *Record) {
	switch r.Kind {
	case Moved:
		c.Peer, c.Proc = r.Peer, r.Proc
	case Range:
		c.Ranges = append(c.Ranges, IDs{r.ID, r.Count, r.Gen})
	case Pending, Idle:
		c.Pending = r.Kind == Pending
	case Revoked:
		for _, l := range r.Lost {
			if left, ok := c.Lost[l.ID]; !ok || l.Left < left {
				c.Lost[l.ID] = l.Left
			}
		}
	case Told:
		for _, l := range r.Lost {
			if left, ok := c.Lost[l.ID]; ok && left >= l.Left {
				delete(c.Lost, l.ID)
			}
		}
	case LockLost:
		c.Locks[r.ID] = struct{}{}
	case LockTold:
		clear(c.Locks)
	case Completed:
		c.Missed = 0
	case Kept:
		c.Kept[r.ID] = struct{}{}
	case Dropped:
		delete(c.Kept, r.ID)
	case End:
		delete(s.Sessions, c.ID)
		if r.Dead {
			s.died(Death{c.ID, c.UID, c.Name, c.Peer, r.Time})
		}
	}
}

func (s *State) died(d Death) {
	s.Deaths = append(s.Deaths, d)
	if n := len(s.Deaths) - maxDeaths; n > 0 {
		s.Deaths = slices.Delete(s.Deaths, 0, n)
	}
}

// lostPerRecord keeps records small.
const lostPerRecord = 4096

// Records gives records that come to s, in an order that depends on nothing else.
func (s *State) Records() []Record {
	out := []Record{{Kind: Epoch, Epoch: s.Epoch, Session: s.Last}}
	for _, d := range s.Deaths {
		out = append(out, Record{Kind: Died, Session: d.Session, UID: d.UID, Name: d.Name, Peer: d.Peer, Time: d.Time})
	}
	for _, c := range sorted(s.Sessions) {
		out = s.Sessions[c].records(out)
	}
	return out
}

func (c *Session) records(out []Record) []Record {
	out = append(out, Record{
		Kind: Open, Session: c.ID, Client: c.Client, Secret: c.Secret, Aname: c.Aname, Name: c.Name, Peer: c.Peer, Proc: c.Proc,
		UID: c.UID, Flags: c.Flags, Users: c.Users,
	})
	for _, r := range c.Ranges {
		out = append(out, Record{Kind: Range, Session: c.ID, ID: r.First, Count: r.Count, Gen: r.Gen})
	}
	if c.Pending {
		out = append(out, Record{Kind: Pending, Session: c.ID})
	}
	var lost []Lost
	for _, id := range sorted(c.Lost) {
		lost = append(lost, Lost{id, c.Lost[id]})
	}
	for part := range slices.Chunk(lost, lostPerRecord) {
		out = append(out, Record{Kind: Revoked, Session: c.ID, Lost: part})
	}
	for _, id := range sorted(c.Locks) {
		out = append(out, Record{Kind: LockLost, Session: c.ID, ID: id})
	}
	for _, id := range sorted(c.Kept) {
		out = append(out, Record{Kind: Kept, Session: c.ID, ID: id})
	}
	if c.Missed != 0 {
		out = append(out, Record{Kind: Missed, Epoch: c.Missed, Sessions: []uint64{c.ID}})
	}
	return out
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// Encode gives a whole file that comes to s.
func (s *State) Encode() []byte {
	b := []byte(Head)
	for _, r := range s.Records() {
		b = r.Append(b)
	}
	return b
}

// Clone is a copy that shares nothing with s.
func (s *State) Clone() *State {
	t := &State{Epoch: s.Epoch, Last: s.Last, Sessions: make(map[uint64]*Session, len(s.Sessions)), Deaths: slices.Clone(s.Deaths)}
	for id, c := range s.Sessions {
		d := *c
		d.Users, d.Ranges = slices.Clone(c.Users), slices.Clone(c.Ranges)
		d.Lost, d.Locks, d.Kept = maps.Clone(c.Lost), maps.Clone(c.Locks), maps.Clone(c.Kept)
		t.Sessions[id] = &d
	}
	return t
}

// SessionOf is the number of the session that a Key was made for.
func SessionOf(key [16]byte) uint64 { return binary.BigEndian.Uint64(key[8:]) }

// Key is the name under which the cuts of session id of a client are logged: a client whose
// session was forgotten counts its cuts from the beginning.
func Key(client [16]byte, id uint64) (key [16]byte) {
	copy(key[:8], client[:8])
	binary.BigEndian.PutUint64(key[8:], id)
	return key
}
