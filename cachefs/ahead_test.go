package cachefs

import (
	"fmt"
	"strings"
	"testing"

	"echo9/tokens"
)

// files makes so many files in directory d of a world.
func (w *world) files(t *testing.T, n int) {
	t.Helper()
	a := w.cache()
	ok(t, a.Mkdir(bg, "d", 0o755))
	for i := range n {
		ok(t, a.WriteFile(bg, fmt.Sprint("d/", i), []byte("x"), 0o644))
	}
	ok(t, a.Close(bg))
}

// TestRaiseAhead: who changes all files of a directory does not ask for each.
func TestRaiseAhead(t *testing.T) {
	const n = 300
	for what, change := range map[string]func(f *FS, name string) error{
		"remove": func(f *FS, name string) error { return f.Remove(bg, name) },
		"rename": func(f *FS, name string) error { return f.Rename(bg, name, name+"new") },
		"chmod":  func(f *FS, name string) error { return f.Chmod(bg, name, 0o600) },
		"write":  func(f *FS, name string) error { return f.WriteFile(bg, name, []byte("y"), 0o644) },
	} {
		messages := func(t *testing.T, mutant string) int64 {
			w := newWorld(t)
			w.files(t, n)
			a := w.cache(quiet, func(o *Options) { o.Mutant = mutant })
			list := strings.Fields(names(t, a, "d"))
			before := a.Status().Messages
			for _, name := range list {
				ok(t, change(a, "d/"+name))
			}
			return a.Status().Messages - before
		}
		t.Run(what, func(t *testing.T) {
			if m := messages(t, ""); m > 40 {
				t.Errorf("%d files cost %d messages", n, m)
			}
			if m := messages(t, mutantOneByOne); m < n {
				t.Errorf("the mutant asks for %d files with %d messages", n, m)
			}
		})
	}
}

// TestRaiseInVain: what others have is not raised, what they want back they get, and then it is not tried again for a while.
func TestRaiseInVain(t *testing.T) {
	w := newWorld(t)
	w.files(t, 100)
	a, b := w.cache(quiet), w.cache(quiet)
	listA, listB := strings.Fields(names(t, a, "d")), strings.Fields(names(t, b, "d"))
	same(t, "names", fmt.Sprint(len(listA), len(listB)), "100 100")
	d := object(t, a, "d").(*node)
	modes := func() (writes int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, tok := range a.holder.Held(nil) {
			if n := a.nodes[tok.ID]; n != nil && n.ents == nil && tok.Mode == tokens.Write {
				writes++
			}
		}
		return writes
	}
	raised := func() {
		until(t, "nothing is being raised", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return d.siblings == nil || d.siblings.raised == nil
		})
	}
	// B has read tokens of all: only those change hands that are changed.
	for _, name := range listA[:10] {
		ok(t, a.Chmod(bg, "d/"+name, 0o600))
		raised()
	}
	if got := modes(); got != 10 {
		t.Errorf("with somebody else who reads, %d files are held to be written; want 10", got)
	}
	if got := b.Status().Recalls; got != 10 {
		t.Errorf("the other one was asked for %d tokens; want 10", got)
	}
	// B gives them back: now they are raised.
	ok(t, b.Drop(bg))
	for _, name := range listA[10:12] {
		ok(t, a.Chmod(bg, "d/"+name, 0o600))
		raised()
	}
	before := modes()
	if before < 40 {
		t.Errorf("with nobody else there, %d files are held to be written; want many", before)
	}
	// B looks at one that A has changed, and at one that it only holds.
	for _, i := range []int{11, 14} {
		attr, err := b.Stat(bg, "d/"+listA[i])
		ok(t, err)
		if want := map[int]uint32{11: 0o600, 14: 0o644}[i]; attr.Mode&0o777 != want {
			t.Errorf("file %d has mode %o, want %o", i, attr.Mode&0o777, want)
		}
	}
	for _, name := range listA[90:100] {
		ok(t, a.Chmod(bg, "d/"+name, 0o600))
		raised()
	}
	if got := modes(); got > before+10 {
		t.Errorf("after it was in vain %d files are held to be written; before %d", got, before)
	}
}

// TestSmallFilesComeAlong: who reads the small files of a directory that was listed without them does not ask for each; what others
// change meanwhile is read as it is; and who reads only here and there does not get much more than he wants.
func TestSmallFilesComeAlong(t *testing.T) {
	const n = 300
	read := func(t *testing.T, a *FS, name, want string) {
		t.Helper()
		got, err := a.ReadFile(bg, name)
		ok(t, err)
		if string(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	listed := func(t *testing.T, w *world, mutant string) (a *FS, list []string) {
		a = w.cache(quiet, func(o *Options) { o.Mutant = mutant })
		dir, err := a.ReadDir(bg, "d")
		ok(t, err)
		for _, e := range dir {
			list = append(list, e.Name)
		}
		return a, list
	}
	t.Run("all", func(t *testing.T) {
		w := newWorld(t)
		w.files(t, n)
		for mutant, most := range map[string]int64{"": 40, mutantOneByOne: 0} {
			a, list := listed(t, w, mutant)
			before := a.Status().Messages
			for _, name := range list {
				read(t, a, "d/"+name, "x")
			}
			if m := a.Status().Messages - before; most > 0 && m > most || most == 0 && m < n {
				t.Errorf("mutant %q: %d files cost %d messages", mutant, n, m)
			}
		}
	})
	t.Run("changed meanwhile", func(t *testing.T) {
		w := newWorld(t)
		w.files(t, n)
		a, list := listed(t, w, "")
		b := w.cache()
		for i, name := range list {
			if i%10 == 9 {
				ok(t, b.WriteFile(bg, "d/"+list[min(i+3, n-1)], []byte("changed"), 0o644))
				read(t, a, "d/"+list[min(i+3, n-1)], "changed")
			}
			if i%10 != 2 || i < 10 {
				read(t, a, "d/"+name, map[bool]string{true: "changed", false: "x"}[i == n-1])
			}
		}
	})
	t.Run("here and there", func(t *testing.T) {
		w := newWorld(t)
		w.files(t, 2000)
		a, list := listed(t, w, "")
		for i := range 20 {
			read(t, a, "d/"+list[(i*617)%2000], "x")
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		have := 0
		for _, c := range a.nodes {
			if c.data != nil {
				if _, miss, _ := c.data.read(0, 1); miss == 1 {
					have++
				}
			}
		}
		if have > 20+2*smallTrial {
			t.Errorf("of 20 files that are read here and there, %d came", have)
		}
	})
}
