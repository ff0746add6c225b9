package order

import (
	"container/heap"
	"math"
	"slices"

	"echo9/internal/cut"
)

// layer is what one operation puts over a range of a file; later ones lie over earlier ones.
type layer struct {
	off, end uint64
	rank     int
	op       *Op
}

// content makes the records of a file's content.
//
// A truncation takes away what lies beyond it, of the layers before it too; so each
// layer ends at the smallest size that comes after it, and beyond the smallest
// of all (base) the file's old content is gone: nothing there needs to be made zero.
func (r *reducer) content(o *object) {
	base := uint64(math.MaxUint64)
	if o.created != nil {
		base = 0
	}
	var truncate *Op
	var bytes, space []layer
	limit := uint64(math.MaxUint64)
	for i, op := range slices.Backward(o.content) {
		ly := layer{off: op.Off, rank: i, op: op}
		switch op.Kind {
		case Truncate:
			if op.Size < limit {
				limit, truncate = op.Size, op
			}
			continue
		case Write:
			ly.end = op.Off + uint64(len(op.Bytes))
		default:
			ly.end = op.Off + op.Len
		}
		ly.end = min(ly.end, limit)
		if ly.off >= ly.end {
			continue
		}
		if op.Kind != Allocate {
			bytes = append(bytes, ly)
		}
		if op.Kind == Allocate || op.Kind == Punch {
			space = append(space, ly)
		}
	}
	if truncate != nil && o.created == nil {
		base = limit
		r.record(truncate, cut.Record{Kind: cut.Truncate, ID: o.id, Size: limit})
	}
	if r.mutant == wrongOverlay {
		for i := range bytes {
			bytes[i].rank = -bytes[i].rank
		}
	}
	flatten(bytes, func(off, end uint64, op *Op) {
		rec := cut.Record{ID: o.id, Off: off, Len: end - off}
		switch {
		case op.Kind == Write:
			rec.Kind, rec.Len = cut.Data, 0
			rec.Bytes = op.Bytes[off-op.Off : end-op.Off : end-op.Off]
		case op.Kind == Copy && !r.emptySource(op):
			rec.Kind, rec.Source, rec.SourceOff = cut.Copy, op.Source, op.SourceOff+off-op.Off
		default:
			if off >= base {
				return
			}
			rec.Kind, rec.Len = cut.Zero, min(end, base)-off
		}
		r.record(op, rec)
	})
	flatten(space, func(off, end uint64, op *Op) {
		if op.Kind == Allocate {
			r.record(op, cut.Record{Kind: cut.Allocate, ID: o.id, Off: off, Len: end - off})
		}
	})
}

// emptySource says whether a Copy's source is new in the cut: then it is empty.
func (r *reducer) emptySource(op *Op) bool {
	o := r.objects[op.Source]
	return o != nil && o.created != nil
}

// top is a heap of layers, the highest rank first.
type top []layer

func (t top) Len() int           { return len(t) }
func (t top) Less(i, j int) bool { return t[i].rank > t[j].rank }
func (t top) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push and Pop are for container/heap.
func (t *top) Push(x any) { *t = append(*t, x.(layer)) }

// Pop removes the last element.
func (t *top) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// flatten calls fn for each range, ascending, with the operation whose layer is uppermost there.
func flatten(layers []layer, fn func(off, end uint64, op *Op)) {
	slices.SortFunc(layers, func(a, b layer) int {
		switch {
		case a.off < b.off:
			return -1
		case a.off > b.off:
			return 1
		}
		return 0
	})
	var over top
	var cur layer // what is uppermost from cur.off on; not yet told
	tell := func(end uint64) {
		if cur.op != nil && cur.off < end {
			fn(cur.off, end, cur.op)
		}
		cur = layer{}
	}
	// uppermost makes the uppermost layer at position at the current one, telling what ends.
	uppermost := func(at uint64) {
		for len(over) > 0 && over[0].end <= at {
			heap.Pop(&over)
		}
		if len(over) == 0 {
			tell(at)
			return
		}
		if cur.op != over[0].op {
			tell(at)
			cur = layer{off: at, end: over[0].end, op: over[0].op}
		}
	}
	advance := func(to uint64) {
		for len(over) > 0 && over[0].end <= to {
			uppermost(over[0].end)
		}
	}
	for _, ly := range layers {
		advance(ly.off)
		heap.Push(&over, ly)
		uppermost(ly.off)
	}
	advance(math.MaxUint64)
}
