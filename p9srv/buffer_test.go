package p9srv

import (
	"testing"
	"unsafe"

	"echo9/internal/wire"
)

// TestPayloadPlace: the payload of a large frame does not begin just behind the start of a page, where a file's pages would be
// copied slowly to it; and a buffer that went around is as large as it was.
func TestPayloadPlace(t *testing.T) {
	for _, n := range []int{32 << 10, 61440, 64<<10 - wire.RreadOverhead, 64 << 10, 1 << 20} {
		for range 3 {
			p := newFrame(n)
			if len(p.b) != wire.RreadOverhead+n {
				t.Fatalf("a frame for %d bytes has %d", n, len(p.b))
			}
			if at := uintptr(unsafe.Pointer(&p.b[wire.RreadOverhead])) % 4096; at > 0 && at < 64 {
				t.Errorf("a payload of %d bytes begins %d bytes behind the start of a page", n, at)
			}
			p.b = p.b[:20]
			p.free()
			q := newBuffer(n)
			if len(q.b) < n {
				t.Fatalf("a buffer for %d bytes has %d", n, len(q.b))
			}
			q.free()
		}
	}
}
