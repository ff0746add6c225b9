package p9srv

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv/stable"
)

// A server that comes back knows its sessions; they reclaim, others wait for them, and everything goes on.
func TestRestartReclaim(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	x, y, z := l.fs.put("x", "old"), l.fs.put("y", ""), l.fs.put("z", "")
	a, b := l.client("a"), l.client("b")
	g := a.grant(writeElem(x), readElem(y))
	b.grant(readElem(y), writeElem(z))
	if r := a.commit(1, fenceOf(g), dataOf(x, "one")); r.Status != wire.CommitApplied {
		t.Fatal(r)
	}
	first := a.s
	l.restart()
	plain := l.asks("x")
	r := a.comeBack()
	if want := wire.SessionResume | wire.SessionGrace; r.Flags != want || r.Session != first.Session || r.Epoch <= first.Epoch ||
		r.LastCut != 1 || len(r.Lost) != 0 || r.Root.Path != 1 || r.Lease == 0 || r.UID != uint32(os.Geteuid()) {
		t.Errorf("resumed: %+v", r)
	}
	// What it had under the old epoch counts for nothing; what it reclaims does, in the grace period already.
	if r := a.commit(2, fenceOf(g), dataOf(x, "two")); r.Status != wire.CommitFenced {
		t.Errorf("a cut under an old generation: %v", r)
	}
	got := a.reclaim(-int(x), int(y), -999)
	wantModes(t, "a", got, 2, 1, 0)
	a.do(&wire.Treturn{Tokens: []wire.ReturnElem{{ID: x, Gen: g.Tokens[0].Gen}}})
	if st := l.a.Status(); st.CutsFenced != 1 || st.Stale != 1 || st.Reclaimed != 2 {
		t.Errorf("counted: %d fenced, %d stale, %d reclaimed", st.CutsFenced, st.Stale, st.Reclaimed)
	}
	if got[0].Gen < r.Epoch<<32 || got[0].Flags != 0 {
		t.Errorf("reclaimed: %+v", got[0])
	}
	if r := a.commit(2, fenceFor(got[0]), dataOf(x, "two"),
		cut.Record{Kind: cut.Create, ID: first.IDs.First, Mode: syscall.S_IFREG | 0o600}); r.Status != wire.CommitApplied {
		t.Errorf("a cut in the grace period, with an id of a range from before: %v", r)
	}
	wantModes(t, "again", a.reclaim(-int(x)), 2)
	a.do(&wire.Tbind{Fid: 7, ID: z, UID: wire.NoUID}) // open again, and not reclaimed
	a.complete()
	if plain.answered() {
		t.Error("a plain client is answered in the grace period")
	}
	b.comeBack()
	l.fs.mu.Lock()
	l.fs.nodes[z].version++ // somebody on the host
	l.fs.mu.Unlock()
	m := &wire.Tgrant{Flags: wire.GrantReclaim, Elems: []wire.GrantElem{{ID: z, Mode: 2, Version: 0}}}
	if r, ok := b.do(m).(*wire.Rgrant); !ok || r.Tokens[0].Mode != 2 || r.Tokens[0].Flags != wire.GrantedChanged {
		t.Errorf("a version that is another one: %v", r)
	}
	b.complete()
	a.start(1, &wire.Trecall{})
	if plain.answered() {
		t.Error("a plain client is answered while somebody holds what it asks for")
	}
	a.giveBack(recallOf(t, a.reply(1)))
	eventually(t, "the plain client goes on", plain.answered)
}

// While nobody is known, nothing waits. A session that was ended is not known.
func TestNoSessionsNoGrace(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	l.fs.put("x", "")
	l.client("a").do(&wire.Tsession{Flags: wire.SessionEnd})
	l.set(false, nil) // a moment later
	l.restart()
	if !l.asks("x").within(patience) || l.a.gate.managed.Load() {
		t.Error("a plain client waits for nobody")
	}
}

