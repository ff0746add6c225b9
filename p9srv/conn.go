package p9srv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"echo9/internal/wire"
)

// conn is one connection.
type conn struct {
	srv  *Server
	nc   net.Conn
	peer Peer
	id   uint64
	done chan struct{}

	in inBuffer // the leader's

	leadWord   atomic.Uint64 // leadBusy and a count of the leader's operations
	seenWord   uint64        // the monitor's
	slow       atomic.Int32  // so many requests more go to workers at once
	complaints atomic.Int32
	xattrBytes atomic.Int64
	session    atomic.Pointer[session]

	mu               sync.Mutex
	cond             sync.Cond // something below has changed
	waiting          int       // goroutines that wait for a request to be forgotten
	tags             map[uint16]*request
	fids             map[uint32]*fid
	out              output
	reserved         int // bytes of replies that requests at work will queue
	held             int // bytes of requests that wait
	stalled          []*request
	runq             []*request
	workers          int    // goroutines other than the leader
	kicked           bool   // one of them is about to write
	turns, turnsDone uint64 // of ordered requests
	draining         bool
	closed           bool
	err              error // why it ended

	// Set by Tversion, when no request is about.
	msize   uint32
	version string // empty: none agreed yet
	google  int    // N of 9P2000.L.Google.N, else -1
}

const (
	leadBusy = 1
	// slowRun is how many requests go to workers after one that was slow.
	slowRun = 32
	// firstMsize bounds frames before a version is agreed.
	firstMsize = 8 << 10
)

// lastConn numbers the connections of all servers: lock owners are told apart by it.
var lastConn atomic.Uint64

func newConn(s *Server, nc net.Conn, peer Peer) *conn {
	c := &conn{
		srv: s, nc: nc, peer: peer, id: lastConn.Add(1), done: make(chan struct{}),
		tags: map[uint16]*request{}, fids: map[uint32]*fid{}, msize: firstMsize, google: -1,
	}
	c.cond.L = &c.mu
	return c
}

// errLost: another goroutine leads now.
var errLost = errors.New("lost the lead")

// lead reads frames and does what they ask, until the connection ends or the monitor
// gives the lead to another goroutine.
func (c *conn) lead() {
	c.in.detach()
	for {
		frame, err := c.next()
		if err == nil {
			err = c.handle(frame)
		}
		if err == errLost {
			c.work()
			return
		}
		if err != nil {
			c.end(err)
			return
		}
	}
}

// begin marks the leader as busy; finished takes the mark off and answers false
// when the lead was lost meanwhile.
func (c *conn) begin() uint64 {
	w := (c.leadWord.Load() + 2) | leadBusy
	c.leadWord.Store(w)
	c.srv.mon.poke()
	return w
}

func (c *conn) finished(w uint64) bool { return c.leadWord.CompareAndSwap(w, w&^leadBusy) }

// handOff gives the lead to a new goroutine, if the leader is still where it was. The monitor calls it.
func (c *conn) handOff(w uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workers >= c.srv.cfg.Workers || !c.leadWord.CompareAndSwap(w, (w+2)&^leadBusy) {
		return
	}
	c.workers++
	c.slow.Store(slowRun)
	go c.lead()
}

// flushLeading writes when at least so much is queued.
func (c *conn) flushLeading(least int) error {
	c.mu.Lock()
	idle := c.out.writing || c.out.bytes < least
	c.mu.Unlock()
	if idle {
		return nil
	}
	w := c.begin()
	c.flush()
	if !c.finished(w) {
		return errLost
	}
	return nil
}

// handle does one frame.
func (c *conn) handle(frame []byte) error {
	typ, tag, body := frame[4], binary.LittleEndian.Uint16(frame[5:]), frame[wire.HeaderSize:]
	if c.srv.cfg.Trace != nil {
		c.traceBody(typ, tag, body)
	}
	switch typ {
	case wire.TypeTversion:
		return c.doVersion(tag, body)
	case wire.TypeTflush:
		var m wire.Tflush
		if err := wire.Decode(typ, body, &m); err != nil {
			return err
		}
		if err := c.checkTag(tag); err != nil {
			return err
		}
		c.flushRequest(tag, m.OldTag)
		return nil
	}
	r := newRequest(c, tag, typ, body)
	if err := c.register(r); err != nil {
		return err
	}
	if r.op.slow || (c.slow.Load() > 0 && r.op.run != nil && !r.op.quick) {
		if c.slow.Load() > 0 {
			c.slow.Add(-1)
		}
		r.body, r.own = append([]byte(nil), body...), true
		c.mu.Lock()
		r.held = len(body)
		c.held += r.held
		r.shared = true
		c.enqueue(r)
		c.mu.Unlock()
		return nil
	}
	w := c.begin()
	r.run()
	if !c.finished(w) {
		return errLost
	}
	return nil
}

func (c *conn) checkTag(tag uint16) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tags[tag] != nil {
		return fmt.Errorf("tag %d is in use", tag)
	}
	return nil
}

