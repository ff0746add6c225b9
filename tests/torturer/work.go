package main

import (
	"errors"
	"fmt"
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
	among                // the same in a directory that others work in too, and the files come by rename
	kinds
)

var kindNames = [kinds]string{"inplace", "replaced", "log", commonDir + "/files"}

// worker is who works on one client's mount, and whose cells are updated there.
type worker struct {
	t     *torture
	n     int
	tree  tree
	cells []*cell
	rng   *rand.Rand

	at     *cell      // where one who only looks does so for a while
	rest   int        // milliseconds that it rests at most between two things
	idle   sync.Mutex // held while it works
	unsure bool       // its cells may be in an earlier state than it left them in
	turn   int        // counts its updates
	life   *client    // by which it makes them
	knows  int        // how often that had said that something is lost when its cells were last looked at
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
	w.unsure = w.unsure || len(w.cells) > 0 && c.fresh.Load()
	if w.unsure {
		w.unsure = !w.resync()
		return
	}
	switch r := w.rng.IntN(10); {
	case r < 6 && len(w.cells) > 0:
		cell := w.cells[w.rng.IntN(len(w.cells))]
		w.turn++
		n := cell.next(w.turn)
		sync := w.rng.IntN(4) == 0
		err := w.update(cell, n, sync)
		if err == nil {
			cell.performed(n, c)
			if w.t.promises(w.n) == totally {
				cell.precedes(n, w.turn)
			}
			if sync {
				w.t.acknowledge(cell, n)
				w.t.count(&w.t.synced, 1)
			}
			return
		}
		w.failed(c, fmt.Sprintf("update %d of %s", n, cell.id()), err)
	default:
		if w.at == nil || len(w.cells) > 0 || w.rng.IntN(1500) == 0 {
			w.at = w.t.cells[w.rng.IntN(len(w.t.cells))]
		}
		w.t.look(w.tree, w.n, w.at, w, c)
	}
}