// A stop in good order ends no session.
func TestCloseKeepsSessions(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	x := l.fs.put("x", "")
	a := l.client("a")
	a.grant(writeElem(x))
	l.s.Close()
	l.a.Close()
	l.start()
	if r := a.comeBack(); r.Flags&wire.SessionResume == 0 || len(l.fs.ended) != 0 {
		t.Errorf("after a stop: %v, ended %v", r, l.fs.ended)
	}
	wantModes(t, "after a stop", a.reclaim(-int(x)), 2)
}

// The secret is asked for in a new life as well; an unknown client gets a new session.
func TestRestartSecrets(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	a := l.client("a")
	l.restart()
	thief := &extClient{rawClient: dialServer(t, l.s), got: map[uint16]wire.Message{}}
	thief.version(1<<16, wire.ExtVersion)
	m := a.tsession(wire.SessionResume)
	m.Secret[0]++
	if r := thief.do(m); syscall.Errno(rlerrno(r)) != syscall.EPERM {
		t.Errorf("a wrong secret: %v", r)
	}
	m = (&traveller{l: l, name: "unknown"}).tsession(wire.SessionResume)
	if r, ok := thief.do(m).(*wire.Rsession); !ok || r.Flags&wire.SessionResume != 0 || r.Session <= a.s.Session {
		t.Errorf("nobody knows it: %v", r)
	}
}

// The server dies again in its grace period: nobody has missed anything.
func TestSecondCrashInGrace(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	x, y := l.fs.put("x", ""), l.fs.put("y", "")
	a, b := l.client("a"), l.client("b")
	a.grant(writeElem(x))
	b.grant(writeElem(y))
	l.restart()
	a.comeBack()
	wantModes(t, "a", a.reclaim(-int(x)), 2)
	a.complete()
	epoch := a.s.Epoch
	l.restart()
	b.comeBack()
	wantModes(t, "b", b.reclaim(-int(y)), 2)
	if a.comeBack(); a.s.Epoch <= epoch {
		t.Errorf("epoch %d after %d", a.s.Epoch, epoch)
	}
	wantModes(t, "a again", a.reclaim(-int(x)), 2)
}

// graceOver lets the grace period end by its time.
func (l *lives) graceOver() {
	l.t.Helper()
	l.pass(11 * time.Second)
	eventually(l.t, "the grace period ends", func() bool { return !l.a.inGrace() })
}

func (a *Authority) inGrace() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.grace
}

// Who misses the grace period reclaims late what nobody was granted in conflict, and in the next epoch only
// if he has completed that.
func TestLateReclaim(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	x, y, z := l.fs.put("x", ""), l.fs.put("y", ""), l.fs.put("z", "")
	a := l.client("a")
	a.grant(writeElem(x), writeElem(y), readElem(z))
	l.restart()
	plain := l.asks("x")
	l.graceOver()
	eventually(t, "the plain client is answered", plain.answered) // it read the root and x
	r := a.comeBack()
	if r.Flags != wire.SessionResume {
		t.Errorf("late: flags %d", r.Flags)
	}
	wantModes(t, "late", a.reclaim(-int(x), -int(y), int(z), -1), 1, 2, 1, 1) // what was read, for reading
	l.restart()
	a.comeBack()
	wantModes(t, "missed, and never completed", a.reclaim(-int(y), int(z)), 0, 0)
	a.complete() // durable when it is answered
	a.grant(writeElem(y))
	l.restart()
	a.comeBack()
	wantModes(t, "after it had completed late", a.reclaim(-int(y)), 2)
}

// completesLate: a misses a grace period, comes back, and says that it has reclaimed all while the store stalls. It tells whether
// a is answered before that is on record: then its lease would count, and after another crash nobody would wait for it.
func completesLate(t *testing.T, mut mutant) (early bool) {
	l := newLives(t, AuthorityConfig{})
	x := l.fs.put("x", "")
	a := l.client("a")
	a.grant(writeElem(x))
	l.restart()
	l.graceOver()
	a.comeBack()
	wantModes(t, "late", a.reclaim(-int(x)), 2)
	l.a.breaks(mut)
	l.set(true, nil)
	said := make(chan wire.Message, 1)
	go func() { said <- a.do(&wire.Tgrant{Flags: wire.GrantReclaimComplete}) }()
	select {
	case <-said:
		return true
	case <-time.After(mut.during()):
	}
	l.set(false, nil)
	if m, ok := (<-said).(*wire.Rgrant); !ok {
		t.Errorf("when it is on record, it is answered with %v", m)
	}
	l.restart()
	if !l.a.inGrace() {
		t.Error("nobody waits for a session that had completed its reclaims")
	}
	a.comeBack()
	wantModes(t, "in the next life", a.reclaim(-int(x)), 2)
	return false
}

