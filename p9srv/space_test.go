package p9srv

import (
	"math/rand/v2"
	"testing"
)

// TestLend: what is set aside never is more than may be, whoever asks for how much and uses or leaves it; something is left for who comes next.
func TestLend(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		a := &Authority{}
		d := disk{total: 1 << 30, free: uint64(r.IntN(1 << 30)), inodes: true, known: true}
		sessions := make([]*session, 5)
		for i := range sessions {
			sessions[i] = &session{a: a}
		}
		for range 200 {
			s := sessions[r.IntN(len(sessions))]
			switch r.IntN(5) {
			case 0:
				s.setSpace(0) // it ends
			case 1: // a cut: the host has less, and so has it
				n := min(s.space, uint64(r.IntN(1<<28)))
				d.free -= n
				s.setSpace(s.space - n)
			default:
				want := uint64(r.IntN(1 << 29))
				if got := a.lend(s, want, d); got > want || got != s.space {
					t.Fatalf("seed %d: %d of %d wanted, %d noted", seed, got, want, s.space)
				}
			}
			var sum uint64
			for _, o := range sessions {
				sum += o.space
			}
			if sum != a.lent.Load() || sum > d.lendable() && perByte*sum > d.free {
				t.Fatalf("seed %d: %d are set aside of %d free, %d noted", seed, sum, d.free, a.lent.Load())
			}
		}
	}
	a := &Authority{}
	s, o := &session{a: a}, &session{a: a}
	d := disk{total: 1 << 30, free: 1 << 30, inodes: true, known: true}
	a.lend(s, 1<<40, d)
	if a.lend(o, 1<<40, d) == 0 {
		t.Fatal("the first one has all of it")
	}
	if d.inodes = false; a.lend(s, 1, d) != 0 {
		t.Fatal("without inodes there is space")
	}
	if a.lend(s, 7, disk{}) != 7 {
		t.Fatal("a Backend that does not say has an end")
	}
	if a.lend(s, 7, disk{known: true}) != 0 {
		t.Fatal("a disk that cannot be asked has space")
	}
}
