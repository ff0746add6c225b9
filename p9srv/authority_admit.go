package p9srv

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"echo9/tokens"
)

// ask is a request to the token manager: of a plain operation, or of a session.
type ask struct {
	a      *Authority
	id     tokens.ReqID
	elems  []tokens.Elem
	tokens []tokens.Token // once granted
	since  int64          // when it was asked
	own    bool           // the goroutine that asked is still at it: it does what is to do itself

	// A plain operation's.
	w     Waker
	state askState

	// A session's: what it is for.
	s       *session
	r       *request
	deliver func(*ask)
}

type askState uint8

const (
	askWaiting askState = iota
	askGranted
	askDenied
	askOver
)

// gate lets plain operations by while there are no sessions, without asking the manager.
type gate struct {
	managed atomic.Bool // sessions exist: the manager is to be asked
	mu      sync.RWMutex
}

// Resolved implements Ticket: nobody has looked.
func (g *gate) Resolved(int) (uint64, bool) { return 0, false }

// Done implements Ticket.
func (g *gate) Done() { g.mu.RUnlock() }

// Admit implements Admission.
func (a *Authority) Admit(session uint64, elems []tokens.Elem, w Waker) (Ticket, bool) {
	if session == 0 && (!a.gate.managed.Load() || a.mutant == mutantNoAdmit) {
		a.gate.mu.RLock()
		if !a.gate.managed.Load() || a.mutant == mutantNoAdmit {
			return &a.gate, true
		}
		a.gate.mu.RUnlock()
	}
	a.count.plain.Add(1)
	x := &ask{a: a, elems: elems, w: w, own: true}
	a.mu.Lock()
	a.lastReq++
	x.id = a.lastReq
	a.asks[x.id] = x
	a.step(tokens.Input{Kind: tokens.InRequest, Session: tokens.SessionID(session), Req: x.id, Elems: elems, Plain: true})
	x.since = a.stepped
	a.unlock(connOf(w))
	a.mu.Lock()
	x.own = false
	granted := x.state == askGranted
	if !granted {
		a.count.plainWaited.Add(1)
		a.someoneWaits()
	}
	a.unlock(connOf(w))
	return x, granted
}

// connOf is the connection that a waiter belongs to.
func connOf(w Waker) *conn {
	if r, ok := w.(*request); ok {
		return r.c
	}
	return nil
}

// forAsk has something done for x: by who asks, if he is still at it. mu is held.
func (a *Authority) forAsk(x *ask, f func()) {
	if x.own {
		a.todo = append(a.todo, f)
	} else {
		a.later(f)
	}
}

// resolve finds what a name is bound to, for the manager.
func (a *Authority) resolve(x *ask, elem int, dir uint64, name string) {
	id, err := a.cfg.Backend.ResolveName(background, dir, name)
	if err != nil {
		// Then the operation itself fails, with a better error than can be told here.
		id = 0
	}
	a.mu.Lock()
	a.step(tokens.Input{Kind: tokens.InResolved, Req: x.id, Elem: elem, ID: id, Bound: id != 0})
	var cur *conn
	if x.own && x.r != nil {
		cur = x.r.c
	}
	a.unlock(cur)
}

// granted: the manager has granted x. mu is held.
func (a *Authority) granted(x *ask) {
	if x.s != nil {
		if x.deliver != nil { // else it is an offer, whose maker looks himself
			a.forAsk(x, func() { x.deliver(x) })
		}
		return
	}
	x.state = askGranted
	if !x.own {
		a.wake(x, nil)
	}
}

// wake tells the operation that waits, when mu is free. mu is held.
func (a *Authority) wake(x *ask, err error) {
	a.todo = append(a.todo, func() { x.w.Wake(err) })
}

// denied: the manager will not grant x. mu is held.
func (a *Authority) denied(x *ask, why tokens.Denial) {
	err := denial(why)
	if x.s != nil {
		if x.r != nil {
			a.send(x.r, rlerror(err))
		}
		return
	}
	x.state = askDenied
	a.wake(x, err)
}

func denial(why tokens.Denial) error {
	errno := syscall.EIO
	switch why {
	case tokens.DeniedWait, tokens.DeniedLimit:
		errno = syscall.EAGAIN
	case tokens.DeniedExpired:
		errno = syscall.ESTALE
	case tokens.DeniedInvalid:
		errno = syscall.EINVAL
	}
	return fmt.Errorf("tokens denied: %v: %w", why, errno)
}

// Resolved implements Ticket.
func (x *ask) Resolved(i int) (uint64, bool) {
	if i >= len(x.tokens) {
		return 0, false
	}
	return x.tokens[i].ID, true
}

// Done implements Ticket.
func (x *ask) Done() {
	a := x.a
	a.mu.Lock()
	if a.asks[x.id] == x {
		delete(a.asks, x.id)
		kind := tokens.InCancel
		if x.s == nil && x.state == askGranted {
			kind = tokens.InDone
		}
		x.state = askOver
		a.step(tokens.Input{Kind: kind, Req: x.id})
	}
	a.unlock(nil)
}
