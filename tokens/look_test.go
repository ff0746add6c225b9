package tokens

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// counted walks over all that there is.
func (m *Manager) counted(s SessionID) (n Counts) {
	for _, o := range m.objects {
		for i := range o.holders {
			h := &o.holders[i]
			if h.s.id != s {
				continue
			}
			n.Tokens++
			if h.mode == Write {
				n.Writes++
			}
			if h.recalled {
				if n.Recalled == 0 || h.at < n.Since {
					n.Since = h.at
				}
				n.Recalled++
			}
		}
	}
	return n
}

// inTheWay asks each session that there is.
func (m *Manager) inTheWay(id ReqID) (all []SessionID) {
	r := m.reqs[id]
	for _, s := range sortedIDs(m.sessions) {
		for i := range r.set {
			if h := r.set[i].o.holding(m.sessions[s]); h != nil && h.s != r.session && Conflict(h.mode, r.set[i].mode) {
				all = append(all, s)
				break
			}
		}
	}
	return all
}

// TestCounts: after each step of random histories what a status shows is what a walk over all finds; and what it shows wrong
// without the counting of each change is found.
func TestCounts(t *testing.T) {
	for _, off := range []rulesOff{{}, {countWrites: true}, {oldestRecall: true}} {
		found := ""
		rapid.Check(t, func(t *rapid.T) {
			if bad := miscounted(t, off); bad != "" && off == (rulesOff{}) {
				t.Fatal(bad)
			} else if bad != "" {
				found = bad
			}
		})
		if off != (rulesOff{}) && found == "" {
			t.Errorf("%+v: nothing was found", off)
		}
	}
}

// miscounted plays a history, and says what was told wrongly in it.
func miscounted(t *rapid.T, off rulesOff) string {
	n := func(max int) int { return rapid.IntRange(0, max).Draw(t, "n") }
	m := NewManager(Config{Lease: 200, RecallDeadline: 50, RecallLimit: 100}, 0)
	m.off = off
	now, next := int64(0), ReqID(0)
	var unsent []ReqID
	step := func(in Input) {
		for _, o := range m.Step(now, in) {
			if o.Kind == OutGranted {
				unsent = append(unsent, o.Req)
			}
		}
	}
	for s := SessionID(1); s <= 3; s++ {
		step(Input{Kind: InSessionOpen, Session: s})
		step(Input{Kind: InPosted, Session: s, N: 1000})
	}
	for range rapid.IntRange(1, 100).Draw(t, "steps") {
		in := Input{Session: SessionID(1 + n(2)), ID: ID(1 + n(3)), Gen: 1 << 40, Keep: Mode(n(1))}
		switch k := n(15); {
		case k < 7:
			in.Kind, in.Req, in.Plain = InRequest, next, n(9) == 0
			next++
			for range 1 + n(1) {
				in.Elems = append(in.Elems, Elem{ID: ID(1 + n(3)), Mode: Mode(1 + n(1))})
			}
		case k < 12:
			in.Kind = InReturn
		case k == 12:
			now += int64(n(60))
			in.Kind = InTick
		case k == 13:
			in.Kind = InConnected
		case k == 14:
			in.Kind = InDisconnected
		default:
			if in.Kind = InSessionGone; n(3) > 0 {
				continue
			}
		}
		step(in)
		for len(unsent) > 0 {
			r := unsent[0]
			unsent = unsent[1:]
			if q := m.reqs[r]; q != nil && q.plain {
				step(Input{Kind: InDone, Req: r})
			} else {
				step(Input{Kind: InSent, Req: r})
			}
		}
		for s := SessionID(1); s <= 3; s++ {
			if got, want := m.Counts(s), m.counted(s); got != want {
				return fmt.Sprintf("at %d session %d has %+v, and %+v is told\n%s", now, s, want, got, strings.Join(m.table(&letters), "\n"))
			}
		}
		var told []ReqID
		m.Waiting(func(r ReqID) bool { told = append(told, r); return true })
		for _, r := range told {
			if got, want := m.InTheWay(r, 10, nil), m.inTheWay(r); !slices.Equal(got, want) {
				return fmt.Sprintf("sessions %v are in the way of %d, and %v are told of\n%s", want, r, got, strings.Join(m.table(&letters), "\n"))
			}
		}
	}
	return ""
}

// populous is a Manager with so many sessions, each of which has so many tokens, every fourth for writing.
func populous(sessions, each int) *Manager {
	m := NewManager(Config{Lease: 1 << 60, MaxTokens: 2_000_000}, 0)
	elems := make([]Elem, 100)
	for s := range sessions {
		id := SessionID(s + 1)
		m.Step(0, Input{Kind: InSessionOpen, Session: id})
		m.Step(0, Input{Kind: InPosted, Session: id, N: 2})
		for first := 0; first < each; first += len(elems) {
			for i := range elems {
				elems[i] = Elem{ID: ID(1 + s*each + first + i), Mode: Read}
				if i%4 == 0 {
					elems[i].Mode = Write
				}
			}
			m.Step(0, Input{Kind: InRequest, Session: id, Req: 1, Elems: elems})
			m.Step(0, Input{Kind: InSent, Req: 1})
		}
	}
	return m
}

func heapInUse() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// maxTokenBytes is what a token may take in the Manager: the server has nothing else for each.
const maxTokenBytes = 300

// TestTokenBytes: tokens are small, and what is told of a session costs the same however many it has.
func TestTokenBytes(t *testing.T) {
	before := heapInUse()
	m := populous(100, 2000)
	each := float64(heapInUse()-before) / float64(m.tokens)
	if m.tokens != 200_000 || each > maxTokenBytes {
		t.Errorf("%d tokens, each in %.0f bytes, at most %d are wanted", m.tokens, each, maxTokenBytes)
	}
	if n := m.Counts(3); n != (Counts{Tokens: 2000, Writes: 500}) {
		t.Errorf("a session has %+v", n)
	}
	if allocs := testing.AllocsPerRun(10, func() { m.Counts(3) }); allocs != 0 {
		t.Errorf("to tell that cost %v allocations", allocs)
	}
	t.Logf("%.0f bytes a token", each)
}

// BenchmarkCounts is what a status asks of a Manager with a million tokens of a thousand sessions.
func BenchmarkCounts(b *testing.B) {
	before := heapInUse()
	m := populous(1000, 1000)
	each := float64(heapInUse()-before) / float64(m.tokens)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		for s := range m.sessions {
			m.Counts(s)
		}
	}
	b.ReportMetric(each, "B/token")
}
