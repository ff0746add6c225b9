package tokens

import (
	"fmt"
	"strings"
	"testing"

	_ "echo9/internal/draws"

	"pgregory.net/rapid"
)

// TestRandomRuns plays long random stories in worlds too large to walk: three
// clients, plain ones, three objects, names, and faults of all kinds. All rules hold on
// the way, and then, without further faults, everything comes to its end. (Not with
// data fetched apart from grants: a client that is recalled faster than it fetches
// begins anew for ever, unless it uses once what it fetched, which these clients do not.
// And an unwilling client may wait for ever for what it does not give back itself.)
func TestRandomRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := drawScenario(t)
		w := newWorld(sc)
		var path []move
		do := func(v move) {
			path = append(path, v)
			if bad := w.try(v); bad != "" {
				t.Fatalf("%s\n%s", bad, tell(sc, "", path))
			}
		}
		var vs []move
		for range rapid.IntRange(0, 250).Draw(t, "moves") {
			if vs = w.moves(vs); len(vs) == 0 {
				break
			}
			do(vs[rapid.IntRange(0, len(vs)-1).Draw(t, "move")])
		}
		// No more faults. Time passes (leases end, recalls get late) only when nothing else can happen.
		rot := 0
		for n := 0; !w.finishedBut(sc.unwilling); n++ {
			if n > 5000 {
				t.Fatalf("no end\n%s", tell(sc, "", path))
			}
			var now, later []move
			for _, v := range w.moves(vs) {
				switch {
				case v.bad:
				case v.kind == mvEnd || v.kind == mvLate:
					later = append(later, v)
				case v.kind != mvGive && v.kind != mvRenew:
					now = append(now, v)
				}
			}
			if len(now) == 0 {
				now = later
			}
			if len(now) == 0 {
				t.Fatalf("stuck\n%s", tell(sc, "", path))
			}
			rot++
			do(now[rot*7919%len(now)])
		}
	})
}

func drawScenario(t *rapid.T) *scenario {
	sets := rapid.SampledFrom([]string{
		"r:X", "w:X", "r:Y", "w:Y", "w:X w:Y", "r:X w:Y", "r:Y w:X", "w:D", "r:D r:D/n", "r:D w:D/n", "w:D w:X", "r:X r:Y offer", "w:X r:Y offer", "r:X r:Y",
	})
	prog := func(max int, plain bool) string {
		var ops []string
		for _, s := range rapid.SliceOfN(sets, 1, max).Draw(t, "program") {
			if plain {
				s = strings.TrimSuffix(s, " offer")
			}
			ops = append(ops, s)
		}
		return strings.Join(ops, ", ")
	}
	n := func(max int) int { return rapid.IntRange(0, max).Draw(t, "n") }
	b := rapid.Bool()
	sc := &scenario{
		progs:  []string{prog(6, false), prog(6, false), prog(6, false)},
		plain:  []string{prog(5, true)},
		bypass: 1 + n(2), record: b.Draw(t, "record"), slow: b.Draw(t, "slow"),
		behind: b.Draw(t, "behind"), pipe: b.Draw(t, "pipe"), anybody: true,
		returns: n(2), renews: n(1), breaks: n(3), stops: n(1), ends: n(2), deaths: n(1), slows: n(2), flushes: n(2),
		unwilling: n(1),
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
