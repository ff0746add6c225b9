package p9srv

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// spender is a client of which only the space matters: what it has and what it has taken on, as cachefs counts them. What it
// sends and what it hears come in order.
type spender struct {
	s         *session
	has, held uint64
	up        []func()
	down      []func()
	asking    bool
	cutting   bool
}

// lendWorld has clients ask for space, take data on and send it, in any order, on a disk that others use too, if they may. It is
// an error when a client has not set aside what it has taken on when that comes, or when more is set aside than there is.
func lendWorld(seed uint64, m mutant, others bool) error {
	r := rand.New(rand.NewPCG(seed, 5))
	a := &Authority{mutant: m, sessions: map[uint64]*session{}}
	d := disk{total: 1 << 30, free: uint64(r.IntN(1 << 30)), inodes: true, known: true}
	asked := d // an answer of the disk's that may be old
	var all []*spender
	for range 4 {
		s := &session{a: a, id: uint64(len(all))}
		a.sessions[s.id] = s
		all = append(all, &spender{s: s})
	}
	var wrong error
	for range 300 {
		c := all[r.IntN(len(all))]
		switch r.IntN(8) {
		case 0:
			if c.asking {
				continue
			}
			want, held := uint64(r.IntN(1<<28)), c.held
			if r.IntN(4) == 0 {
				want = 0
			}
			want = max(want, held)
			c.has, c.asking = min(c.has, want), true
			c.up = append(c.up, func() {
				got := a.lend(c.s, want, held, asked)
				if got > want || got > c.s.space {
					wrong = fmt.Errorf("%d of %d wanted, %d noted", got, want, c.s.space)
				}
				c.down = append(c.down, func() { c.has, c.asking = got, false })
			})
		case 1, 2:
			if c.held < c.has {
				c.held += 1 + uint64(r.Int64N(int64(c.has-c.held)))
			}
		case 3:
			n := c.held
			if r.IntN(2) == 0 {
				n /= 2
			}
			if n == 0 || c.cutting {
				continue
			}
			c.cutting = true
			c.up = append(c.up, func() {
				if n > c.s.space && wrong == nil {
					wrong = fmt.Errorf("%d bytes come, and %d are set aside", n, c.s.space)
				}
				d.free -= min(d.free, perByte*n)
				c.s.used(n)
				c.down = append(c.down, func() { c.has, c.held, c.cutting = c.has-min(c.has, n), c.held-n, false })
			})
		case 4:
			if len(c.up) > 0 {
				c.up[0]()
				c.up = c.up[1:]
			}
		case 5:
			if len(c.down) > 0 {
				c.down[0]()
				c.down = c.down[1:]
			}
		case 6:
			if others && r.IntN(4) == 0 {
				d.free = uint64(r.IntN(int(d.total)))
			}
		default:
			asked = d
			asked.spent = a.spent.Load()
		}
		var sum uint64
		for _, o := range all {
			sum += o.s.space
		}
		if sum != a.lent.Load() || !others && sum > d.lendable() {
			return fmt.Errorf("%d are set aside of %d, %d noted", sum, d.lendable(), a.lent.Load())
		}
		if wrong != nil {
			return wrong
		}
	}
	return nil
}

// TestLend: what a client takes on by what it knows to be set aside for it is set aside when it comes, however the disk, which
// was asked a while ago, and what others want have changed meanwhile; and no more than there is, unless others use the disk.
func TestLend(t *testing.T) {
	for seed := range uint64(2000) {
		for _, others := range []bool{false, true} {
			if err := lendWorld(seed, mutantNone, others); err != nil {
				t.Fatalf("seed %d, others %v: %v", seed, others, err)
			}
		}
	}
	found := 0
	for seed := range uint64(500) {
		if lendWorld(seed, mutantTakeAtOnce, true) != nil {
			found++
		}
	}
	if found == 0 {
		t.Error("it is not noticed that what is set aside is taken back before its session knows")
	}
	a := &Authority{}
	s, o := &session{a: a}, &session{a: a}
	d := disk{total: 1 << 30, free: 1 << 30, inodes: true, known: true}
	a.lend(s, 1<<40, 0, d)
	if a.lend(o, 1<<40, 0, d) == 0 {
		t.Fatal("the first one has all of it")
	}
	if d.inodes = false; a.lend(s, 1, 0, d) != 0 {
		t.Fatal("without inodes there is space")
	}
	if a.lend(s, 7, 0, disk{}) != 7 {
		t.Fatal("a Backend that does not say has an end")
	}
	if a.lend(s, 7, 0, disk{known: true}) != 0 {
		t.Fatal("a disk that cannot be asked has space")
	}
}

// TestSpaceOfTheAway: what is set aside for who is away for longer than his lease goes to who needs it, and only then; who is here keeps his.
func TestSpaceOfTheAway(t *testing.T) {
	const mib = 1 << 20
	try := func(m mutant) (first, second, away, here uint64) {
		a := &Authority{mutant: m, sessions: map[uint64]*session{}}
		for id := range uint64(4) {
			a.sessions[id] = &session{a: a, id: id}
		}
		a.sessions[0].over = true // away
		a.sessions[1].over, a.sessions[1].conn = true, &conn{}
		a.sessions[0].setSpace(100 * mib)
		a.sessions[1].setSpace(50 * mib)
		d := disk{total: 1 << 30, inodes: true, known: true}
		d.free = min(d.total/floorShare, maxFloor) + perByte*200*mib // 200 MiB may be set aside
		first = a.lend(a.sessions[2], 20*mib, 0, d)
		if got := a.sessions[0].space; got != 100*mib {
			t.Errorf("nobody needs it, and it is %d", got)
		}
		second = a.lend(a.sessions[3], 60*mib, 0, d)
		return first, second, a.sessions[0].space, a.sessions[1].space
	}
	first, second, away, here := try(mutantNone)
	if first != 20*mib || second != 60*mib || away != 0 || here != 50*mib {
		t.Errorf("%d and %d were to be had; who is away has %d, who is here %d", first, second, away, here)
	}
	if _, second, away, _ := try(mutantKeepSpace); second >= 60*mib || away != 100*mib {
		t.Errorf("the mutant gives %d, and who is away has %d", second, away)
	}
}

// TestEqualShares: on a small disk nobody is left with nothing because others came first, and once all have asked again each has as much.
func TestEqualShares(t *testing.T) {
	const mib = 1 << 20
	a := &Authority{sessions: map[uint64]*session{}}
	d := disk{total: 64 * mib, free: 42*mib + 64*mib/floorShare, inodes: true, known: true} // 21 MiB may be set aside
	for range 10 {
		for id := range uint64(6) {
			if a.sessions[id] == nil {
				a.sessions[id] = &session{a: a, id: id}
			}
			if got := a.lend(a.sessions[id], 16*mib, 0, d); got < min(21*mib>>(id+2), uint64(29*mib/10)) {
				t.Errorf("session %d has %d", id, got)
			}
		}
	}
	for id, s := range a.sessions {
		if s.space < 29*mib/10 || s.space > 3*mib {
			t.Errorf("session %d has %d", id, s.space)
		}
	}
}
