package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	_ "echo9/internal/draws"

	"pgregory.net/rapid"
)

// The layouts in docs/protocol.md, read by themselves, take the encoder's bytes
// apart into the values that the message has, field by field and by name.

const protocolPage = "../../docs/protocol.md"

// layouts reads the page: the synopses by message, the structures by name.
func layouts(page string) (synopses, structures map[string]string) {
	synopses, structures = map[string]string{}, map[string]string{}
	var into map[string]string
	var name string
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		code, ok := strings.CutPrefix(line, "    ")
		switch {
		case !ok:
			into = nil
		case strings.HasPrefix(code, "    ") && into != nil: // goes on
			into[name] += " " + strings.TrimSpace(code)
		case strings.HasPrefix(code, "size[4] "):
			into = synopses
			f := strings.SplitN(code, " ", 4)
			name = f[1]
			into[name] = strings.Join(f[2:], " ")
		default:
			var layout string
			if name, layout, ok = strings.Cut(code, " := "); ok {
				into = structures
				into[name] = layout
			}
		}
	}
	return synopses, structures
}

// layoutToken is one element of a layout: name[size], a group's beginning, its end, or a
// structure's name.
var layoutToken = regexp.MustCompile(`^(?:(\w+)\[(\w+)\]|(\w+)(?:([&=])(\d+))?\*\(|(\))|(\w+))`)

// taker takes bytes apart by layouts.
type taker struct {
	structures map[string]string
	body       []byte
	numbers    map[string]uint64 // the last one seen of each name, in this structure
	values     []value
}

// value is a field: its name, and a uint64, a string or a []byte.
type value struct {
	name string
	v    any
}

func (v value) String() string { return fmt.Sprintf("%s %v", v.name, v.v) }

// take takes what the layout says, up to a closing parenthesis, and gives the rest of the
// layout. With skip it only goes through the layout.
func (p *taker) take(layout string, skip bool) (rest string, err error) {
	for {
		layout = strings.TrimSpace(layout)
		if layout == "" {
			return "", nil
		}
		m := layoutToken.FindStringSubmatch(layout)
		if m == nil {
			return "", fmt.Errorf("this is no layout: %q", layout)
		}
		layout = layout[len(m[0]):]
		field, size, number, op, arg, end, structure := m[1], m[2], m[3], m[4], m[5], m[6], m[7]
		switch {
		case end != "":
			return layout, nil
		case field != "" && !skip:
			err = p.field(field, size)
		case structure != "" && !skip:
			if s, ok := p.structures[structure]; ok {
				outer := p.numbers
				p.numbers = map[string]uint64{}
				_, err = p.take(s, false)
				p.numbers = outer
			} else {
				err = fmt.Errorf("there is no structure %q", structure)
			}
		case number != "":
			layout, err = p.group(layout, p.times(number, op, arg), skip)
		}
		if err != nil {
			return "", err
		}
	}
}

// times tells how often a group is there.
func (p *taker) times(number, op, arg string) uint64 {
	n := p.numbers[number]
	a, _ := strconv.ParseUint(arg, 10, 64) // digits, says the expression
	switch {
	case op == "":
		return n
	case op == "&" && n&a != 0, op == "=" && n == a:
		return 1
	}
	return 0
}

func (p *taker) group(layout string, n uint64, skip bool) (rest string, err error) {
	if skip || n == 0 {
		return p.take(layout, true)
	}
	for range n {
		if rest, err = p.take(layout, false); err != nil {
			return "", err
		}
	}
	return rest, nil
}

