package cut

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
)

// Layer is what something puts over the range [Off, End) of a file. Those of higher
// rank lie over those of lower rank.
type Layer[T comparable] struct {
	Off, End uint64
	Rank     int
	From     T
}

// top is a heap of layers, the highest rank first.
type top[T comparable] []Layer[T]

func (t top[T]) Len() int           { return len(t) }
func (t top[T]) Less(i, j int) bool { return t[i].Rank > t[j].Rank }
func (t top[T]) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push and Pop are for container/heap.
func (t *top[T]) Push(x any) { *t = append(*t, x.(Layer[T])) }

// Pop removes the last element.
func (t *top[T]) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// Flatten calls fn for each range, ascending, with what the uppermost layer there is from.
// It sorts layers.
func Flatten[T comparable](layers []Layer[T], fn func(off, end uint64, from T)) {
	slices.SortFunc(layers, func(a, b Layer[T]) int { return cmp.Compare(a.Off, b.Off) })
	var over top[T]
	var cur Layer[T] // what is uppermost from cur.Off on; not yet told
	open := false
	tell := func(end uint64) {
		if open && cur.Off < end {
			fn(cur.Off, end, cur.From)
		}
		open = false
	}
	// uppermost makes the uppermost layer at position at the current one, telling what ends.
	uppermost := func(at uint64) {
		for len(over) > 0 && over[0].End <= at {
			heap.Pop(&over)
		}
		if len(over) == 0 {
			tell(at)
			return
		}
		if !open || cur.From != over[0].From {
			tell(at)
			cur, open = Layer[T]{Off: at, From: over[0].From}, true
		}
	}
	advance := func(to uint64) {
		for len(over) > 0 && over[0].End <= to {
			uppermost(over[0].End)
		}
	}
	for _, ly := range layers {
		advance(ly.Off)
		heap.Push(&over, ly)
		uppermost(ly.Off)
	}
	advance(math.MaxUint64)
}