func TestLateCompletionIsDurable(t *testing.T) {
	if completesLate(t, mutantNone) {
		t.Error("who has reclaimed late is told so before that is on record")
	}
	if !completesLate(t, mutantNoRecord) {
		t.Error("an answer that does not wait for the record does not show")
	}
}

// missedAndGranted: a misses a grace period, another gets what it had and gives it back, and the server dies again. It
// tells whether a reclaims it then.
func missedAndGranted(t *testing.T, mut mutant) bool {
	l := newLives(t, AuthorityConfig{})
	x := l.fs.put("x", "")
	a := l.client("a")
	a.grant(writeElem(x))
	l.mut = mut
	l.restart()
	b := l.client("b")
	b.start(9, &wire.Tgrant{Elems: []wire.GrantElem{writeElem(x)}})
	if mut != mutantNoGrace {
		b.quiet(9)
		l.graceOver()
		b.do(b.tsession(wire.SessionResume)) // its lease is over, too
		b.do(&wire.Tgrant{Elems: []wire.GrantElem{writeElem(x)}})
	} else if _, ok := b.reply(9).(*wire.Rgrant); !ok {
		t.Error("without a grace period it is not granted either")
	}
	b.do(&wire.Tsession{Flags: wire.SessionEnd})
	l.restart()
	a.comeBack()
	return a.reclaim(-int(x))[0].Mode != 0
}

func TestWhoMissedItIsRecorded(t *testing.T) {
	if missedAndGranted(t, mutantNone) {
		t.Error("what another was granted is reclaimed two lives later")
	}
	for _, m := range []mutant{mutantNoMissed, mutantNoGrace} {
		if !missedAndGranted(t, m) {
			t.Errorf("mutant %d does not show", m)
		}
	}
}

// takenAway: a's lease is over, and a plain client wants what it has, while the store stalls. It tells whether
// the plain client is answered before anything is durable.
func takenAway(t *testing.T, mut mutant) (l *lives, a *traveller, x uint64, plain asked, early bool) {
	l = newLives(t, AuthorityConfig{})
	x = l.fs.put("x", "")
	a = l.client("a")
	a.grant(writeElem(x))
	l.a.breaks(mut)
	a.nc.Close()
	l.pass(11 * time.Second)
	l.set(true, nil)
	plain = l.asks("x")
	return l, a, x, plain, plain.within(mut.during())
}

// What is taken away is on record before anybody else gets it.
func TestRevocationIsDurableBeforeTheGrant(t *testing.T) {
	l, a, x, plain, early := takenAway(t, mutantNone)
	if early {
		t.Fatal("granted before it was on record what was taken for it")
	}
	l.set(false, nil)
	eventually(t, "it is granted when it is on record", plain.answered)
	l.restart()
	if r := a.comeBack(); len(r.Lost) != 1 || r.Lost[0] != (wire.LostToken{ID: x, Left: 1}) {
		t.Errorf("after a restart it is told of %v", r.Lost)
	}
	wantModes(t, "of what was taken, what was left", a.reclaim(-int(x)), 1)
	a.complete()
	l.set(false, nil) // a moment later
	l.restart()
	if r := a.comeBack(); len(r.Lost) != 0 {
		t.Errorf("it knew, and is told again: %v", r.Lost)
	}
	if _, _, _, _, early := takenAway(t, mutantNoRecord); !early {
		t.Error("a grant that does not wait for the record does not show")
	}
}

