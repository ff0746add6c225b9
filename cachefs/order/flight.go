package order

// Flight is a cut on its way: how many operations it has, and the bytes of their data.
type Flight struct {
	Cut   uint64
	Seqs  []uint64
	Ops   int
	Bytes int64
}

// Flights are the cuts on their way, in sequence.
func (l *Log) Flights() []Flight {
	list := make([]Flight, len(l.cuts))
	for i, f := range l.cuts {
		list[i].Cut = f.cut
		for _, n := range f.nodes {
			list[i].Seqs = append(list[i].Seqs, n.seq)
			if n.op != nil && !n.op.Kind.orders() {
				list[i].Ops++
				list[i].Bytes += n.op.data()
			}
		}
	}
	return list
}

// Oldest is the sequence number of the first pending operation that does something, 0 when there is none.
func (l *Log) Oldest() uint64 {
	for _, n := range l.nodes {
		if n != nil && !n.op.Kind.orders() {
			return n.seq
		}
	}
	return 0
}
