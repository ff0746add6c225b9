package p9srv

import (
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
)

// lock locks a whole file, or gives it back.
func (c *extClient) lock(id uint64, typ uint8, flags uint32) wire.LockStatus {
	c.t.Helper()
	m := c.lockMessage(id, typ, flags)
	r, ok := c.do(m).(*wire.Rlock)
	if !ok {
		c.t.Fatal("Tlock is not answered by Rlock")
	}
	return r.Status
}

// lockMessage asks for a lock on the whole file, by a fid that has the file's number.
func (c *extClient) lockMessage(id uint64, typ uint8, flags uint32) *wire.Tlock {
	c.t.Helper()
	c.do(&wire.Tbind{Fid: uint32(id), ID: id, Flags: wire.BindNoOpen, UID: wire.NoUID}) // once is enough
	return &wire.Tlock{Fid: uint32(id), Lock: wire.Lock{Type: typ, Flags: flags, ProcID: 1, ClientID: "c"}}
}

func (c *extClient) wantLock(what string, id uint64, typ uint8, flags uint32, want wire.LockStatus) {
	c.t.Helper()
	if got := c.lock(id, typ, flags); got != want {
		c.t.Errorf("%s: status %d, want %d", what, got, want)
	}
}

const claim = wire.LockFlagReclaim

// A session's locks outlive its connection, and are in others' way as long as its lease lasts.
func TestLocksOutliveConnections(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	x := l.fs.put("x", "")
	a, b := l.client("a"), l.client("b")
	a.wantLock("a locks", x, wire.LockWrite, 0, wire.LockSuccess)
	a.nc.Close()
	eventually(t, "a is away", func() bool { return !l.a.Status().Sessions[0].Connected })
	b.wantLock("a's lease lasts", x, wire.LockRead, 0, wire.LockBlocked)
	a.comeBack()
	a.wantLock("a claims it", x, wire.LockWrite, claim, wire.LockSuccess)
	b.wantLock("a is back", x, wire.LockRead, 0, wire.LockBlocked)
	a.wantLock("a gives it back", x, wire.LockUnlock, 0, wire.LockSuccess)
	b.wantLock("nobody has it", x, wire.LockRead, 0, wire.LockSuccess)
	// A clunk of the fid gives it back as well.
	b.do(&wire.Tclunk{Fid: uint32(x)})
	a.wantLock("b has clunked", x, wire.LockWrite, 0, wire.LockSuccess)
}

// lockTaken: a's lease is over, b gets its lock and gives it back, and a comes back, in the next life of the
// server if again. It gives the answer to a's claim.
func lockTaken(t *testing.T, again bool, mut mutant) wire.LockStatus {
	l := newLives(t, AuthorityConfig{})
	x, y := l.fs.put("x", ""), l.fs.put("y", "")
	a, b := l.client("a"), l.client("b")
	g := a.grant(writeElem(y))
	a.wantLock("a locks x", x, wire.LockWrite, 0, wire.LockSuccess)
	a.wantLock("and y", y, wire.LockWrite, 0, wire.LockSuccess)
	l.pass(6 * time.Second)
	b.do(&wire.Trenew{})
	l.pass(6 * time.Second)
	b.wantLock("a's lease is over", x, wire.LockWrite, 0, wire.LockSuccess)
	// What a wrote under the lock must not come after it was given away, though nobody wanted y.
	if r := a.commit(1, fenceOf(g), dataOf(y, "late")); r.Status != wire.CommitFenced || r.ID != x {
		t.Errorf("a cut of who has lost a lock: %v", r)
	}
	b.wantLock("b gives it back", x, wire.LockUnlock, 0, wire.LockSuccess)
	a.nc.Close()
	if l.mut = mut; again {
		l.restart()
	}
	l.a.breaks(mut)
	a.comeBack()
	st := a.lock(x, wire.LockWrite, claim)
	a.wantLock("nobody wanted y", y, wire.LockWrite, claim, wire.LockSuccess)
	if again {
		return st
	}
	if r := a.commit(1, fenceOf(g), dataOf(y, "b")); r.Status != wire.CommitApplied {
		t.Errorf("a cut of who knows: %v", r)
	}
	// Asked for anew it is a new lock.
	a.wantLock("a new lock", x, wire.LockWrite, 0, wire.LockSuccess)
	a.wantLock("which can be claimed", x, wire.LockWrite, claim, wire.LockSuccess)
	return st
}

