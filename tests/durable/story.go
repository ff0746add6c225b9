// Package durable shows that what a server acknowledged outlives it: servers are
// killed while clients write and fsync, whole machines lose their power, and the exported
// directory is then compared with what it must be.
//
// Each client works in a directory of its own, in rounds: some changes, then
// an fsync that returns when all of them are durable, then a record of that, outside of what
// dies. A round is one cut. So after a crash the directory is exactly what it
// was after a certain round: the last recorded one, or the one after it.
//
// What the rounds are follows from a seed. So whoever checks does the same
// rounds in an ordinary directory, and compares the two trees in everything but times.
package durable

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// op is one change of a tree; paths are relative to the client's directory, with slashes.
type op struct {
	do       string
	path, to string
	text     string // a symlink's target, an attribute's name
	mode     uint32
	uid      uint32
	off      int64
	data     []byte
}

func (o op) String() string {
	return fmt.Sprintf("%s %s %s %s %o %d %d+%d", o.do, o.path, o.to, o.text, o.mode, o.uid, o.off, len(o.data))
}

// round is what a client does before it asks for durability: of all, or of one path.
type round struct {
	ops   []op
	fsync string // "": everything
}

// story makes up the rounds of one client, which are valid one after another.
type story struct {
	rng  *rand.Rand
	root *obj
	// Directories move to other ones. An export has one token for that: with two who
	// want it, a recall would divide rounds.
	moves bool
}

type obj struct {
	kind  byte // f, d, l (symlink), p (FIFO), c (device)
	size  int64
	names map[string]*obj
}

func newStory(seed, client uint64) *story {
	return &story{rng: rand.New(rand.NewPCG(seed, client)), root: &obj{kind: 'd', names: map[string]*obj{}}, moves: client == 0}
}

// names are few, so that they meet often.
var names = []string{"a", "b", "c", "d", "e", "f"}

// spot is a name that may be bound.
type spot struct {
	dir  *obj
	path string
	name string
	obj  *obj // nil: free
}

// spots lists all names of the tree, the free ones too, to a depth of three.
func (s *story) spots() []spot {
	var out []spot
	var walk func(d *obj, path string, depth int)
	walk = func(d *obj, path string, depth int) {
		for _, n := range names {
			p := n
			if path != "" {
				p = path + "/" + n
			}
			o := d.names[n]
			out = append(out, spot{d, p, n, o})
			if o != nil && o.kind == 'd' && depth < 3 {
				walk(o, p, depth+1)
			}
		}
	}
	walk(s.root, "", 1)
	return out
}

// pick gives a random spot that ok likes.
func (s *story) pick(ok func(spot) bool) (spot, bool) {
	all := slices.DeleteFunc(s.spots(), func(p spot) bool { return !ok(p) })
	if len(all) == 0 {
		return spot{}, false
	}
	return all[s.rng.IntN(len(all))], true
}

func is(kinds string) func(spot) bool {
	return func(p spot) bool {
		return p.obj != nil && slices.Contains([]byte(kinds), p.obj.kind)
	}
}

func free(p spot) bool { return p.obj == nil }

// below says whether o is d or lies below it.
func below(o, d *obj) bool {
	if o == d {
		return true
	}
	for _, c := range d.names {
		if c.kind == 'd' && below(o, c) {
			return true
		}
	}
	return false
}

// data is content that tells by whom it was written.
func (s *story) data() []byte {
	n := 1 + s.rng.IntN(3000)
	switch s.rng.IntN(10) {
	case 0:
		n += s.rng.IntN(100_000)
	case 1:
		n = 4096 * (1 + s.rng.IntN(4))
	}
	b := make([]byte, n)
	word := s.rng.Uint64()
	for i := range b {
		b[i] = byte(word>>(8*(i%8))) ^ byte(i>>8)
	}
	return b
}

// next makes up one more round.
func (s *story) next() round {
	switch s.rng.IntN(10) {
	case 0, 1:
		if r, ok := s.save(); ok {
			return r
		}
	case 2, 3:
		if r, ok := s.oneFile(); ok {
			return r
		}
	case 4:
		if r, ok := s.release(); ok {
			return r
		}
	}
	var r round
	for want := 1 + s.rng.IntN(15); len(r.ops) < want; {
		r.ops = append(r.ops, s.any()...)
	}
	return r
}

// save is an editor's: a temporary file, renamed over the old one; the directory is fsynced.
func (s *story) save() (round, bool) {
	to, ok := s.pick(is("f"))
	if !ok {
		return round{}, false
	}
	data := s.data()
	tmp := to.path + ".tmp"
	to.dir.names[to.name] = &obj{kind: 'f', size: int64(len(data))}
	return round{
		ops:   []op{{do: "create", path: tmp, mode: 0o640, data: data}, {do: "rename", path: tmp, to: to.path}},
		fsync: dirOf(to.path),
	}, true
}

// oneFile overwrites, extends and cuts one file, which is fsynced.
func (s *story) oneFile() (round, bool) {
	f, ok := s.pick(is("f"))
	if !ok {
		return round{}, false
	}
	r := round{fsync: f.path}
	for range 1 + s.rng.IntN(3) {
		r.ops = append(r.ops, s.change(f))
	}
	return r, true
}

// release builds a tree under a temporary name and renames it into place.
func (s *story) release() (round, bool) {
	to, ok := s.pick(free)
	if !ok {
		return round{}, false
	}
	d := &obj{kind: 'd', names: map[string]*obj{}}
	tmp := to.path + ".new"
	r := round{ops: []op{{do: "mkdir", path: tmp, mode: 0o750}}}
	for _, n := range names[:2+s.rng.IntN(3)] {
		data := s.data()
		r.ops = append(r.ops, op{do: "create", path: tmp + "/" + n, mode: 0o644, data: data})
		d.names[n] = &obj{kind: 'f', size: int64(len(data))}
	}
	r.ops = append(r.ops, op{do: "rename", path: tmp, to: to.path})
	to.dir.names[to.name] = d
	return r, true
}

func dirOf(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return "."
}
