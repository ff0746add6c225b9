package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// noted writes a ledger, and gives what its file says.
func noted(t *testing.T, all ...entry) *acknowledged {
	t.Helper()
	l, err := newLedger(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	done := 0
	for _, e := range all {
		l.note(e, func() { done++ })
	}
	a, err := l.read()
	if err != nil {
		t.Fatal(err)
	}
	if done != len(all) {
		t.Errorf("of %d notes %d were said to be on the disk", len(all), done)
	}
	return a
}

// What is noted counts when it is in the file, and not when it cannot be written.
func TestLedger(t *testing.T) {
	a := noted(t, entry{isThere, 3, "a", nobody}, entry{isThere, 2, "a", nobody}, entry{isThere, 1, "b", nobody}, entry{isRecord, 4, "w0", nobody})
	if a.floors["a"] != 3 || a.floors["b"] != 1 || len(a.floors) != 2 || !a.records[record{"w0", 4}] {
		t.Errorf("read back: %+v", a)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLedger(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	l.file.Close()
	l.file = full
	l.note(entry{isThere, 1, "a", nobody}, func() { t.Error("what is not on the disk counts") })
	if _, err := l.read(); err == nil {
		t.Error("it was not written, and nobody says so")
	}
	l.close()
	if _, err := readLedger(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a ledger that is not there was read")
	}
}

func TestCheckLog(t *testing.T) {
	book := noted(t, entry{isRecord, 2, "w0", nobody}, entry{isRecord, 5, "w1", nobody})
	log := func(all ...record) (b []byte) {
		for _, r := range all {
			b = append(b, r.bytes()...)
		}
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want string // "": nothing is wrong
	}{
		{"all is there, and more", log(record{"w0", 1}, record{"w1", 5}, record{"w0", 2}, record{"w1", 6}), ""},
		{"one is lost", log(record{"w0", 1}, record{"w1", 5}), lostAcknowledged + ": record 2 of w0"},
		{"one is there twice", log(record{"w0", 2}, record{"w1", 5}, record{"w0", 2}), "record 2 of w0 behind 2"},
		{"one came too late", log(record{"w0", 2}, record{"w0", 1}, record{"w1", 5}), "record 1 of w0 behind 2"},
		{"a hole", slices.Concat(log(record{"w0", 2}), make([]byte, size), log(record{"w1", 5})), "nobody wrote"},
		{"half of one", log(record{"w0", 2}, record{"w1", 5})[:size+size/2], "nobody wrote"},
	} {
		if wrong := strings.Join(checkLog(c.b, book), "; "); (wrong == "") != (c.want == "") || !strings.Contains(wrong, c.want) {
			t.Errorf("%s: %q, not %q", c.name, wrong, c.want)
		}
	}
}

func TestCheckCounter(t *testing.T) {
	chain := []entry{{isTried, 1, "a", nobody}, {isCounted, 1, "a", nobody}, {isTried, 2, "b", "a"}, {isTried, 3, "c", "b"}, {isCounted, 3, "c", "b"}}
	for _, c := range []struct {
		name  string
		now   count
		more  []entry
		doubt int
		want  string
	}{
		{"what nobody was told counts", count{3, "c", "b"}, nil, 1, ""},
		{"one more that was tried", count{4, "d", "c"}, []entry{{isTried, 4, "d", "c"}}, 2, ""},
		{"the last is lost", count{2, "b", "a"}, nil, 1, lostAcknowledged},
		{"the last is somebody else's", count{3, "x", "b"}, []entry{{isTried, 3, "x", "b"}}, 1, lostAcknowledged},
		{"two made the same", count{3, "c", "b"}, []entry{{isCounted, 3, "d", "b"}}, 1, twoHolders},
		{"one was made on what is not there", count{4, "d", "c"}, []entry{{isCounted, 4, "d", "x"}}, 1, twoHolders},
		{"one that nobody tried", count{4, "d", "c"}, nil, 2, "nobody had it so"},
	} {
		doubt, wrong := checkCounter(c.now.bytes(), noted(t, append(slices.Clone(chain), c.more...)...))
		if text := strings.Join(wrong, "; "); doubt != c.doubt || (text == "") != (c.want == "") || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d in doubt, not %d; %q, not %q", c.name, doubt, c.doubt, text, c.want)
		}
	}
	if _, wrong := checkCounter(make([]byte, size), noted(t, chain...)); len(wrong) == 0 {
		t.Error("a counter of zeros is right")
	}
}
