package wire

import (
	"fmt"
	"reflect"

	"echo9/internal/cut"
)

// sample is a message of that type in which every field that the wire carries has a
// value of its own, lists have two elements, and a Tcommit has a record of each kind.
func sample(typ uint8) Message {
	m := New(typ)
	s := sampler{}
	s.fill(reflect.ValueOf(m).Elem())
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
		for range 2 {
			var e Dirent
			s.fill(reflect.ValueOf(&e).Elem())
			m.Data = AppendDirent(m.Data, e.QID, e.Offset, e.Type, e.Name)
		}
	case *Tcommit:
		m.Records = nil
		for kind := cut.Create; kind <= cut.Copy; kind++ {
			r := cut.Record{Kind: kind}
			v := reflect.ValueOf(&r).Elem()
			fields := append([]string{"UID", "Owner", "ID"}, recordFields[kind]...)
			if kind == cut.Attr {
				fields = append(fields, "Mode", "UserID", "GroupID", "Size", "Atime", "Mtime", "Ctime")
			}
			for _, f := range fields {
				s.fill(v.FieldByName(f))
			}
			if kind == cut.Attr {
				r.Valid = attrAll
			}
			m.Records = append(m.Records, r)
		}
	}
	return m
}

// sampler fills values: 1, 2, 3, …
type sampler struct{ n uint64 }

func (s *sampler) fill(v reflect.Value) {
	s.n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(int64(s.n)*1_000_000_007 + 1_700_000_000_000_000_000)
	case reflect.Uint8:
		v.SetUint(s.n % 250)
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(s.n + 0x100)
	case reflect.Uint64:
		v.SetUint(s.n + 0x1_0000_0000)
	case reflect.String:
		v.SetString(fmt.Sprintf("s%d", s.n))
	case reflect.Array:
		for i := range v.Len() {
			s.fill(v.Index(i))
		}
	case reflect.Slice:
		n := 2
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n = 3
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			s.fill(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			s.fill(v.Field(i))
		}
		if g, ok := v.Addr().Interface().(*Granted); ok {
			g.Flags = GrantedAttr | GrantedInline
		}
	default:
		panic(v.Type().String())
	}
}
