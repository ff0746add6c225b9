package p9srv

import (
	"encoding/binary"
	"fmt"
	"io"
	"syscall"
	"time"

	"echo9/internal/wire"

	"golang.org/x/sys/unix"
)

// inBuffer has what was read and is not yet done.
type inBuffer struct {
	buf    []byte
	lo, hi int
	small  int // reads in a row that would have fitted a small buffer
}

const (
	// firstIn and mostIn bound the buffer for what is read, but for frames that are larger.
	firstIn = 8 << 10
	mostIn  = 256 << 10
	// smallRun is after how many small reads a large buffer is given up.
	smallRun = 256
)

// detach leaves the buffer to requests that still use it.
func (in *inBuffer) detach() {
	rest := in.buf[in.lo:in.hi]
	in.buf = make([]byte, max(firstIn, len(rest)))
	in.lo, in.hi = 0, copy(in.buf, rest)
}

// frameSize is the size of the frame that begins at lo; false when not even that is there.
func (in *inBuffer) frameSize() (int, bool) {
	if in.hi-in.lo < 4 {
		return 0, false
	}
	return int(binary.LittleEndian.Uint32(in.buf[in.lo:])), true
}

// room makes room to read into, for a frame of size n at least.
func (in *inBuffer) room(n int) {
	if in.lo == in.hi {
		in.lo, in.hi = 0, 0
		if in.small > smallRun && len(in.buf) > firstIn && n == 0 {
			in.buf, in.small = make([]byte, firstIn), 0
		}
	}
	if in.lo+max(n, wire.HeaderSize) <= len(in.buf) && in.hi < len(in.buf) {
		return
	}
	into := in.buf
	if grow := max(n, firstIn); grow > len(in.buf) || (in.lo == 0 && in.hi == len(in.buf)) {
		into = make([]byte, max(grow+firstIn, min(2*len(in.buf), mostIn)))
	}
	in.hi = copy(into, in.buf[in.lo:in.hi])
	in.lo, in.buf = 0, into
}

// next gives the next frame. Before it waits for one it writes the replies that are queued.
func (c *conn) next() ([]byte, error) {
	in := &c.in
	for {
		n, ok := in.frameSize()
		if ok {
			if n < wire.HeaderSize {
				return nil, &wire.FrameError{Size: uint32(n), Rule: "smaller than its header"}
			}
			if n > int(c.msize) {
				return nil, &wire.FrameError{Size: uint32(n), Rule: fmt.Sprintf("larger than the msize %d", c.msize)}
			}
			if in.hi-in.lo >= n {
				// The frame is taken last: a goroutine that loses the lead leaves it to the next leader.
				if err := c.makeRoom(in.buf[in.lo+4]); err != nil {
					return nil, err
				}
				frame := in.buf[in.lo : in.lo+n : in.lo+n]
				in.lo += n
				return frame, nil
			}
		}
		if err := c.flushLeading(1); err != nil {
			return nil, err
		}
		in.room(n)
		got, err := c.nc.Read(in.buf[in.hi:])
		in.hi += got
		if in.small++; got > firstIn/2 {
			in.small = 0
		}
		if in.hi == len(in.buf) && len(in.buf) < mostIn {
			in.full()
		}
		if got == 0 && err != nil {
			if err == io.EOF && in.hi > in.lo {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// full grows the buffer after a read that filled it.
func (in *inBuffer) full() {
	bigger := make([]byte, min(2*len(in.buf), mostIn))
	in.hi = copy(bigger, in.buf[in.lo:in.hi])
	in.lo, in.buf = 0, bigger
}

// makeRoom waits until the connection is within its bounds again: the client
// has to take replies, or requests to end. It writes replies when many are queued.
func (c *conn) makeRoom(typ uint8) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		within := !c.full() && c.held <= c.srv.cfg.Budget && len(c.tags) < c.srv.cfg.MaxRequests
		switch {
		case c.closed:
			return c.closedErr()
		case (c.out.bytes >= flushAt || !within) && c.out.bytes > 0 && !c.out.writing:
			c.mu.Unlock()
			err := c.flushLeading(1)
			c.mu.Lock()
			if err != nil {
				return err
			}
		case within, typ == wire.TypeTversion, typ == wire.TypeTflush && len(c.tags) < 2*c.srv.cfg.MaxRequests:
			return nil
		case c.peerGone():
			return io.EOF
		default:
			c.waiting++
			look := time.AfterFunc(hupCheck, c.cond.Broadcast)
			c.cond.Wait()
			look.Stop()
			c.waiting--
		}
	}
}

// hupCheck is how often a leader that does not read looks whether the client is still there.
const hupCheck = 200 * time.Millisecond

// peerGone tells whether the other end has hung up, without reading what it sent before.
func (c *conn) peerGone() bool {
	sc, ok := c.nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err == nil && gone
}
