package p9client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"echo9/internal/wire"
)

// read is the reader goroutine.
func (c *Conn) read() {
	for {
		if err := c.readReply(); err != nil {
			c.fail(err)
			break
		}
	}
	c.finish()
}

// readReply takes one reply and tells its caller.
func (c *Conn) readReply() error {
	h, err := c.rd.Next()
	switch {
	case err == io.EOF:
		return errors.New("the server closed the connection")
	case err != nil:
		return fmt.Errorf("reading from the server: %w", err)
	}
	c.mu.Lock()
	call := c.tags.call(h.Tag)
	late := call != nil && call.late
	if call != nil && call.over && !late { // it was answered, and waits for its Rflush
		call = nil
	}
	c.mu.Unlock()
	if late {
		return c.dropLate(call, h)
	}
	if call == nil {
		return fmt.Errorf("bad reply: %s with tag %d, which no request has", wire.TypeName(h.Type), h.Tag)
	}
	result, err := c.decode(call, h)
	if err != nil {
		return fmt.Errorf("bad reply: %w", err)
	}
	c.complete(call, result)
	return nil
}

// decode takes the body of a reply into call.r. result is the answer to the
// request; err is that of a peer that breaks the protocol.
func (c *Conn) decode(call *Call, h wire.Header) (result, err error) {
	if h.Type == wire.TypeRlerror {
		body, err := c.rd.Body()
		if err != nil {
			return nil, err
		}
		var r wire.Rlerror
		if err := wire.Decode(h.Type, body, &r); err != nil {
			return nil, err
		}
		c.traceReply(h.Tag, &r)
		if r.Errno == 0 {
			return syscall.EIO, nil
		}
		return syscall.Errno(r.Errno), nil
	}
	if h.Type != call.r.Type() {
		return nil, fmt.Errorf("%s to %s", wire.TypeName(h.Type), wire.TypeName(call.t.Type()))
	}
	if r, ok := call.r.(*wire.Rread); ok && cap(r.Data) > 0 {
		err = c.readInto(r)
	} else {
		err = c.readBody(call, h.Type)
	}
	if err == nil {
		c.traceReply(h.Tag, call.r)
	}
	return nil, err
}

// readInto reads the payload of an Rread to where it is wanted.
func (c *Conn) readInto(r *wire.Rread) error {
	var count [4]byte
	if err := c.rd.ReadFull(count[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(count[:])
	switch {
	case int64(n) != int64(c.rd.Left()):
		return fmt.Errorf("an Rread with a count of %d and %d bytes", n, c.rd.Left())
	case int64(n) > int64(cap(r.Data)):
		return fmt.Errorf("an Rread of %d bytes where %d were asked for", n, cap(r.Data))
	}
	r.Data = r.Data[:n]
	return c.rd.ReadFull(r.Data)
}

// readBody decodes a body; one whose payload the message will alias is not left in the reader's buffer.
func (c *Conn) readBody(call *Call, typ uint8) error {
	var body []byte
	var err error
	switch typ {
	case wire.TypeRread, wire.TypeRreaddir, wire.TypeRgrant, wire.TypeRreaddirplus:
		body = make([]byte, c.rd.Left())
		err = c.rd.ReadFull(body)
	default:
		body, err = c.rd.Body()
	}
	if err != nil {
		return err
	}
	return wire.Decode(typ, body, call.r)
}

func (c *Conn) traceReply(tag uint16, m wire.Message) {
	if c.trace != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.trace(wire.Trace(tag, m))
	}
}

// complete frees the request's tag, unless a Tflush of it is on its way, and tells its caller.
func (c *Conn) complete(call *Call, result error) {
	c.mu.Lock()
	call.over = true
	switch {
	case call.t.Type() == wire.TypeTflush:
		c.tags.putFlush(call.tag)
	case !call.flushing || c.breaks.tagBeforeRflush:
		c.tags.put(call.tag)
		if len(c.waiting) > 0 {
			c.admit()
			c.kickWriter()
		}
	}
	c.mu.Unlock()
	if c.breaks.anyOrder {
		go call.doneF(result)
		return
	}
	call.doneF(result)
}

// finish tells all that is pending why the connection ended, in the order in
// which the requests were made.
func (c *Conn) finish() {
	c.mu.Lock()
	for c.writing { // a payload may be in use until the write is over
		c.idle.Wait()
	}
	for {
		var pending []*Call
		for _, call := range c.tags.calls {
			if call != nil && !call.over && call.t.Type() != wire.TypeTflush {
				pending = append(pending, call)
			}
		}
		slices.SortFunc(pending, func(a, b *Call) int { return int(int64(a.seq) - int64(b.seq)) })
		pending = append(pending, c.waiting...)
		c.waiting = nil
		if len(pending) == 0 || c.breaks.forgetPending {
			break
		}
		for _, call := range pending {
			call.over = true
		}
		err := c.err
		c.mu.Unlock()
		for _, call := range pending {
			call.doneF(err)
		}
		c.mu.Lock()
	}
	c.gone = true
	c.mu.Unlock()
	close(c.finished)
}
