package p9srv

import (
	"errors"
	"sync"
	"syscall"

	"echo9/internal/wire"
	"echo9/tokens"
)

// request is a T-message on its way to its reply.
type request struct {
	reqContext
	c    *conn
	tag  uint16
	typ  uint8
	op   *op
	body []byte // of the frame; aliases the leader's buffer unless owned
	own  bool
	// The fids that the message names, as they were when it arrived.
	f, f2 *fid

	// What the operation leaves for the reply: a message, or a frame of payload.
	reply wire.Message
	frame *buffer

	ticket  Ticket
	granted bool  // the ticket came by Wake and is not yet used
	denied  error // Wake's
	walk    walkState
	dirMove bool // a rename that needs dirmove
	inTurn  bool

	// Guarded by conn.mu.
	state    reqState
	woken    bool       // Wake came while the request still ran
	flushed  bool       // by Tflush
	aborted  bool       // by Tversion or the end of the connection: never answered
	flushers []*request // Tflushes to answer behind this one
	reserved int        // of conn.reserved
	turn     uint64     // among the connection's ordered requests
	wanted   int        // stalled: what it will reserve
	held     int        // of conn.held

	shared bool // somebody else may still have a pointer to it: not used again
	hot    hotMessages
}

// hotMessages are the messages of frequent requests, here so that they need no allocation.
type hotMessages struct {
	getattr  wire.Tgetattr
	rgetattr wire.Rgetattr
	walk     wire.Twalk
	rwalk    wire.Rwalk
	read     wire.Tread
	write    wire.Twrite
	rwrite   wire.Rwrite
	open     wire.Tlopen
	ropen    wire.Rlopen
	clunk    wire.Tclunk
	elems    [6]tokens.Elem
}

type reqState uint8

const (
	reqRunning  reqState = iota // on some goroutine
	reqQueued                   // in conn.runq
	reqParked                   // waits for its ticket
	reqStalled                  // waits for the client to take replies
	reqDeferred                 // the Authority answers it
	reqFlush                    // a Tflush that waits for the request that it names
	reqDead                     // taken out
)

// What an operation answers when it cannot go on now: it is done again from the start
// (walks: from the step they are at) when it can.
var (
	errDeferred = errors.New("answered by the Authority")
	errParked   = errors.New("waits for a token")
	errStalled  = errors.New("waits for the client to take replies")
)

var requests = sync.Pool{New: func() any { return new(request) }}

func newRequest(c *conn, tag uint16, typ uint8, body []byte) *request {
	r := requests.Get().(*request)
	r.c, r.tag, r.typ, r.body, r.op = c, tag, typ, body, &ops[typ]
	return r
}

func (r *request) recycle() {
	if r.shared || r.used() {
		return
	}
	names, qids := r.hot.walk.Names[:0], r.hot.rwalk.QIDs[:0]
	clear(names[:cap(names)])
	*r = request{}
	r.hot.walk.Names, r.hot.rwalk.QIDs = names, qids
	requests.Put(r)
}

// decode takes the message apart.
func (r *request) decode(m wire.Message) error {
	if err := wire.Decode(r.typ, r.body, m); err != nil {
		r.c.complain("%v", err)
		return syscall.EINVAL
	}
	return nil
}

// exec does the operation, or as much of it as can be done now.
func (r *request) exec() error {
	if r.op.ordered {
		r.takeTurn()
		defer r.endTurn()
	}
	if r.op.run == nil {
		return syscall.EOPNOTSUPP
	}
	if err := r.c.allowed(r); err != nil {
		return err
	}
	if r.op.fids >= 1 && r.f == nil || r.op.fids >= 2 && r.f2 == nil {
		return errNoFid
	}
	if r.op.fids >= 2 && r.f.obj.ID() >= statusRootID != (r.f2.obj.ID() >= statusRootID) {
		return syscall.EXDEV
	}
	return r.op.run(r)
}

// takeTurn waits until the ordered requests that arrived earlier are done: a hand-off of the
// lead lets a later one catch up with an earlier one. They never wait for a later one.
func (r *request) takeTurn() {
	c := r.c
	if c.srv.atTurn != nil {
		c.srv.atTurn(r.tag)
	}
	c.mu.Lock()
	for c.turnsDone+1 != r.turn && !c.srv.noTurns {
		c.waiting++
		c.cond.Wait()
		c.waiting--
	}
	r.inTurn = true
	c.mu.Unlock()
}

// endTurn lets the next ordered request go on.
func (r *request) endTurn() {
	if r.inTurn {
		r.inTurn = false
		r.c.mu.Lock()
		r.c.turnsDone = r.turn
		r.c.cond.Broadcast()
		r.c.mu.Unlock()
	}
}

// run does the operation and answers it, or parks it.
func (r *request) run() {
	for {
		err := r.exec()
		switch err {
		case errDeferred:
		case errParked, errStalled:
			if !r.c.park(r, err) {
				continue
			}
		default:
			r.c.finish(r, err)
		}
		return
	}
}

// admit asks for what the operation needs until done. It answers errParked when that is not to be had now.
func (r *request) admit(elems ...tokens.Elem) error {
	a := r.c.srv.admission
	if a == nil || synthetic(elems) {
		return nil
	}
	if r.granted {
		r.granted = false
		err := r.denied
		r.denied = nil
		if err != nil {
			r.done()
		}
		return err
	}
	t, ok := a.Admit(r.c.sessionID(), append(r.hot.elems[:0], elems...), r)
	r.ticket = t
	if !ok {
		r.shared = true // the Admission keeps r
		return errParked
	}
	return nil
}

// resolved is what the i-th element of the last admit is bound to; false when that is not known.
func (r *request) resolved(i int) (uint64, bool) {
	if r.ticket == nil {
		return 0, false
	}
	return r.ticket.Resolved(i)
}

