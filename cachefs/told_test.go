package cachefs

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
)

// refuseOf has the server refuse data of that length.
func (r *refuser) refuseOf(n int) {
	fn := func(rec *cut.Record) error {
		if rec.Kind == cut.Data && len(rec.Bytes) == n {
			return syscall.ENOSPC
		}
		return nil
	}
	r.refuse.Store(&fn)
}

// settled has everything sent, and nobody told of what is lost.
func settled(t *testing.T, f *FS) {
	t.Helper()
	f.mu.Lock()
	upTo := f.lastSeq
	f.mu.Unlock()
	ok(t, f.demand(bg, &demand{why: "test", upTo: upTo}))
	until(t, "what is doubtful is fetched afresh", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.suspects) == 0
	})
}

// TestToldLater: what was lost when nobody had the object open is told once, by the fsync of who opens it next
// (as errseq_t does), and is not forgotten when the object is not used for long.
func TestToldLater(t *testing.T) {
	late := func(t *testing.T, mutant string) (file, dir, evicted []error) {
		w, r := refusing(t)
		a := w.cache(quiet, func(o *Options) { o.Mutant, o.Objects = mutant, 2 })
		ok(t, a.Mkdir(bg, "d", 0o755))
		ok(t, a.WriteFile(bg, "d/f", []byte("old"), 0o644))
		ok(t, a.WriteFile(bg, "d/g", []byte("old"), 0o644))
		ok(t, a.Sync(bg))
		r.refuseOf(3000)
		twice := func(name string, flags uint32) (errs []error) {
			for range 2 {
				h := open(t, a, name, flags)
				errs = append(errs, h.Fsync(bg, false))
				ok(t, h.Close(bg))
			}
			return errs
		}
		write := func(name string) {
			t.Helper()
			h := open(t, a, name, wire.ORdwr|wire.OCreat)
			_, err := h.WriteAt(bg, make([]byte, 3000), 0)
			ok(t, err)
			ok(t, h.Close(bg))
		}
		write("d/f") // over the old one
		settled(t, a)
		hasContent(t, a, "d/f", "old")
		file = twice("d/f", wire.ORdonly)

		write("d/tmp")
		ok(t, a.Rename(bg, "d/tmp", "d/f"))
		settled(t, a)
		hasContent(t, a, "d/f", "old")
		dir = twice("d", wire.ORdonly|wire.ODirectory)

		write("d/g")
		settled(t, a)
		for i := range 20 {
			ok(t, a.WriteFile(bg, fmt.Sprint("other", i), []byte("x"), 0o644))
		}
		ok(t, w.cache(quiet).Chmod(bg, "d/g", 0o600)) // the token goes
		evicted = twice("d/g", wire.ORdonly)
		return file, dir, evicted
	}
	t.Run("once", func(t *testing.T) {
		file, dir, evicted := late(t, "")
		for what, errs := range map[string][]error{"file": file, "directory": dir, "evicted": evicted} {
			t.Run(what, func(t *testing.T) {
				fails(t, errs[0], syscall.EIO)
				ok(t, errs[1])
			})
		}
	})
	t.Run(mutantTellNoHeir, func(t *testing.T) {
		file, dir, evicted := late(t, mutantTellNoHeir)
		for _, errs := range [][]error{file, dir, evicted} {
			if errs[0] != nil {
				t.Errorf("the mutant tells: %v", errs)
			}
		}
	})
}

// Who was told by a handle that the loss killed is not told again by the next one.
func TestToldByTheDead(t *testing.T) {
	w, r := refusing(t)
	a := w.cache(quiet)
	ok(t, a.WriteFile(bg, "f", []byte("old"), 0o644))
	ok(t, a.Sync(bg))
	r.refuseOf(3000)
	h := open(t, a, "f", wire.ORdwr)
	_, err := h.WriteAt(bg, make([]byte, 3000), 0)
	ok(t, err)
	fails(t, h.Fsync(bg, false), syscall.EIO)
	fails(t, h.Close(bg), syscall.EIO)
	settled(t, a)
	h = open(t, a, "f", wire.ORdwr)
	ok(t, h.Fsync(bg, false))

	_, err = h.WriteAt(bg, make([]byte, 3000), 0)
	ok(t, err)
	settled(t, a)
	fails(t, h.Close(bg), syscall.EIO) // as a clunk, whose error kernels do not tell
	h = open(t, a, "f", wire.ORdwr)
	fails(t, h.Fsync(bg, false), syscall.EIO)
	ok(t, h.Fsync(bg, false))
	ok(t, h.Close(bg))
}

