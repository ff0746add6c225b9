package wire

import (
	"errors"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"echo9/internal/cut"
)

func FuzzDecode(f *testing.F) {
	for _, typ := range all() {
		body := AppendFrame(nil, 0, sample(typ))[HeaderSize:]
		f.Add(typ, body)
		f.Add(typ, body[:len(body)/2])
		f.Add(typ, append(body[:len(body):len(body)], 0))
		f.Add(typ, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, typ uint8, body []byte) {
		m := New(typ)
		if m == nil {
			return
		}
		if err := Decode(typ, body, m); err != nil {
			var pe *ProtocolError
			if !errors.As(err, &pe) || pe.Type != typ || pe.Rule == "" {
				t.Fatalf("%s: the error is %#v", TypeName(typ), err)
			}
			return
		}
		again := AppendFrame(nil, 0, m)[HeaderSize:]
		if isExact(typ) && string(again) != string(body) {
			t.Fatalf("%s: %x became %x", TypeName(typ), body, again)
		}
		n := New(typ)
		if err := Decode(typ, again, n); err != nil || !reflect.DeepEqual(m, n) {
			t.Fatalf("%v became %v, %v", m, n, err)
		}
		if s := m.String(); !strings.HasPrefix(s, TypeName(typ)) {
			t.Fatalf("traced %q", s)
		}
	})
}

// isExact tells whether a message has one encoding only; see the package comment.
func isExact(typ uint8) bool {
	switch typ {
	case TypeTfsync, TypeRgetattr, TypeTsetattr, TypeRwalkgetattr:
		return false
	}
	return true
}

func TestErrorsNameMessageAndRule(t *testing.T) {
	for _, test := range []struct {
		typ  uint8
		body []byte
		want string
	}{
		{TypeTlopen, []byte{1, 2, 3}, "bad Tlopen: truncated, 4 bytes are due and 3 left"},
		{TypeTclunk, []byte{1, 2, 3, 4, 5, 6}, "bad Tclunk: 2 bytes too many"},
		{TypeTwalk, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1}, "bad Twalk: a count of 65535, the 1 bytes left cannot hold it"},
		{TypeRread, []byte{0xff, 0xff, 0xff, 0xff, 1}, "bad Rread: a count of 4294967295 bytes, 1 are left"},
		{TypeRreaddir, []byte{3, 0, 0, 0, 1, 2, 3}, "bad Rreaddir: its last entry is truncated"},
		{TypeRrenew, []byte{0, 0, 0, 0, 2}, "bad Rrenew: 2 is neither true nor false"},
		{TypeTcommit, record(0), "bad Tcommit: a record of kind 0, which there is not"},
		{TypeTcommit, record(uint8(cut.Copy) + 1), "bad Tcommit: a record of kind 13, which there is not"},
		{TypeTcommit, append(record(uint8(cut.Attr)), 0, 0, 0, 0x80), "bad Tcommit: a record sets attributes 0x80000000, which there are not"},
	} {
		err := Decode(test.typ, test.body, New(test.typ))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s %x: %v\nnot %s", TypeName(test.typ), test.body, err, test.want)
		}
	}
	if err := Decode(TypeTread, nil, &Twrite{}); err == nil || err.Error() != "bad Tread: unexpected, Twrite is due" {
		t.Error(err)
	}
}

// record is the body of a Tcommit with one record of that kind, without its fields.
func record(kind uint8) []byte {
	b := append(make([]byte, 8+4+4+4), 1, 0, 0, 0, kind)
	return append(b, make([]byte, 4+8+8)...)
}

// A hostile count allocates nothing: for each message with lists, every count is
// blown up in turn.
func TestHostileCounts(t *testing.T) {
	for _, typ := range all() {
		body := AppendFrame(nil, 0, sample(typ))[HeaderSize:]
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := 0; i+4 <= len(body); i++ {
			p := append([]byte(nil), body...)
			copy(p[i:], "\xff\xff\xff\x7f")
			_ = Decode(typ, p, New(typ)) // may well be valid: most bytes are no counts
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(body))*(20_000+50*uint64(len(body))) {
			t.Errorf("%s: %d bytes were allocated for bodies of %d", TypeName(typ), n, len(body))
		}
	}
}

func TestTfsyncWithoutItsLastField(t *testing.T) {
	m := Tfsync{DataSync: 1}
	if err := Decode(TypeTfsync, []byte{5, 0, 0, 0}, &m); err != nil || m != (Tfsync{Fid: 5}) {
		t.Errorf("%v, %v", &m, err)
	}
	if err := Decode(TypeTfsync, []byte{5, 0, 0, 0, 1, 0}, &m); err == nil {
		t.Error("half of its last field is accepted")
	}
}

// Times beyond what an int64 of nanoseconds holds, and nonsense, come out as something sane.
func TestTimes(t *testing.T) {
	for _, test := range []struct {
		sec  int64
		nsec uint64
		want int64
	}{
		{0, 0, 0},
		{1, 5, 1_000_000_005},
		{-1, 999_999_999, -1},
		{-2, 0, -2_000_000_000},
		{math.MaxInt64, math.MaxUint64, 9223372036 * 1e9},
		{math.MinInt64, 0, -9223372036 * 1e9},
		{3, math.MaxUint64, 3_999_999_999},
	} {
		m := Tsetattr{}
		b := put64(put64(make([]byte, 4+4+4+4+4+8), uint64(test.sec)), test.nsec)
		if err := Decode(TypeTsetattr, put64(put64(b, 0), 0), &m); err != nil || m.SetAttr.Atime != test.want {
			t.Errorf("%d s %d ns is %d, %v; not %d", test.sec, test.nsec, m.SetAttr.Atime, err, test.want)
		}
	}
}

func TestPayloadsAliasTheBody(t *testing.T) {
	body := AppendFrame(nil, 0, &Twrite{Data: []byte("abc")})[HeaderSize:]
	var m Twrite
	if err := Decode(TypeTwrite, body, &m); err != nil {
		t.Fatal(err)
	}
	if body[len(body)-3] = 'x'; string(m.Data) != "xbc" {
		t.Errorf("Data is a copy: %s", m.Data)
	}
	if cap(m.Data) != 3 {
		t.Errorf("whoever appends to Data writes behind it")
	}
}

func TestEncodeAndDecodeDoNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	msgs := []Message{&Tgetattr{Fid: 1}, &Rgetattr{}, &Twrite{Data: make([]byte, 100)}, &Rwalk{QIDs: make([]QID, 3)}, &Rgrant{Tokens: make([]Granted, 3)}}
	for _, m := range msgs {
		into := New(m.Type())
		body := AppendFrame(nil, 1, m)[HeaderSize:]
		if err := Decode(m.Type(), body, into); err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(1000, func() {
			buf = AppendFrame(buf[:0], 1, m)
			if Decode(m.Type(), body, into) != nil {
				panic("decode")
			}
		})
		if n >= 1 {
			t.Errorf("%s: %v allocations", TypeName(m.Type()), n)
		}
	}
}

func TestTooLongString(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a string of 64 KiB was encoded")
		}
	}()
	AppendFrame(nil, 0, &Treadlink{})
	AppendFrame(nil, 0, &Rreadlink{Target: strings.Repeat("x", MaxString+1)})
}

func BenchmarkGetattr(b *testing.B) {
	m, into, buf := sample(TypeRgetattr), &Rgetattr{}, []byte(nil)
	for b.Loop() {
		buf = AppendFrame(buf[:0], 1, m)
		if err := Decode(TypeRgetattr, buf[HeaderSize:], into); err != nil {
			b.Fatal(err)
		}
	}
}
