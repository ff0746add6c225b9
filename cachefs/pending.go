package cachefs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"echo9/cachefs/order"
)

// Pending is an update that is not at the server.
type Pending struct {
	// Seq numbers updates in the order in which they were made.
	Seq  uint64 `json:"seq"`
	What string `json:"what"`
	// Names are the paths of what it is done to, as far as known: of a rename the old and the new one, of a copy the source and the target.
	Names []string `json:"names"`
	// Object is the id of what it is done to: st_ino.
	Object uint64 `json:"object"`
	// Offset and Bytes say where data lie in the file, and how much it is.
	Offset uint64        `json:"offset,omitempty"`
	Bytes  uint64        `json:"bytes,omitempty"`
	Age    time.Duration `json:"age_ns"`
	// Cut is the number of the cut that it is on its way with, 0 for none.
	Cut uint64 `json:"cut,omitempty"`
	// WaitsFor are the updates that must be at the server before it, those directly before it only.
	WaitsFor []uint64 `json:"waits_for,omitempty"`
}

// Pending lists what is not at the server, in the order in which it was done.
func (f *FS) Pending() []Pending {
	if f.plain != nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now, names := f.clock(), nameFinder{f: f, of: make(map[uint64]map[uint64]string)}
	list := make([]Pending, 0, f.log.Totals().Ops)
	for e := range f.log.Snapshot().All() {
		op := e.Op
		p := Pending{Seq: op.Seq, What: op.Kind.String(), Names: names.ofOp(op), Object: op.ID, Age: time.Duration(now - op.At), Cut: e.Cut}
		switch op.Kind {
		case order.Write:
			p.Offset, p.Bytes = op.Off, uint64(len(op.Bytes))
		case order.Copy, order.Allocate, order.Punch:
			p.Offset, p.Bytes = op.Off, op.Len
		case order.Truncate:
			p.Offset = op.Size
		}
		for _, seq := range e.After {
			if f.log.Op(seq) != nil {
				p.WaitsFor = append(p.WaitsFor, seq)
			}
		}
		slices.Sort(p.WaitsFor)
		list = append(list, p)
	}
	return list
}

// String is the update as a line: number, age, what, where, waiting for what.
func (p Pending) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\t%v\t%s", p.Seq, p.Age.Round(time.Millisecond), p.What)
	quoted := make([]string, len(p.Names))
	for i, n := range p.Names {
		quoted[i] = quoteName(n)
	}
	where := strings.Join(quoted, " to ")
	switch p.What {
	case "copy":
		fmt.Fprintf(&b, " %d bytes of %s at %d", p.Bytes, where, p.Offset)
	case "write", "allocate", "punch":
		fmt.Fprintf(&b, " %d bytes at %d of %s", p.Bytes, p.Offset, where)
	case "truncate":
		fmt.Fprintf(&b, " %s to %d bytes", where, p.Offset)
	default:
		fmt.Fprintf(&b, " %s", where)
	}
	switch {
	case p.Cut != 0:
		fmt.Fprintf(&b, "\tin cut %d", p.Cut)
	case len(p.WaitsFor) > 0:
		fmt.Fprintf(&b, "\twaits for %s", strings.Trim(strings.ReplaceAll(fmt.Sprint(p.WaitsFor), " ", ", "), "[]"))
	default:
		b.WriteString("\tmay go")
	}
	return b.String()
}

// quoteName quotes a name that would not stand in a line as one word.
func quoteName(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r == '"' || unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// nameFinder finds paths of objects. Used with f.mu held.
type nameFinder struct {
	f  *FS
	of map[uint64]map[uint64]string // names in a directory by object, of those looked at
}

// ofOp gives the paths that an operation is about.
func (nf nameFinder) ofOp(op *order.Op) []string {
	switch op.Kind {
	case order.Create, order.Mkdir, order.Symlink, order.Mknod, order.Link, order.Unlink, order.Rmdir:
		return []string{nf.in(op.Dir, op.Name)}
	case order.Rename:
		return []string{nf.in(op.Dir, op.Name), nf.in(op.Dir2, op.Name2)}
	case order.Copy:
		return []string{nf.path(op.Source), nf.path(op.ID)}
	}
	return []string{nf.path(op.ID)}
}

// in is the path of a name in a directory.
func (nf nameFinder) in(dir uint64, name string) string {
	return strings.TrimSuffix(nf.path(dir), "/") + "/" + name
}

// path is a path of an object as of now; "object(12)" stands for what is not known, or has no name.
func (nf nameFinder) path(id uint64) string {
	var elems []string
	for len(elems) < 1000 {
		n := nf.f.nodes[id]
		if n == nf.f.root {
			slices.Reverse(elems)
			return "/" + strings.Join(elems, "/")
		}
		name, dir := "", uint64(0)
		if n != nil {
			for _, up := range n.up {
				if s, ok := nf.names(up)[id]; ok {
					name, dir = s, up
					break
				}
			}
		}
		if name == "" {
			break
		}
		elems, id = append(elems, name), dir
	}
	elems = append(elems, fmt.Sprintf("object(%d)", id))
	slices.Reverse(elems)
	return strings.Join(elems, "/")
}

// names gives the names in a directory by object.
func (nf nameFinder) names(dir uint64) map[uint64]string {
	if m, ok := nf.of[dir]; ok {
		return m
	}
	m := make(map[uint64]string)
	if n := nf.f.nodes[dir]; n != nil && n.ents != nil {
		for _, x := range n.ents.list {
			if x != nil {
				m[x.id] = x.name
			}
		}
	}
	nf.of[dir] = m
	return m
}

// pendingText lists what is pending, a line an update.
func pendingText(f *FS) []byte {
	var b bytes.Buffer
	for _, p := range f.Pending() {
		fmt.Fprintln(&b, p)
	}
	return b.Bytes()
}

// pendingJSON lists what is pending as JSON, a line an update.
func pendingJSON(f *FS) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, p := range f.Pending() {
		if err := enc.Encode(p); err != nil {
			panic("cachefs: what is pending cannot be encoded: " + err.Error())
		}
	}
	return b.Bytes()
}
