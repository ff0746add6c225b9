package order

import (
	"math"
	"slices"

	"echo9/internal/cut"
)

// layer is what one operation puts over a range of a file; later ones lie over earlier ones.
type layer = cut.Layer[*Op]

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
		ly := layer{Off: op.Off, Rank: i, From: op}
		switch op.Kind {
		case Truncate:
			if op.Size < limit {
				limit, truncate = op.Size, op
			}
			continue
		case Write:
			ly.End = op.Off + uint64(len(op.Bytes))
		default:
			ly.End = op.Off + op.Len
		}
		if r.mutant != uncutLayers {
			ly.End = min(ly.End, limit)
		}
		if ly.Off >= ly.End {
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
			bytes[i].Rank = -bytes[i].Rank
		}
	}
	cut.Flatten(bytes, func(off, end uint64, op *Op) {
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
	cut.Flatten(space, func(off, end uint64, op *Op) {
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
