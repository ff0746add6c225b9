package p9srv

import (
	"fmt"
	"testing"

	"echo9/internal/wire"
)

// lockPart locks a part of a file.
func (c *extClient) lockPart(id uint64, typ uint8, flags uint32, start, length uint64) wire.LockStatus {
	c.t.Helper()
	m := c.lockMessage(id, typ, flags)
	m.Lock.Start, m.Lock.Length = start, length
	r, ok := c.do(m).(*wire.Rlock)
	if !ok {
		c.t.Fatal("Tlock is not answered by Rlock")
	}
	return r.Status
}

// missedGrace gives a server whose client b has locked all of its objects, and missed the grace period after a restart; n came after that.
func missedGrace(t *testing.T, objects int) (l *lives, b, n *traveller, ids []uint64) {
	l = newLives(t, AuthorityConfig{})
	b = l.client("b")
	for i := range objects {
		id := l.fs.put(fmt.Sprint("f", i), "")
		ids = append(ids, id)
		b.wantLock("b locks", id, wire.LockWrite, 0, wire.LockSuccess)
	}
	l.restart()
	l.graceOver()
	return l, b, l.client("new"), ids
}

// Who missed the grace period has the locks back that nobody else has asked for since in conflict, and those only; what he asks for then can
// be claimed when his connection breaks. In the server's next life he has none of the old ones.
func TestLocksAreClaimedLate(t *testing.T) {
	l, b, n, ids := missedGrace(t, 5)
	free, had, shared, part, held := ids[0], ids[1], ids[2], ids[3], ids[4]
	for _, id := range []uint64{had, held} {
		n.wantLock("nobody has it", id, wire.LockWrite, 0, wire.LockSuccess)
	}
	n.wantLock("and it is given back", had, wire.LockUnlock, 0, wire.LockSuccess)
	n.wantLock("nobody has it", shared, wire.LockRead, 0, wire.LockSuccess)
	n.wantLock("and it is given back", shared, wire.LockUnlock, 0, wire.LockSuccess)
	if st := n.lockPart(part, wire.LockWrite, 0, 10, 10); st != wire.LockSuccess {
		t.Errorf("a part: status %d", st)
	}
	b.comeBack()
	b.wantLock("nobody wanted it", free, wire.LockWrite, claim, wire.LockSuccess)
	b.wantLock("claimed again", free, wire.LockWrite, claim, wire.LockSuccess)
	b.wantLock("somebody had it", had, wire.LockWrite, claim, wire.LockError)
	b.wantLock("somebody has it", held, wire.LockWrite, claim, wire.LockError)
	b.wantLock("somebody read under it", shared, wire.LockWrite, claim, wire.LockError)
	b.wantLock("who read too", shared, wire.LockRead, claim, wire.LockSuccess)
	if st := b.lockPart(part, wire.LockWrite, claim, 0, 10); st != wire.LockSuccess {
		t.Errorf("what is before another's part: status %d", st)
	}
	if st := b.lockPart(part, wire.LockWrite, claim, 20, 0); st != wire.LockSuccess {
		t.Errorf("what is behind another's part: status %d", st)
	}
	if st := b.lockPart(part, wire.LockWrite, claim, 19, 1); st != wire.LockError {
		t.Errorf("what another has: status %d", st)
	}
	n.wantLock("b has it", free, wire.LockWrite, 0, wire.LockBlocked)
	b.complete()
	b.wantLock("a new one", had, wire.LockWrite, 0, wire.LockSuccess)
	b.nc.Close()
	eventually(t, "b is away", func() bool {
		for _, s := range l.a.Status().Sessions {
			if s.Name == "b" {
				return !s.Connected
			}
		}
		return false
	})
	b.comeBack()
	b.wantLock("a new one is claimed", had, wire.LockWrite, claim, wire.LockSuccess)
	b.wantLock("and an old one", free, wire.LockWrite, claim, wire.LockSuccess)
	if len(l.a.late.awaited) > 0 || l.a.late.of != nil {
		t.Errorf("locks are noted for nobody: %+v", l.a.late)
	}
}

// A server that does not look who had a lock since lets two believe that they had it all the time.
func TestLateClaimMutant(t *testing.T) {
	for _, mut := range []mutant{mutantNone, mutantBlindLate} {
		l, b, n, ids := missedGrace(t, 1)
		n.wantLock("nobody has it", ids[0], wire.LockWrite, 0, wire.LockSuccess)
		n.wantLock("and it is given back", ids[0], wire.LockUnlock, 0, wire.LockSuccess)
		l.a.breaks(mut)
		b.comeBack()
		if st := b.lock(ids[0], wire.LockWrite, claim); (st == wire.LockSuccess) != (mut == mutantBlindLate) {
			t.Errorf("mutant %d: status %d", mut, st)
		}
	}
}

// Who missed the grace periods of two lives of the server claims nothing: what others had in the first is not on record.
func TestLocksAreNotClaimedTooLate(t *testing.T) {
	l, b, _, ids := missedGrace(t, 1)
	l.restart()
	l.graceOver()
	b.comeBack()
	b.wantLock("two lives later", ids[0], wire.LockWrite, claim, wire.LockError)
	b.complete()
	b.wantLock("a new one", ids[0], wire.LockWrite, 0, wire.LockSuccess)
}

// What is noted for those who are awaited is bounded, and then nothing is claimed rather than too much.
func TestLateLocksAreBounded(t *testing.T) {
	var l lateLocks
	l.asked(1, 7, &wire.Lock{Type: wire.LockWrite})
	if l.of != nil {
		t.Error("noted for nobody")
	}
	l.await(3)
	for i := range uint64(2 * maxLateLocks) {
		l.asked(1, 7, &wire.Lock{Type: wire.LockWrite, Start: 2 * i, Length: 1})
		l.asked(1, 7, &wire.Lock{Type: wire.LockRead, Start: 2 * i, Length: 1}) // less than what is noted
	}
	if n := len(l.of[1]); n > maxLateLocks {
		t.Errorf("%d locks of an object", n)
	}
	if l.may(3, 1, &wire.Lock{Type: wire.LockRead, Start: 1 << 40, Length: 1}) {
		t.Error("what is not noted any more can be claimed")
	}
	if !l.may(3, 2, &wire.Lock{Type: wire.LockWrite}) || l.may(4, 2, &wire.Lock{Type: wire.LockWrite}) {
		t.Error("who is awaited claims what nobody asked for, and nobody else")
	}
	for id := range uint64(maxLateObjects + 1) {
		l.asked(10+id, 7, &wire.Lock{Type: wire.LockRead})
	}
	if l.may(3, 2, &wire.Lock{Type: wire.LockRead}) || l.of != nil {
		t.Error("with too many objects something can be claimed")
	}
	l.came(3)
	if l.awaited != nil || l.objects {
		t.Errorf("something is left: %+v", l)
	}
}
