package tokens

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	_ "echo9/internal/draws"

	"pgregory.net/rapid"
)

// TestRandomRuns plays long random stories in worlds too large to walk: three
// clients, plain ones, three objects, names, restarts of the server, and faults of all kinds. All rules hold on
// the way, and then, without further faults, everything comes to its end. (Not with
// data fetched apart from grants: a client that is recalled faster than it fetches
// begins anew for ever, unless it uses once what it fetched, which these clients do not.
// And an unwilling client may wait for ever for what it does not give back itself.)
func TestRandomRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(most int) int { return rapid.IntRange(0, most).Draw(t, "n") }
		sc := drawScenario(draw)
		if path, bad := randomRun(draw, sc); bad != "" {
			t.Fatalf("%s\n%s", bad, tell(sc, "", path))
		}
	})
}

// draws gives a number from 0 to most.
type draws func(most int) int

// randomRun plays a story, and says what went wrong in it.
func randomRun(n draws, sc *scenario) (path []move, bad string) {
	w := newWorld(sc)
	do := func(v move) bool {
		path = append(path, v)
		bad = w.try(v)
		return bad == ""
	}
	var vs []move
	rare := 2 + n(10) // faults come in one of so many moves, so that something has happened before
	for range n(250) {
		vs = w.moves(vs)
		if good := slices.DeleteFunc(slices.Clone(vs), func(v move) bool { return v.bad }); len(good) > 0 && n(rare) > 0 {
			vs = good
		}
		if len(vs) == 0 {
			break
		}
		if !do(vs[n(len(vs)-1)]) {
			return path, bad
		}
	}
	// No more faults. Time passes (leases end, recalls get late, so does who was awaited) only when nothing else can happen.
	any := uniform(0) // else two might take turns for ever, and a third wait for his
	for more := 0; !w.finishedBut(sc.unwilling); more++ {
		if more > 5000 {
			return path, "no end"
		}
		var now, later []move
		for _, v := range w.moves(vs) {
			switch {
			case v.bad:
			case v.kind == mvEnd || v.kind == mvLate || v.kind == mvGrace || v.kind == mvPast:
				later = append(later, v)
			case v.kind != mvGive && v.kind != mvRenew:
				now = append(now, v)
			}
		}
		if len(now) == 0 {
			now = later
		}
		if len(now) == 0 {
			return path, "stuck"
		}
		if !do(now[any(len(now)-1)]) {
			return path, bad
		}
	}
	return path, ""
}

func drawScenario(n draws) *scenario {
	sets := []string{
		"r:X", "w:X", "r:Y", "w:Y", "w:X w:Y", "r:X w:Y", "r:Y w:X", "w:D", "r:D r:D/n", "r:D w:D/n", "w:D w:X", "r:X r:Y offer", "w:X r:Y offer", "r:X r:Y",
	}
	prog := func(most int, plain bool) string {
		var ops []string
		for range 1 + n(most-1) {
			s := sets[n(len(sets)-1)]
			if plain {
				s = strings.TrimSuffix(s, " offer")
			}
			ops = append(ops, s)
		}
		return strings.Join(ops, ", ")
	}
	b := func() bool { return n(1) == 1 }
	sc := &scenario{
		progs:  []string{prog(6, false), prog(6, false), prog(6, false)},
		plain:  []string{prog(5, true)},
		bypass: 1 + n(2), record: b(), slow: b(),
		behind: b(), pipe: b(), anybody: true,
		returns: n(2), renews: n(1), breaks: n(3), stops: n(1), ends: n(2), deaths: n(1), slows: n(2), flushes: n(2),
		unwilling: n(1), crashes: n(3), slowly: b(),
	}
	// A client that binds the name itself and has not committed that must not ask by the name.
	for i, p := range sc.progs {
		if strings.Contains(p, "w:D") {
			sc.progs[i] = strings.NewReplacer("r:D r:D/n", "r:X", "r:D w:D/n", "w:X").Replace(strings.ReplaceAll(p, "w:D/n", "r:D/n"))
		}
	}
	return sc
}

