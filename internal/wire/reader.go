package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Header is what every frame begins with.
type Header struct {
	Size uint32 // of the whole frame
	Type uint8
	Tag  uint16
}

// FrameError is the error of a frame whose size breaks the protocol.
type FrameError struct {
	Size uint32
	Rule string
}

func (e *FrameError) Error() string { return fmt.Sprintf("frame of %d bytes: %s", e.Size, e.Rule) }

// Reader takes frames off a stream, many of them with one read.
type Reader struct {
	r      io.Reader
	max    uint32
	buf    []byte
	lo, hi int // buf[lo:hi] is read and not yet taken
	left   int // bytes of the current frame's body that are not yet taken
}

// readerSize holds dozens of ordinary requests, or the head of a large one.
const readerSize = 64 << 10

// NewReader makes a Reader that refuses frames larger than max.
func NewReader(r io.Reader, max uint32) *Reader {
	return &Reader{r: r, max: max, buf: make([]byte, readerSize)}
}

// SetMax sets the size above which frames are refused: the msize, once it is agreed.
func (r *Reader) SetMax(max uint32) { r.max = max }

// Next goes on to the next frame, whatever was left of the last one. The error
// is io.EOF only between frames; io.ErrUnexpectedEOF within one.
func (r *Reader) Next() (Header, error) {
	if err := r.skip(); err != nil {
		return Header{}, err
	}
	if err := r.fill(HeaderSize); err != nil {
		if err == io.ErrUnexpectedEOF && r.lo == r.hi {
			err = io.EOF
		}
		return Header{}, err
	}
	p := r.buf[r.lo:]
	h := Header{binary.LittleEndian.Uint32(p), p[4], binary.LittleEndian.Uint16(p[5:])}
	if h.Size < HeaderSize {
		return h, &FrameError{h.Size, "smaller than its header"}
	}
	if h.Size > r.max {
		return h, &FrameError{h.Size, fmt.Sprintf("%s larger than the msize %d", TypeName(h.Type), r.max)}
	}
	r.lo += HeaderSize
	r.left = int(h.Size) - HeaderSize
	return h, nil
}

// Body gives what is left of the frame. It aliases the Reader's buffer: it is
// good until the next call.
func (r *Reader) Body() ([]byte, error) {
	n := r.left
	if err := r.fill(n); err != nil {
		return nil, err
	}
	p := r.buf[r.lo : r.lo+n : r.lo+n]
	r.lo += n
	r.left = 0
	return p, nil
}

// Left tells how many bytes of the frame are not yet taken.
func (r *Reader) Left() int { return r.left }

// ReadFull takes the next len(p) bytes of the frame, straight into p where they
// are not buffered yet.
func (r *Reader) ReadFull(p []byte) error {
	if len(p) > r.left {
		return &FrameError{uint32(r.left), fmt.Sprintf("%d bytes are due", len(p))}
	}
	n := copy(p, r.buf[r.lo:r.hi])
	r.lo += n
	r.left -= len(p)
	if n == len(p) {
		return nil
	}
	_, err := io.ReadFull(r.r, p[n:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// ReadFrame is Next and Body.
func (r *Reader) ReadFrame() (Header, []byte, error) {
	h, err := r.Next()
	if err != nil {
		return h, nil, err
	}
	body, err := r.Body()
	return h, body, err
}

// Buffered tells whether another whole frame has been read already: if not, it
// is time to send what was answered so far.
func (r *Reader) Buffered() bool {
	p := r.buf[r.lo:r.hi]
	if len(p) < r.left+HeaderSize {
		return false
	}
	p = p[r.left:]
	return uint64(binary.LittleEndian.Uint32(p)) <= uint64(len(p))
}

func (r *Reader) skip() error {
	for r.left > 0 {
		if r.lo == r.hi {
			if err := r.fill(min(r.left, len(r.buf))); err != nil {
				return err
			}
		}
		n := min(r.left, r.hi-r.lo)
		r.lo += n
		r.left -= n
	}
	return nil
}

// fill makes buf[lo:hi] at least n bytes. The buffer grows as bytes come, so
// that a size alone costs nothing, and shrinks again after a large frame.
func (r *Reader) fill(n int) error {
	if r.hi-r.lo >= n {
		return nil
	}
	if r.lo > 0 {
		if len(r.buf) > readerSize && n <= readerSize && r.hi-r.lo <= readerSize {
			small := make([]byte, readerSize)
			r.hi = copy(small, r.buf[r.lo:r.hi])
			r.buf = small
		} else {
			r.hi = copy(r.buf, r.buf[r.lo:r.hi])
		}
		r.lo = 0
	}
	for r.hi < n {
		if r.hi == len(r.buf) {
			bigger := make([]byte, min(n, 4*len(r.buf)))
			copy(bigger, r.buf)
			r.buf = bigger
		}
		got, err := r.r.Read(r.buf[r.hi:])
		r.hi += got
		if err != nil && r.hi < n {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}
