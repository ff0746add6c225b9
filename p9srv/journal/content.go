package journal

import (
	"math"
	"slices"

	"echo9/internal/cut"
)

// step is one change of a file's content.
type step struct {
	kind     cut.Kind // Truncate: the size becomes off, if it is not smaller; Attr: it becomes off
	off, end uint64
	rec      cut.Record
}

// layContent reduces the steps of a file's content to Truncate, Bytes and Size.
func (g *Goal) layContent() {
	g.Truncate = math.MaxUint64
	if g.Born != nil {
		g.Truncate, g.Size = 0, 0
		g.Content = g.Type == typeFile
	}
	if len(g.steps) == 0 {
		return
	}
	g.Content = true
	for i := range g.steps {
		switch s := &g.steps[i]; s.kind {
		case cut.Truncate:
			g.Size = min(g.Size, s.off)
		case cut.Attr:
			g.Size = s.off
		case cut.Data, cut.Zero:
			g.Size = max(g.Size, s.end)
		}
	}
	limit := uint64(math.MaxUint64)
	var bytes, space []cut.Layer[int]
	for i := range slices.Backward(g.steps) {
		s := &g.steps[i]
		if s.kind == cut.Truncate || s.kind == cut.Attr {
			limit = min(limit, s.off)
			continue
		}
		ly := cut.Layer[int]{Off: s.off, End: min(s.end, limit), Rank: i, From: i}
		if ly.Off >= ly.End {
			continue
		}
		if s.kind == cut.Allocate {
			space = append(space, ly)
		} else {
			bytes = append(bytes, ly)
		}
	}
	g.Truncate = min(g.Truncate, limit)
	cut.Flatten(bytes, func(off, end uint64, i int) {
		r := g.steps[i].rec
		if r.Kind == cut.Data {
			g.Bytes = append(g.Bytes, cut.Record{Kind: cut.Data, ID: g.ID, Off: off, Bytes: r.Bytes[off-r.Off : end-r.Off]})
			return
		}
		if end = min(end, g.Truncate); off < end { // beyond there is nothing to make zero
			g.Bytes = append(g.Bytes, cut.Record{Kind: cut.Zero, ID: g.ID, Off: off, Len: end - off})
		}
	})
	for _, ly := range space {
		g.Bytes = append(g.Bytes, cut.Record{Kind: cut.Allocate, ID: g.ID, Off: ly.Off, Len: ly.End - ly.Off})
	}
	g.steps = nil
}