// TestRandomInputs gives a Manager any inputs, sensible or not: it keeps its
// invariants, and says nothing about sessions and requests that do not exist.
func TestRandomInputs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewManager(Config{Lease: 100, RecallDeadline: 20, Bypass: 1, MaxTokensPerSession: 3, MaxTokens: 4, MaxWaiting: 3, MaxWaitingPlain: 3,
			Record: rapid.Bool().Draw(t, "record")}, 0)
		now := int64(0)
		n := func(max int) int { return rapid.IntRange(0, max).Draw(t, "n") }
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			now += int64(n(15))
			in := Input{Kind: InKind(1 + n(int(InTick)-1)), Session: SessionID(n(3)), Req: ReqID(n(9)), ID: ID(n(3)),
				Gen: Gen(n(int(m.gen) + 1)), Keep: Mode(n(2)), Elem: n(2), Bound: n(1) == 0, N: n(3) - 1, Cut: uint64(n(4)), Applied: n(1) == 0}
			switch in.Kind {
			case InRequest:
				if m.reqs[in.Req] != nil {
					continue
				}
				for range n(3) {
					e := Elem{ID: ID(n(3)), Mode: Mode(n(2))}
					if n(3) == 0 {
						e.Name = "n"
					}
					in.Elems = append(in.Elems, e)
				}
				in.Try, in.Plain, in.Offer, in.Raise = n(3) == 0, n(2) == 0, in.Session != 0 && n(3) == 0, n(1) == 0
				if in.Offer {
					in.Plain = false
				}
			case InSessionOpen:
				if in.Session == 0 || m.sessions[in.Session] != nil {
					continue
				}
			case InCommit:
				if s := m.sessions[in.Session]; s != nil {
					in.Cut = s.lastCut + uint64(n(2))
					for id := range s.held {
						if h := m.objects[id].holding(s); n(1) == 0 {
							in.Fence = append(in.Fence, Held{id, h.gen, h.mode})
						}
					}
				}
			case InCommitted:
				s := m.sessions[in.Session]
				if s == nil || s.applying == nil || !s.applying.began {
					continue
				}
				in.Cut = s.applying.cut
			}
			for _, o := range m.Step(now, in) {
				_ = o.String()
				if o.Kind == OutRecall && m.sessions[o.Session] == nil {
					t.Fatalf("%v for a session that is not there", o)
				}
			}
			if err := m.Check(); err != nil {
				t.Fatalf("after %v: %v\n%s", in.Kind, err, strings.Join(m.table(&letters), "\n"))
			}
			if next := m.Next(); next < now-1000 {
				t.Fatalf("Next is %d at %d", next, now)
			}
		}
		// All sessions end, all that runs is done: nothing is left.
		for _, id := range sortedIDs(m.sessions) {
			m.Step(now, Input{Kind: InSessionGone, Session: id})
		}
		for _, id := range sortedIDs(m.sessions) {
			for s := m.sessions[id]; s != nil && s.applying != nil; s = m.sessions[id] {
				for _, r := range sortedIDs(m.reqs) {
					m.Step(now, Input{Kind: InDone, Req: r})
				}
				if m.sessions[id] != nil && m.sessions[id].applying != nil {
					m.Step(now, Input{Kind: InCommitted, Session: id, Cut: s.applying.cut, Applied: true})
				}
			}
		}
		for range 20 {
			for _, r := range sortedIDs(m.reqs) {
				for _, k := range []InKind{InRecorded, InDone, InCancel} {
					m.Step(now, Input{Kind: k, Req: r})
				}
			}
		}
		if s := fmt.Sprint(len(m.objects), len(m.reqs), len(m.sessions), m.tokens, m.plainWaiting); s != "0 0 0 0 0" {
			t.Fatalf("left over: %s\n%s", s, strings.Join(m.table(&letters), "\n"))
		}
	})
}
