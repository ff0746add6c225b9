package cachefs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"echo9/cachefs/order"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

// TestNamelessLieNowhere: a rename of a directory comes after what is pending below it, and what has no name any more is below nothing.
// Were it otherwise the rename would need an object that was made and removed before the server heard of it: nobody can
// have its token, and the rename would be lost.
func TestNamelessLieNowhere(t *testing.T) {
	for name, vanish := range map[string]func(t *testing.T, a *FS){
		"file": func(t *testing.T, a *FS) {
			ok(t, a.WriteFile(bg, "one/d/f", []byte("x"), 0o644))
			ok(t, a.Remove(bg, "one/d/f"))
		},
		"directory": func(t *testing.T, a *FS) {
			ok(t, a.Mkdir(bg, "one/d/sub", 0o755))
			ok(t, a.Remove(bg, "one/d/sub"))
		},
		"file with names in two directories": func(t *testing.T, a *FS) {
			ok(t, a.WriteFile(bg, "two/top/e/f", []byte("x"), 0o644))
			ok(t, a.Link(bg, "two/top/e/f", "one/d/f"))
			ok(t, a.Link(bg, "two/top/e/f", "one/d/g"))
			ok(t, a.Remove(bg, "two/top/e/f"))
			ok(t, a.Remove(bg, "one/d/f"))
			ok(t, a.Remove(bg, "one/d/g"))
		},
		"directory that was moved": func(t *testing.T, a *FS) {
			ok(t, a.Mkdir(bg, "two/top/e/sub", 0o755))
			ok(t, a.Rename(bg, "two/top/e/sub", "one/d/sub"))
			ok(t, a.Remove(bg, "one/d/sub"))
		},
		"file that was replaced": func(t *testing.T, a *FS) {
			ok(t, a.WriteFile(bg, "one/d/f", []byte("x"), 0o644))
			ok(t, a.WriteFile(bg, "one/d/g", []byte("y"), 0o644))
			ok(t, a.Rename(bg, "one/d/f", "one/d/g"))
			ok(t, a.Remove(bg, "one/d/g"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if lost := lostWithGhosts(t, "", vanish); lost != 0 {
				t.Errorf("%d updates were lost", lost)
			}
			if strings.HasPrefix(name, "directory") && lostWithGhosts(t, mutantGhosts, vanish) == 0 {
				t.Error("with the mutant nothing was lost")
			}
		})
	}
}

// lostWithGhosts makes and removes something, moves a directory elsewhere, and says how many updates were lost.
func lostWithGhosts(t *testing.T, mutant string, vanish func(*testing.T, *FS)) int {
	w := newWorld(t)
	a := w.cache(func(o *Options) { o.Mutant = mutant })
	ok(t, a.MkdirAll(bg, "one/d", 0o755))
	ok(t, a.MkdirAll(bg, "two/top/e", 0o755))
	ok(t, a.Sync(bg))
	vanish(t, a)
	ok(t, a.Rename(bg, "two/top", "two/moved"))
	// Another client looks at d: what was pending there goes, and the rename stays.
	same(t, "names", names(t, w.plain(), "one/d"), "")
	if s := a.Status(); s.Pending != 1 {
		t.Fatalf("%d updates are pending, should be the rename: %v", s.Pending, a.Pending())
	}
	_ = a.Sync(bg)
	if a.Status().Lost == 0 {
		same(t, "names", names(t, w.direct(), "two"), "moved")
	}
	return a.Status().Lost
}

// TestBelowWhereOthersMovedIt: where a file lay before others moved it says nothing about where it is.
func TestBelowWhereOthersMovedIt(t *testing.T) {
	w := newWorld(t)
	a, b := w.cache(), w.cache()
	ok(t, b.Mkdir(bg, "d", 0o755))
	ok(t, b.Mkdir(bg, "e", 0o755))
	ok(t, b.WriteFile(bg, "d/f", []byte("old"), 0o644))
	h := open(t, a, "d/f", wire.OWronly)
	ok(t, b.WriteFile(bg, "d/g", nil, 0o644))           // a knows no names any more,
	ok(t, b.WriteFile(bg, "d/f", []byte("was"), 0o644)) // the file's token is b's,
	same(t, "names", names(t, a, "d"), "f g")           // and a lists the directory
	ok(t, b.Rename(bg, "d/f", "e/f"))
	same(t, "names", names(t, a, "d"), "g")
	_, err := h.WriteAt(bg, []byte("new"), 0)
	ok(t, err)
	ok(t, a.Rename(bg, "e", "moved"))
	_, err = w.plain().ReadDir(bg, "") // another client sees the rename
	ok(t, err)
	hasContent(t, w.direct(), "moved/f", "new")
	ok(t, h.Close(bg))
}

// TestUncountedDirectories: a host that shows one link of every directory does not make one seem removed.
func TestUncountedDirectories(t *testing.T) {
	a := newWorld(t).cache()
	for _, d := range []string{"d", "e"} {
		ok(t, a.Mkdir(bg, d, 0o755))
		ok(t, a.Mkdir(bg, d+"/sub", 0o755))
		id := object(t, a, d).ID()
		a.mu.Lock()
		a.nodes[id].attr.Nlink = 1
		a.mu.Unlock()
	}
	ok(t, a.Rename(bg, "d/sub", "moved"))
	ok(t, a.Remove(bg, "e/sub"))
	ok(t, a.WriteFile(bg, "d/f", []byte("d"), 0o644))
	ok(t, a.WriteFile(bg, "e/f", []byte("e"), 0o644))
}

// TestPlaces: whatever names files get and lose, of those whose tokens are held it is known where they lie, or that that is not known.
func TestPlaces(t *testing.T) {
	if err := misplace(t, ""); err != nil {
		t.Error(err)
	}
	if misplace(t, mutantOldPlaces) == nil {
		t.Error("with the mutant nothing is looked for where it is not")
	}
}

// misplace does all sorts of things to names, and gives what is then found misplaced.
func misplace(t *testing.T, mutant string) error {
	w := newWorld(t)
	change := func(o *Options) { o.Mutant = mutant }
	a, b := w.cache(change), w.cache(change)
	r := rand.New(rand.NewPCG(1, 2))
	dir := func() string { return fmt.Sprintf("d%d", r.IntN(3)) }
	file := func() string { return fmt.Sprintf("%s/f%d", dir(), r.IntN(4)) }
	for i := range 3 {
		ok(t, a.Mkdir(bg, fmt.Sprintf("d%d", i), 0o755))
	}
	var found []p9srv.Object
	for range 1000 {
		f := a
		if r.IntN(20) == 0 {
			f = b
		}
		var err error
		switch r.IntN(9) {
		case 0:
			err = f.WriteFile(bg, file(), []byte("x"), 0o644)
		case 1, 2:
			err = f.Link(bg, file(), file())
		case 3:
			err = f.Remove(bg, file())
		case 4:
			err = f.Rename(bg, file(), file())
		case 5:
			var o p9srv.Object
			if o, _, err = f.walk(bg, split(file()), false); err == nil {
				t.Cleanup(o.Release)
				found = append(found, o)
			}
		case 6:
			_, err = f.ReadDir(bg, dir())
		case 7:
			err = f.Rename(bg, dir()+"/sub", dir()+"/sub")
			if errors.Is(err, syscall.ENOENT) {
				err = f.Mkdir(bg, dir()+"/sub", 0o755)
			}
		case 8: // its token comes, and no name says where it is
			if len(found) > 0 {
				_, err = found[r.IntN(len(found))].GetAttr(bg, nil)
				if errors.Is(err, syscall.ESTALE) {
					err = nil
				}
			}
		}
		if surprising(err) {
			t.Fatal(err)
		}
		for _, f := range []*FS{a, b} {
			if err := f.misplaced(); err != nil {
				return err
			}
		}
	}
	return nil
}

// misplaced says which objects whose tokens are held have names where f does not look for them.
func (f *FS) misplaced() (err error) {
	if f.plain != nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, dir := range f.nodes {
		if dir.ents == nil || f.holder.Mode(id) == tokens.None {
			continue
		}
		for _, x := range dir.ents.list {
			if x == nil || f.holder.Mode(x.id) == tokens.None || f.nodes[x.id] == nil {
				continue
			}
			known := f.parentsOf(x.id)
			if !slices.Contains(known, id) && !slices.Contains(known, order.Somewhere) {
				err = errors.Join(err, fmt.Errorf("%q, object %d, is in directory %d, and looked for in %d", x.name, x.id, id, known))
			}
		}
	}
	return err
}

// TestBelowByAnyName: a rename of a directory comes after what is pending on a file of several names below it,
// whichever of them went before.
func TestBelowByAnyName(t *testing.T) {
	for name, remove := range map[string][]string{
		"none":                     {},
		"the first":                {"d/f"},
		"one of two":               {"e/g"},
		"the first and one of two": {"d/f", "e/g"},
		"one of two and the first": {"e/g", "d/f"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.cache()
			for _, d := range []string{"d", "e"} {
				ok(t, a.Mkdir(bg, d, 0o755))
			}
			ok(t, a.WriteFile(bg, "d/f", []byte("old"), 0o644))
			for _, l := range []string{"e/f", "e/g"} {
				ok(t, a.Link(bg, "d/f", l))
			}
			h := open(t, a, "e/f", wire.OWronly)
			for _, r := range remove {
				ok(t, a.Remove(bg, r))
			}
			ok(t, a.Sync(bg))
			_, err := h.WriteAt(bg, []byte("new"), 0) // no name shows where it is
			ok(t, err)
			ok(t, a.Rename(bg, "e", "moved"))
			_, err = w.plain().ReadDir(bg, "") // another client sees the rename
			ok(t, err)
			hasContent(t, w.direct(), "moved/f", "new")
			ok(t, h.Close(bg))
		})
	}
}
