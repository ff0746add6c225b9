package fusefs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// worldPages is how many pages the file of a dropWorld has.
const worldPages = 6

// dropWorld is a kernel, a backend and drops between them, which take one small step at a time.
type dropWorld struct {
	rnd *rand.Rand
	h   hooks
	gap bool // mutant: what a pass is to drop is decided when the last one ends

	d       drops
	version int  // of the file's data
	token   bool // held, perhaps wanted back
	wanted  bool // the token is wanted back

	page  [worldPages]worldPage
	reads []*worldRead

	passes int   // begun, of the revocation under way
	sweep  []int // pages that the invalidation under way has before it
	busy   bool  // an invalidation is under way
	saved  []span
	writes int
}

type worldPage struct {
	there   bool
	locked  bool
	version int
}

type worldRead struct {
	from, to int // pages
	stage    int
	covered  bool
	a        arrival
	version  int
}

// The stages of a READ.
const (
	sent = iota
	arrived
	hasData
	answered
)

// step does one thing that can happen, or nothing. With quiet the programs have stopped.
func (w *dropWorld) step(quiet bool) {
	switch k := w.rnd.IntN(10); {
	case k < 2 && !quiet:
		w.send()
	case k < 6 && len(w.reads) > 0:
		w.read(w.reads[w.rnd.IntN(len(w.reads))])
	case k == 6 && !quiet:
		w.page[w.rnd.IntN(worldPages)].evict()
	case k == 7 && !quiet && w.token && !w.wanted:
		w.wanted, w.passes = true, 0
		w.d.revoking++
	case k > 7 && w.wanted:
		w.revoke()
	}
}

func (p *worldPage) evict() {
	if !p.locked {
		*p = worldPage{}
	}
}

// send has the kernel lock pages that it does not have and send the READ for them.
func (w *dropWorld) send() {
	from := w.rnd.IntN(worldPages)
	to := from
	for ; to < min(worldPages, from+1+w.rnd.IntN(2)) && !w.page[to].there && !w.page[to].locked; to++ {
		w.page[to].locked = true
	}
	if to > from {
		w.reads = append(w.reads, &worldRead{from: from, to: to})
	}
}

// read takes r one step on.
func (w *dropWorld) read(r *worldRead) {
	switch r.stage {
	case sent:
		r.a = w.d.arrived(span{int64(r.from) * page, int64(r.to-r.from) * page}, &w.h)
		r.covered = w.token && !w.wanted
		r.stage = arrived
	case arrived:
		w.token = true
		r.version = w.version
		r.stage = hasData
	case hasData:
		r.stage = sent
		if w.d.answer(r.a, r.covered, &w.h) == give {
			w.d.pages = true
			r.stage = answered
		}
	case answered:
		for i := r.from; i < r.to; i++ {
			w.page[i] = worldPage{there: true, version: r.version}
		}
		w.reads = slices.DeleteFunc(w.reads, func(o *worldRead) bool { return o == r })
	}
}

// revoke takes the revocation one step on.
func (w *dropWorld) revoke() {
	switch {
	case w.d.revoking == 0: // over: the token goes, and the other side writes
		w.token, w.wanted = false, false
		w.version++
		w.writes++
	case !w.busy && w.passes == 0 && !w.d.pages:
		w.d.endRevocation()
	case !w.busy:
		spans := w.d.beginPass(w.passes == 0)
		if w.gap && w.passes > 0 {
			spans = w.saved
		}
		w.passes++
		w.busy = true
		for i := range worldPages {
			if slices.ContainsFunc(spans, func(s span) bool {
				return s.off <= int64(i)*page && (s.length == 0 || int64(i)*page < s.off+s.length)
			}) {
				w.sweep = append(w.sweep, i)
			}
		}
	case len(w.sweep) == 0:
		w.busy = false
		if w.d.endPass(&w.h) {
			w.d.endRevocation()
		}
		w.saved = slices.Clone(w.d.behind)
	case !w.page[w.sweep[0]].locked:
		w.page[w.sweep[0]].evict()
		w.sweep = w.sweep[1:]
	}
}

func (w *dropWorld) stale() error {
	for i, p := range w.page {
		if p.there && p.version != w.version {
			return fmt.Errorf("after write %d page %d is of version %d", w.version, i, p.version)
		}
	}
	return nil
}

// Whatever order things happen in: what the kernel has is never older than the last write, and when the programs
// stop, every READ and every revocation ends.
func TestDropsInAnyOrder(t *testing.T) {
	run := func(seed uint64, h hooks, gap bool) (writes int, err error) {
		w := &dropWorld{rnd: rand.New(rand.NewPCG(seed, 0)), h: h, gap: gap}
		for i := range 2000 {
			w.step(i > 1000)
			if err := w.stale(); err != nil {
				return w.writes, fmt.Errorf("seed %d, step %d: %w", seed, i, err)
			}
		}
		if len(w.reads) > 0 || w.wanted {
			return w.writes, fmt.Errorf("seed %d: %d READs and a revocation (%v) do not end", seed, len(w.reads), w.wanted)
		}
		return w.writes, nil
	}
	const seeds = 1000
	writes := 0
	for seed := range uint64(seeds) {
		n, err := run(seed, hooks{}, false)
		if err != nil {
			t.Fatal(err)
		}
		writes += n
	}
	if writes < 5*seeds {
		t.Errorf("only %d writes", writes)
	}
	for name, m := range map[string]struct {
		h   hooks
		gap bool
	}{
		"READs not answered yet are forgotten":     {h: hooks{onlyAnswered: true}},
		"READs between two passes are forgotten":   {gap: true},
		"pages are dropped once":                   {h: hooks{onePass: true}},
		"READs overtaken by a revocation are good": {h: hooks{noCover: true}},
		"a revocation makes older data good":       {h: hooks{lateCover: true}},
	} {
		found := false
		for seed := uint64(0); seed < seeds && !found; seed++ {
			_, err := run(seed, m.h, m.gap)
			found = err != nil
			if found {
				t.Logf("mutant: %s: %v", name, err)
			}
		}
		if !found {
			t.Errorf("mutant: %s, and this test does not notice", name)
		}
	}
}