// What was taken and is granted to the same session again is off the record by then: it does not count as taken in the next life.
func TestGrantedAgain(t *testing.T) {
	l, a, x, plain, _ := takenAway(t, mutantNone)
	l.set(false, nil)
	eventually(t, "somebody else has it", plain.answered)
	if r := a.comeBack(); len(r.Lost) != 1 {
		t.Fatalf("told of %v", r.Lost)
	}
	l.set(true, nil)
	a.start(3, &wire.Tgrant{Elems: []wire.GrantElem{writeElem(x)}})
	a.quiet(3)
	l.set(false, nil)
	if r, ok := a.reply(3).(*wire.Rgrant); !ok || r.Tokens[0].Mode != 2 {
		t.Fatalf("again: %v", r)
	}
	l.restart()
	if r := a.comeBack(); len(r.Lost) != 0 {
		t.Errorf("it had it again, and is told of %v", r.Lost)
	}
	wantModes(t, "what it had again", a.reclaim(-int(x)), 2)
}

// The server dies between the taking and its record: nobody got anything, and it is reclaimed.
func TestDeathBeforeTheRecord(t *testing.T) {
	l, a, x, plain, _ := takenAway(t, mutantNone)
	l.restart()
	if r := a.comeBack(); len(r.Lost) != 0 {
		t.Errorf("told of %v", r.Lost)
	}
	wantModes(t, "what nobody else got", a.reclaim(-int(x)), 2)
	if plain.answered() {
		t.Error("the dead server answers")
	}
}

// The server dies between the record and the grant: it counts as taken.
func TestDeathAfterTheRecord(t *testing.T) {
	l, a, x, _, _ := takenAway(t, mutantNone)
	l.mu.Lock()
	for _, n := range l.life.waiting {
		for i := range n.records {
			l.stable.Apply(&n.records[i])
		}
	}
	l.mu.Unlock()
	l.restart()
	if r := a.comeBack(); len(r.Lost) != 1 {
		t.Errorf("told of %v", r.Lost)
	}
	wantModes(t, "of what is on record as taken, what was left", a.reclaim(-int(x)), 1)
}

// A store that fails: what was asked is refused, nothing is half believed, and all goes on when it works again.
func TestStoreFails(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	x := l.fs.put("x", "")
	a, b := l.client("a"), l.client("b")
	g := a.grant(writeElem(x))
	b.start(1, &wire.Trecall{})
	disk := fmt.Errorf("%w: %w", errDisk, syscall.ENOSPC)
	l.set(false, disk)
	for _, m := range []wire.Message{&wire.Trenew{Flags: wire.RenewPending}, &wire.Trenew{Flags: wire.RenewIDs}} {
		if r := a.do(m); syscall.Errno(rlerrno(r)) != syscall.ENOSPC {
			t.Errorf("%v: %v", m, r)
		}
	}
	if _, ok := a.do(&wire.Trenew{}).(*wire.Rrenew); !ok {
		t.Error("the lease cannot be extended")
	}
	n := &extClient{rawClient: dialServer(t, l.s), got: map[uint16]wire.Message{}}
	n.version(1<<16, wire.ExtVersion)
	open := (&traveller{l: l, name: "new"}).tsession(0)
	if r := n.do(open); syscall.Errno(rlerrno(r)) != syscall.ENOSPC {
		t.Errorf("a session is opened that nobody would know: %v", r)
	}
	if r := a.commit(1, fenceOf(g), dataOf(x, "1")); r.Status != wire.CommitApplied {
		t.Errorf("cuts have nothing to do with it: %v", r)
	}
	a.nc.Close()
	l.pass(5 * time.Second)
	b.do(&wire.Trenew{})
	l.pass(6 * time.Second)
	if r := b.do(&wire.Tgrant{Elems: []wire.GrantElem{writeElem(x)}}); syscall.Errno(rlerrno(r)) != syscall.ENOSPC {
		t.Errorf("a grant of what cannot be put on record as taken: %v", r)
	}
	b.start(9, &wire.Tgrant{Elems: []wire.GrantElem{writeElem(x)}})
	b.quiet(9) // nobody has it until then
	l.set(false, nil)
	if r, ok := b.reply(9).(*wire.Rgrant); !ok || r.Tokens[0].Mode != 2 {
		t.Errorf("when the store works again: %v", r)
	}
	if _, ok := n.do(open).(*wire.Rsession); !ok {
		t.Error("no session when the store works again")
	}
	if r := a.comeBack(); len(r.Lost) != 1 {
		t.Errorf("a is told of %v", r.Lost)
	}
	l.restart()
	if r := a.comeBack(); r.LastCut != 1 {
		t.Errorf("last cut %d", r.LastCut)
	}
}

