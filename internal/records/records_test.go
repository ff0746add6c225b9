package records

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	_ "echo9/internal/draws"

	"pgregory.net/rapid"
)

const testHead = "a file of the test\n"

// file gives a file of these records, and where the head and each record end.
func file(records [][]byte) (b []byte, ends []int) {
	b = []byte(testHead)
	ends = []int{len(b)}
	for _, r := range records {
		at := len(b)
		b = End(append(Begin(b), r...), at)
		ends = append(ends, len(b))
	}
	return b, ends
}

func readAll(b []byte, most int) (out [][]byte, n int) {
	n = Read(b, testHead, most, func(r []byte) bool {
		out = append(out, r)
		return true
	})
	return out, n
}

// A file that is cut off at any byte, whatever stands behind that, or in which a byte is another one, is read as far as its records are whole.
func TestReadsWhatIsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 20), 0, 6).Draw(t, "records")
		b, ends := file(records)
		want := func(what string, b []byte, damaged int) {
			t.Helper()
			whole, size := -1, 0 // records that end before the damage
			for whole+1 < len(ends) && ends[whole+1] <= damaged {
				whole++
				size = ends[whole]
			}
			got, n := readAll(b, 20)
			if n != size || !slices.EqualFunc(got, records[:max(whole, 0)], bytes.Equal) {
				t.Fatalf("%s at %d: %d bytes are read, not %d: %q of %q", what, damaged, n, size, got, records)
			}
		}
		for n := range len(b) + 1 {
			want("cut off", b[:n:n], n)
			if n >= ends[0] {
				whole := ends[0]
				for _, e := range ends {
					if e <= n {
						whole = e
					}
				}
				want("zeros", append(bytes.Clone(b[:whole]), make([]byte, 30)...), whole)
			}
			if n < len(b) {
				bad := bytes.Clone(b)
				bad[n] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
				want("damaged", bad, n)
			}
		}
	})
}

// What is too long, or not taken, ends the reading before it.
func TestReadingEnds(t *testing.T) {
	b, ends := file([][]byte{[]byte("one"), []byte("three"), []byte("four")})
	if got, n := readAll(b, 4); len(got) != 1 || n != ends[1] {
		t.Errorf("%q in %d bytes are read, though the second is too long", got, n)
	}
	seen := 0
	if n := Read(b, testHead, 100, func([]byte) bool { seen++; return seen < 3 }); n != ends[2] || seen != 3 {
		t.Errorf("%d bytes are read, %d records seen: the third was refused", n, seen)
	}
	if _, n := readAll(b[1:], 100); n != 0 {
		t.Errorf("%d bytes of another kind of file are read", n)
	}
}

func TestFields(t *testing.T) {
	b := binary.AppendUvarint(nil, 1<<40)
	b = binary.AppendUvarint(b, 1<<32-1)
	b = binary.AppendVarint(b, -5)
	b = append(b, 7, 3, 'a', 'b', 'c', 2, 8, 9)
	d := Decode(b)
	if u, v, i, c, s, l := d.Uint(), d.Uint32(), d.Int(), d.Byte(), d.String(), d.List(); u != 1<<40 || v != 1<<32-1 || i != -5 || c != 7 || s != "abc" || !slices.Equal(l, []uint64{8, 9}) {
		t.Errorf("%d %d %d %d %q %v", u, v, i, c, s, l)
	}
	if !d.Whole() {
		t.Error("it is not whole")
	}
	for name, take := range map[string]func(*Decoder){
		"a number without its end":   func(d *Decoder) { d.Byte(); d.Uint() },
		"a string longer than is":    func(d *Decoder) { _ = d.String() },
		"a number of too many bits":  func(d *Decoder) { *d = Decode(binary.AppendUvarint(nil, 1<<32)); d.Uint32() },
		"more elements than bytes":   func(d *Decoder) { d.List() },
		"something left":             func(d *Decoder) { d.Byte() },
		"a byte where there is none": func(d *Decoder) { d.Bytes(2); d.Byte() },
		"called bad":                 func(d *Decoder) { d.Bytes(2); d.Fail() },
	} {
		d := Decode([]byte{2, 0x80})
		take(&d)
		if d.Whole() {
			t.Errorf("%s passes", name)
		}
		if !d.bad && name != "something left" {
			t.Errorf("%s is not bad", name)
		}
	}
}