// deferReply leaves the answer to the Authority: from here on the request belongs to who
// takes it out of the books, by answer or by a flush. It is called before the Authority gets
// to know the request, which then answers errDeferred.
func (r *request) deferReply(t Ticket) error {
	r.shared = true
	if !r.own {
		r.body, r.own = append([]byte(nil), r.body...), true
	}
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.flushed || r.aborted {
		return syscall.EINTR
	}
	r.ticket = t
	r.state = reqDeferred
	return nil
}

// answer answers a deferred request, unless it was taken out.
func (c *conn) answer(r *request, m wire.Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.state != reqDeferred {
		return false
	}
	c.queue(r.tag, m)
	c.forget(r)
	return true
}

// done gives the ticket back.
func (r *request) done() {
	if t := r.ticket; t != nil {
		r.ticket = nil
		t.Done()
	}
}

// Wake implements Waker.
func (r *request) Wake(err error) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.state {
	case reqParked:
		r.granted, r.denied = true, err
		c.enqueue(r)
	case reqRunning:
		r.woken, r.denied = true, err
	}
}

// reserve sets room for n bytes of reply aside. It answers errStalled when there is none; the ticket is given back then.
func (r *request) reserve(n int) error {
	c := r.c
	c.mu.Lock()
	if c.full() {
		r.wanted = n
		c.mu.Unlock()
		r.done()
		return errStalled
	}
	c.reserved += n
	r.reserved = n
	c.mu.Unlock()
	return nil
}

// park puts a request aside that cannot go on. It answers false when it can, after all.
func (c *conn) park(r *request, why error) bool {
	r.shared = true
	if !r.own {
		r.body, r.own = append([]byte(nil), r.body...), true
		c.mu.Lock()
		r.held = len(r.body)
		c.held += r.held
		c.mu.Unlock()
	}
	c.mu.Lock()
	switch {
	case r.flushed || r.aborted:
		c.mu.Unlock()
		c.finish(r, syscall.EINTR)
		return true
	case why == errParked && r.woken:
		r.woken, r.granted = false, true
		c.mu.Unlock()
		return false
	case why == errParked:
		r.state = reqParked
	case !c.full():
		c.mu.Unlock()
		return false
	default:
		r.state = reqStalled
		c.stalled = append(c.stalled, r)
	}
	c.mu.Unlock()
	return true
}

// finish answers a request, and the Tflushes that wait behind it.
func (c *conn) finish(r *request, err error) {
	r.done()
	r.walk.end(c)
	if e := r.f.end(c); e != nil {
		c.complain("close after clunk: %v", e)
	}
	if e := r.f2.end(c); e != nil {
		c.complain("close after clunk: %v", e)
	}
	c.mu.Lock()
	switch {
	case r.aborted, r.flushed && cancelled(err):
	case err != nil:
		c.queue(r.tag, &wire.Rlerror{Errno: uint32(errnoOf(err))})
	case r.frame != nil:
		if c.queueFrame(r.frame) {
			r.frame = nil
		}
	default:
		c.queue(r.tag, r.reply)
	}
	c.forget(r)
	c.mu.Unlock()
	if r.frame != nil {
		r.frame.free()
	}
	r.recycle()
}

// forget takes a request that is answered, or never will be, out of the books. conn.mu is held.
func (c *conn) forget(r *request) {
	r.state = reqDead
	if c.tags[r.tag] == r {
		delete(c.tags, r.tag)
	}
	c.reserved -= r.reserved
	c.held -= r.held
	r.reserved, r.held = 0, 0
	for _, fl := range r.flushers {
		if !r.aborted {
			c.queue(fl.tag, &wire.Rflush{})
		}
		fl.aborted = r.aborted
		c.forget(fl)
	}
	r.flushers = nil
	if c.waiting > 0 {
		c.cond.Broadcast()
	}
}

// flushRequest does a Tflush: it withdraws what has not begun, cancels what
// runs, and answers behind it.
func (c *conn) flushRequest(tag, oldTag uint16) {
	c.mu.Lock()
	old := c.tags[oldTag]
	switch {
	case old == nil:
		c.queue(tag, &wire.Rflush{})
		c.mu.Unlock()
		return
	case old.state == reqFlush || old.state == reqRunning:
		fl := &request{c: c, tag: tag, typ: wire.TypeTflush, state: reqFlush, shared: true}
		c.tags[tag] = fl
		old.flushers = append(old.flushers, fl)
		if old.state == reqRunning {
			old.flushed = true
			old.cancel()
		}
		c.mu.Unlock()
		return
	}
	// Not begun, parked or stalled: it never will be.
	old.flushed = true
	old.cancel()
	c.forget(old)
	c.queue(tag, &wire.Rflush{})
	c.mu.Unlock()
	c.bury(old)
}

// bury gives back what a request had that was forgotten while no goroutine worked on it.
func (c *conn) bury(r *request) {
	r.done()
	r.walk.end(c)
	for _, f := range []*fid{r.f, r.f2} {
		if err := f.end(c); err != nil {
			c.complain("close after clunk: %v", err)
		}
	}
}

// abortAll cancels every request; none is answered.
func (c *conn) abortAll() {
	var dead []*request
	c.mu.Lock()
	for _, r := range c.tags {
		r.aborted, r.flushed = true, true
		switch r.state {
		case reqRunning:
			r.cancel()
		case reqFlush:
			// It goes with the request that it waits for.
		default:
			r.cancel()
			c.forget(r)
			dead = append(dead, r)
		}
	}
	c.stalled, c.runq = nil, nil
	c.mu.Unlock()
	for _, r := range dead {
		c.bury(r)
	}
}
