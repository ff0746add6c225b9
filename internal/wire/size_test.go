package wire

import (
	"testing"

	"echo9/internal/cut"

	"pgregory.net/rapid"
)

// The sizes that are told are those of the frames that come out.
func TestSizesAreTrue(t *testing.T) {
	check := func(t *rapid.T, m Message, want int) {
		if got := len(AppendFrame(nil, 0, m)); got != want {
			t.Fatalf("%v\nhas %d bytes, and is said to have %d", m, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		commit := drawMessage(t, TypeTcommit).(*Tcommit)
		n := TcommitOverhead + FenceSize*len(commit.Fence)
		for i := range commit.Records {
			n += RecordSize(&commit.Records[i])
		}
		check(t, commit, n)

		grant := drawMessage(t, TypeRgrant).(*Rgrant)
		n = RgrantOverhead
		for i := range grant.Tokens {
			n += GrantedSize(&grant.Tokens[i])
		}
		check(t, grant, n)

		ask := drawMessage(t, TypeTgrant).(*Tgrant)
		n = TgrantOverhead
		for i := range ask.Elems {
			n += GrantElemSize(&ask.Elems[i])
		}
		check(t, ask, n)

		plus := drawMessage(t, TypeRreaddirplus).(*Rreaddirplus)
		n = RreaddirplusOverhead
		for i := range plus.Dirs {
			n += PlusDirSize
			for j := range plus.Dirs[i].Entries {
				n += PlusEntrySize(&plus.Dirs[i].Entries[j])
			}
		}
		check(t, plus, n)

		recall := drawMessage(t, TypeRrecall).(*Rrecall)
		check(t, recall, RrecallOverhead+RecallElemSize*len(recall.Tokens))
		back := drawMessage(t, TypeTreturn).(*Treturn)
		check(t, back, TreturnOverhead+ReturnElemSize*len(back.Tokens))
	})
	if RecordSize(&cut.Record{Kind: cut.Keep}) != 21 {
		t.Error("Keep")
	}
}

// A frame whose payload is as large as MaxRead and the like say is as large as the msize.
func TestPayloadsFillTheMsize(t *testing.T) {
	const msize = 8192
	if n := len(AppendFrame(nil, 0, &Rread{Data: make([]byte, MaxRead(msize))})); n != msize {
		t.Errorf("Rread: %d", n)
	}
	if n := len(AppendFrame(nil, 0, &Twrite{Data: make([]byte, MaxWrite(msize))})); n != msize {
		t.Errorf("Twrite: %d", n)
	}
	if n := len(AppendFrame(nil, 0, &Rreaddir{Data: make([]byte, MaxReaddir(msize))})); n != msize {
		t.Errorf("Rreaddir: %d", n)
	}
	if MaxRead(5) != 0 || MaxWrite(5) != 0 {
		t.Error("an msize smaller than the overhead")
	}
	e := Dirent{Name: "name"}
	if n := len(AppendDirent(nil, e.QID, e.Offset, e.Type, e.Name)); n != DirentSize(len("name")) {
		t.Errorf("an entry has %d bytes, not %d", n, DirentSize(len("name")))
	}
}

// A Tcommit whose payloads are put aside is the same frame, and its size is told before.
func TestTcommitInPieces(t *testing.T) {
	m := sample(TypeTcommit).(*Tcommit)
	m.Records = append(m.Records, cut.Record{Kind: cut.Data, ID: 9, Off: 77, Bytes: []byte("large enough")}, cut.Record{Kind: cut.Release, ID: 9})
	whole := AppendFrame(nil, 7, m)
	if n := TcommitSize(m); n != len(whole) {
		t.Errorf("a size of %d is told for %d bytes", n, len(whole))
	}
	for least, want := range map[int]int{0: 2, 12: 1, 13: 0} {
		var joined []byte
		n := 0
		rest := AppendTcommit(nil, 7, m, least, func(frame, payload []byte) []byte {
			joined = append(append(joined, frame...), payload...)
			n++
			return nil
		})
		if joined = append(joined, rest...); string(joined) != string(whole) || n != want {
			t.Errorf("from %d bytes on: %d payloads aside:\n%x, not\n%x", least, n, joined, whole)
		}
	}
}

func TestEntries(t *testing.T) {
	m := sample(TypeRreaddir).(*Rreaddir)
	var again []byte
	n := 0
	for e := range m.Entries() {
		again = AppendDirent(again, e.QID, e.Offset, e.Type, e.Name)
		n++
	}
	if n != 2 || string(again) != string(m.Data) {
		t.Errorf("%d entries", n)
	}
	for range m.Entries() {
		n++
		break
	}
	if n != 3 {
		t.Errorf("a range that is left goes on: %d", n)
	}
}
