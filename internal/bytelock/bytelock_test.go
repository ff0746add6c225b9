package bytelock

import (
	"fmt"
	"math/rand"
	"testing"
)

var (
	alice = Owner{Conn: 1, Proc: 10, Client: "a"}
	bob   = Owner{Conn: 2, Proc: 10, Client: "a"}
	carol = Owner{Session: 7, Proc: 10, Client: "a"}
)

func TestHolders(t *testing.T) {
	var tab Table
	dave := Owner{Session: 8}
	tab.Set(1, Lock{carol, Read, 0, 10})
	tab.Set(1, Lock{dave, Read, 5, 10})
	tab.Set(1, Lock{dave, Read, 30, 10})
	tab.Set(1, Lock{alice, Read, 5, 1})
	for _, c := range []struct {
		l    Lock
		want string
	}{
		{Lock{bob, Write, 0, 0}, "[7 8 0]"}, {Lock{bob, Write, 10, 1}, "[8]"}, {Lock{bob, Read, 0, 0}, "[]"},
		{Lock{carol, Write, 0, 3}, "[]"}, {Lock{bob, Unlock, 0, 0}, "[]"},
	} {
		if got := fmt.Sprint(tab.Holders(1, c.l)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.l, got, c.want)
		}
	}
	tab.DropSessionOn(1, 8)
	if got := fmt.Sprint(tab.Holders(1, Lock{bob, Write, 0, 0})); got != "[7 0]" || tab.Len(1) != 2 {
		t.Errorf("after one session's locks were dropped: %s, %d", got, tab.Len(1))
	}
}

func TestConflicts(t *testing.T) {
	for _, c := range []struct {
		held, asked Type
		want        Status
	}{
		{Read, Read, Success}, {Read, Write, Blocked}, {Write, Read, Blocked}, {Write, Write, Blocked},
		{Read, Unlock, Success}, {Write, Unlock, Success},
	} {
		var tab Table
		tab.Set(1, Lock{alice, c.held, 10, 10})
		if got := tab.Set(1, Lock{bob, c.asked, 19, 1}); got != c.want {
			t.Errorf("%d held, %d asked: %d, want %d", c.held, c.asked, got, c.want)
		}
		if got := tab.Set(1, Lock{bob, c.asked, 20, 1}); got != Success {
			t.Errorf("beside it: %d", got)
		}
		if got := tab.Set(2, Lock{bob, c.asked, 10, 1}); got != Success {
			t.Errorf("other object: %d", got)
		}
		if got := tab.Set(1, Lock{alice, c.asked, 12, 1}); got != Success {
			t.Errorf("same owner: %d", got)
		}
	}
}

func TestNonsense(t *testing.T) {
	var tab Table
	if got := tab.Set(1, Lock{alice, Write, 1 << 63, 1<<63 + 1}); got != Failed {
		t.Errorf("range past the end: %d", got)
	}
	if got := tab.Set(1, Lock{alice, 3, 0, 0}); got != Failed {
		t.Errorf("type 3: %d", got)
	}
	if _, hit := tab.Get(1, Lock{bob, Write, 1 << 63, 1<<63 + 1}); hit || tab.Len(1) != 0 {
		t.Error("nonsense left a lock")
	}
}

func TestGet(t *testing.T) {
	var tab Table
	tab.Set(1, Lock{alice, Write, 100, 0})
	got, hit := tab.Get(1, Lock{bob, Read, 0, 0})
	if !hit || got != (Lock{alice, Write, 100, 0}) {
		t.Errorf("got %v %v", got, hit)
	}
	if _, hit := tab.Get(1, Lock{bob, Write, 0, 100}); hit {
		t.Error("conflict below the lock")
	}
	if _, hit := tab.Get(1, Lock{alice, Write, 0, 0}); hit {
		t.Error("conflict with one's own lock")
	}
}

func TestDrop(t *testing.T) {
	var tab Table
	for i, o := range []Owner{alice, bob, carol} {
		for id := uint64(0); id < 3; id++ {
			tab.Set(id, Lock{o, Write, uint64(i), 1})
		}
	}
	tab.DropSession(0)
	tab.DropConn(0)
	if tab.Len(0) != 3 {
		t.Fatalf("%d locks", tab.Len(0))
	}
	tab.DropSession(7)
	tab.DropConn(1)
	tab.DropOwner(2, bob)
	if tab.Len(0) != 1 || tab.Len(1) != 1 || tab.Len(2) != 0 {
		t.Errorf("left: %d %d %d", tab.Len(0), tab.Len(1), tab.Len(2))
	}
	if got := tab.Set(0, Lock{alice, Write, 1, 1}); got != Blocked {
		t.Errorf("bob's lock is gone: %d", got)
	}
}

// The table is compared with one that keeps a byte for each byte.
func TestAgainstBytes(t *testing.T) {
	const size = 12
	owners := []Owner{alice, bob, carol}
	for seed := int64(0); seed < 200; seed++ {
		rng := rand.New(rand.NewSource(seed))
		var tab Table
		model := make([][size + 1]Type, len(owners)) // Unlock: not held; the last cell is all that lies beyond
		for i := range model {
			for b := range model[i] {
				model[i][b] = Unlock
			}
		}
		var story string
		for step := 0; step < 60; step++ {
			o := rng.Intn(len(owners))
			l := Lock{owners[o], Type(rng.Intn(3)), uint64(rng.Intn(size)), 0}
			last := uint64(size)
			if rng.Intn(4) > 0 {
				l.Length = 1 + uint64(rng.Intn(int(size-l.Start)))
				last = l.Start + l.Length - 1
			}
			want := Success
			for b := l.Start; b <= last && l.Type != Unlock; b++ {
				for p := range owners {
					if p != o && model[p][b] != Unlock && (model[p][b] == Write || l.Type == Write) {
						want = Blocked
					}
				}
			}
			story += fmt.Sprintf("owner %d type %d [%d,+%d]\n", o, l.Type, l.Start, l.Length)
			_, hit := tab.Get(5, l)
			if l.Type != Unlock && hit != (want == Blocked) {
				t.Fatalf("seed %d: Get says %v, model %d\n%s", seed, hit, want, story)
			}
			if got := tab.Set(5, l); got != want {
				t.Fatalf("seed %d: Set gives %d, model %d\n%s", seed, got, want, story)
			}
			if want == Success {
				for b := l.Start; b <= last; b++ {
					model[o][b] = l.Type
				}
			}
			// Each owner's bytes, read back through what a stranger would meet.
			for b := uint64(0); b <= size; b++ {
				busy := false
				for p := range owners {
					busy = busy || model[p][b] != Unlock
				}
				if _, hit := tab.Get(5, Lock{Owner{Proc: 99}, Write, b, 1}); hit != busy {
					t.Fatalf("seed %d: byte %d held: %v, model %v\n%s", seed, b, hit, busy, story)
				}
			}
		}
		tab.DropConn(1)
		tab.DropConn(2)
		tab.DropSession(7)
		if tab.Len(5) != 0 || len(tab.objects) != 0 {
			t.Fatalf("seed %d: locks left", seed)
		}
	}
}

func TestMergeAndLimit(t *testing.T) {
	var tab Table
	for i := uint64(0); i < 1000; i++ {
		tab.Set(1, Lock{alice, Write, i, 1})
	}
	if tab.Len(1) != 1 {
		t.Errorf("%d spans for one range", tab.Len(1))
	}
	tab.put(2, make([]span, MaxPerObject))
	if got := tab.Set(2, Lock{alice, Read, 0, 1}); got != Failed {
		t.Errorf("beyond the limit: %d", got)
	}
}
