package cachefs

import (
	"bytes"
	"testing"

	_ "echo9/internal/draws"

	"pgregory.net/rapid"
)

// render reads [0, size) of c; unknown bytes are given by server.
func render(c *content, size int64, server []byte) []byte {
	out := make([]byte, size)
	for at := int64(0); at < size; {
		pieces, miss, missEnd := c.read(at, size)
		for _, p := range pieces {
			if p.buf != nil {
				copy(out[p.off:], p.buf)
			}
		}
		if miss < missEnd {
			if miss < int64(len(server)) {
				copy(out[miss:missEnd], server[miss:])
			}
		}
		at = missEnd
	}
	return out
}

// TestContentIsWhatWasWritten compares the content with a byte slice, under
// random writes, holes, truncations, fetches, commits and evictions.
func TestContentIsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const span = 3 * chunkSize
		lru := newChunkList()
		c := &content{lru: lru}
		server := make([]byte, 0, span) // what is at the server
		model := make([]byte, 0, span)  // what the file is
		var seq uint64
		grow := func(to int64) {
			if n := int64(len(model)); to > n {
				seq++
				c.zero(n, to, seq)
				model = append(model, make([]byte, to-n)...)
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			off := rapid.Int64Range(0, span-1).Draw(t, "off")
			n := rapid.OneOf(rapid.Int64Range(1, 100), rapid.Int64Range(1, chunkSize+5)).Draw(t, "n")
			n = min(n, span-off)
			switch rapid.SampledFrom([]string{"write", "append", "zero", "truncate", "commit", "evict", "fetch"}).Draw(t, "do") {
			case "append":
				off, n = int64(len(model)), min(n, 50)
				fallthrough
			case "write":
				grow(off)
				seq++
				b := bytes.Repeat([]byte{byte(seq%250 + 1)}, int(n))
				if off+n > int64(len(model)) {
					model = append(model, make([]byte, off+n-int64(len(model)))...)
				}
				copy(model[off:], b)
				c.write(off, b, seq)
			case "zero":
				end := min(off+n, int64(len(model)))
				if off < end {
					seq++
					c.zero(off, end, seq)
					clear(model[off:end])
				}
			case "truncate":
				if off < int64(len(model)) {
					seq++
					c.truncate(off)
					model = model[:off]
				} else {
					grow(off)
				}
			case "commit":
				server = append(server[:0], model...)
				c.committed(seq)
			case "evict":
				lru.shrink(rapid.Int64Range(0, lru.bytes).Draw(t, "limit"))
			case "fetch":
				if end := min(off+n, int64(len(server)), int64(len(model))); off < end {
					c.fill(off, bytes.Clone(server[off:end]))
				}
			}
			if got := render(c, int64(len(model)), server); !bytes.Equal(got, model) {
				t.Fatalf("content differs from what was written (%d bytes)", len(model))
			}
			if c.bytes() != lru.bytes {
				t.Fatalf("%d bytes accounted, %d cached", lru.bytes, c.bytes())
			}
		}
		c.drop()
		if lru.bytes != 0 || lru.head.next != &lru.head {
			t.Fatalf("after drop %d bytes are accounted", lru.bytes)
		}
	})
}

// TestContentEvictsOnlyClean: dirty extents stay, whatever the limit.
func TestContentEvictsOnlyClean(t *testing.T) {
	lru := newChunkList()
	c := &content{lru: lru}
	c.write(0, bytes.Repeat([]byte{1}, 1<<16), 1)
	c.write(1<<17, bytes.Repeat([]byte{2}, 1<<16), 2)
	c.committed(1)
	lru.shrink(0)
	if lru.bytes != 1<<16 {
		t.Fatalf("%d bytes left, want the 64 KiB of the pending write", lru.bytes)
	}
	if _, miss, _ := c.read(0, 10); miss != 0 {
		t.Fatal("the committed write was not evicted")
	}
	if p, miss, _ := c.read(1<<17, 1<<17+10); miss != 1<<17+10 || p[0].buf[0] != 2 {
		t.Fatal("the pending write was evicted")
	}
}

// TestContentManySmallAppends: bytes appended one by one become few extents,
// and slices taken earlier do not change.
func TestContentManySmallAppends(t *testing.T) {
	c := &content{lru: newChunkList()}
	var seen []piece
	for i := range 50_000 {
		c.write(int64(i), []byte{byte(i)}, uint64(i+1))
		if i == 100 {
			seen, _, _ = c.read(0, 100)
		}
	}
	if n := len(c.chunks[0].exts); n > 50_000/tinyExtent+1 {
		t.Fatalf("%d extents", n)
	}
	for i, b := range seen[0].buf {
		if b != byte(i) {
			t.Fatal("a slice that a reader held was changed")
		}
	}
}
