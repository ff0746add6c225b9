package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// restTime is what everybody gets to come to rest when there are no faults any more.
const restTime = 3 * time.Minute

// rest ends all faults, has everything written back, and compares.
func (t *torture) rest() {
	t.heal()
	for _, w := range t.working() {
		held := make(chan struct{})
		go func() { w.idle.Lock(); close(held) }()
		select {
		case <-held:
		case <-time.After(restTime):
			c := t.clients[w.n].Load()
			c.proc.signal(syscall.SIGQUIT)
			time.Sleep(time.Second)
			t.bad("%s does not come to rest; it said: %s", name(c), tail(c.proc.said(), 20000))
			if c.mnt != "" {
				abort(c.mnt)
			}
			<-held
		}
		defer w.idle.Unlock()
	}
	for i := range t.clients {
		c := t.clients[i].Load()
		done := make(chan error, 1)
		go func() { done <- t.sync(c) }()
		select {
		case err := <-done:
			if err != nil && t.losses(c) == 0 {
				t.bad("sync of %s: %v", name(c), err)
			}
		case <-time.After(restTime):
			t.bad("sync of %s does not end: %s", name(c), tail(c.proc.said(), 3000))
		}
	}
	server := &plain{addr: dial(t.addr)}
	defer server.close()
	book, err := t.ledger.read()
	if err != nil {
		t.bad("the ledger cannot be read: %v", err)
		return
	}
	for _, w := range t.workers {
		w.checkOrder(w.states(server))
		w.forgets(t.clients[w.n].Load())
	}
	for _, c := range t.cells {
		t.compare(server, c, book)
	}
	t.refusing.Store(false)
	t.compareCommon(server, book)
	t.settle()
}

// work is what somebody does by client n; idle is held meanwhile.
type work struct {
	n    int
	idle *sync.Mutex
}

func (t *torture) working() (all []work) {
	for _, w := range t.workers {
		all = append(all, work{w.n, &w.idle})
	}
	for _, s := range t.sharers {
		all = append(all, work{s.n, &s.idle})
	}
	return all
}

// compare holds what is at the server of a cell against the book, when all is at rest.
func (t *torture) compare(direct *plain, c *cell, book *acknowledged) {
	owner := t.clients[c.owner].Load()
	n, err := state(direct, c)
	if err != nil && errors.As(err, new(*gap)) && (owner.fresh.Load() || t.losses(owner) > owner.seen.Load()) {
		t.workers[c.owner].unsure = true
		return
	}
	if err != nil {
		t.bad("at rest, %s: %v", c.id(), err)
		return
	}
	if floor := book.floors[c.id()]; n < floor {
		t.bad(lostAcknowledged+": at rest, %s is at %d, and %d was acknowledged or seen", c.id(), n, floor)
	}
	if c.kind == among {
		b, err := direct.read(filepath.Join(c.path, c.name(n)))
		if err == nil {
			_, err = c.parse(b)
		}
		if err != nil {
			t.bad("at rest, of %s, which came by rename: %v", c.id(), err)
		}
	}
	lost := c.resync(n)
	t.lose(lost)
	if len(lost) > 0 {
		t.workers[c.owner].unsure = true
	}
	t.acknowledge(c, n)
}

// compareCommon does the same with what all have in common.
func (t *torture) compareCommon(direct *plain, book *acknowledged) {
	b, err := direct.readSome(logPath, 64<<20)
	if err != nil {
		t.bad("at rest, %s: %v", logPath, err)
	}
	wrong := checkLog(b, book)
	if b, err = direct.read(counterPath); err != nil {
		t.bad("at rest, %s: %v", counterPath, err)
	}
	doubtful, more := checkCounter(b, book)
	t.mu.Lock()
	t.doubtful = doubtful
	t.mu.Unlock()
	for _, s := range append(wrong, more...) {
		t.bad("%s", s)
	}
}

// settle looks whether what was lost was reported.
func (t *torture) settle() {
	t.mu.Lock()
	lost := t.lost
	t.lost = nil
	t.mu.Unlock()
	told := map[*client]bool{}
	for i := range t.clients {
		c := t.clients[i].Load()
		if n := t.losses(c); n > c.told {
			c.told, told[c] = n, true
		}
	}
	for _, l := range lost {
		switch {
		case !l.by.dead.Load() && told[l.by]:
			t.count(&t.lostTold, 1)
		case l.by.dead.Load() && t.spooled(l.by):
			t.count(&t.lostTold, 1)
		case l.by.dead.Load() && t.keepsJournal(l.by.n):
			t.count(&t.lostUntold, 1)
			t.bad("lost in spite of a journal, and nobody was told: update %d of %s by %s", l.n, l.cell.id(), name(l.by))
		case l.by.dead.Load() && t.deathReported(l.by, l.by.died.Sub(l.at) >= t.o.bounds().notice):
			t.count(&t.lostDied, 1)
		case l.by.dead.Load() && l.by.died.Sub(l.at) < t.o.bounds().notice:
			t.count(&t.lostAtOnce, 1)
		default:
			t.count(&t.lostUntold, 1)
			t.bad("lost, and nobody was told: update %d of %s by %s, made %v before it was found out", l.n, l.cell.id(), name(l.by), l.when.Sub(l.at))
		}
	}
}

// spooled: the client, which is dead now, had said that it lost something, or somebody who found its journal did.
func (t *torture) spooled(c *client) bool {
	if t.o.deaf {
		return false
	}
	heir := c.heir.Load()
	return strings.Contains(c.proc.said(), "lost: ") || heir != nil && strings.Contains(heir.proc.said(), "were lost: ")
}

// deathReported reports whether a server has named the client as one that died, or was away too long, with work pending; if it must, that is waited for.
func (t *torture) deathReported(c *client, must bool) bool {
	if t.o.deaf {
		return false
	}
	said := regexp.MustCompile(fmt.Sprintf(`\([^)]* %d\).*work`, c.proc.pid()))
	for end := time.Now().Add(2*t.o.lease + t.o.bounds().name); ; time.Sleep(100 * time.Millisecond) {
		t.mu.Lock()
		logs := append([]*process(nil), t.logs...)
		t.mu.Unlock()
		for _, p := range logs {
			if p.cmd.Args[1] == "serve" && said.MatchString(p.said()) {
				return true
			}
		}
		if !must || time.Now().After(end) {
			return false
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
