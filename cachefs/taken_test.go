package cachefs

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/cachefs/order"
	"echo9/cachefs/spool"
	"echo9/internal/cut"
	"echo9/internal/wire"
)

// away is a client that does things while it is cut off, and another one that takes what it wants when the lease of the first is over.
type away struct {
	*keeper
	w     *world
	line  *line
	clock func() int64
	over  func()
}

// goAway gives a client that has made these directories and files (with content "old") with the server, and is cut off now.
func goAway(t *testing.T, policy order.Policy, dirs, files []string) *away {
	t.Helper()
	w, clock, skew := skewed(t)
	l := &line{w: w}
	a := &away{w: w, line: l, clock: clock, over: func() { skew.Store(int64(time.Hour)) }}
	a.keeper = w.keeperOver(l, func(o *Options) { o.Clock, o.Order = clock, policy })
	for _, dir := range dirs {
		ok(t, a.Mkdir(bg, dir, 0o755))
	}
	for _, name := range files {
		ok(t, a.WriteFile(bg, name, []byte("old"), 0o644))
	}
	ok(t, a.Sync(bg))
	l.down()
	return a
}

// back has the lease end, others take what they want, and the client come back. What it lost is in the spool, and told once.
func (a *away) back(t *testing.T, take func(b *FS)) *spool.Kept {
	t.Helper()
	a.over()
	b := a.w.cache(func(o *Options) { o.Clock = a.clock })
	take(b)
	ok(t, b.Sync(bg))
	a.line.up()
	fails(t, a.Sync(bg), syscall.EIO)
	ok(t, a.Sync(bg))
	list, err := a.entries()
	ok(t, err)
	same(t, "entries in the spool", len(list), 1)
	if list[0].Cause != spool.Taken {
		t.Errorf("lost since: %v", list[0].Cause)
	}
	return list[0]
}

// wantNames checks what the client, another one and the server have in a directory.
func (a *away) wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	for who, f := range map[string]*FS{"the client": a.FS, "another one": a.w.cache(func(o *Options) { o.Clock = a.clock }), "the server": a.w.direct()} {
		if got := names(t, f, dir); got != strings.Join(want, " ") {
			t.Errorf("%s has %v in %s, want %v", who, got, dir, want)
		}
	}
}

// What is made in a directory comes after that was made: it is lost with it. What was done elsewhere is not.
func TestLostMkdirTakesWhatIsInIt(t *testing.T) {
	a := goAway(t, order.Object, []string{"p", "q"}, nil)
	ok(t, a.Mkdir(bg, "p/c", 0o755))
	h := open(t, a.FS, "p/c/f", wire.ORdwr|wire.OCreat)
	_, err := h.WriteAt(bg, []byte("text"), 0)
	ok(t, err)
	d := open(t, a.FS, "p/c", wire.ORdonly|wire.ODirectory)
	ok(t, a.WriteFile(bg, "q/g", []byte("stays"), 0o644))
	kept := a.back(t, func(b *FS) { ok(t, b.WriteFile(bg, "p/theirs", nil, 0o644)) })
	ok(t, keptFile(kept, "/p/c/f", "text"))
	a.wantNames(t, "p", "theirs")
	hasContent(t, a.w.direct(), "q/g", "stays")
	_, err = h.ReadAt(bg, make([]byte, 1), 0)
	fails(t, err, syscall.EIO)
	fails(t, h.Close(bg), syscall.EIO)
	fails(t, d.ReadDir(bg, 0, func(wire.Dirent) bool { return true }), syscall.ESTALE)
	fails(t, d.Close(bg), syscall.ESTALE)
	ok(t, a.Mkdir(bg, "p/c", 0o755)) // anew
	ok(t, a.Sync(bg))
	a.wantNames(t, "p", "c", "theirs")
}

// What was moved into a directory that is lost is where it was, also to who had moved it, and what was done there afterwards is lost too.
func TestLostMkdirGivesBackWhatWasMovedThere(t *testing.T) {
	a := goAway(t, order.Object, []string{"p", "e", "q"}, []string{"e/g"})
	g := open(t, a.FS, "e/g", wire.ORdonly)
	ok(t, a.Mkdir(bg, "p/c", 0o755))
	ok(t, a.Rename(bg, "e/g", "p/c/g"))
	ok(t, a.WriteFile(bg, "e/after", []byte("text"), 0o644))
	ok(t, a.WriteFile(bg, "q/h", []byte("stays"), 0o644))
	kept := a.back(t, func(b *FS) { ok(t, b.WriteFile(bg, "p/theirs", nil, 0o644)) })
	ok(t, keptFile(kept, "/e/after", "text"))
	a.wantNames(t, "e", "g")
	a.wantNames(t, "p", "theirs")
	a.wantNames(t, "q", "h")
	hasContent(t, a.FS, "e/g", "old")
	p := make([]byte, 10)
	n, err := g.ReadAt(bg, p, 0) // nothing of the file itself was lost
	ok(t, err)
	same(t, "what is read of it", string(p[:n]), "old")
	ok(t, g.Close(bg))
	ok(t, a.Rename(bg, "e/g", "q/g"))
	ok(t, a.Sync(bg))
	a.wantNames(t, "e")
	a.wantNames(t, "q", "g", "h")
}

