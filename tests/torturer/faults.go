package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// injection is a kind of fault.
type injection struct {
	name   string
	weight int
	do     func(t *torture, i int)
}

var injections = []injection{
	{"cut", 20, func(t *torture, i int) { t.links[i].Cut() }},
	{"partition", 10, func(t *torture, i int) { t.blocked(i, true, true) }},
	{"silent-to-server", 6, func(t *torture, i int) { t.blocked(i, true, false) }},
	{"silent-to-client", 6, func(t *torture, i int) { t.blocked(i, false, true) }},
	{"half-open", 8, func(t *torture, i int) {
		t.links[i].HalfOpen()
		t.pause(1.6)
		t.links[i].Cut()
	}},
	{"refused", 4, func(t *torture, i int) {
		t.links[i].Refuse(true)
		t.links[i].Cut()
		t.pause(1.6)
		t.links[i].Refuse(false)
	}},
	{"delay", 6, func(t *torture, i int) {
		t.links[i].Delay(time.Duration(t.rng.IntN(100)) * time.Millisecond)
		t.pause(0.5)
		t.links[i].Delay(0)
	}},
	{"stop-client", 10, func(t *torture, i int) {
		p := t.clients[i].Load().proc
		p.signal(syscall.SIGSTOP)
		t.pause(1.6)
		p.signal(syscall.SIGCONT)
	}},
	{"kill-client", 8, func(t *torture, i int) { t.killClient(i) }},
	{"kill-server", 10, func(t *torture, _ int) { t.killServer() }},
	{"stop-server", 5, func(t *torture, _ int) {
		t.server.signal(syscall.SIGSTOP)
		t.pause(1.6)
		t.server.signal(syscall.SIGCONT)
	}},
	{"full-disk", 3, func(t *torture, _ int) { t.fill() }},
	{"guest-cut", 5, func(t *torture, _ int) { t.guest.proxy.Cut() }},
	{"guest-partition", 4, func(t *torture, _ int) {
		t.guest.proxy.Block(true, true)
		t.pause(1.6)
		t.guest.proxy.Block(false, false)
	}},
	{atMessage, 20, func(t *torture, i int) { t.trap(i) }},
}

// fault injects one.
func (t *torture) fault() {
	var wheel []*injection
	for i := range injections {
		if in := &injections[i]; !t.leftOut(in.name) {
			wheel = append(wheel, slices.Repeat([]*injection{in}, in.weight)...)
		}
	}
	in, i := wheel[t.rng.IntN(len(wheel))], t.rng.IntN(len(t.clients))
	if len(t.o.victims) > 0 {
		i = t.o.victims[i%len(t.o.victims)]
	}
	if len(t.o.first) > 0 {
		k := slices.IndexFunc(injections, func(in injection) bool { return in.name == t.o.first[0] })
		in, t.o.first = &injections[k], t.o.first[1:]
	}
	called := in.name
	if _, ok := t.links[i].(*network); ok {
		if in.name == atMessage {
			i = 0
		} else if by := byLink[in.name]; by != "" {
			called = by
		}
	}
	if called != atMessage { // which it counts itself, when the message came
		t.noteFault(called)
	}
	t.o.logf("%s %d", called, i)
	in.do(t, i)
}

// byLink is what becomes of faults that only a proxy can make, where there is none.
var byLink = map[string]string{
	"cut": "link-flap", "partition": "link-down", "half-open": "link-down", "refused": "link-down", "delay": "link-flap",
	"silent-to-server": "link-one-way", "silent-to-client": "link-one-way",
}

func (t *torture) leftOut(name string) bool {
	return name == "full-disk" && t.o.export == "" || strings.HasPrefix(name, "guest-") && t.guest == nil || slices.Contains(t.o.without, name) || len(t.o.only) > 0 && !slices.Contains(t.o.only, name)
}

func (t *torture) noteFault(name string) {
	t.mu.Lock()
	t.faults[name]++
	t.mu.Unlock()
}

// pause lets a fault last: now and then longer than a lease.
func (t *torture) pause(most float64) {
	r := t.rng.Float64()
	time.Sleep(time.Duration(max(r*r*most, t.o.long) * float64(t.o.lease)))
}

func (t *torture) blocked(i int, up, down bool) {
	t.links[i].Block(up, down)
	t.pause(1.6)
	if t.rng.IntN(2) == 0 {
		t.links[i].Cut()
	}
	t.links[i].Block(false, false)
}

// killClient ends a mount's daemon, and mounts again.
func (t *torture) killClient(i int) {
	t.killOnly(i)
	t.again(i)
}

func (t *torture) killOnly(i int) {
	t.clients[i].Load().strike()
	t.clients[i].Load().bury()
}

// strike kills.
func (c *client) strike() {
	c.died = time.Now()
	c.dead.Store(true)
	c.proc.signal(syscall.SIGKILL)
}

func (t *torture) again(i int) {
	if err := t.begin(i); err != nil {
		t.bad("client %d does not begin again: %v", i, err)
	}
}

// killServer ends the server, and starts it again.
func (t *torture) killServer() {
	t.server.kill()
	select {
	case <-t.server.ended: // a thread of it that is in the kernel still has the tree's lock
	case <-time.After(endTime):
	}
	t.pause(1.2)
	if t.o.restore {
		t.older()
	}
	if err := t.serve(); err != nil {
		t.bad("the server does not start again: %v", err)
	}
}

// older brings the server's tree back to a state that it had before: only to see that it is noticed.
func (t *torture) older() {
	for _, c := range t.cells {
		if !c.isDir() {
			_ = os.WriteFile(filepath.Join(t.export, c.path), c.content(0), 0o644)
		}
	}
	_ = os.RemoveAll(filepath.Join(t.export, ".echo9"))
}

// fill leaves no space for a while.
func (t *torture) fill() {
	t.filled.Add(1)
	t.refusing.Store(true)
	defer func() { time.AfterFunc(t.o.bounds().full, func() { t.filled.Add(-1) }) }()
	name := filepath.Join(t.export, ".filler")
	f, err := os.Create(name)
	if err != nil {
		return
	}
	block := make([]byte, 1<<16)
	for err == nil {
		_, err = f.Write(block)
	}
	f.Close()
	t.pause(1)
	_ = os.Remove(name)
}

// heal ends what may still be wrong.
func (t *torture) heal() {
	for _, p := range t.links {
		p.Arm(nil)
		p.Refuse(false)
		p.Delay(0)
		p.Block(false, false)
	}
	t.server.signal(syscall.SIGCONT)
}
