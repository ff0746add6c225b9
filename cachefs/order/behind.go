package order

// Behind counts the bytes of data, pending or in flight, that an operation issued now would come after if it wrote
// these objects; it may stop counting beyond limit.
func (l *Log) Behind(limit int64, ids ...uint64) int64 {
	bytes := int64(0)
	first := l.visit()
	stack := l.stack[:0]
	push := func(n *node) {
		if first(n) {
			bytes += n.op.data()
			stack = append(stack, n)
		}
	}
	if l.policy == Total {
		push(l.last)
	}
	push(l.barrier)
	for _, id := range ids {
		if c := l.chains[id]; c != nil {
			push(c.writer)
			for _, r := range c.readers {
				push(r)
			}
		}
	}
	for len(stack) > 0 && bytes <= limit {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, p := range n.preds {
			push(p)
		}
	}
	l.stack = stack[:0]
	return bytes
}
