package stable

import (
	"bytes"
	"reflect"
	"testing"

	_ "echo9/internal/draws"

	"pgregory.net/rapid"
)

// drawRecord draws a record of few sessions and objects, so that they meet.
func drawRecord(t *rapid.T) Record {
	few := rapid.Uint64Range(1, 4)
	some := func(n int) (out []uint64) { return rapid.SliceOfN(few, 0, n).Draw(t, "some") }
	r := Record{Kind: Kind(rapid.IntRange(1, int(lastKind)-1).Draw(t, "kind"))}
	r.Session = few.Draw(t, "session")
	switch r.Kind {
	case Epoch:
		r.Epoch = rapid.Uint64().Draw(t, "epoch")
	case Open:
		copy(r.Client[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "client"))
		copy(r.Secret[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "secret"))
		r.Aname, r.Name, r.Peer = rapid.String().Draw(t, "aname"), rapid.String().Draw(t, "name"), "peer"
		r.UID, r.Flags, r.Users = rapid.Uint32().Draw(t, "uid"), 4, rapid.SliceOfN(rapid.Uint32(), 0, 3).Draw(t, "users")
	case Moved:
		r.Peer, r.Proc = "elsewhere", rapid.String().Draw(t, "proc")
	case Range:
		r.ID, r.Count, r.Gen = rapid.Uint64().Draw(t, "first"), 8192, rapid.Uint64().Draw(t, "gen")
	case Revoked, Told:
		for _, id := range some(3) {
			r.Lost = append(r.Lost, Lost{id, uint8(rapid.IntRange(0, 1).Draw(t, "left"))})
		}
	case LockLost, Kept, Dropped:
		r.ID = few.Draw(t, "id")
	case Missed, DeathTold:
		r.Epoch, r.Sessions = few.Draw(t, "epoch"), some(3)
	case End, Died:
		r.Dead, r.Time, r.UID, r.Name = rapid.Bool().Draw(t, "dead"), rapid.Int64().Draw(t, "time"), 7, "n"
	}
	return r
}

func same(a, b *State) bool { return bytes.Equal(a.Encode(), b.Encode()) }

// What is written comes back, cut off at any byte as well; and written anew it comes to the same.
func TestFileComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(drawRecord), 0, 30).Draw(t, "records")
		b := []byte(Head)
		state := NewState()
		ends, states := []int{len(b)}, []*State{state.Clone()}
		for i := range records {
			b = records[i].Append(b)
			state.Apply(&records[i])
			ends, states = append(ends, len(b)), append(states, state.Clone())
		}
		whole := 0
		for n := range len(b) + 1 {
			got, read := Read(b[:n])
			if n < len(Head) {
				if read != 0 || len(got.Sessions) != 0 {
					t.Fatalf("%d bytes: read %d", n, read)
				}
				continue
			}
			for whole+1 < len(ends) && ends[whole+1] <= n {
				whole++
			}
			if read != ends[whole] || !same(got, states[whole]) {
				t.Fatalf("%d bytes: read %d, want %d:\n%+v\n%+v", n, read, ends[whole], got, states[whole])
			}
		}
		anew := state.Encode()
		if got, read := Read(anew); read != len(anew) || !same(got, state) {
			t.Fatalf("written anew:\n%+v\n%+v", got, state)
		}
	})
}

// A byte that is not what was written ends the reading there, and nothing worse.
func TestDamageEndsTheReading(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 10).Draw(t, "records")
		b := []byte(Head)
		ends := []int{len(b)}
		for i := range records {
			b = records[i].Append(b)
			ends = append(ends, len(b))
		}
		at := rapid.IntRange(len(Head), len(b)-1).Draw(t, "at")
		b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		_, read := Read(b)
		for i := 1; i < len(ends); i++ {
			if at < ends[i] {
				if read != ends[i-1] {
					t.Fatalf("damage at %d of %v: read %d", at, ends, read)
				}
				return
			}
		}
	})
}

func FuzzRead(f *testing.F) {
	s := NewState()
	s.Apply(&Record{Kind: Open, Session: 1, Name: "n"})
	s.Apply(&Record{Kind: Revoked, Session: 1, Lost: []Lost{{5, 1}}})
	f.Add(s.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, n := Read(b)
		if n > len(b) {
			t.Fatalf("read %d of %d", n, len(b))
		}
		if got, _ := Read(s.Encode()); !same(got, s) {
			t.Fatalf("written anew:\n%+v\n%+v", got, s)
		}
	})
}

func TestToldForgetsOnlyWhatWasTold(t *testing.T) {
	s := NewState()
	for _, r := range []Record{
		{Kind: Open, Session: 1},
		{Kind: Revoked, Session: 1, Lost: []Lost{{5, 1}, {6, 0}}},
		{Kind: Revoked, Session: 1, Lost: []Lost{{5, 0}}}, // more of it was taken since the client was told
		{Kind: Told, Session: 1, Lost: []Lost{{5, 1}, {6, 0}}},
	} {
		s.Apply(&r)
	}
	if want := map[uint64]uint8{5: 0}; !reflect.DeepEqual(s.Sessions[1].Lost, want) {
		t.Errorf("left: %v, want %v", s.Sessions[1].Lost, want)
	}
}
