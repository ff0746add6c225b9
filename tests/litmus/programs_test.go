package litmus

import (
	"fmt"
	"slices"
	"strings"

	"echo9/cachefs/order"
)

// step is one system call of a program.
type step struct {
	text string
	do   func(c *client) error
}

// program is a litmus test: what it does, and what a crash may show.
type program struct {
	name  string
	setup []step // durable before it begins
	steps []step
	// judge names what a tree shows; over is the number of steps that had returned. What it gives no
	// name is impossible.
	judge func(t map[string]string, over int) string
	// outcomes are the names in the order of the table, each with the orders that allow it.
	outcomes []outcome
}

type outcome struct {
	name string
	in   []order.Policy
}

var (
	all     = []order.Policy{order.Object, order.Causal, order.Total}
	unread  = []order.Policy{order.Object, order.Causal} // nothing that was read orders it
	objects = []order.Policy{order.Object}
)

// always are outcomes that each order allows.
func always(names ...string) []outcome {
	var out []outcome
	for _, n := range names {
		out = append(out, outcome{n, all})
	}
	return out
}

// may adds an outcome that only some orders allow.
func may(in []order.Policy, name string, rest []outcome) []outcome {
	return append(slices.Clone(rest), outcome{name, in})
}

func (p *program) prepare(c *client) error {
	for _, s := range p.setup {
		if err := s.do(c); err != nil {
			return fmt.Errorf("setting up: %s: %w", s.text, err)
		}
	}
	return c.Sync(bg)
}

func (p *program) allows(name string, o order.Policy) bool {
	return slices.ContainsFunc(p.outcomes, func(c outcome) bool { return c.name == name && slices.Contains(c.in, o) })
}

func steps(s ...any) []step {
	var out []step
	for _, x := range s {
		switch x := x.(type) {
		case step:
			out = append(out, x)
		case []step:
			out = append(out, x...)
		}
	}
	return out
}

// is judges by what one path shows.
func is(path string, names map[string]string) func(map[string]string, int) string {
	return func(t map[string]string, _ int) string {
		data, there := t[path]
		if !there {
			data = "absent"
		}
		return names[data]
	}
}

// two judges by whether a first and a second change are there.
func two(first, second func(t map[string]string) bool) func(map[string]string, int) string {
	return func(t map[string]string, _ int) string {
		return map[[2]bool]string{{false, false}: "neither", {true, false}: "first", {false, true}: "second only", {true, true}: "both"}[[2]bool{first(t), second(t)}]
	}
}

// has says whether a path shows a content; there, whether it shows any.
func has(path, data string) func(map[string]string) bool {
	return func(t map[string]string) bool { return t[path] == data }
}

func there(path string) func(map[string]string) bool {
	return func(t map[string]string) bool { _, ok := t[path]; return ok }
}

// lasting names a loss when step n was over and the outcome is not what it made durable.
func lasting(n int, want string, judge func(map[string]string, int) string) func(map[string]string, int) string {
	return func(t map[string]string, over int) string {
		got := judge(t, over)
		if over >= n && got != want {
			return "lost after fsync"
		}
		return got
	}
}

var ordered = always("neither", "first", "both")

// tree judges a place where a tree of two files is to appear.
func wholeTree(at string) func(map[string]string, int) string {
	return func(t map[string]string, _ int) string {
		whole := t[at+"/f"] == "new f" && t[at+"/sub/g"] == "new g"
		switch {
		case !there(at)(t):
			return "nothing"
		case t[at+"/f"] == "old f":
			return "old tree"
		case whole:
			return "new tree"
		}
		return "half a tree"
	}
}

func build(at string) []step {
	return steps(mkdir(at), save(at+"/f", "new f"), mkdir(at+"/sub"), save(at+"/sub/g", "new g"))
}

func oldTree(at string) []step { return steps(mkdir(at), save(at+"/f", "old f")) }

// current judges a release that a symlink leads to.
func current(t map[string]string, _ int) string {
	target, ok := strings.CutPrefix(t["current"], "-> ")
	switch {
	case !ok:
		return ""
	case target == "rel-41" && t["rel-41/f"] == "old":
		return "old release"
	case t[target+"/f"] == "new":
		return "new release"
	}
	return "broken release"
}

var release = steps(mkdir("rel-41"), save("rel-41/f", "old"), symlink("rel-41", "current"))

func compile(src, obj string) func(map[string]string, int) string {
	return two(has(src, "new"), has(obj, "from new"))
}

