package main

import "strings"

// promise is what a client's order (--order) promises of updates in different cells.
type promise uint8

const (
	perObject promise = iota // nothing
	causal                   // with an update is there what its writer had read before
	totally                  // and what he had done before
)

var orderNames = [...]string{perObject: "object", causal: "causal", totally: "total"}

// promises is what client i's order is. The one with a journal, and the cache, have the usual one.
func (t *torture) promises(i int) promise {
	switch {
	case i == 0:
		return totally
	case t.isApart(i):
		return causal
	}
	return perObject
}

// moment is when, of what the owner of a cell does, it was in state n.
type moment struct{ n, turn int }

// precedes: what is done from now on comes after state n.
func (c *cell) precedes(n, turn int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > c.floor {
		c.befores = append(c.befores, moment{n, turn})
	}
}

// turnOf is when state n was made; 0 when that does not matter any more.
func (c *cell) turnOf(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.turns {
		if m.n == n {
			return m.turn
		}
	}
	return 0
}

// doneBefore is the last state that is there when anything is that was done at a turn.
func (c *cell) doneBefore(turn int) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.befores {
		if m.turn < turn {
			n = max(n, m.n)
		}
	}
	return n
}

// checkOrder tells whether states of all cells that were there at one time, when nobody changed them, keep the owner's order. It does, but for
// what goes on after a loss, or after something was refused: both are told.
func (w *worker) checkOrder(states map[*cell]int) {
	if w.t.refusing.Load() || w.life != nil && w.life.proc.losses() > w.knows {
		return
	}
	for c, n := range states {
		turn := c.turnOf(n)
		for other, at := range states {
			if before := other.doneBefore(turn); other != c && at < before {
				w.t.bad(outOfOrder+": %s is at %d, and %s at %d, which was at %d before (--order %s)", c.id(), n, other.id(), at, before, orderNames[w.t.promises(w.n)])
			}
		}
	}
	w.t.count(&w.t.ordered, 1)
}

// forgets: nothing that is to be compared was done before now by c.
func (w *worker) forgets(c *client) {
	w.life, w.knows = c, c.proc.losses()
	for _, c := range w.cells {
		c.forget()
	}
}

// losses is how often the process has said that something is lost.
func (p *process) losses() int { return strings.Count(p.said(), "lost") }
