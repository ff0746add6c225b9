package wire

import (
	"reflect"
	"testing"

	"echo9/internal/cut"

	"pgregory.net/rapid"
)

// all are the types of all messages.
func all() []uint8 {
	var ts []uint8
	for t := range 256 {
		if names[t] != "" {
			ts = append(ts, uint8(t))
		}
	}
	return ts
}

func TestTablesAgree(t *testing.T) {
	if n := len(all()); n != 1+2*28+12+16 {
		t.Errorf("%d messages", n)
	}
	for _, typ := range all() {
		m := New(typ)
		if m == nil || m.Type() != typ {
			t.Errorf("New(%d) makes %T", typ, m)
			continue
		}
		if got := reflect.TypeOf(m).Elem().Name(); got != TypeName(typ) {
			t.Errorf("type %d is a %s and is called %s", typ, got, TypeName(typ))
		}
		if names[typ][0] == 'T' && names[typ+1] != "R"+names[typ][1:] {
			t.Errorf("%s is answered by %s", names[typ], names[typ+1])
		}
	}
	if New(99) != nil || TypeName(99) != "type99" {
		t.Error("type 99 exists")
	}
}

// draw fills a value with anything that the wire can carry.
func draw(t *rapid.T, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *cut.Record:
		*x = drawRecord(t)
		return
	case *Granted:
		drawFields(t, v)
		if x.Flags&GrantedAttr == 0 {
			x.Attr, x.Target = Attr{}, ""
		}
		if x.Flags&GrantedInline == 0 {
			x.Inline = nil
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int64:
		v.SetInt(rapid.Int64Range(-4e18, 4e18).Draw(t, "int"))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64Range(0, 1<<v.Type().Bits()-1).Draw(t, "uint"))
	case reflect.String:
		v.SetString(string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "string")))
	case reflect.Array:
		for i := range v.Len() {
			draw(t, v.Index(i))
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 5).Draw(t, "n"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				draw(t, v.Index(i))
			}
		}
	case reflect.Struct:
		drawFields(t, v)
	default:
		t.Fatalf("no rule for %s", v.Type())
	}
}

func drawFields(t *rapid.T, v reflect.Value) {
	for i := range v.NumField() {
		draw(t, v.Field(i))
	}
}

// drawMessage makes a random message of that type, without what it does not carry.
func drawMessage(t *rapid.T, typ uint8) Message {
	m := New(typ)
	draw(t, reflect.ValueOf(m).Elem())
	switch m := m.(type) {
	case *Rgetattr:
		m.Attr.Flags = 0
	case *Rwalkgetattr:
		m.Attr.Flags, m.Attr.QID = 0, QID{}
	case *Tgetlock:
		m.Lock.Flags = 0
	case *Rgetlock:
		m.Lock.Flags = 0
	case *Rreaddir:
		m.Data = nil
		for range rapid.IntRange(0, 4).Draw(t, "entries") {
			var e Dirent
			draw(t, reflect.ValueOf(&e).Elem())
			m.Data = AppendDirent(m.Data, e.QID, e.Offset, e.Type, e.Name)
		}
	}
	return m
}

// recordFields are the fields that each kind names, besides Kind, UID, Owner and ID.
var recordFields = map[cut.Kind][]string{
	cut.Create:      {"Mode", "UserID", "GroupID", "Rdev", "Target"},
	cut.Bind:        {"Dir", "Name", "Before"},
	cut.Attr:        {"Valid"},
	cut.Truncate:    {"Size"},
	cut.Data:        {"Off", "Bytes"},
	cut.Zero:        {"Off", "Len"},
	cut.Allocate:    {"Off", "Len"},
	cut.SetXattr:    {"Name", "Bytes"},
	cut.RemoveXattr: {"Name"},
	cut.Keep:        {},
	cut.Release:     {},
	cut.Copy:        {"Off", "Len", "Source", "SourceOff"},
}

func drawRecord(t *rapid.T) cut.Record {
	kind := cut.Kind(rapid.IntRange(int(cut.Create), int(cut.Copy)).Draw(t, "kind"))
	r := cut.Record{Kind: kind}
	v := reflect.ValueOf(&r).Elem()
	for _, f := range append([]string{"UID", "Owner", "ID"}, recordFields[kind]...) {
		draw(t, v.FieldByName(f))
	}
	r.Valid &= attrAll
	for i, f := range []string{"Mode", "UserID", "GroupID", "Size", "Atime", "Mtime", "Ctime"} {
		if r.Valid&(1<<i) != 0 {
			draw(t, v.FieldByName(f))
		}
	}
	return r
}

func TestRandomMessagesRoundTrip(t *testing.T) {
	for _, typ := range all() {
		t.Run(TypeName(typ), rapid.MakeCheck(func(t *rapid.T) {
			m := drawMessage(t, typ)
			tag := rapid.Uint16().Draw(t, "tag")
			before := []byte("before")
			frame := AppendFrame(before, tag, m)[len(before):]
			r := NewReader(&slowReader{frame, rapid.IntRange(1, 64).Draw(t, "chunk")}, uint32(len(frame)))
			h, body, err := r.ReadFrame()
			if err != nil || h.Type != typ || h.Tag != tag || int(h.Size) != len(frame) {
				t.Fatalf("header %+v, %v", h, err)
			}
			got := New(typ)
			if err := Decode(typ, body, got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, m) {
				t.Fatalf("sent %v\n got %v", m, got)
			}
			if got.String() != m.String() {
				t.Fatalf("sent %v\n got %v", m, got)
			}
			if len(body) > 0 {
				cutAt := rapid.IntRange(0, len(body)-1).Draw(t, "cut")
				if _, ok := m.(*Tfsync); ok && cutAt == 4 {
					return
				}
				if err := Decode(typ, body[:cutAt], New(typ)); err == nil {
					t.Fatalf("%d of %d bytes are accepted", cutAt, len(body))
				}
			}
			if err := Decode(typ, append(body, 0), New(typ)); err == nil {
				t.Fatal("a byte too many is accepted")
			}
		}))
	}
}