func TestLocksAreTaken(t *testing.T) {
	for _, again := range []bool{false, true} {
		if st := lockTaken(t, again, mutantNone); st != wire.LockError {
			t.Errorf("restart %v: a claim of what was taken: status %d", again, st)
		}
		if st := lockTaken(t, again, mutantKeepLocks); st == wire.LockError {
			t.Errorf("restart %v: that it is claimed all the same does not show", again)
		}
	}
}

// lockGivenEarly: a's lease is over, and b asks for its lock while the store fails, and then while it stalls. It tells whether b gets it
// before it is on record that it was taken.
func lockGivenEarly(t *testing.T, mut mutant) (early bool) {
	l := newLives(t, AuthorityConfig{})
	x := l.fs.put("x", "")
	a, b := l.client("a"), l.client("b")
	a.wantLock("a locks", x, wire.LockWrite, 0, wire.LockSuccess)
	l.pass(6 * time.Second)
	b.do(&wire.Trenew{})
	l.pass(6 * time.Second)
	m := b.lockMessage(x, wire.LockWrite, 0)
	l.set(false, syscall.ENOSPC)
	if r := b.do(m); syscall.Errno(rlerrno(r)) != syscall.ENOSPC {
		t.Errorf("it cannot be put on record: %v", r)
	}
	l.a.breaks(mut)
	l.set(true, nil)
	given := make(chan wire.Message, 1)
	go func() { given <- b.do(m) }()
	select {
	case <-given:
		return true
	case <-time.After(mut.during()):
	}
	l.set(false, nil)
	if r, ok := (<-given).(*wire.Rlock); !ok || r.Status != wire.LockSuccess {
		t.Errorf("when it is on record: %v", r)
	}
	return false
}

func TestLockIsTakenDurably(t *testing.T) {
	if lockGivenEarly(t, mutantNone) {
		t.Error("it is given before it is on record")
	}
	if !lockGivenEarly(t, mutantNoRecord) {
		t.Error("that it is given before it is on record does not show")
	}
}

// In the grace period locks are claimed; others' wait for its end, and later claims are refused.
func TestLocksInGrace(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	x, y := l.fs.put("x", ""), l.fs.put("y", "")
	a, b := l.client("a"), l.client("b")
	a.wantLock("a locks", x, wire.LockWrite, 0, wire.LockSuccess)
	b.wantLock("b locks", y, wire.LockWrite, 0, wire.LockSuccess)
	l.restart()
	n := l.client("new")
	a.comeBack()
	n.start(9, n.lockMessage(x, wire.LockWrite, 0))
	n.start(10, &wire.Tgetlock{Fid: uint32(x), Lock: wire.Lock{Type: wire.LockWrite, ProcID: 7, ClientID: "n"}})
	n.quiet(9)
	a.start(1, &wire.Trecall{})
	a.wantLock("a claims it", x, wire.LockWrite, claim, wire.LockSuccess)
	a.complete()
	a.start(9, a.lockMessage(y, wire.LockRead, 0))
	l.pass(6 * time.Second)
	a.quiet(9) // which renews its lease
	l.pass(5 * time.Second)
	eventually(t, "the grace period ends", func() bool { return !l.a.inGrace() })
	if r, ok := n.reply(9).(*wire.Rlock); !ok || r.Status != wire.LockBlocked {
		t.Errorf("what a has: %v", r)
	}
	if r, ok := n.reply(10).(*wire.Rgetlock); !ok || r.Lock.Type != wire.LockWrite {
		t.Errorf("who is in the way: %v", r)
	}
	if r, ok := a.reply(9).(*wire.Rlock); !ok || r.Status != wire.LockSuccess {
		t.Errorf("what b had: %v", r)
	}
	b.comeBack()
	b.wantLock("too late", y, wire.LockWrite, claim, wire.LockError)
	a.wantLock("and a gives y back", y, wire.LockUnlock, 0, wire.LockSuccess)
	b.wantLock("but that does not matter", y, wire.LockWrite, claim, wire.LockError)
	b.complete()
	b.wantLock("a new one", y, wire.LockWrite, 0, wire.LockSuccess)
	// A waiting lock may be flushed.
	l.restart()
	n2 := l.client("newer")
	n2.start(9, n2.lockMessage(x, wire.LockWrite, 0))
	n2.quiet(9)
	n2.start(10, &wire.Tflush{OldTag: 9})
	if _, ok := n2.reply(10).(*wire.Rflush); !ok {
		t.Error("no Rflush")
	}
	l.graceOver()
	n2.quiet(9)
}