// failed judges the error of a call.
func (w *worker) failed(c *client, what string, err error) {
	w.unsure = true
	switch {
	case c.dead.Load():
		w.t.count(&w.t.cutOff, 1) // its daemon was killed
	case errors.Is(err, syscall.ENOSPC) && w.t.filled.Load() > 0:
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
	file := filepath.Join(c.path, c.name(n))
	switch c.kind {
	case inPlace:
		return w.tree.put(c.path, os.O_WRONLY, c.content(n), sync)
	case replaced:
		return w.replace(c.path+".next", c.path, c.content(n), sync)
	case logged:
		if err := w.tree.put(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, c.content(n), sync); err != nil {
			return err
		}
	case among:
		if err := w.replace(filepath.Join(c.path, c.prefix+"next"), file, c.content(n), sync); err != nil {
			return err
		}
	}
	c.mu.Lock()
	base := c.base
	c.mu.Unlock()
	if n-window < base {
		return nil
	}
	return w.tree.remove(filepath.Join(c.path, c.name(n-window)))
}

// replace has a file come whole.
func (w *worker) replace(next, path string, b []byte, sync bool) error {
	if err := w.tree.put(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, b, false); err != nil {
		return err
	}
	if err := w.tree.rename(next, path); err != nil || !sync {
		return err
	}
	return w.tree.fsync(filepath.Dir(path))
}

// resync looks where the own cells are now: what was pending beyond that is lost. A log is brought to where it can go on.
func (w *worker) resync() bool {
	client := w.t.clients[w.n].Load()
	if client.dead.Load() {
		return false
	}
	seen := w.t.losses(client)
	if client.fresh.Load() {
		states := w.states(w.tree)
		if client.dead.Load() {
			return false
		}
		w.checkOrder(states)
	}
	w.forgets(client)
	for _, c := range w.cells {
		n, err := state(w.tree, c)
		var gap *gap
		if errors.As(err, &gap) && (seen > client.seen.Load() || client.fresh.Load()) {
			n, err = gap.last, nil
		}
		if err != nil {
			if !w.t.retriable(client, err) {
				w.t.bad("looking at %s again: %v", c.id(), err)
			}
			return false
		}
		if floor := c.floorAt(time.Now()); n < floor {
			w.t.bad(lostAcknowledged+": %s is at %d, and %d was acknowledged or seen", c.id(), n, floor)
		}
		w.t.lose(c.resync(n))
		if err := w.hear(c); err != nil {
			return false
		}
		if c.isDir() {
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

// states tells where its cells are, of those of which it can be told.
func (w *worker) states(tr tree) map[*cell]int {
	all := map[*cell]int{}
	for _, c := range w.cells {
		if n, err := state(tr, c); err == nil {
			all[c] = n
		}
	}
	return all
}

// hear has what was lost of a cell told, which the first fsync by who opened it later does, once.
func (w *worker) hear(c *cell) error {
	for _, path := range []string{c.path, filepath.Dir(c.path)} {
		err := w.tree.fsync(path)
		if errors.Is(err, syscall.EIO) {
			err = w.tree.fsync(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mendLog removes what a half done step left, and has the names go on without a gap.
func (w *worker) mendLog(c *cell, n int) error {
	all, err := w.tree.list(c.path)
	if err != nil {
		return err
	}
	names := c.numbers(all)
	run := 0 // where the last of them begins that are there without a gap
	for i := range names {
		if i > 0 && names[i] != names[i-1]+1 {
			run = i
		}
	}
	run = max(run, len(names)-window)
	for _, old := range names[:max(run, 0)] {
		if err := w.tree.remove(filepath.Join(c.path, c.name(old))); err != nil {
			return err
		}
	}
	if err := w.tree.fsync(c.path); err != nil {
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
	if c.isDir() {
		names, err := t.list(c.path)
		if err != nil {
			return 0, err
		}
		return c.parseLog(c.numbers(names))
	}
	b, err := t.read(c.path)
	if err != nil {
		return 0, err
	}
	return c.parse(b)
}

// direct is the way to the server that leads through no client.
const direct = -1

// look has somebody look at a cell by client n, or directly, and judges what is shown. w, by is who looks by a mount; nil: nobody who updates.
// Who looks by the client that updates it sees what may yet be lost.
func (t *torture) look(tr tree, n int, c *cell, w *worker, by *client) {
	owner := t.clients[c.owner].Load()
	fresh, seen := owner.fresh.Load(), owner.seen.Load()
	floor := c.floorAt(time.Now().Add(-tr.allowed()))
	at, err := state(tr, c)
	for tries := 0; errors.Is(err, syscall.ESTALE) && tries < t.o.bounds().stale; tries++ {
		// It was replaced between the kernel's look at its name and its opening.
		t.count(&t.replaced, 1)
		at, err = state(tr, c)
	}
	t.count(&t.reads, 1)
	whole := !errors.As(err, new(*torn)) && !errors.As(err, new(*gap))
	switch {
	case err == nil:
	case errors.As(err, new(*gap)) && (fresh || owner.dead.Load() || t.losses(owner) > seen):
		t.count(&t.told, 1)
		return
	case w == nil && whole && t.serverTrouble(err):
		t.count(&t.cutOff, 1)
		return
	case w != nil && whole:
		w.failed(by, "looking at "+c.id(), err)
		return
	default:
		t.bad("looking at %s: %v", c.id(), err)
		return
	}
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	switch {
	case at < floor:
		t.count(&t.stale, 1)
		t.bad("stale: %s shows %s at %d, and %d was seen or acknowledged before", name(by), c.id(), at, floor)
	case at > last && !c.isDir():
		t.bad("%s is at %d, and nobody has gone further than %d", c.id(), at, last)
	case n != c.owner:
		t.acknowledge(c, at)
	case w != nil && len(w.cells) > 0 && t.promises(n) == causal:
		c.precedes(at, w.turn)
	}
}

// acknowledge: state n is durable or was seen by somebody else, which counts when it is on record.
func (t *torture) acknowledge(c *cell, n int) {
	if n > c.reached() {
		t.ledger.note(entry{isThere, n, c.id(), nobody}, func() { c.raise(n) })
	}
}
