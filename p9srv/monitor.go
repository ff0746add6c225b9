package p9srv

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"
)

// monitor takes the lead of a connection away from a goroutine that is stuck in
// an operation. It looks every HandOff while anybody works and sleeps otherwise;
// it ends with the last connection.
type monitor struct {
	server  *Server
	running bool // guarded by Server.mu
	asleep  atomic.Bool
	wake    chan struct{}
}

// idleTicks is after how many looks without anything going on the monitor sleeps.
const idleTicks = 64

// start makes sure that the monitor runs. Server.mu is held.
func (m *monitor) start() {
	if m.running {
		m.poke()
		return
	}
	m.running = true
	go m.run()
}

// poke wakes the monitor, if it sleeps.
func (m *monitor) poke() {
	if m.asleep.Load() && m.asleep.CompareAndSwap(true, false) {
		m.wake <- struct{}{}
	}
}

func (m *monitor) run() {
	tick := time.NewTicker(m.server.cfg.HandOff)
	defer tick.Stop()
	var conns []*conn
	idle := 0
	for {
		<-tick.C
		conns = m.server.snapshot(conns)
		if len(conns) == 0 && m.end() {
			return
		}
		busy := false
		for _, c := range conns {
			w := c.leadWord.Load()
			if w != c.seenWord {
				busy = true
			} else if w&leadBusy != 0 {
				c.handOff(w)
				busy = true
			}
			c.seenWord = w
		}
		if busy {
			idle = 0
			continue
		}
		if idle++; idle < idleTicks {
			continue
		}
		idle = 0
		m.asleep.Store(true)
		if m.anyBusy(conns) && m.asleep.CompareAndSwap(true, false) {
			continue
		}
		// A connection that ends pokes, too: the monitor then finds that none is left.
		<-m.wake
	}
}

func (m *monitor) anyBusy(conns []*conn) bool {
	for _, c := range m.server.snapshot(conns) {
		if c.leadWord.Load() != c.seenWord {
			return true
		}
	}
	return len(conns) == 0
}

// end lets the monitor end when there really is no connection.
func (m *monitor) end() bool {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	if len(m.server.conns) > 0 {
		return false
	}
	m.running = false
	return true
}

// isShortage tells errors of accept(2) that pass.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}
