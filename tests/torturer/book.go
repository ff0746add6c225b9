package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A cell is something whose states are numbered: each update by its owner makes the next one. What is read is one of
// these numbers, and shows by itself that it is whole.
type cell struct {
	kind   kind
	path   string // in the tree
	prefix string // of its names, in a directory that is not its own
	owner  int

	mu      sync.Mutex // guards what follows
	last    int        // the last number given out
	base    int        // of a log: the oldest name that there was when all was in order
	floor   int        // durable, or seen by somebody else: no later state is before it
	rises   []rise     // of floor
	pending []update   // performed, and not known to be durable
	turns   []moment   // when its owner made states, since it was last looked where it is
	befores []moment   // and when it was in states that come before all that its owner does later
}

// rise is when the floor came to n.
type rise struct {
	n  int
	at time.Time
}

// update is one that its call said was done.
type update struct {
	n  int
	at time.Time
	by *client
}

// lostUpdate is one that is not there any more.
type lostUpdate struct {
	update
	cell *cell
	when time.Time // it was found out
}

// id is what the cell is called.
func (c *cell) id() string {
	if c.prefix == "" {
		return c.path
	}
	return c.path + "/" + c.prefix
}

// name is that of number n, in a cell that is a directory.
func (c *cell) name(n int) string { return c.prefix + strconv.Itoa(n) }

// numbers gives the numbers of the names that are the cell's.
func (c *cell) numbers(names []string) (all []int) {
	for _, s := range names {
		if s, ok := strings.CutPrefix(s, c.prefix); ok {
			if n, err := strconv.Atoi(s); err == nil {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	return all
}

// isDir: its states are names in a directory.
func (c *cell) isDir() bool { return c.kind == logged || c.kind == among }

// next numbers an update that is about to be made, in a turn.
func (c *cell) next(turn int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.turns = append(c.turns, moment{c.last, turn})
	return c.last
}

// performed: the call that made update n has said so.
func (c *cell) performed(n int, by *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, update{n, time.Now(), by})
}

// reached is the floor now.
func (c *cell) reached() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.floor
}

// raise: n, and all before it, is durable or was seen by somebody else.
func (c *cell) raise(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raiseTo(n)
}

func (c *cell) raiseTo(n int) {
	if n <= c.floor {
		return
	}
	c.floor = n
	c.rises = append(c.rises, rise{n, time.Now()})
	i := 0
	for i < len(c.pending) && c.pending[i].n <= n {
		i++
	}
	c.pending = c.pending[i:]
	c.turns = slices.DeleteFunc(c.turns, func(m moment) bool { return m.n < n })
	c.befores = slices.DeleteFunc(c.befores, func(m moment) bool { return m.n <= n })
	if len(c.rises) > 1000 {
		c.rises = append([]rise(nil), c.rises[500:]...)
	}
}

// floorAt is the floor at a time.
func (c *cell) floorAt(t time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rises {
		if r.at.After(t) {
			break
		}
		n = r.n
	}
	return n
}

// resync: n is the state that there is now, and was known to be asked for after all who made pending updates were
// gone, or are at rest. What is pending beyond it is lost.
func (c *cell) resync(n int) (lost []lostUpdate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.pending {
		if u.n > n {
			lost = append(lost, lostUpdate{u, c, time.Now()})
		}
	}
	c.pending, c.turns, c.befores = nil, nil, nil
	return lost
}

// forget: when it was in which state does not matter any more.
func (c *cell) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns, c.befores = nil, nil
}

// size is that of all contents.
const size = 64

// content is state n of a cell, as a file.
func (c *cell) content(n int) []byte { return padded(fmt.Sprintf("%s %d", c.id(), n)) }

// torn is content that nobody wrote.
type torn struct {
	path string
	b    []byte
}

func (t *torn) Error() string {
	return fmt.Sprintf("%s contains what nobody wrote there: %.80q", t.path, t.b)
}

// parse tells which state b is.
func (c *cell) parse(b []byte) (int, error) {
	var id string
	var n int
	if _, err := fmt.Sscan(string(b), &id, &n); err != nil || !bytes.Equal(b, c.content(n)) {
		return 0, &torn{c.id(), b}
	}
	return n, nil
}

// window bounds the files of a log: 1 to window of the last ones are there.
const window = 10

// gap is that the names of a log do not go on from one to the next: after a loss in their middle that may be.
type gap struct {
	path  string
	names []int
	last  int
}

func (g *gap) Error() string {
	return fmt.Sprintf("%s is in a state that it never was in: %v", g.path, g.names)
}

// parseLog tells which state the names of a log are: they are what is there after a number of creations, each
// followed by the removal of what is older than the window.
func (c *cell) parseLog(names []int) (int, error) {
	if len(names) == 0 {
		return 0, &gap{c.id(), names, 0}
	}
	c.mu.Lock()
	base := c.base
	c.mu.Unlock()
	last := names[len(names)-1]
	whole := len(names) <= window+1 && (names[0] <= base || len(names) >= window)
	for i, n := range names {
		whole = whole && n == names[0]+i
	}
	if !whole {
		return 0, &gap{c.id(), names, last}
	}
	return last, nil
}