// field takes one field. n and m are counts, of which messages know nothing.
func (p *taker) field(name, size string) error {
	n, err := strconv.Atoi(size)
	isString := size == "s"
	switch {
	case isString:
		b, err := p.bytes(2)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		n = int(binary.LittleEndian.Uint16(b))
	case err != nil:
		n = int(p.numbers[size])
	}
	b, err := p.bytes(n)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch isFixed := size[0] >= '0' && size[0] <= '9'; {
	case isString:
		p.values = append(p.values, value{name, string(b)})
	case !isFixed || n > 8:
		p.values = append(p.values, value{name, b})
	default:
		var full [8]byte
		copy(full[:], b)
		p.numbers[name] = binary.LittleEndian.Uint64(full[:])
		if name != "n" && name != "m" {
			p.values = append(p.values, value{name, p.numbers[name]})
		}
	}
	return nil
}

func (p *taker) bytes(n int) ([]byte, error) {
	if n > len(p.body) {
		return nil, fmt.Errorf("%d bytes are due and %d left", n, len(p.body))
	}
	b := p.body[:n]
	p.body = p.body[n:]
	return b, nil
}

// flatten gives a message's fields in order.
func flatten(name string, v reflect.Value) []value {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return []value{{name, uint64(1)}}
		}
		return []value{{name, uint64(0)}}
	case reflect.Int64:
		return []value{{name, uint64(v.Int())}}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return []value{{name, v.Uint()}}
	case reflect.String:
		return []value{{name, v.String()}}
	case reflect.Array, reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(b), v)
			return []value{{name, b}}
		}
		var vs []value
		for i := range v.Len() {
			vs = append(vs, flatten(name, v.Index(i))...)
		}
		return vs
	case reflect.Struct:
		var vs []value
		for i := range v.NumField() {
			vs = append(vs, flatten(strings.ToLower(v.Type().Field(i).Name), v.Field(i))...)
		}
		return vs
	}
	panic(v.Type().String())
}

func (v value) isZero() bool {
	switch x := v.v.(type) {
	case uint64:
		return x == 0
	case string:
		return x == ""
	case []byte:
		return len(x) == 0
	}
	return false
}

// same compares a field of a layout with one of a message; times of 16 bytes are seconds and nanoseconds.
func same(doc, have value) bool {
	d, isBytes := doc.v.([]byte)
	h, isBytesToo := have.v.([]byte)
	t, isTime := have.v.(uint64)
	switch {
	case doc.name != have.name:
		return false
	case isBytes && isBytesToo:
		return bytes.Equal(d, h)
	case isBytes && isTime && len(d) == 16:
		sec, nsec := binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint64(d[8:])
		return int64(sec)*1_000_000_000+int64(nsec) == int64(t) && nsec < 1_000_000_000
	}
	return doc.v == have.v
}

// agree compares what a layout found in a message's bytes with the message. Fields
// that the layout does not name must be empty: they are not carried.
func agree(found, have []value) error {
	for _, f := range found {
		for len(have) > 0 && have[0].name != f.name && have[0].isZero() {
			have = have[1:]
		}
		if len(have) == 0 {
			return fmt.Errorf("the page has %v, the message has no more", f)
		}
		if !same(f, have[0]) {
			return fmt.Errorf("the page has %v where the message has %v", f, have[0])
		}
		have = have[1:]
	}
	for _, h := range have {
		if !h.isZero() {
			return fmt.Errorf("the page does not have %v", h)
		}
	}
	return nil
}

// checkLayout compares a layout with the encoding of v.
func checkLayout(structures map[string]string, layout string, encoded []byte, v reflect.Value) error {
	p := taker{structures: structures, body: encoded, numbers: map[string]uint64{}}
	if _, err := p.take(layout, false); err != nil {
		return err
	}
	if len(p.body) > 0 {
		return fmt.Errorf("%d bytes are left", len(p.body))
	}
	return agree(p.values, flatten("", v))
}