// The grace period does not end before it is on record who missed it.
func TestStoreFailsAtTheEndOfGrace(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	l.fs.put("x", "")
	l.client("a")
	l.restart()
	l.set(false, errDisk)
	plain := l.asks("x")
	l.pass(11 * time.Second)
	time.Sleep(100 * time.Millisecond)
	if plain.answered() {
		t.Fatal("the grace period ends without a record")
	}
	l.set(false, nil)
	eventually(t, "it ends when that can be written", plain.answered)
}

// Work that was pending when a client died is told to its user, once, over restarts too.
func TestDeaths(t *testing.T) {
	l := newLives(t, AuthorityConfig{Courtesy: time.Minute})
	uid := uint32(os.Geteuid())
	a, b := l.client("a"), l.client("b")
	a.do(&wire.Trenew{Flags: wire.RenewPending})
	b.do(&wire.Trenew{Flags: wire.RenewPending})
	b.do(&wire.Trenew{})
	l.set(false, nil)
	if d := l.a.Deaths(uid); len(d) != 0 {
		t.Errorf("they live: %v", d)
	}
	l.restart()
	l.graceOver()
	if d := l.a.Deaths(uid); len(d) != 1 || d[0].Name != "a" || !d[0].Away {
		t.Errorf("away: %+v", d)
	}
	l.pass(2 * time.Minute)
	eventually(t, "they are forgotten", func() bool { return len(l.a.Status().Sessions) == 0 })
	l.restart()
	d := l.a.Deaths(uid)
	if len(d) != 1 || d[0].Name != "a" || d[0].Away || len(l.a.Deaths(uid+1)) != 0 {
		t.Errorf("dead: %+v", d)
	}
	l.a.DeathsTold(d)
	if d := l.a.Deaths(uid); len(d) != 0 {
		t.Errorf("told, and told again: %v", d)
	}
	l.client("c") // makes durable what was noted
	l.restart()
	if d := l.a.Deaths(uid); len(d) != 0 {
		t.Errorf("told, and told again in another life: %v", d)
	}
}

// A session that did not come back for long is forgotten, and that is durable before others get what it had.
func TestForgottenIsDurable(t *testing.T) {
	l := newLives(t, AuthorityConfig{Courtesy: time.Minute})
	x := l.fs.put("x", "")
	a := l.client("a")
	a.grant(writeElem(x))
	a.nc.Close()
	eventually(t, "it is away", func() bool { return !l.a.Status().Sessions[0].Connected })
	l.pass(11 * time.Second)
	eventually(t, "its lease is over", func() bool { return l.a.count.expired.Load() == 1 })
	l.set(true, nil)
	l.pass(2 * time.Minute)
	time.Sleep(100 * time.Millisecond)
	if n := len(l.a.Status().Sessions); n != 1 {
		t.Errorf("%d sessions: it is forgotten before that is durable", n)
	}
	l.set(false, nil)
	eventually(t, "it is forgotten", func() bool { return len(l.a.Status().Sessions) == 0 })
	r := a.comeBack()
	if r.Flags&wire.SessionResume != 0 || r.LastCut != 0 {
		t.Errorf("it is remembered: %+v", r)
	}
	l.restart()
	if known := l.life.Known(); len(known.Sessions) != 1 || known.Sessions[r.Session] == nil {
		t.Errorf("known: %+v", known.Sessions)
	}
}