var programs = []*program{
	{name: "prefix-append: three appends to a file", setup: save("f", "a"),
		steps:    steps(write("f", 1, "b"), write("f", 2, "c"), write("f", 3, "d"), closes("f")),
		judge:    is("f", map[string]string{"a": "old", "ab": "1 more", "abc": "2 more", "abcd": "3 more"}),
		outcomes: always("old", "1 more", "2 more", "3 more")},
	{name: "two overwrites in one file", setup: save("f", "ab"),
		steps: steps(write("f", 0, "A"), write("f", 1, "B"), closes("f")),
		judge: is("f", map[string]string{"ab": "neither", "Ab": "first", "AB": "both"}), outcomes: ordered},
	{name: "B1, B2, B1: overwrite, another, the first again", setup: save("f", "ab"),
		steps:    steps(write("f", 0, "1"), write("f", 1, "2"), write("f", 0, "3"), closes("f")),
		judge:    is("f", map[string]string{"ab": "none", "1b": "first", "12": "two", "32": "all"}),
		outcomes: always("none", "first", "two", "all")},
	{name: "overwrites in two files", setup: steps(save("f", "a"), save("g", "b")),
		steps: steps(write("f", 0, "A"), write("g", 0, "B"), closes("f"), closes("g")),
		judge: two(has("f", "A"), has("g", "B")), outcomes: may(unread, "second only", ordered)},
	{name: "overwrites in two files, a barrier on the first between", setup: steps(save("f", "a"), save("g", "b")),
		steps: steps(write("f", 0, "A"), barrier("f"), write("g", 0, "B"), closes("f"), closes("g")),
		judge: two(has("f", "A"), has("g", "B")), outcomes: ordered},
	{name: "overwrites in two files, the first read between", setup: steps(save("f", "a"), save("g", "b")),
		steps: steps(write("f", 0, "A"), read("f"), write("g", 0, "B"), closes("f"), closes("g")),
		judge: two(has("f", "A"), has("g", "B")), outcomes: may(objects, "second only", ordered)},
	{name: "log and data: log appended and fsynced, then data overwritten", setup: steps(save("log", ""), save("data", "a")),
		steps:    steps(write("log", 0, "entry"), fsync("log"), write("data", 0, "A"), closes("log"), closes("data")),
		judge:    two(has("log", "entry"), has("data", "A")),
		outcomes: ordered},
	{name: "open with O_TRUNC and write over", setup: save("f", "old"),
		steps:    steps(truncate("f"), write("f", 0, "new"), closes("f")),
		judge:    is("f", map[string]string{"old": "old", "": "empty", "new": "new"}),
		outcomes: always("old", "empty", "new")},
	{name: "create-rename: a new file under its final name", setup: nil,
		steps:    steps(save("f.tmp", "new"), rename("f.tmp", "f")),
		judge:    is("f", map[string]string{"absent": "nothing", "new": "new", "": "empty"}),
		outcomes: always("nothing", "new")},
	{name: "replace by rename (an editor's save)", setup: save("f", "old"),
		steps:    steps(save("f.tmp", "new"), rename("f.tmp", "f")),
		judge:    is("f", map[string]string{"old": "old", "new": "new", "": "empty", "absent": "nothing"}),
		outcomes: always("old", "new")},
	{name: "replace by rename, then fsync of the file", setup: save("f", "old"),
		steps:    steps(save("f.tmp", "new"), rename("f.tmp", "f"), fsync("f")),
		judge:    lasting(5, "new", is("f", map[string]string{"old": "old", "new": "new", "": "empty", "absent": "nothing"})),
		outcomes: always("old", "new")},
	{name: "implied fsync of the directory: create, write, fsync of the file only", setup: nil,
		steps:    steps(create("f"), write("f", 0, "data"), fsync("f"), closes("f")),
		judge:    lasting(3, "whole", is("f", map[string]string{"absent": "nothing", "": "empty", "data": "whole"})),
		outcomes: always("nothing", "empty", "whole")},
	{name: "link the new, unlink the old name", setup: save("old", "x"),
		steps: steps(link("old", "new"), unlink("old")),
		judge: func(t map[string]string, _ int) string {
			return map[[2]bool]string{{true, false}: "old name", {true, true}: "both", {false, true}: "new name"}[[2]bool{there("old")(t), there("new")(t)}]
		}, outcomes: always("old name", "both", "new name")},
	{name: "mail: written in tmp/, renamed into new/", setup: steps(mkdir("tmp"), mkdir("new")),
		steps: steps(save("tmp/m", "mail"), rename("tmp/m", "new/m")),
		judge: func(t map[string]string, over int) string {
			if there("new/m")(t) && there("tmp/m")(t) {
				return ""
			}
			return is("new/m", map[string]string{"absent": "nothing", "mail": "whole", "": "empty"})(t, over)
		}, outcomes: always("nothing", "whole")},
	{name: "two files exchanged", setup: steps(save("f", "a"), save("g", "b")),
		steps: steps(exchange("f", "g")),
		judge: func(t map[string]string, _ int) string {
			return map[string]string{"ab": "before", "ba": "after"}[t["f"]+t["g"]]
		}, outcomes: always("before", "after")},
	{name: "a tree built and renamed into place", setup: nil,
		steps: steps(build("tmp"), rename("tmp", "final")), judge: wholeTree("final"), outcomes: always("nothing", "new tree")},
	{name: "a tree replaced: the old moved away, the new into place", setup: oldTree("final"),
		steps: steps(build("tmp"), rename("final", "old"), rename("tmp", "final")),
		judge: wholeTree("final"), outcomes: always("old tree", "nothing", "new tree")},
	{name: "a tree replaced by exchange", setup: oldTree("final"),
		steps: steps(build("tmp"), exchange("tmp", "final")), judge: wholeTree("final"), outcomes: always("old tree", "new tree")},
	{name: "symlink switch: a release built, `current` replaced by rename", setup: release,
		steps: steps(mkdir("rel-42"), save("rel-42/f", "new"), symlink("rel-42", "current.tmp"), rename("current.tmp", "current")),
		judge: current, outcomes: may(objects, "broken release", always("old release", "new release"))},
	{name: "symlink switch, a barrier on each file of the release", setup: release,
		steps: steps(mkdir("rel-42"), save("rel-42/f", "new"), barrier("rel-42/f"), symlink("rel-42", "current.tmp"), rename("current.tmp", "current")),
		judge: current, outcomes: always("old release", "new release")},
	{name: "symlink switch, fsync of each file of the release", setup: release,
		steps: steps(mkdir("rel-42"), save("rel-42/f", "new"), fsync("rel-42/f"), symlink("rel-42", "current.tmp"), rename("current.tmp", "current")),
		judge: lasting(8, "new release", current), outcomes: always("old release", "new release")},
	{name: "two names in one directory", setup: nil,
		steps: steps(save("a", ""), save("b", "")), judge: two(there("a"), there("b")), outcomes: ordered},
	{name: "directory reordering: two names in two directories", setup: steps(mkdir("d"), mkdir("e")),
		steps: steps(create("d/a"), create("e/b"), closes("d/a"), closes("e/b")),
		judge: two(there("d/a"), there("e/b")), outcomes: may(unread, "second only", ordered)},
	{name: "two names in two directories, fsync of the first directory between", setup: steps(mkdir("d"), mkdir("e")),
		steps: steps(create("d/a"), fsync("d"), create("e/b"), closes("d/a"), closes("e/b")),
		judge: two(there("d/a"), there("e/b")), outcomes: ordered},
	{name: "renames in opposite directions between two directories", setup: steps(mkdir("d"), mkdir("e"), save("d/a", "a"), save("e/b", "b")),
		steps: steps(rename("d/a", "e/a"), rename("e/b", "d/b")),
		judge: func(t map[string]string, over int) string {
			if there("d/a")(t) == there("e/a")(t) || there("d/b")(t) == there("e/b")(t) {
				return ""
			}
			return two(has("e/a", "a"), has("d/b", "b"))(t, over)
		}, outcomes: ordered},
	{name: "cc: foo.c saved by rename, foo.o made from it, in one directory", setup: steps(save("foo.c", "old"), save("foo.o", "from old")),
		steps: steps(save("foo.c.tmp", "new"), rename("foo.c.tmp", "foo.c"), read("foo.c"), save("foo.o.tmp", "from new"), rename("foo.o.tmp", "foo.o")),
		judge: compile("foo.c", "foo.o"), outcomes: ordered},
	{name: "cc: foo.o in another directory", setup: steps(mkdir("obj"), save("foo.c", "old"), save("obj/foo.o", "from old")),
		steps: steps(save("foo.c.tmp", "new"), rename("foo.c.tmp", "foo.c"), read("foo.c"), save("obj/foo.o.tmp", "from new"), rename("obj/foo.o.tmp", "obj/foo.o")),
		judge: compile("foo.c", "obj/foo.o"), outcomes: may(objects, "second only", ordered)},
	{name: "cc: foo.c written over in place, foo.o in another directory", setup: steps(mkdir("obj"), save("foo.c", "old"), save("obj/foo.o", "from old")),
		steps: steps(write("foo.c", 0, "new"), closes("foo.c"), read("foo.c"), save("obj/foo.o.tmp", "from new"), rename("obj/foo.o.tmp", "obj/foo.o")),
		judge: compile("foo.c", "obj/foo.o"), outcomes: may(objects, "second only", ordered)},
}
