package p9client

import (
	"fmt"

	"echo9/internal/wire"
)

// flush(5) forbids the reply of a flushed request after its Rflush, but servers
// send it: diod does, once in some ten thousand cancels (testdata/diod-late.txt),
// and so does the server of hugelgupf/p9. If the tag were in use again, that reply would
// end the connection, or be taken for the answer to another request. So on a plain
// connection a flushed request keeps its tag, and the fid that it was to make, for
// a while, and one late reply is dropped. A reply to a tag of nobody's is as bad
// as ever, and the extension's server is held to the rule.

// maxLate is how many flushed requests keep their tags: the oldest gives its up
// for the next one. A count and not a time: who does not cancel does not wait.
const maxLate = 4096

// keepLocked makes a request that was flushed without a reply keep its tag and fid. c.mu is held.
func (c *Conn) keepLocked(call *Call) {
	call.late = true
	c.tags.used-- // it is not under way any more
	if fid, ok := madeFid(call.t); ok {
		c.fids.keep(fid)
	}
	c.late = append(c.late, call)
	if len(c.late) > maxLate {
		oldest := c.late[0]
		c.late[0] = nil
		c.late = c.late[1:]
		c.settleLocked(oldest)
	}
}

// settleLocked frees the tag and fid of a request that was kept, once. c.mu is held.
func (c *Conn) settleLocked(call *Call) {
	if !call.late {
		return
	}
	call.late = false
	c.tags.putFlush(call.tag)
	if fid, ok := madeFid(call.t); ok {
		c.fids.settle(fid)
	}
}

// dropLate takes the reply that came after Rflush. What it made is given up.
func (c *Conn) dropLate(call *Call, h wire.Header) error {
	if h.Type != wire.TypeRlerror && h.Type != call.r.Type() {
		return fmt.Errorf("bad reply: %s to a flushed %s", wire.TypeName(h.Type), wire.TypeName(call.t.Type()))
	}
	body, err := c.rd.Body()
	if err != nil {
		return err
	}
	m := wire.New(h.Type)
	if err := wire.Decode(h.Type, body, m); err != nil {
		return fmt.Errorf("bad reply: %w", err)
	}
	c.traceReply(h.Tag, m)
	fid, made := madeFid(call.t)
	_, removes := call.t.(*wire.Tremove)
	again := made && !removes && h.Type != wire.TypeRlerror
	c.mu.Lock()
	call.late = false
	c.tags.putFlush(call.tag)
	c.mu.Unlock()
	switch {
	case again: // the clunk that its caller sent may have come too early
		c.Go(&wire.Tclunk{Fid: fid}, &wire.Rclunk{}, func(error) { c.fids.settle(fid) })
	case made:
		c.fids.settle(fid)
	}
	return nil
}

// madeFid is the fid that a request makes, or, Tremove, ends: while it is unknown
// whether it has, the fid must not be used.
func madeFid(t wire.Message) (uint32, bool) {
	switch t := t.(type) {
	case *wire.Twalk:
		return t.NewFid, t.NewFid != t.Fid
	case *wire.Twalkgetattr:
		return t.NewFid, t.NewFid != t.Fid
	case *wire.Txattrwalk:
		return t.NewFid, true
	case *wire.Tattach:
		return t.Fid, true
	case *wire.Tremove:
		return t.Fid, true
	}
	return 0, false
}