// TestHalfMade: what lost its content when nobody had it open, and of which nobody was told, does not get another name, nor does a
// directory that it lies below: that fails once. Else a file which others are to see whole or not at all would be put there empty.
func TestHalfMade(t *testing.T) {
	type try struct {
		name string
		do   func(t *testing.T, a *FS) error
	}
	tries := []try{
		{"rename", func(t *testing.T, a *FS) error { return a.Rename(bg, "d/sub/f", "d/g") }},
		{"link", func(t *testing.T, a *FS) error { return a.Link(bg, "d/sub/f", "d/g") }},
		{"exchange", func(t *testing.T, a *FS) error {
			return object(t, a, "d").Rename(bg, &a.opt.Cred, "g", object(t, a, "d/sub"), "f", wire.RenameExchange)
		}},
		{"rename of the directory", func(t *testing.T, a *FS) error { return a.Rename(bg, "d/sub", "e") }},
		{"rename of the directory above", func(t *testing.T, a *FS) error { return a.Rename(bg, "d", "e") }},
	}
	lose := func(t *testing.T, mutant string) *FS {
		w, r := refusing(t)
		a := w.cache(quiet, func(o *Options) { o.Mutant = mutant })
		ok(t, a.Mkdir(bg, "d", 0o755))
		ok(t, a.Mkdir(bg, "d/sub", 0o755))
		ok(t, a.WriteFile(bg, "d/sub/f", nil, 0o644))
		ok(t, a.WriteFile(bg, "d/g", []byte("whole"), 0o644))
		ok(t, a.Sync(bg))
		r.refuseOf(3000)
		ok(t, a.WriteFile(bg, "d/sub/f", make([]byte, 3000), 0o644))
		settled(t, a)
		return a
	}
	for _, try := range tries {
		t.Run(try.name, func(t *testing.T) {
			a := lose(t, "")
			ok(t, a.Rename(bg, "d/g", "d/h")) // that has lost nothing
			ok(t, a.Rename(bg, "d/h", "d/g"))
			if try.name == "link" {
				ok(t, a.Remove(bg, "d/g"))
			}
			fails(t, try.do(t, a), syscall.EIO)
			if try.name != "link" {
				hasContent(t, a, "d/g", "whole")
			}
			ok(t, try.do(t, a)) // once
			a = lose(t, mutantPublish)
			if try.name == "link" {
				ok(t, a.Remove(bg, "d/g"))
			}
			ok(t, try.do(t, a))
		})
	}
	anew := map[string]func(t *testing.T, a *FS){
		"created over": func(t *testing.T, a *FS) { ok(t, a.WriteFile(bg, "d/sub/f", []byte("new"), 0o644)) },
		"opened": func(t *testing.T, a *FS) {
			h := open(t, a, "d/sub/f", wire.OWronly|wire.OTrunc)
			_, err := h.WriteAt(bg, []byte("new"), 0)
			ok(t, err)
			ok(t, h.Close(bg))
		},
		"truncated": func(t *testing.T, a *FS) { ok(t, a.Truncate(bg, "d/sub/f", 0)) },
	}
	for name, begin := range anew {
		t.Run("begun anew, "+name, func(t *testing.T) {
			for _, try := range tries {
				a := lose(t, "")
				begin(t, a)
				if try.name == "link" {
					ok(t, a.Remove(bg, "d/g"))
				}
				ok(t, try.do(t, a)) // what was lost is not missing in it
			}
			a := lose(t, "")
			begin(t, a)
			h := open(t, a, "d/sub/f", wire.ORdonly)
			fails(t, h.Fsync(bg, false), syscall.EIO) // but it was lost
			ok(t, h.Close(bg))
			a = lose(t, "")
			begin(t, a)
			ok(t, a.WriteFile(bg, "d/sub/f", make([]byte, 3000), 0o644))
			settled(t, a)
			fails(t, tries[0].do(t, a), syscall.EIO) // again
		})
	}
	t.Run("who was told", func(t *testing.T) {
		a := lose(t, "")
		h := open(t, a, "d/sub/f", wire.ORdonly)
		fails(t, h.Fsync(bg, false), syscall.EIO)
		ok(t, h.Close(bg))
		ok(t, tries[0].do(t, a))
	})
}

// TestEventsAreLoggedInOrder: the log has the events in their order, and all of them when Close returns, however slowly it takes them.
func TestEventsAreLoggedInOrder(t *testing.T) {
	w, r := refusing(t)
	var mu sync.Mutex
	var log []string
	a := w.cache(quiet, func(o *Options) {
		o.Logf = func(format string, args ...any) {
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf(format, args...))
		}
	})
	ok(t, a.WriteFile(bg, "f", []byte("old"), 0o644))
	ok(t, a.Sync(bg))
	r.refuseOf(3000)
	for range 10 {
		ok(t, a.WriteFile(bg, "f", make([]byte, 3000), 0o644))
		settled(t, a)
	}
	events := a.Events()
	_ = a.Close(bg) // which tells of the loss
	mu.Lock()
	defer mu.Unlock()
	if len(events) < 20 || len(log) < len(events) {
		t.Fatalf("of %d events %d are in the log", len(events), len(log))
	}
	for i, e := range events {
		same(t, "what is logged", log[i], e.Text)
	}
}