// When there are too many sessions, who has been away for the longest past his lease makes room; nobody who is there does.
func TestTooManySessions(t *testing.T) {
	l := newLives(t, AuthorityConfig{MaxSessions: 2})
	a, b := l.client("a"), l.client("b")
	c := &traveller{&extClient{rawClient: dialServer(t, l.s), got: map[uint16]wire.Message{}}, l, "c"}
	c.version(1<<16, wire.ExtVersion)
	if r := c.do(c.tsession(0)); syscall.Errno(rlerrno(r)) != syscall.EAGAIN {
		t.Errorf("a third one: %v", r)
	}
	a.do(&wire.Trenew{Flags: wire.RenewPending})
	a.nc.Close()
	eventually(t, "a is away", func() bool { return !l.a.Status().Sessions[0].Connected })
	l.pass(11 * time.Second)
	eventually(t, "the leases are over", func() bool { return l.a.count.expired.Load() == 2 })
	b.nc.Close()
	eventually(t, "b is away", func() bool { return !l.a.Status().Sessions[1].Connected })
	if r, ok := c.do(c.tsession(0)).(*wire.Rsession); !ok {
		t.Errorf("there is room: %v", r)
	}
	eventually(t, "b has made room", func() bool { return len(l.a.Status().Sessions) == 2 })
	if st := l.a.Status().Sessions[0]; st.Name != "a" {
		t.Errorf("left: %+v", st) // a has work pending
	}
}

// A client whose process is dead when the server comes back is not waited for.
func TestDeadClientsAreNotAwaited(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	l.fs.put("x", "")
	a := l.client("a")
	a.do(&wire.Trenew{Flags: wire.RenewPending})
	l.mu.Lock()
	if l.stable.Sessions[a.s.Session].Proc == "" {
		t.Fatal("its process is not on record")
	}
	l.stable.Sessions[a.s.Session].Proc = "another-boot 1 1"
	l.mu.Unlock()
	l.restart()
	if !l.asks("x").within(patience) {
		t.Error("a plain client waits for the dead")
	}
	if d := l.a.Deaths(uint32(os.Geteuid())); len(d) != 1 || d[0].Name != "a" {
		t.Errorf("deaths: %+v", d)
	}
}

// Many sessions with many tokens are back within the grace period.
func TestManyComeBack(t *testing.T) {
	sessions, tokens := 50, 400
	if os.Getenv("ECHO9_FULL") != "" {
		sessions, tokens = 1000, 1000
	}
	const shared = 20 // by how many sessions each file is read
	l := newLives(t, AuthorityConfig{})
	var files []uint64
	for i := range sessions * tokens / shared {
		files = append(files, l.fs.put(fmt.Sprintf("f%d", i), ""))
	}
	var all []*traveller
	for i := range sessions {
		all = append(all, l.client(fmt.Sprint("client", i)))
	}
	l.restart()
	begin := time.Now()
	var wg sync.WaitGroup
	for i, c := range all {
		files := files[i*tokens%len(files):][:tokens]
		wg.Go(func() {
			c.comeBack()
			m := &wire.Tgrant{Flags: wire.GrantReclaim}
			for _, id := range files {
				m.Elems = append(m.Elems, readElem(id))
			}
			if r, ok := c.do(m).(*wire.Rgrant); !ok || r.Tokens[len(files)-1].Mode != 1 {
				t.Errorf("%s: %v", c.name, r)
			}
			c.complete()
		})
	}
	wg.Wait()
	if !l.asks("f0").within(patience) {
		t.Error("the grace period is not over")
	}
	took := time.Since(begin)
	t.Logf("%d sessions with %d tokens each were back after %v", sessions, tokens, took)
	limit := l.a.cfg.Grace
	if os.Getenv("ECHO9_FULL") == "" {
		limit = patience // a busy machine, which lets this run little
	}
	if took > limit {
		t.Errorf("it took %v", took)
	}
}

// What is on record is forgotten when it is out of date: a session's life leaves nothing behind.
func TestRecordsAreForgotten(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	a := l.client("a")
	a.do(&wire.Trenew{Flags: wire.RenewPending | wire.RenewIDs})
	a.do(&wire.Tsession{Flags: wire.SessionEnd})
	l.client("b").do(&wire.Tsession{Flags: wire.SessionEnd})
	l.set(false, nil)
	known := l.life.Known()
	if want := stable.NewState(); len(known.Sessions) != len(want.Sessions) || len(known.Deaths) != 0 {
		t.Errorf("left: %+v", known)
	}
}