// When the server refuses to make a directory, what needs it goes too, step by step until nothing more does; what else was done in the same
// places is done.
func TestRefusedMkdirGivesBackWhatWasMovedThere(t *testing.T) {
	w, r := refusing(t)
	a := w.keeper()
	for _, dir := range []string{"p", "e"} {
		ok(t, a.Mkdir(bg, dir, 0o755))
	}
	ok(t, a.WriteFile(bg, "e/g", []byte("old"), 0o644))
	ok(t, a.Sync(bg))
	fn := func(rec *cut.Record) error {
		if rec.Kind == cut.Create && isDir(rec.Mode) {
			return syscall.EDQUOT
		}
		return nil
	}
	r.refuse.Store(&fn)
	ok(t, a.Mkdir(bg, "p/c", 0o755))
	ok(t, a.Mkdir(bg, "p/c/below", 0o755))
	ok(t, a.Rename(bg, "e/g", "p/c/below/g"))
	ok(t, a.Rename(bg, "p/c/below/g", "p/g")) // the same name slot as before
	ok(t, a.WriteFile(bg, "e/after", []byte("text"), 0o644))
	ok(t, a.WriteFile(bg, "p/after", []byte("text"), 0o644))
	fails(t, a.Sync(bg), syscall.EIO)
	ok(t, a.Sync(bg))
	for _, f := range []*FS{a.FS, w.direct(), w.cache()} {
		hasContent(t, f, "e/g", "old")
		hasContent(t, f, "e/after", "text")
		hasContent(t, f, "p/after", "text")
		for _, gone := range []string{"p/c", "p/g"} {
			_, err := f.Stat(bg, gone)
			fails(t, err, syscall.ENOENT)
		}
	}
}

// A file whose removal is lost is there again. An open file of the same name that was made afterwards is none of it: it is dead.
func TestLostUnlink(t *testing.T) {
	a := goAway(t, order.Object, []string{"d"}, []string{"d/n"})
	old := open(t, a.FS, "d/n", wire.ORdonly)
	ok(t, a.Remove(bg, "d/n"))
	h := open(t, a.FS, "d/n", wire.ORdwr|wire.OCreat|wire.OExcl)
	_, err := h.WriteAt(bg, []byte("new"), 0)
	ok(t, err)
	kept := a.back(t, func(b *FS) { ok(t, b.WriteFile(bg, "d/theirs", nil, 0o644)) })
	ok(t, keptFile(kept, "/d/n", "new"))
	a.wantNames(t, "d", "n", "theirs")
	hasContent(t, a.FS, "d/n", "old")
	_, err = h.ReadAt(bg, make([]byte, 1), 0)
	fails(t, err, syscall.EIO)
	fails(t, h.Close(bg), syscall.EIO)
	p := make([]byte, 10)
	n, err := old.ReadAt(bg, p, 0)
	ok(t, err)
	same(t, "the old file, still open", string(p[:n]), "old")
	ok(t, old.Close(bg))
	ok(t, a.Sync(bg))
	a.wantNames(t, "d", "n", "theirs")
}

// A file is renamed and then written to, and the directory that it went to goes to somebody else: it has its old name and its old content, for all
// that comes after in the order is lost. What was done elsewhere afterwards is not lost in the order of objects, but in those that have it come after
// (docs/semantics.md): the client had looked the new name up.
func TestLostRename(t *testing.T) {
	for _, policy := range []order.Policy{order.Object, order.Causal, order.Total} {
		t.Run(orderNames[policy], func(t *testing.T) {
			a := goAway(t, policy, []string{"d1", "d2", "d3"}, []string{"d1/f"})
			ok(t, a.WriteFile(bg, "d3/before", []byte("text"), 0o644))
			ok(t, a.Rename(bg, "d1/f", "d2/f"))
			ok(t, a.WriteFile(bg, "d2/f", []byte("new"), 0o644))
			ok(t, a.WriteFile(bg, "d3/after", []byte("text"), 0o644))
			kept := a.back(t, func(b *FS) { ok(t, b.WriteFile(bg, "d2/theirs", nil, 0o644)) })
			ok(t, keptFile(kept, "/d2/f", "new"))
			a.wantNames(t, "d1", "f")
			a.wantNames(t, "d2", "theirs")
			hasContent(t, a.FS, "d1/f", "old")
			hasContent(t, a.w.direct(), "d1/f", "old")
			if policy != order.Object {
				ok(t, keptFile(kept, "/d3/after", "text"))
				a.wantNames(t, "d3", "before")
			} else {
				a.wantNames(t, "d3", "after", "before")
			}
		})
	}
}
