package p9srv

import (
	"math/bits"
	"sync"

	"echo9/internal/wire"
)

// buffer is a piece of memory that goes around: filled by a request, written
// by the connection's writer, used again. Payloads of 64 KiB and more would
// otherwise be most of the garbage of a busy server.
type buffer struct {
	b     []byte
	mem   []byte // all of it; b is somewhere in there
	class int
}

const (
	minClass = 12 // 4 KiB
	maxClass = 25 // 32 MiB

	// payloadAt is where in its memory the payload of a frame lies that is read from a file. Processors there are (AMD's) copy
	// five times slower to a place that lies, in its page, less than 32 bytes behind what is copied; and what is copied mostly
	// begins with a page. The copy to a socket's pages, whose place moves by a header with each frame, is as seldom slow as can be.
	payloadAt = 2048
)

var buffers [maxClass + 1]sync.Pool

// newBuffer gives a buffer of at least n bytes.
func newBuffer(n int) *buffer {
	class := max(minClass, bits.Len(uint(n-1)))
	if class > maxClass {
		return &buffer{b: make([]byte, n), class: -1}
	}
	p, _ := buffers[class].Get().(*buffer)
	if p == nil {
		p = &buffer{mem: make([]byte, payloadAt+1<<class), class: class}
	}
	p.b = p.mem[: 1<<class : 1<<class]
	return p
}

// newFrame gives a buffer for a frame with n bytes that are read from a file behind its header.
func newFrame(n int) *buffer {
	p := newBuffer(wire.RreadOverhead + n)
	if p.class >= 0 {
		p.b = p.mem[payloadAt-wire.RreadOverhead : payloadAt+n]
	}
	return p
}

// free gives the buffer back. Nobody may use it afterwards.
func (p *buffer) free() {
	if p.class >= 0 {
		buffers[p.class].Put(p)
	}
}
