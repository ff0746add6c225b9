package order

import "slices"

// mergeMax bounds the data of merged writes, and rewriteMax what is copied to
// write over what others may be looking at.
const (
	mergeMax   = 1 << 20
	rewriteMax = 64 << 10
)

// coalesce merges a Write into the one before it, and gives that one's sequence
// number, or 0.
//
// Let w be the pending write before it, and the new one continue w or begin
// within it. The result has w's place in the order. That is sound because nothing
// can tell: w is the last operation on the file, so whatever was issued in between
// names neither the file nor comes after w; no barrier was issued since that the new
// write has to come after; and w is not in flight. So the new write's only direct
// predecessor is w, no operation comes after w alone, and each ideal that holds
// one of the two could hold both. The result is as old as w.
//
// Nothing is merged over a Mark. With policy Total w must be the last operation of all.
func (l *Log) coalesce(op *Op) uint64 {
	if op.Kind != Write || len(op.Reads) != 0 {
		return 0
	}
	c := l.chains[op.ID]
	if c == nil || !c.writer.live() {
		return 0
	}
	n := c.writer
	w := n.op
	if n.seq < l.marked || w.Kind != Write || n.state != pending || w.UID != op.UID || w.Owner != op.Owner || len(w.Reads) != 0 {
		return 0
	}
	between := len(c.readers) > 0 || l.barrier.live() && l.barrier.seq > n.seq || l.policy == Total && l.last != n
	if between && l.mutant != mergeAnyway {
		return 0
	}
	have, all := uint64(len(w.Bytes)), op.Off-w.Off+uint64(len(op.Bytes))
	if op.Off < w.Off || op.Off > w.Off+have || max(have, all) > mergeMax {
		return 0
	}
	over := op.Off < w.Off+have && len(op.Bytes) > 0
	if over && have > rewriteMax {
		return 0
	}
	if n.shared {
		// Others look at w: they keep what they see.
		clone := *w
		clone.Attrs = slices.Clone(w.Attrs)
		n.op, n.shared = &clone, false
		w = n.op
		n.ownBytes = n.ownBytes && !over
	}
	if !n.ownBytes {
		b := make([]byte, have, max(have, all))
		copy(b, w.Bytes)
		w.Bytes, n.ownBytes = b, true
	}
	keep := min(have, op.Off-w.Off)
	done := copy(w.Bytes[keep:], op.Bytes)
	w.Bytes = append(w.Bytes, op.Bytes[done:]...)
	for _, a := range op.Attrs {
		w.Attrs = mergeAttr(w.Attrs, a)
	}
	grown := int64(len(w.Bytes)) - int64(have)
	l.total.Bytes += grown
	c.bytes += grown
	op.Seq = n.seq
	l.touch(n)
	l.settle()
	return n.seq
}

// mergeAttr lays a over what attrs has for the same object.
func mergeAttr(attrs []Attr, a Attr) []Attr {
	for i := range attrs {
		if attrs[i].ID == a.ID {
			attrs[i].lay(a, a.Valid)
			return attrs
		}
	}
	return append(attrs, a)
}
