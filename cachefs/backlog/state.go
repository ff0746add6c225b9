package backlog

import (
	"slices"

	"echo9/cachefs/order"
	"echo9/internal/records"
)

// State is what records come to.
type State struct {
	Session *Session // nil: the client has had none
	Ranges  []Range
	Bases   map[uint64]Base
	// Ops are the operations that are not known to be at the server, as they were issued: several may have one number, that
	// of the operation which they were merged into.
	Ops []*order.Op
	// Lost are the numbers of those of Ops that are lost and only order the others.
	Lost map[uint64]bool
	// Flights are the cuts of which nobody knows here what became of them, in sequence.
	Flights []Flight
}

// Flight is a cut on its way.
type Flight struct {
	Cut  uint64
	Seqs []uint64
}

// NewState knows nothing.
func NewState() *State {
	return &State{Bases: map[uint64]Base{}, Lost: map[uint64]bool{}}
}

// Empty says that there is nothing to be sent.
func (s *State) Empty() bool {
	return !slices.ContainsFunc(s.Ops, func(op *order.Op) bool {
		return !s.Lost[op.Seq] && !op.OnlyOrders() && op.Kind != order.Release
	})
}

// Apply takes a record in.
func (s *State) Apply(r *Record) {
	switch r.Kind {
	case Opened:
		if s.Session == nil || s.Session.Client != r.Session.Client || s.Session.Number != r.Session.Number {
			*s = *NewState() // what another session had not sent was lost, or was sent, before this one began
		}
		s.Session = r.Session
	case Ranged:
		s.Ranges = append(s.Ranges, r.Range)
	case Based:
		s.Bases[r.ID] = r.Base
	case Issued:
		s.Ops = append(s.Ops, r.Op)
	case Amended:
		if i := slices.IndexFunc(s.Ops, func(op *order.Op) bool { return op.Seq == r.Op.Seq }); i >= 0 {
			s.Ops[i] = r.Op
		}
	case Began:
		s.Flights = append(s.Flights, Flight{r.Cut, r.Seqs})
	case Applied, Returned:
		if i := slices.IndexFunc(s.Flights, func(f Flight) bool { return f.Cut == r.Cut }); i >= 0 {
			if r.Kind == Applied {
				s.Applied(s.Flights[i].Seqs)
			}
			s.Flights = slices.Delete(s.Flights, i, i+1)
		}
	case Dropped:
		for _, seq := range r.Seqs {
			s.Lost[seq] = true
		}
	}
}

// Applied takes out operations that are at the server.
func (s *State) Applied(seqs []uint64) {
	gone := make(map[uint64]bool, len(seqs))
	for _, seq := range seqs {
		gone[seq] = true
	}
	s.Ops = slices.DeleteFunc(s.Ops, func(op *order.Op) bool {
		if !gone[op.Seq] {
			return false
		}
		switch op.Kind {
		case order.Create, order.Mkdir, order.Symlink, order.Mknod, order.Tmpfile:
			s.Bases[op.ID] = Base{Mode: op.Mode, Size: uint64(len(op.Target))}
		}
		for _, id := range []uint64{op.ID, op.Dir, op.Dir2, op.Replaced} {
			if b, ok := s.Bases[id]; ok {
				b.Lay(op, id)
				s.Bases[id] = b
			}
		}
		return true
	})
	if len(s.Ops) == 0 {
		clear(s.Lost)
	}
}

// Known takes in that cut number last was the last that the server applied: of what was on its way the rest waits again.
func (s *State) Known(last uint64) {
	for _, f := range s.Flights {
		if f.Cut <= last {
			s.Applied(f.Seqs)
		}
	}
	s.Flights = nil
}

// Log gives the operations as a Log in which nothing is on its way, and of its numbers which were theirs.
func (s *State) Log() (l *order.Log, was map[uint64]uint64) {
	policy := order.Object
	if s.Session != nil {
		policy = s.Session.Policy
	}
	l, was = order.New(policy), map[uint64]uint64{}
	for _, op := range s.Ops {
		old, o := op.Seq, *op
		o.Seq = 0
		if seq := l.Restore(&o, s.Lost[old]); seq != 0 {
			was[seq] = old
		}
	}
	return l, was
}

// Read reads a file as far as it is whole. It gives what its records come to, and how many bytes were read: fewer
// than there are when the last write was cut short, 0 when it is no such file.
func Read(b []byte) (s *State, n int) {
	s = NewState()
	n = records.Read(b, head, maxRecord, func(record []byte) bool {
		r, ok := decode(record)
		if ok {
			s.Apply(&r)
		}
		return ok
	})
	return s, n
}