func readProtocolPage(t *testing.T) (synopses, structures map[string]string) {
	t.Helper()
	page, err := os.ReadFile(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	return layouts(string(page))
}

func TestSynopsesAreTrue(t *testing.T) {
	synopses, structures := readProtocolPage(t)
	for _, typ := range all() {
		name := TypeName(typ)
		layout, ok := synopses[name]
		if !ok {
			t.Errorf("%s has no synopsis", name)
			continue
		}
		delete(synopses, name)
		layout, ok = strings.CutPrefix(layout, "tag[2]")
		if !ok {
			t.Errorf("%s has no tag", name)
		}
		check := func(m Message) error {
			return checkLayout(structures, layout, AppendFrame(nil, 0, m)[HeaderSize:], reflect.ValueOf(m).Elem())
		}
		if err := check(sample(typ)); err != nil {
			t.Errorf("%s %s: %v", name, layout, err)
			continue
		}
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			m := drawMessage(t, typ)
			if err := check(m); err != nil {
				t.Fatalf("%v: %v", m, err)
			}
		}))
	}
	for name := range synopses {
		t.Errorf("there is no %s", name)
	}
	e := Dirent{QID: QID{1, 2, 3}, Offset: 4, Type: 5, Name: "six"}
	if err := checkLayout(structures, "dirent", AppendDirent(nil, e.QID, e.Offset, e.Type, e.Name), reflect.ValueOf(e)); err != nil {
		t.Errorf("dirent: %v", err)
	}
}

// The comparison notices a page that is wrong: each change of a layout is caught.
func TestWrongSynopsesAreCaught(t *testing.T) {
	synopses, structures := readProtocolPage(t)
	for _, test := range []struct{ message, old, new string }{
		{"Tlopen", "fid[4] flags[4]", "flags[4] fid[4]"},
		{"Tlopen", "flags[4]", ""},
		{"Tlopen", "flags[4]", "flags[4] mode[4]"},
		{"Tlopen", "fid[4]", "newfid[4]"},
		{"Twalk", "n[2] n*(names[s])", "names[s] names[s]"},
		{"Twalk", "n[2]", "n[4]"},
		{"Tread", "offset[8] count[4]", "offset[4] count[8]"},
		{"Rgetattr", "qid attr", "attr qid"},
		{"Trenameat", "olddfid[4] oldname[s] newdfid[4] newname[s]", "newdfid[4] newname[s] olddfid[4] oldname[s]"},
		{"Rgrant", "n*(granted)", "n*(record)"},
		{"Rrenew", "resume[1] time[8]", "time[8] resume[1]"},
		{"Tcommit", "m[4] m*(record)", "m[4]"},
	} {
		layout := strings.Replace(synopses[test.message], test.old, test.new, 1)
		if layout == synopses[test.message] {
			t.Errorf("%s has no %q", test.message, test.old)
		}
		for _, typ := range all() {
			if TypeName(typ) != test.message {
				continue
			}
			m := sample(typ)
			layout = strings.TrimPrefix(layout, "tag[2]")
			if checkLayout(structures, layout, AppendFrame(nil, 0, m)[HeaderSize:], reflect.ValueOf(m).Elem()) == nil {
				t.Errorf("%s: %q for %q is not noticed", test.message, test.new, test.old)
			}
		}
	}
	for name, old := range map[string]string{"record": "kind=4*(size[8])", "granted": "flags&2*(", "extattr": "gen[8] "} {
		broken := maps.Clone(structures)
		broken[name] = strings.Replace(broken[name], old, strings.NewReplacer("4*", "5*", "&2", "&1", "gen", "dataversion").Replace(old), 1)
		if broken[name] == structures[name] {
			t.Errorf("%s has no %q", name, old)
		}
		caught := false
		for _, typ := range []uint8{TypeTcommit, TypeRgrant} {
			m := sample(typ)
			layout := strings.TrimPrefix(synopses[TypeName(typ)], "tag[2]")
			caught = caught || checkLayout(broken, layout, AppendFrame(nil, 0, m)[HeaderSize:], reflect.ValueOf(m).Elem()) != nil
		}
		if !caught {
			t.Errorf("%s: another %q is not noticed", name, old)
		}
	}
}
