package journal

import (
	"bytes"
	"reflect"
	"testing"

	"echo9/internal/cut"
	"echo9/internal/wire"

	_ "echo9/internal/draws"

	"pgregory.net/rapid"
)

// draw fills a value with anything that an entry may have.
func draw(t *rapid.T, v reflect.Value) {
	if r, ok := v.Addr().Interface().(*cut.Record); ok {
		*r = drawRecord(t)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			draw(t, v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			draw(t, v.Index(i))
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 3).Draw(t, "length")
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n = rapid.SampledFrom([]int{0, 1, 20, aliasFrom - 1, aliasFrom, 5000}).Draw(t, "bytes")
		}
		if n == 0 {
			return // nil
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			copy(v.Bytes(), bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte"), 1, 2}, n/3+1))
			return
		}
		for i := range n {
			draw(t, v.Index(i))
		}
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "string"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "int"))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Uint8().Draw(t, "uint8")))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, "uint32")))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "uint64"))
	default:
		panic("a field of type " + v.Type().String())
	}
}

// drawRecord gives a record with the fields that its kind has.
func drawRecord(t *rapid.T) cut.Record {
	type fields cut.Record // so that draw does not come back here
	var all fields
	draw(t, reflect.ValueOf(&all).Elem())
	r := cut.Record(all)
	r.Kind = cut.Kind(rapid.IntRange(int(cut.Create), int(cut.Copy)).Draw(t, "kind"))
	var out cut.Record
	if _, err := wire.DecodeRecord(append(wire.AppendRecordHead(nil, &r), wire.RecordTail(&r)...), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// payload is what the log has of e, in one piece.
func payload(e any) (uint8, []byte, error) {
	kind, pieces, err := encode(e)
	if err != nil {
		return 0, nil, err
	}
	return kind, bytes.Join(pieces, nil)[headerSize:], nil
}

// entryTypes are all, the log's own included.
var entryTypes = []any{Cut{}, Note{}, Abort{}, Applied{}, Settled{}, Redo{}, checkpoint{}, mark{}}

func TestEntriesRoundTrip(t *testing.T) {
	// All that Entry can hold is here.
	for i, typ := 1, reflect.TypeFor[Entry](); i < typ.NumField(); i++ {
		if want := typ.Field(i).Type.Elem(); !containsType(want) {
			t.Errorf("no entries of type %v are tested", want)
		}
	}
	kinds := make(map[uint8]bool)
	for _, typ := range entryTypes {
		t.Run(reflect.TypeOf(typ).Name(), rapid.MakeCheck(func(t *rapid.T) {
			e := reflect.New(reflect.TypeOf(typ))
			draw(t, e.Elem())
			kind, p, err := payload(e.Interface())
			if err != nil {
				t.Fatal(err)
			}
			kinds[kind] = true
			got, err := decode(kind, p)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, e.Interface()) {
				t.Fatalf("put %+v\n got %+v", e.Interface(), got)
			}
			if len(p) > 0 {
				n := rapid.IntRange(0, len(p)-1).Draw(t, "cut off at")
				if got, err := decode(kind, p[:n]); err == nil {
					t.Fatalf("%d of %d bytes are %+v", n, len(p), got)
				}
			}
			if _, err := decode(kind, append(p, 0)); err == nil {
				t.Fatal("a byte too many is no error")
			}
		}))
	}
	if len(kinds) != len(entryTypes) || len(kinds) != len(kindNames) {
		t.Errorf("%d kinds of %d types, %d have names", len(kinds), len(entryTypes), len(kindNames))
	}
	if _, _, err := encode(Cut{}); err == nil {
		t.Error("a Cut that is no pointer is an entry")
	}
}

func containsType(want reflect.Type) bool {
	for _, e := range entryTypes {
		if reflect.TypeOf(e) == want {
			return true
		}
	}
	return false
}

func FuzzDecode(f *testing.F) {
	for _, e := range []any{aCut(3, 5), &Note{Cut: 3, Ctimes: []Ctime{{1, 2, 3}}}, &Abort{Cut: 1}, &Applied{Number: 300},
		&Settled{IDs: []uint64{1, 1 << 50}}, &Redo{IDs: []uint64{2}, Made: []Made{{ID: 2}}}, &checkpoint{9}, &mark{},
		&Cut{Objects: []Object{{ID: 2, Born: true, Xattrs: []Xattr{{"a", []byte("b"), true}}, Overwritten: []Bytes{{1, []byte("x")}}}}},
	} {
		kind, p, err := payload(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kind, p)
	}
	f.Fuzz(func(t *testing.T, kind uint8, p []byte) {
		e, err := decode(kind, p)
		if err != nil {
			return
		}
		kind2, again, err := payload(e)
		if err != nil || kind2 != kind {
			t.Fatalf("%+v becomes kind %d, %v", e, kind2, err)
		}
		e2, err := decode(kind, again)
		if err != nil || !reflect.DeepEqual(e, e2) {
			t.Fatalf("%+v becomes %+v, %v", e, e2, err)
		}
	})
}

// FuzzScan puts bytes behind a good first block: nothing may panic, and all entries found are whole.
func FuzzScan(f *testing.F) {
	head := segmentHead{seq: 7, salt: 42, size: blockSize + 1024}
	p, err := newPending(aCut(1, 100))
	if err != nil {
		f.Fatal(err)
	}
	p.lsn = 5
	p.put(p.pieces[0], head.salt, blockSize)
	f.Add(bytes.Join(p.pieces, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		data := make([]byte, head.size)
		copy(data, head.encode())
		copy(data[blockSize:], b)
		s, err := scanSegment(image{name: segmentName(7), seq: 7, data: data}, false)
		if err != nil {
			t.Fatal(err)
		}
		c, err := link([]*scanned{s})
		if err == nil {
			_, _ = c.decodeEntries()
		}
		if _, err := scanSegment(image{name: segmentName(7), seq: 7, data: b}, false); err == nil && len(b) < blockSize {
			t.Fatal("a file without a first block is a segment")
		}
	})
}
