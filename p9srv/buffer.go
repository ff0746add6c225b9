package p9srv

import (
	"math/bits"
	"sync"
)

// buffer is a piece of memory that goes around: filled by a request, written
// by the connection's writer, used again. Payloads of 64 KiB and more would
// otherwise be most of the garbage of a busy server.
type buffer struct {
	b     []byte
	class int
}

const (
	minClass = 12 // 4 KiB
	maxClass = 25 // 32 MiB
)

var buffers [maxClass + 1]sync.Pool

// newBuffer gives a buffer of at least n bytes.
func newBuffer(n int) *buffer {
	class := max(minClass, bits.Len(uint(n-1)))
	if class > maxClass {
		return &buffer{b: make([]byte, n), class: -1}
	}
	if p, _ := buffers[class].Get().(*buffer); p != nil {
		p.b = p.b[:cap(p.b)]
		return p
	}
	return &buffer{b: make([]byte, 1<<class), class: class}
}

// free gives the buffer back. Nobody may use it afterwards.
func (p *buffer) free() {
	if p.class >= 0 {
		buffers[p.class].Put(p)
	}
}
