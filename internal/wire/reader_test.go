package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// slowReader gives at most n bytes a read.
type slowReader struct {
	p []byte
	n int
}

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.p) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n)], r.p)
	r.p = r.p[n:]
	return n, nil
}

// However a stream of frames is chopped, and however their bodies are taken, they come out whole.
func TestReaderTakesFramesHoweverTheyCome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var bodies [][]byte
		for i := range rapid.IntRange(1, 8).Draw(t, "frames") {
			size := rapid.SampledFrom([]int{0, 1, 5, 100, readerSize - HeaderSize, readerSize, readerSize + 1, 3 * readerSize}).Draw(t, "size")
			body := bytes.Repeat([]byte{byte(i + 1)}, size)
			stream = append(appendHeader(stream, HeaderSize+size, TypeTread, uint16(i)), body...)
			bodies = append(bodies, body)
		}
		r := NewReader(&slowReader{stream, rapid.SampledFrom([]int{9, 100, 5000, 1 << 20}).Draw(t, "chunk")}, 1<<20)
		for i, want := range bodies {
			h, err := r.Next()
			if err != nil || int(h.Tag) != i || int(h.Size) != HeaderSize+len(want) {
				t.Fatalf("frame %d: %+v, %v", i, h, err)
			}
			var got []byte
			switch rapid.IntRange(0, 3).Draw(t, "how") {
			case 0:
				got, err = r.Body()
			case 1:
				got = make([]byte, len(want))
				err = r.ReadFull(got)
			case 2:
				head := make([]byte, len(want)/2)
				if err = r.ReadFull(head); err == nil {
					var rest []byte
					rest, err = r.Body()
					got = append(head, rest...)
				}
			default:
				continue // left alone
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("frame %d of %d bytes: %d, %v", i, len(want), len(got), err)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
	})
}

func TestReaderErrors(t *testing.T) {
	frame := AppendFrame(nil, 1, &Twrite{Data: []byte("abc")})
	for n := 1; n < len(frame); n++ {
		r := NewReader(bytes.NewReader(frame[:n]), 100)
		if _, _, err := r.ReadFrame(); err != io.ErrUnexpectedEOF {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	for _, test := range []struct{ frame, want string }{
		{"\x06\x00\x00\x00\x74\x00\x00", "frame of 6 bytes: smaller than its header"},
		{"\x65\x00\x00\x00\x74\x00\x00", "frame of 101 bytes: Tread larger than the msize 100"},
		{"\xff\xff\xff\xff\x74\x00\x00", "frame of 4294967295 bytes: Tread larger than the msize 100"},
	} {
		_, _, err := NewReader(strings.NewReader(test.frame), 100).ReadFrame()
		var fe *FrameError
		if !errors.As(err, &fe) || err.Error() != test.want {
			t.Errorf("%q: %v", test.frame, err)
		}
	}
	r := NewReader(bytes.NewReader(frame), 100)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if err := r.ReadFull(make([]byte, 50)); err == nil {
		t.Error("more than the frame was read")
	}
}

// A size that is announced costs nothing before its bytes come, and a large frame's
// buffer is given up again.
func TestReaderBufferGrowsWithTheBytes(t *testing.T) {
	header := []byte{0, 0, 0, 0x10, TypeTread, 0, 0}
	r := NewReader(io.MultiReader(bytes.NewReader(header), bytes.NewReader(make([]byte, 1000))), 1<<30)
	if _, _, err := r.ReadFrame(); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	if len(r.buf) > readerSize {
		t.Errorf("%d bytes of buffer for 1000 bytes", len(r.buf))
	}
	var stream []byte
	for _, n := range []int{1 << 20, 10, 10, 10} {
		stream = append(appendHeader(stream, HeaderSize+n, TypeTread, 0), make([]byte, n)...)
	}
	r = NewReader(&slowReader{stream, 1 << 20}, 1<<21)
	for range 4 {
		if _, _, err := r.ReadFrame(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Next(); err != io.EOF || len(r.buf) != readerSize {
		t.Errorf("%v, %d bytes of buffer", err, len(r.buf))
	}
}

func TestBuffered(t *testing.T) {
	one := AppendFrame(nil, 1, &Tclunk{})
	stream := append(append(append([]byte(nil), one...), one...), one[:9]...)
	r := NewReader(bytes.NewReader(stream), 100)
	if r.Buffered() {
		t.Error("a frame is there before anything was read")
	}
	for i, want := range []bool{true, false} {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if r.Buffered() != want {
			t.Errorf("before the body of frame %d: %v", i, !want)
		}
		if _, err := r.Body(); err != nil {
			t.Fatal(err)
		}
		if r.Buffered() != want {
			t.Errorf("after frame %d: %v", i, !want)
		}
	}
}

func TestPayloadHeaders(t *testing.T) {
	data := []byte("some bytes")
	buf := make([]byte, RreadOverhead+len(data))
	copy(buf[RreadOverhead:], data)
	AppendRreadHeader(buf[:0], 9, len(data))
	if want := AppendFrame(nil, 9, &Rread{Data: data}); !bytes.Equal(buf, want) {
		t.Errorf("Rread %x\nnot   %x", buf, want)
	}
	got := append(AppendTwriteHeader(nil, 9, 4, 1<<40, len(data)), data...)
	if want := AppendFrame(nil, 9, &Twrite{4, 1 << 40, data}); !bytes.Equal(got, want) {
		t.Errorf("Twrite %x\nnot    %x", got, want)
	}
}
