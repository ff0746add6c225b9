package p9client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"echo9/internal/wire"
)

// DefaultMsize is the msize that is asked for unless Options say otherwise.
const DefaultMsize = 1 << 20

// Options say how to connect. The zero value is good.
type Options struct {
	// Msize is the largest frame to ask for; 0 means DefaultMsize.
	Msize uint32
	// Extension asks for echo9's extension first; Conn.Ext tells whether it was granted.
	Extension bool
	// Trace, when set, gets each frame as a line, without newline, in trace
	// format. It is called with a lock held: it must not use the Conn.
	Trace func(line string)

	// Uname and Aname are sent by Dial when it attaches: who asks, and for which
	// tree ("": the server's root).
	Uname, Aname string
	// UID is the number of the user who asks; nil sends this process's own. Give a
	// pointer to wire.NoUID to be known by Uname alone.
	UID *uint32
}

// ErrClosed is the error of a Conn that was closed by its own side.
var ErrClosed = errors.New("connection closed")

// ErrEnded is wrapped by the error of each request that is not answered because its connection has ended: for any reason,
// ErrClosed among them.
var ErrEnded = errors.New("the connection has ended")

// errFlushed ends a request that was cancelled before the server had answered it.
var errFlushed = fmt.Errorf("request flushed: %w", syscall.EINTR)

// Conn is one connection to a 9P2000.L server.
type Conn struct {
	nc      net.Conn
	rd      *wire.Reader
	version string
	msize   uint32
	ext     bool
	trace   func(string)

	done     chan struct{} // closed when err is set
	finished chan struct{} // closed when the reader has failed all that was pending
	kick     chan struct{} // tells the writer goroutine that the queue has frames

	fids fids

	breaks breaks // for tests

	mu      sync.Mutex
	idle    sync.Cond // signalled when writing becomes false; its lock is mu
	err     error     // why the connection ended
	gone    bool      // the reader has failed all that was pending
	tags    tags
	waiting []*Call // without a tag yet, because there was none, first come first
	seq     uint64
	late    []*Call // flushed without a reply, which may yet come; the oldest first
	out     queue
	writing bool
}

// breaks are the promises that a test breaks on purpose.
type breaks struct {
	tagBeforeRflush bool // a flushed request's tag is free when its reply has come
	anyOrder        bool // done functions run whenever they like
	forgetPending   bool // requests that are pending when the connection ends are forgotten
	forgetFlushed   bool // a flushed request's tag and fid are free when its Rflush has come
}

// Call is a request under way.
type Call struct {
	c     *Conn
	t, r  wire.Message
	doneF func(error)
	seq   uint64

	// Guarded by c.mu.
	tag      uint16
	tagged   bool
	over     bool // doneF has been or is being called
	flushing bool // a Tflush is on its way: tag is not free before its answer
	late     bool // flushed without a reply: tag is kept for one that comes late
}

// Version is the version that was agreed: wire.ExtVersion or wire.Version9P.
func (c *Conn) Version() string { return c.version }

// Msize is the size of the largest frame that was agreed.
func (c *Conn) Msize() uint32 { return c.msize }

// Ext tells whether the server speaks echo9's extension.
func (c *Conn) Ext() bool { return c.ext }

// NetConn is the connection below, for its addresses; it must not be used otherwise.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Done is closed when the connection has ended; Err then tells why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Finished is closed when the connection has ended and all that was pending has been told: no done function of
// an earlier Go runs any more.
func (c *Conn) Finished() <-chan struct{} { return c.finished }

// Err tells why the connection ended; nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection. What is pending fails with ErrClosed.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	return nil
}

// NewFid gives a fid that is not in use; FreeFid gives it back after its clunk.
func (c *Conn) NewFid() uint32 { return c.fids.get() }

// FreeFid gives a fid back.
func (c *Conn) FreeFid(fid uint32) { c.fids.put(fid) }

