package p9client

import (
	"fmt"
	"net"

	"echo9/internal/wire"
)

// copyBelow is the size of a payload from which it is sent from where it lies.
const copyBelow = 16 << 10

// queue is the frames that are to be written: bufs, then tail.
type queue struct {
	bufs  net.Buffers
	tail  []byte
	spare []byte
}

func (q *queue) empty() bool { return len(q.bufs) == 0 && len(q.tail) == 0 }

// add appends a frame and tells its size; one larger than msize is left out.
func (q *queue) add(tag uint16, m wire.Message, msize uint32) int {
	if w, ok := m.(*wire.Twrite); ok && len(w.Data) >= copyBelow {
		size := wire.TwriteOverhead + len(w.Data)
		if size <= int(msize) {
			tail := wire.AppendTwriteHeader(q.tail, tag, w.Fid, w.Offset, len(w.Data))
			q.bufs = append(q.bufs, tail, w.Data)
			q.tail = nil
		}
		return size
	}
	if t, ok := m.(*wire.Tcommit); ok {
		size := wire.TcommitSize(t)
		if size <= int(msize) {
			q.tail = wire.AppendTcommit(q.tail, tag, t, copyBelow, func(frame, payload []byte) []byte {
				q.bufs = append(q.bufs, frame, payload)
				return nil
			})
		}
		return size
	}
	before := len(q.tail)
	q.tail = wire.AppendFrame(q.tail, tag, m)
	size := len(q.tail) - before
	if size > int(msize) {
		q.tail = q.tail[:before]
	}
	return size
}

// take empties the queue into a batch.
func (q *queue) take() batch {
	b := batch{q.bufs, q.tail}
	q.bufs, q.tail, q.spare = nil, q.spare, nil
	return b
}

// keep keeps a written buffer to be filled again.
func (q *queue) keep(p []byte) {
	if cap(p) <= 256<<10 && cap(p) > cap(q.spare) {
		q.spare = p[:0]
	}
}

// batch is what one write takes.
type batch struct {
	bufs net.Buffers
	tail []byte
}

func (b batch) writeTo(nc net.Conn) error {
	if len(b.bufs) == 0 {
		_, err := nc.Write(b.tail)
		return err
	}
	bufs := b.bufs
	if len(b.tail) > 0 {
		bufs = append(bufs, b.tail)
	}
	_, err := bufs.WriteTo(nc)
	return err
}

// enqueue queues the call's frame and tells its size. c.mu is held.
func (c *Conn) enqueue(call *Call) int {
	size := c.out.add(call.tag, call.t, c.msize)
	if c.trace != nil && size <= int(c.msize) {
		c.trace(wire.Trace(call.tag, call.t))
	}
	return size
}

// writeNow writes what is queued, with one write, unless somebody else is at
// it: he goes on with it.
func (c *Conn) writeNow() {
	c.mu.Lock()
	if c.writing || c.out.empty() || c.err != nil {
		c.mu.Unlock()
		return
	}
	c.writeOnce()
	if !c.out.empty() {
		c.kickWriter()
	}
	c.mu.Unlock()
}

// writeSoon lets the writer goroutine write.
func (c *Conn) writeSoon() {
	c.mu.Lock()
	c.kickWriter()
	c.mu.Unlock()
}

// kickWriter tells the writer goroutine to look. c.mu is held.
func (c *Conn) kickWriter() {
	if c.writing || c.out.empty() {
		return // who writes looks again when he is done
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// writeOnce writes all that is queued; c.mu is held, except meanwhile.
func (c *Conn) writeOnce() {
	b := c.out.take()
	c.writing = true
	c.mu.Unlock()
	err := b.writeTo(c.nc)
	if err != nil {
		c.fail(fmt.Errorf("writing to the server: %w", err))
	}
	c.mu.Lock()
	c.writing = false
	c.idle.Broadcast()
	c.out.keep(b.tail)
}

// write is the writer goroutine.
func (c *Conn) write() {
	for {
		select {
		case <-c.kick:
		case <-c.done:
			return
		}
		c.mu.Lock()
		for !c.writing && !c.out.empty() && c.err == nil {
			c.writeOnce()
		}
		c.mu.Unlock()
	}
}
