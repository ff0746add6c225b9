package p9srv

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/tokens"
)

// stock gives a session of the manager so many tokens, every fourth for writing, as if its client had asked for them.
func (a *Authority) stock(s, first uint64, tokensEach int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	elems := make([]tokens.Elem, tokensEach)
	for i := range elems {
		elems[i] = tokens.Elem{ID: first + uint64(i), Mode: tokens.Read}
		if i%4 == 0 {
			elems[i].Mode = tokens.Write
		}
	}
	now, id := a.cfg.Clock(), a.lastReq+1
	a.lastReq = id
	a.m.Step(now, tokens.Input{Kind: tokens.InRequest, Session: tokens.SessionID(s), Req: id, Elems: elems})
	a.m.Step(now, tokens.Input{Kind: tokens.InSent, Req: id})
}

// A status costs what the sessions are, not what they hold.
func TestStatusCostsWhatSessionsAre(t *testing.T) {
	s, a, _ := newAuthorityServer(t, AuthorityConfig{})
	var all []uint64
	for i := range 20 {
		all = append(all, dialExt(t, s, fmt.Sprint("client ", i)).s.Session)
	}
	cost := func(f func()) float64 { return testing.AllocsPerRun(20, f) }
	status := func() { a.Status() }
	walk := func() { // as it was once
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, s := range all {
			a.m.HeldBy(tokens.SessionID(s), nil)
		}
	}
	few, fewWalked := cost(status), cost(walk)
	for i, s := range all {
		a.stock(s, uint64(1000+i*1000), 1000)
	}
	st := a.Status()
	for _, s := range st.Sessions {
		if s.Tokens != 1000 || s.Writes != 250 {
			t.Errorf("session %d is said to have %d tokens, %d of them for writing", s.ID, s.Tokens, s.Writes)
		}
	}
	if many := cost(status); many > few+5 {
		t.Errorf("a status costs %v allocations with 20,000 tokens, %v without any", many, few)
	}
	if many := cost(walk); many <= fewWalked+5 {
		t.Errorf("the measure does not see a walk: %v, %v", many, fewWalked)
	}
}

// Of those who wait a status shows the first some, and says that there are more.
func TestStatusShowsWhoWaitsLongest(t *testing.T) {
	now := newClock()
	s, a, fs := newAuthorityServer(t, AuthorityConfig{Clock: now.Load})
	x := fs.put("x", "")
	w := dialExt(t, s, "writer")
	w.grant(writeElem(x))
	waiter := dialExt(t, s, "waiter")
	for i := range maxShown + 20 {
		waiter.start(uint16(i), &wire.Tgrant{Elems: []wire.GrantElem{readElem(x)}})
		waiter.start(59999, &wire.Trenew{}) // it has come
		waiter.reply(59999)
		now.Add(int64(time.Millisecond))
		if i == maxShown-1 && a.Status().More {
			t.Errorf("%d wait, and there are said to be more than are shown", i+1)
		}
	}
	st := a.Status()
	if len(st.Waiting) != maxShown || !st.More || !strings.Contains(st.String(), "more than these") {
		t.Fatalf("%d are shown, more: %v", len(st.Waiting), st.More)
	}
	if !slices.IsSortedFunc(st.Waiting, func(x, y WaitStatus) int { return int(y.Since - x.Since) }) || st.Waiting[0].Since != (maxShown+20)*time.Millisecond {
		t.Errorf("the first has waited for %v, the last for %v", st.Waiting[0].Since, st.Waiting[maxShown-1].Since)
	}
	if f := st.Waiting[0].For; !slices.Equal(f, []uint64{w.s.Session}) {
		t.Errorf("they wait for %v", f)
	}
}

// memoryInUse is that of this process, when what is not used any more is not counted.
func memoryInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// idleSessions begins sessions that do nothing, and tells what each takes in the server, the client's end of the connection included.
func idleSessions(t testing.TB, s *Server, n int) (all []*extClient, each float64) {
	before := memoryInUse()
	for i := range n {
		c := dialExt(t, s, fmt.Sprint("client ", i))
		c.rd = nil // the client's buffer
		all = append(all, c)
	}
	return all, float64(memoryInUse()-before) / float64(n)
}

// A session that does nothing is small.
func TestIdleSessionIsSmall(t *testing.T) {
	s, _, _ := newAuthorityServer(t, AuthorityConfig{Logf: func(string, ...any) {}})
	const most = 30 << 10
	all, each := idleSessions(t, s, 200)
	if t.Logf("%.0f bytes a session", each); each > most && !raceEnabled {
		t.Errorf("%d sessions, each in %.0f bytes, at most %d are wanted", len(all), each, most)
	}
}

// BenchmarkStatus is a status of a thousand sessions with a million tokens, and how long others wait for it.
func BenchmarkStatus(b *testing.B) {
	s, a, fs := newAuthorityServer(b, AuthorityConfig{Logf: func(string, ...any) {}})
	x := fs.put("x", "")
	const sessions, each = 1000, 1000
	all, session := idleSessions(b, s, sessions)
	before := memoryInUse()
	for i, c := range all {
		a.stock(c.s.Session, uint64(1000+i*each), each)
	}
	token := float64(memoryInUse()-before) / (sessions * each)

	var stop atomic.Bool
	waited := make(chan []time.Duration)
	go func() { // somebody who reads a file meanwhile
		var all []time.Duration
		for len(all) == 0 || !stop.Load() {
			begin := time.Now()
			t, _ := a.Admit(0, []tokens.Elem{{ID: x, Mode: tokens.Read}}, nil)
			t.Done()
			all = append(all, time.Since(begin))
			time.Sleep(50 * time.Microsecond)
		}
		waited <- all
	}()
	b.ReportAllocs()
	b.ResetTimer()
	var took time.Duration
	for range b.N {
		begin := time.Now()
		a.Status()
		took += time.Since(begin)
		time.Sleep(5 * time.Millisecond)
	}
	stop.Store(true)
	w := <-waited
	slices.Sort(w)
	b.ReportMetric(float64(w[len(w)/2].Nanoseconds())/1e3, "µs-wait")
	b.ReportMetric(float64(w[len(w)*99/100].Nanoseconds())/1e3, "µs-wait-p99")
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(session, "B/session")
	b.ReportMetric(token, "B/token")
}