// RPC sends t and waits for its reply, which is decoded into r. An Rlerror
// becomes an error that wraps its syscall.Errno.
//
// An *wire.Rread whose Data has room is filled in place, without a copy: Data's
// capacity must hold what was asked for.
//
// When ctx ends, the request is flushed, and RPC returns when the server says
// that it is: with ctx's error, or with the reply if that came first.
func (c *Conn) RPC(ctx context.Context, t, r wire.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	replied := make(chan error, 1)
	call := c.start(t, r, func(err error) { replied <- err })
	c.writeNow()
	var err error
	select {
	case err = <-replied:
	case <-ctx.Done():
		call.Flush()
		err = <-replied
		if errors.Is(err, syscall.EINTR) {
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", wire.TypeName(t.Type()), err)
	}
	return nil
}

// Go sends t and returns at once. When the reply has been decoded into r, done
// is called with RPC's error: on the reader's goroutine, one after the other, in
// the order of the replies on the wire; it must not block. t's payload must stay
// unchanged until then. Requests go out in the order of the calls of Go and RPC.
//
// After the connection has ended and all that was pending has been told so,
// done is called on a goroutine of its own.
func (c *Conn) Go(t, r wire.Message, done func(error)) *Call {
	call := c.start(t, r, done)
	c.writeSoon()
	return call
}

// Flush asks the server to forget the request. Its done function is called with
// the reply if that comes first, else when the server has forgotten it, with
// an error that wraps EINTR.
func (call *Call) Flush() {
	c := call.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if call.over || call.flushing || c.err != nil {
		return
	}
	if !call.tagged { // it was never sent
		for i, w := range c.waiting {
			if w == call {
				c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
				call.over = true
				go call.doneF(errFlushed)
				return
			}
		}
		return
	}
	call.flushing = true
	flush := &Call{c: c, t: &wire.Tflush{OldTag: call.tag}, r: &wire.Rflush{}}
	flush.doneF = func(error) { c.flushed(call) }
	flush.tag, flush.tagged = c.tags.takeFlush(flush), true
	c.enqueue(flush)
	c.kickWriter()
}

// flushed runs on the reader's goroutine when Rflush has come, or never will.
func (c *Conn) flushed(call *Call) {
	c.mu.Lock()
	tell := !call.over && c.err == nil
	if tell {
		call.over = true
	}
	if c.err == nil {
		call.flushing = false
		if tell && !c.ext && !c.breaks.forgetFlushed {
			c.keepLocked(call)
		} else {
			c.tags.put(call.tag)
		}
		c.admit()
		c.kickWriter()
	}
	c.mu.Unlock()
	if tell {
		call.doneF(errFlushed)
	}
}

// start gives the request a tag and queues its frame, or lets it wait for a tag.
func (c *Conn) start(t, r wire.Message, done func(error)) *Call {
	call := &Call{c: c, t: t, r: r, doneF: done}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		call.over = true
		go done(c.err)
		return call
	}
	c.seq++
	call.seq = c.seq
	c.waiting = append(c.waiting, call)
	c.admit()
	return call
}

// admit gives tags to those who wait for one. c.mu is held.
func (c *Conn) admit() {
	for len(c.waiting) > 0 && c.err == nil {
		call := c.waiting[0]
		tag, ok := c.tags.take(call)
		if !ok {
			return
		}
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		call.tag, call.tagged = tag, true
		if size := c.enqueue(call); size > int(c.msize) {
			call.over = true
			c.tags.put(tag)
			go call.doneF(&tooLarge{call.t.Type(), size, c.msize})
		}
	}
	if len(c.waiting) == 0 {
		c.waiting = nil
	}
}

// tooLarge is the error of a request that does not fit the msize.
type tooLarge struct {
	typ   uint8
	size  int
	msize uint32
}

func (e *tooLarge) Error() string {
	return fmt.Sprintf("%s of %d bytes does not fit the msize %d", wire.TypeName(e.typ), e.size, e.msize)
}

func (e *tooLarge) Unwrap() error { return syscall.EMSGSIZE }

// fail ends the connection for that reason, once. The reader then tells all that waits.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = &connError{err}
		close(c.done)
	}
	c.mu.Unlock()
	if first {
		c.nc.Close()
	}
}

// connError is the error of all requests on a connection that has ended.
type connError struct{ err error }

func (e *connError) Error() string { return e.err.Error() }

// Unwrap gives EIO first: that is what a program sees.
func (e *connError) Unwrap() []error { return []error{syscall.EIO, e.err, ErrEnded} }
