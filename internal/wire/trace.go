package wire

import (
	"reflect"
	"strconv"
	"strings"
	"unicode"
)

// Trace is a frame as --trace prints it: the message's name, its tag, and each
// field's name and value, as in
//
//	Tlopen tag 3 fid 2 flags 0x0
//
// Strings are quoted, lists and structures stand in brackets, payloads are
// their size and how they begin.
func Trace(tag uint16, m Message) string {
	b := append([]byte(TypeName(m.Type())), " tag "...)
	if tag == NoTag {
		b = append(b, "notag"...)
	} else {
		b = strconv.AppendUint(b, uint64(tag), 10)
	}
	return string(traceFields(b, reflect.ValueOf(m).Elem()))
}

func traceMessage(m Message) string {
	return string(traceFields([]byte(TypeName(m.Type())), reflect.ValueOf(m).Elem()))
}

func traceFields(b []byte, v reflect.Value) []byte {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			b = traceFields(b, v.Field(i))
			continue
		}
		b = append(append(append(b, ' '), traceName(f.Name)...), ' ')
		b = traceValue(b, v.Field(i), f.Tag.Get("trace"))
	}
	return b
}

// payloadShown is how much of a payload a trace shows.
const payloadShown = 24

const hexDigits = "0123456789abcdef"

func traceValue(b []byte, v reflect.Value, format string) []byte {
	if format == "secret" {
		return append(b, "…"...)
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return traceUint(b, v, format)
	case reflect.String:
		return strconv.AppendQuote(b, v.String())
	case reflect.Struct:
		if q, ok := v.Interface().(QID); ok {
			return append(b, q.String()...)
		}
		b = append(b, '(')
		inner := len(b)
		b = traceFields(b, v)
		if len(b) > inner { // without the first blank
			b = append(b[:inner], b[inner+1:]...)
		}
		return append(b, ')')
	case reflect.Array, reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return tracePayload(b, v)
		}
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ' ')
			}
			b = traceValue(b, v.Index(i), "")
		}
		return append(b, ']')
	}
	return append(b, v.String()...)
}

func traceUint(b []byte, v reflect.Value, format string) []byte {
	n := v.Uint()
	switch {
	case format == "hex":
		return strconv.AppendUint(append(b, "0x"...), n, 16)
	case format == "octal":
		return strconv.AppendUint(append(b, '0'), n, 8)
	case v.Kind() == reflect.Uint32 && n == uint64(NoFid): // NoUID is the same number
		return append(b, "none"...)
	}
	return strconv.AppendUint(b, n, 10)
}

func tracePayload(b []byte, v reflect.Value) []byte {
	if v.Kind() == reflect.Array {
		for i := range v.Len() {
			b = append(b, hexDigits[v.Index(i).Uint()>>4], hexDigits[v.Index(i).Uint()&15])
		}
		return b
	}
	p := v.Bytes()
	b = append(strconv.AppendInt(b, int64(len(p)), 10), " bytes"...)
	if len(p) == 0 {
		return b
	}
	b = strconv.AppendQuote(append(b, ' '), string(p[:min(len(p), payloadShown)]))
	if len(p) > payloadShown {
		b = append(b, "…"...)
	}
	return b
}

// String is the QID as (path version type), the type a letter for each bit.
func (q QID) String() string {
	t := ""
	for _, k := range []struct {
		bit  uint8
		name string
	}{{QTDir, "d"}, {0x40, "a"}, {0x20, "l"}, {0x08, "A"}, {0x04, "t"}, {QTSymlink, "L"}} {
		if q.Type&k.bit != 0 {
			t += k.name
		}
	}
	if t == "" {
		t = "f"
	}
	return "(" + strconv.FormatUint(q.Path, 10) + " " + strconv.FormatUint(uint64(q.Version), 10) + " " + t + ")"
}

// traceName gives a field's name in lower case: NewFid newfid, UID uid.
func traceName(name string) string {
	return strings.Map(unicode.ToLower, name)
}