// register notes a request in its order of arrival, with the fids that it
// names as they are now: a Tclunk behind it does not take them away.
func (c *conn) register(r *request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tags[r.tag] != nil {
		return fmt.Errorf("%s: tag %d is in use", wire.TypeName(r.typ), r.tag)
	}
	c.tags[r.tag] = r
	if r.op.ordered {
		c.turns++
		r.turn = c.turns
	}
	if c.closed {
		r.aborted = true
	}
	if r.op.fids == 0 || len(r.body) < 4 {
		return nil
	}
	n1, n2, ok := r.op.named(r.body)
	if f := c.fids[n1]; f != nil {
		r.f = f.use()
	}
	if ok {
		if f := c.fids[n2]; f != nil {
			r.f2 = f.use()
		}
	}
	return nil
}

func (c *conn) closedErr() error {
	if c.err != nil {
		return c.err
	}
	return net.ErrClosed
}

// enqueue gives a request to the workers. conn.mu is held.
func (c *conn) enqueue(r *request) {
	r.state = reqQueued
	c.runq = append(c.runq, r)
	if c.workers < c.srv.cfg.Workers {
		c.workers++
		go c.work()
	}
}

// kick has written what another connection's goroutine has queued.
func (c *conn) kick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kicked || c.out.writing || len(c.out.segs) == 0 || c.closed {
		return
	}
	c.kicked = true
	c.workers++
	go c.work()
}

// work does what is queued, and ends.
func (c *conn) work() {
	for {
		c.mu.Lock()
		c.kicked = false // who queues something from now on sees to it that it is written
		c.mu.Unlock()
		c.flush()
		c.mu.Lock()
		var r *request
		for len(c.runq) > 0 && r == nil {
			if r = c.runq[0]; r.state != reqQueued {
				r = nil
			}
			c.runq = c.runq[1:]
		}
		if r == nil {
			c.workers--
			c.cond.Broadcast()
			c.mu.Unlock()
			return
		}
		r.state = reqRunning
		c.mu.Unlock()
		r.run()
	}
}

// fail notes why the connection ends. conn.mu is held.
func (c *conn) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.closed = true
	c.cond.Broadcast()
	c.nc.Close()
}

// hangUp ends the connection from outside.
func (c *conn) hangUp(err error) {
	c.mu.Lock()
	c.fail(err)
	c.mu.Unlock()
	c.abortAll()
}

// drain lets what runs end and then ends the connection.
func (c *conn) drain() {
	c.mu.Lock()
	c.draining = true
	c.mu.Unlock()
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// end is the leader's last act: nothing of the connection is left after it.
func (c *conn) end(err error) {
	c.mu.Lock()
	drain := c.draining && errors.Is(err, os.ErrDeadlineExceeded)
	c.mu.Unlock()
	if drain {
		err = nil
		c.abortWaiting()
		c.settle()
		c.flush()
	}
	c.mu.Lock()
	switch {
	case err == io.EOF:
		err = nil
	case c.err == nil && err != nil && !errors.Is(err, net.ErrClosed):
		c.srv.cfg.Logf("%s: connection ended: %v", c.peer.Addr, err)
	}
	if c.err == nil {
		c.err = err
	}
	c.closed = true
	c.cond.Broadcast()
	c.nc.Close()
	c.mu.Unlock()
	c.abortAll()
	c.settle()
	c.endSession()
	c.dropAllFids()
	c.mu.Lock()
	for _, p := range c.out.segs {
		p.free()
	}
	c.out.segs, c.in.buf = nil, nil
	c.mu.Unlock()
	close(c.done)
}

// settle waits until no goroutine but the leader works for the connection.
func (c *conn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting++
	for c.workers > 0 || c.running() || c.out.writing {
		c.cond.Wait()
	}
	c.waiting--
}

// running tells whether a request is being worked on. conn.mu is held.
func (c *conn) running() bool {
	for _, r := range c.tags {
		if r.state == reqRunning || r.state == reqQueued {
			return true
		}
	}
	return false
}

// abortWaiting withdraws what waits for tokens or for room.
func (c *conn) abortWaiting() {
	var dead []*request
	c.mu.Lock()
	for _, r := range c.tags {
		if r.state == reqParked || r.state == reqStalled || r.state == reqDeferred {
			r.aborted, r.flushed = true, true
			r.cancel()
			c.forget(r)
			dead = append(dead, r)
		}
	}
	c.mu.Unlock()
	for _, r := range dead {
		c.bury(r)
	}
}

// wait waits for the end of the connection and tells why it came.
func (c *conn) wait() error {
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// complain logs what a client did wrong, not for ever.
func (c *conn) complain(format string, args ...any) {
	if c.complaints.Add(1) <= 10 {
		c.srv.cfg.Logf("%s: "+format, append([]any{c.peer.Addr}, args...)...)
	}
}

func (c *conn) trace(dir string, tag uint16, m wire.Message) {
	c.srv.cfg.Trace(fmt.Sprintf("%d %s %s", c.id, dir, wire.Trace(tag, m)))
}

func (c *conn) traceFrame(dir string, frame []byte) {
	m := wire.New(frame[4])
	if m != nil && wire.Decode(frame[4], frame[wire.HeaderSize:], m) == nil {
		c.trace(dir, binary.LittleEndian.Uint16(frame[5:]), m)
	}
}

func (c *conn) traceBody(typ uint8, tag uint16, body []byte) {
	m := wire.New(typ)
	if m == nil || wire.Decode(typ, body, m) != nil {
		c.srv.cfg.Trace(fmt.Sprintf("%d -> %s tag %d, %d bytes that cannot be decoded", c.id, wire.TypeName(typ), tag, len(body)))
		return
	}
	c.trace("->", tag, m)
}
