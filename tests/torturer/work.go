package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// kind says how a cell is updated.
type kind uint8

const (
	inPlace  kind = iota // a file that is overwritten
	replaced             // a file that is replaced by rename
	logged               // a directory in which files are created, and the oldest removed
	kinds
)

var kindNames = [kinds]string{"inplace", "replaced", "log"}

// worker is who works on one client's mount, and whose cells are updated there.
type worker struct {
	t     *torture
	n     int
	tree  mounted
	cells []*cell
	rng   *rand.Rand

	at     *cell      // where one who only looks does so for a while
	rest   int        // milliseconds that it rests at most between two things
	idle   sync.Mutex // held while it works
	unsure bool       // its cells may be in an earlier state than it left them in
}

func (w *worker) run() {
	for {
		select {
		case <-w.t.done:
			return
		default:
		}
		w.idle.Lock()
		w.step()
		w.idle.Unlock()
		time.Sleep(time.Duration(w.rng.IntN(w.rest)) * time.Millisecond)
	}
}

// step does one thing, and judges what came of it.
func (w *worker) step() {
	c := w.t.clients[w.n].Load()
	w.t.count(&w.t.ops, 1)
	if w.unsure {
		w.unsure = !w.resync()
		return
	}
	switch r := w.rng.IntN(10); {
	case r < 6 && len(w.cells) > 0:
		cell := w.cells[w.rng.IntN(len(w.cells))]
		n := cell.next()
		sync := w.rng.IntN(4) == 0
		err := w.update(cell, n, sync)
		if err == nil {
			cell.performed(n, c)
			if sync {
				cell.raise(n)
				w.t.count(&w.t.synced, 1)
			}
			return
		}
		w.failed(c, fmt.Sprintf("update %d of %s", n, cell.path), err)
	default:
		if w.at == nil || len(w.cells) > 0 || w.rng.IntN(1500) == 0 {
			w.at = w.t.cells[w.rng.IntN(len(w.t.cells))]
		}
		w.t.look(w.tree, w.at, w, c)
	}
}

// failed judges the error of a call.
func (w *worker) failed(c *client, what string, err error) {
	w.unsure = true
	switch {
	case c.dead.Load():
		w.t.count(&w.t.cutOff, 1) // its daemon was killed
	case errors.Is(err, syscall.ENOSPC) && w.t.filled.Load():
		w.t.count(&w.t.full, 1)
	case w.t.losses(c) > c.seen.Load():
		w.t.count(&w.t.told, 1) // and so of what is built on it
	default:
		w.t.bad("%s: %v", what, err)
	}
	time.Sleep(20 * time.Millisecond)
}

// update makes state n of a cell.
func (w *worker) update(c *cell, n int, sync bool) error {
	path := filepath.Join(w.tree.dir, c.path)
	switch c.kind {
	case inPlace:
		return put(path, os.O_WRONLY, c.content(n), sync)
	case replaced:
		next := path + ".next"
		if err := put(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, c.content(n), false); err != nil {
			return err
		}
		if err := os.Rename(next, path); err != nil {
			return err
		}
		if sync {
			return syncDir(filepath.Dir(path))
		}
		return nil
	default:
		if err := put(filepath.Join(path, fmt.Sprint(n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, c.content(n), sync); err != nil {
			return err
		}
		c.mu.Lock()
		base := c.base
		c.mu.Unlock()
		if n-window < base {
			return nil
		}
		return os.Remove(filepath.Join(path, fmt.Sprint(n-window)))
	}
}

func put(path string, flags int, b []byte, sync bool) error {
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// resync looks where the own cells are now: what was pending beyond that is lost. A log is brought to where it can go on.
func (w *worker) resync() bool {
	client := w.t.clients[w.n].Load()
	if client.dead.Load() {
		return false
	}
	seen := w.t.losses(client)
	for _, c := range w.cells {
		n, err := state(w.tree, c)
		var gap *gap
		if errors.As(err, &gap) && (seen > client.seen.Load() || client.fresh.Load()) {
			n, err = gap.last, nil
		}
		if err != nil {
			if !w.t.retriable(client, err) {
				w.t.bad("looking at %s again: %v", c.path, err)
			}
			return false
		}
		if floor := c.floorAt(time.Now()); n < floor {
			w.t.bad("%s is at %d, and %d was acknowledged or seen", c.path, n, floor)
		}
		w.t.lose(c.resync(n))
		if c.kind == logged {
			// Numbers are not used again in files; names are, so that there is no gap.
			if err := w.mendLog(c, n); err != nil {
				return false
			}
		}
	}
	if len(w.cells) > 0 {
		client.seen.Store(seen)
		client.fresh.Store(false)
	}
	return true
}

// mendLog removes what a half done step left, and has the names go on without a gap.
func (w *worker) mendLog(c *cell, n int) error {
	names, err := w.tree.list(c.path)
	if err != nil {
		return err
	}
	run := 0 // where the last of them begins that are there without a gap
	for i := range names {
		if i > 0 && names[i] != names[i-1]+1 {
			run = i
		}
	}
	run = max(run, len(names)-window)
	for _, old := range names[:max(run, 0)] {
		if err := os.Remove(filepath.Join(w.tree.dir, c.path, fmt.Sprint(old))); err != nil {
			return err
		}
	}
	if err := syncDir(filepath.Join(w.tree.dir, c.path)); err != nil {
		return err
	}
	c.mu.Lock()
	c.base = n + 1
	if len(names) > 0 {
		c.base = names[max(run, 0)]
	}
	c.last = n
	c.mu.Unlock()
	return nil
}

// state tells which state a cell is in.
func state(t tree, c *cell) (int, error) {
	if c.kind == logged {
		names, err := t.list(c.path)
		if err != nil {
			return 0, err
		}
		return c.parseLog(names)
	}
	b, err := t.read(c.path)
	if err != nil {
		return 0, err
	}
	return c.parse(b)
}

// look has somebody look at a cell, and judges what is shown. w, by is who looks by a mount; nil: nobody who updates.
func (t *torture) look(tr tree, c *cell, w *worker, by *client) {
	owner := t.clients[c.owner].Load()
	fresh, seen := owner.fresh.Load(), owner.seen.Load()
	floor := c.floorAt(time.Now().Add(-tr.allowed()))
	n, err := state(tr, c)
	for tries := 0; errors.Is(err, syscall.ESTALE) && tries < t.o.bounds().stale; tries++ {
		// It was replaced between the kernel's look at its name and its opening.
		t.count(&t.replaced, 1)
		n, err = state(tr, c)
	}
	t.count(&t.reads, 1)
	var path *fs.PathError
	switch {
	case err == nil:
	case errors.As(err, new(*gap)) && (fresh || owner.dead.Load() || t.losses(owner) > seen):
		t.count(&t.told, 1)
		return
	case w == nil && (!errors.As(err, &path) && t.serverTrouble(err)):
		t.count(&t.cutOff, 1)
		return
	case w != nil && errors.As(err, &path):
		w.failed(by, "looking at "+c.path, err)
		return
	default:
		t.bad("looking at %s: %v", c.path, err)
		return
	}
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	switch {
	case n < floor:
		t.count(&t.stale, 1)
		t.bad("stale: %s shows %s at %d, and %d was seen or acknowledged before", name(by), c.path, n, floor)
	case n > last && c.kind != logged:
		t.bad("%s is at %d, and nobody has gone further than %d", c.path, n, last)
	case w == nil || w.n != c.owner:
		c.raise(n)
	}
}
