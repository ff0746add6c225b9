package main

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/tests/internal/faultproxy"
)

// atMessage is the kind of fault that comes just before or after a message.
const atMessage = "at-message"

// points are the messages before and after each of which something may happen, and their answers: all that sessions
// with the extension send again and again, and what each connection begins with.
var points = []uint8{
	wire.TypeTversion, wire.TypeTsession, wire.TypeTbind, wire.TypeTgrant, wire.TypeTrecall, wire.TypeTreturn,
	wire.TypeTcommit, wire.TypeTrenew, wire.TypeTreaddirplus, wire.TypeTread, wire.TypeTlock, wire.TypeTclunk,
}

// allPoints is how many there are.
var allPoints = 4 * len(points)

// early are those that a connection begins with: there must be a new one.
func early(typ uint8) bool { return typ&^1 == wire.TypeTversion || typ&^1 == wire.TypeTsession }

// deed is what happens at a message: at in its way, then is what follows.
type deed struct {
	name     string
	weight   int
	at, then func(t *torture, i int)
}

var deeds = []deed{
	{"cut", 4, func(t *torture, i int) { t.links[i].Cut() }, nil},
	{"kill-server", 2, func(t *torture, _ int) { t.server.signal(syscall.SIGKILL) }, func(t *torture, _ int) { t.killServer() }},
	{"kill-client", 2, func(t *torture, i int) { t.clients[i].Load().strike() }, func(t *torture, i int) {
		t.clients[i].Load().bury()
		t.again(i)
	}},
	{"stop-server", 1, func(t *torture, _ int) { t.server.signal(syscall.SIGSTOP) }, func(t *torture, _ int) {
		t.pause(1.6)
		t.server.signal(syscall.SIGCONT)
	}},
	{"stop-client", 1, func(t *torture, i int) { t.clients[i].Load().proc.signal(syscall.SIGSTOP) }, func(t *torture, i int) {
		t.pause(1.6)
		t.clients[i].Load().proc.signal(syscall.SIGCONT)
	}},
	{"partition", 1, func(t *torture, i int) { t.links[i].Block(true, true) }, func(t *torture, i int) { t.blocked(i, true, true) }},
	{"half-open", 1, func(t *torture, i int) { t.links[i].HalfOpen() }, func(t *torture, i int) {
		t.pause(1.6)
		t.links[i].Cut()
	}},
}

// drawDeed draws one that is not left out.
func (t *torture) drawDeed() *deed {
	var wheel []*deed
	for k := range deeds {
		if d := &deeds[k]; !t.leftOut(d.name) {
			for range d.weight {
				wheel = append(wheel, d)
			}
		}
	}
	if wheel == nil {
		return &deeds[0]
	}
	return wheel[t.rng.IntN(len(wheel))]
}

// trap has something happen before or after a message of client i.
func (t *torture) trap(i int) {
	d, after, typ := t.drawDeed(), t.rng.IntN(2) == 0, points[t.rng.IntN(len(points))]+uint8(t.rng.IntN(2))
	var mu sync.Mutex // guards what follows
	var sprung, late bool
	done := make(chan struct{})
	t.links[i].Arm(&faultproxy.Trap{Type: typ, N: 1 + t.rng.IntN(3), After: after, Do: func() {
		mu.Lock()
		defer mu.Unlock()
		if !late {
			d.at(t, i)
			sprung = true
			close(done)
		}
	}})
	if early(typ) {
		t.links[i].Cut()
	}
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	t.links[i].Arm(nil)
	mu.Lock()
	late = true
	mu.Unlock()
	if !sprung {
		return // no such message came
	}
	t.noteFault(d.name + "-" + atMessage)
	point := fmt.Sprintf("%s-%s", map[bool]string{false: "before", true: "after"}[after], wire.TypeName(typ))
	t.mu.Lock()
	t.points[point]++
	t.mu.Unlock()
	t.o.logf("%s %s %d", d.name, point, i)
	if d.then != nil {
		d.then(t, i)
	}
}
