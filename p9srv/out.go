package p9srv

import (
	"net"
	"syscall"

	"echo9/internal/wire"
)

// output is the queue of a connection's replies, oldest first. It is guarded by conn.mu.
type output struct {
	segs    []*buffer // whole frames; the last one may take more small ones
	bytes   int       // in segs, and taken by the writer but not yet written
	writing bool      // somebody writes
	vec     net.Buffers
	taken   []*buffer
}

// segSize is how many bytes of small replies share a buffer.
const segSize = 16 << 10

// flushAt is how much is queued before a leader that has more requests at hand writes.
const flushAt = 128 << 10

// segment is a buffer at the end of the queue with room for n bytes. conn.mu is held.
func (o *output) segment(n int) *buffer {
	if k := len(o.segs); k > 0 && len(o.segs[k-1].b)+n <= segSize && cap(o.segs[k-1].b) == segSize {
		return o.segs[k-1]
	}
	seg := newBuffer(segSize)
	seg.b = seg.b[:0]
	o.segs = append(o.segs, seg)
	return seg
}

// queue queues a message. conn.mu is held.
func (c *conn) queue(tag uint16, m wire.Message) {
	o := &c.out
	seg := o.segment(512)
	start := len(seg.b)
	b := wire.AppendFrame(seg.b, tag, m)
	if uint32(len(b)-start) > c.msize && m.Type() != wire.TypeRversion {
		m = &wire.Rlerror{Errno: uint32(syscall.EMSGSIZE)}
		b = wire.AppendFrame(b[:start], tag, m)
	}
	if cap(b) != cap(seg.b) {
		seg.class = -1 // it outgrew its class
	}
	seg.b = b
	o.bytes += len(b) - start
	if c.srv.cfg.Trace != nil {
		c.trace("<-", tag, m)
	}
}

// queueFrame queues a buffer that is one whole frame, and tells whether it keeps it: small ones
// are copied to where other replies are. conn.mu is held.
func (c *conn) queueFrame(p *buffer) (kept bool) {
	o := &c.out
	o.bytes += len(p.b)
	if c.srv.cfg.Trace != nil {
		c.traceFrame("<-", p.b)
	}
	if len(p.b) <= segSize/2 {
		seg := o.segment(len(p.b))
		seg.b = append(seg.b, p.b...)
		return false
	}
	o.segs = append(o.segs, p)
	return true
}

// full tells whether the client has not taken enough of its replies. conn.mu is held.
func (c *conn) full() bool { return c.out.bytes+c.reserved > c.srv.cfg.Budget }

// flush writes what is queued, unless somebody is doing it.
func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	if o.writing {
		return
	}
	o.writing = true
	for len(o.segs) > 0 && c.err == nil {
		o.taken, o.segs = o.segs, o.taken[:0]
		n := 0
		o.vec = o.vec[:0]
		for _, p := range o.taken {
			n += len(p.b)
			o.vec = append(o.vec, p.b)
		}
		c.mu.Unlock()
		err := c.write(o.vec)
		for i, p := range o.taken {
			p.free()
			o.taken[i] = nil
		}
		c.mu.Lock()
		o.bytes -= n
		if err != nil {
			c.fail(err)
		}
		c.drained()
	}
	o.writing = false
	c.cond.Broadcast()
}

// write writes frames with as few system calls as can be.
func (c *conn) write(vec net.Buffers) error {
	if len(vec) == 1 {
		_, err := c.nc.Write(vec[0])
		return err
	}
	_, err := vec.WriteTo(c.nc)
	return err
}

// drained lets go on who waited for the client to take replies. conn.mu is held.
func (c *conn) drained() {
	c.cond.Broadcast()
	free := c.srv.cfg.Budget - c.out.bytes - c.reserved
	for len(c.stalled) > 0 && free >= 0 {
		r := c.stalled[0]
		c.stalled = c.stalled[1:]
		if r.state == reqStalled {
			free -= r.wanted
			c.enqueue(r)
		}
	}
}
