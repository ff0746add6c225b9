package contract

import (
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
)

// generator makes up stories. One seed makes one story.
type generator struct {
	*rand.Rand
	left    int // steps to make up
	handles int
	// apart: clients mostly work below directories of their own, so that more is pending; strangers: users are others than root.
	apart, strangers int
	client           int  // whose step it is
	refusing         bool // the server refuses some operations
	// alone: only this client's steps, on what is only its own: below o<client>, and names in s that begin with its number.
	alone bool
}

func newGenerator(seed uint64, steps int) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 9)), left: steps}
	g.apart, g.strangers = pick(g, 0, 50, 90), pick(g, 0, 5, 25)
	if g.refusing = g.IntN(3) == 0; g.refusing {
		// Then it must be known when something is sent.
		g.strangers = 0
	}
	return g
}

// policies makes up two or three clients.
func (g *generator) policies() []policy {
	var list []policy
	for range 2 + g.IntN(2) {
		list = append(list, g.policy())
	}
	if g.refusing {
		for i := range list {
			list[i].writes, list[i].eager = "behind", false
		}
	}
	if g.IntN(3) == 0 {
		list = append(list[:2], policy{plain: true})
	}
	return list
}

func (g *generator) policy() policy {
	return policy{writes: pick(g, "behind", "behind", "behind", "behind", "behind", "close", "sync"), order: pick(g, "object", "object", "causal", "total"), eager: g.IntN(6) == 0}
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

const (
	maxPending = 11 // effects, above which somebody is made to sync
	maxIdeals  = 60_000
)

// next makes up a step.
func (g *generator) next(h *history) (step, bool) {
	if g.left--; g.left < 0 {
		return step{}, false
	}
	if list := h.pending(); len(list) > maxPending {
		return step{client: list[g.IntN(len(list))].client, verb: "sync"}, true
	}
	s := step{client: g.IntN(len(h.members))}
	if g.alone {
		s.client = g.client
	}
	g.client = s.client
	if g.IntN(100) < g.strangers {
		s.uid = uint32(1 + g.IntN(2))
	}
	m := h.members[s.client]
	switch {
	case g.refusing && !m.plain && g.IntN(14) == 0:
		s = g.refusedStep(h, s, m)
	case len(m.handles) > 0 && g.IntN(3) == 0:
		s = g.handleStep(s, m)
	default:
		s = g.pathStep(h, s, m)
	}
	if h.mayLieBelow(s) {
		s = step{client: s.client, verb: "sync"}
	}
	return s, true
}

// mayLieBelow says that s moves a directory while its client has something pending that will be refused, on a file that others have
// changed, too: it need not know where that lies, and then the move goes with it, for the file may lie below. The model does not
// know what a client knows.
func (h *history) mayLieBelow(s step) bool {
	if s.verb != "rename" {
		return false
	}
	for _, path := range s.args[:2] {
		if i := h.now.find(path, s.uid).i; i == nil || !i.isDir() {
			continue
		}
		for _, e := range h.pending() {
			if e.client == s.client && e.content() && strings.HasPrefix(string(e.data), refusedWord) && bits.OnesCount(h.changers[e.id]) > 1 {
				return true
			}
		}
	}
	return false
}

// refusedStep makes up what the server will refuse.
func (g *generator) refusedStep(h *history, s step, m *member) step {
	s.uid = 0
	g.handles++
	word := fmt.Sprint(refusedWord, g.handles)
	dir, _ := splitPath(g.fresh(h))
	name := word
	if dir != "" {
		name = dir + "/" + word
	}
	handle := fmt.Sprint("h", g.handles)
	for _, name := range slices.Sorted(maps.Keys(m.handles)) {
		if hd := m.handles[name]; hd.write && !hd.appends && g.IntN(3) > 0 {
			s.verb, s.args = "write", []string{name, fmt.Sprint(9000 + 100*g.handles), word + "."}
			return s
		}
	}
	switch g.IntN(8) {
	case 0, 1:
		s.verb, s.args = "mkdir", []string{name, "0777"}
	case 2:
		s.verb, s.args = "create", []string{name, "0644", handle}
	case 3:
		s.verb, s.args = "rename", []string{g.path(h, ""), name}
	case 4:
		s.verb, s.args = "link", []string{g.path(h, "10"), name}
	case 5:
		s.verb, s.args = "symlink", []string{g.fresh(h), word}
	case 6:
		s.verb, s.args = "setxattr", []string{g.path(h, "10"), pick(g, "user.a", "user.b"), word}
	default:
		s.verb, s.args = "chown", []string{g.path(h, ""), fmt.Sprint(refusedOwner + g.handles), "0"}
	}
	return s
}

func (g *generator) handleStep(s step, m *member) step {
	s.uid = 0
	name := slices.Sorted(maps.Keys(m.handles))[g.IntN(len(m.handles))]
	num := func(n int) string { return fmt.Sprint(g.IntN(n)) }
	switch g.IntN(12) {
	case 0, 1, 2, 3:
		s.verb, s.args = "write", []string{name, num(40), g.word()}
	case 4, 5:
		s.verb, s.args = "read", []string{name, num(20), "20000"}
	case 6:
		s.verb, s.args = "hstat", []string{name}
	case 7:
		s.verb, s.args = "htruncate", []string{name, num(50)}
	case 8:
		s.verb, s.args = "hfsync", []string{name}
	case 9:
		if g.refusing {
			return step{client: s.client, verb: "hstat", args: []string{name}} // it would send something
		}
		s.verb, s.args = "alloc", []string{name, fmt.Sprint(pick(g, 0, 1, 3, 16, 17)), num(40), fmt.Sprint(1 + g.IntN(60))}
	default:
		s.verb, s.args = "close", []string{name}
	}
	return s
}

// word is data to be written.
func (g *generator) word() string {
	w := string(rune('a'+g.IntN(26))) + string(rune('A'+g.IntN(26)))
	switch g.IntN(8) {
	case 0:
		return w + "*700"
	case 1:
		return w + "*3000"
	}
	return w + "*" + fmt.Sprint(1+g.IntN(9))
}

// path makes up a path; mostly of something that is there. kind is how the modes of what is meant begin: "04" directories,
// "10" files.
func (g *generator) path(h *history, kind string) string {
	if g.IntN(10) == 0 {
		kind = ""
	}
	var have []string
	l, own := h.now.listing(), g.own()
	for _, p := range slices.Sorted(maps.Keys(l)) {
		if p != "." && !(g.alone && p == shared) && strings.HasPrefix(p, own) && strings.HasPrefix(l[p].what, kind) {
			have = append(have, p)
		}
	}
	if len(have) > 0 && g.IntN(8) > 0 {
		return have[g.IntN(len(have))]
	}
	return g.fresh(h)
}

// own is the directory that the step is to keep to; "" is none.
func (g *generator) own() string {
	if g.IntN(100) < g.apart && !g.alone {
		return fmt.Sprint("o", g.client)
	}
	return ""
}

// shared is the directory that all clients work in that are alone elsewhere.
const shared = "s"

func (g *generator) name() string {
	name := pick(g, "a", "b", "c", "d", "e")
	if g.alone {
		name = fmt.Sprint(g.client, name)
	}
	return name
}

// fresh makes up a path of something that may not be there.
func (g *generator) fresh(h *history) string {
	name := g.name()
	var dirs []string
	own := g.own()
	for p, e := range h.now.listing() {
		if strings.HasPrefix(e.what, "04") && strings.Count(p, "/") < 2 && strings.HasPrefix(p, own) && !(g.alone && p == ".") {
			dirs = append(dirs, p)
		}
	}
	if len(dirs) == 0 {
		return own
	}
	slices.Sort(dirs)
	l := h.now.listing()
	path := name
	for try := range 4 {
		path = strings.TrimPrefix(dirs[g.IntN(len(dirs))]+"/"+name, "./")
		if _, there := l[path]; !there || try == 2 && g.IntN(3) == 0 {
			break
		}
		name = g.name()
	}
	return path
}

func (g *generator) pathStep(h *history, s step, m *member) step {
	is := func(verb string, args ...string) step { s.verb, s.args = verb, args; return s }
	handle := func() string { g.handles++; return fmt.Sprintf("h%d", g.handles) }
	switch n := g.IntN(100); {
	case n < 9:
		return is("mkdir", g.fresh(h), pick(g, "0755", "0777", "0777", "0700", "01777", "0777"))
	case n < 22:
		return is("create", g.fresh(h), pick(g, "0644", "0666", "0600", "04755", "0666", "02755"), handle())
	case n < 25:
		return is("symlink", g.fresh(h), pick(g, "a", "d/b", "../c"))
	case n < 26:
		return is("mkfifo", g.fresh(h), "0644")
	case n < 29:
		return is("link", g.path(h, "10"), g.fresh(h))
	case n < 34:
		return is("unlink", g.path(h, ""))
	case n < 37:
		return is("rmdir", g.path(h, "04"))
	case n < 45:
		s = is("rename", g.path(h, pick(g, "", "04", "10")), pick(g, g.fresh(h), g.fresh(h), g.path(h, ""), g.path(h, "04")))
		if how := g.IntN(6); how < 2 && !m.plain {
			s.args = append(s.args, pick(g, "exchange", "noreplace"))
		}
		return s
	case n < 51:
		return is("open", g.path(h, "10"), pick(g, "r", "rw", "rw", "w", "rwa", "wt", "rwt", "r"), handle())
	case n < 58:
		return is("stat", g.path(h, ""))
	case n < 62:
		return is("cat", g.path(h, "10"))
	case n < 66:
		if g.alone {
			return is("ls", g.path(h, "04"))
		}
		return is("ls", pick(g, g.path(h, "04"), "."))
	case n < 67:
		return is("readlink", g.path(h, "12"))
	case n < 70:
		return is("chmod", g.path(h, ""), pick(g, "0755", "0644", "0600", "0777", "04755", "02775", "0", "01777"))
	case n < 71:
		return is("chown", g.path(h, ""), fmt.Sprint(g.IntN(3)), fmt.Sprint(g.IntN(3)))
	case n < 73:
		return is("utime", g.path(h, ""), fmt.Sprint(1_600_000_000_000_000_000+g.IntN(1000)*1_000_000))
	case n < 75:
		return is("truncate", g.path(h, "10"), fmt.Sprint(g.IntN(50)))
	case n < 78:
		s = is("setxattr", g.path(h, ""), pick(g, "user.a", "user.b"), pick(g, "x", "y", "zz"))
		if g.IntN(4) == 0 {
			s.args = append(s.args, pick(g, "create", "replace"))
		}
		return s
	case n < 79:
		return is("getxattr", g.path(h, ""), pick(g, "user.a", "user.b"))
	case n < 80:
		return is("listxattr", g.path(h, ""))
	case n < 81:
		return is("rmxattr", g.path(h, ""), pick(g, "user.a", "user.b"))
	case n < 83:
		return is("fsync", g.path(h, ""))
	case n < 84:
		return is("sync")
	case n < 88:
		return is("barrier", g.path(h, ""))
	case n < 89:
		return is("drop")
	case n < 96:
		return is("check")
	default:
		if m.plain {
			return is("check")
		}
		s.uid = 0
		if how := pick(g, "", "unsent", "unheard"); how != "" {
			return is("die", how)
		}
		return is("die")
	}
}
