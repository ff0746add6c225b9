package order

// Mark gives the number of the next operation. What is appended from now on is not merged into what was before: so
// Since of the number, later, gives what was issued since, and nothing else.
func (l *Log) Mark() uint64 {
	l.marked = l.first + uint64(len(l.nodes))
	return l.marked
}

// Since gives the pending operations from seq on (ascending), but for Releases: a file is closed whatever is lost.
func (l *Log) Since(seq uint64) []uint64 {
	var seqs []uint64
	for _, n := range l.nodes[min(max(seq, l.first)-l.first, uint64(len(l.nodes))):] {
		if n != nil && n.op.Kind != Release && !n.op.Kind.orders() {
			seqs = append(seqs, n.seq)
		}
	}
	return l.Successors(seqs...)
}
