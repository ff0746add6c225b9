package cachefs

import (
	"slices"
	"sort"
)

// chunkSize is the unit in which cached file bytes are looked up and evicted.
const chunkSize = 1 << 20

// tinyExtent: neighbours whose sum stays below it are made one, so that a file
// written byte by byte does not become a list of bytes.
const tinyExtent = 16 << 10

// extent is a run of cached bytes. buf is never changed once a reader may have seen it:
// readers take slices under the file system's mutex and copy without it.
type extent struct {
	off int64
	buf []byte
	seq uint64 // the operation that wrote it; 0: it came from the server
}

func (e extent) end() int64 { return e.off + int64(len(e.buf)) }

// chunk holds the extents of one chunkSize-aligned range of a file.
type chunk struct {
	c    *content
	idx  int64
	exts []extent // sorted by offset, disjoint

	prev, next *chunk // the LRU list
}

// hole is a range known to be zero; the end is exclusive.
type hole struct {
	off, end int64
	seq      uint64
}

// content is what is known of a regular file's bytes. What is neither in an extent nor in
// a hole is at the server only. Guarded by the file system's mutex.
type content struct {
	lru    *chunkList
	chunks map[int64]*chunk
	holes  []hole // sorted, disjoint; extents lie nowhere over them
	// owed are ranges that an operation copies at the server: until it was applied nobody knows them. Sorted, disjoint,
	// and nothing else lies over them.
	owed []hole
	// clean: operations up to this one are at the server, so what they wrote may be evicted.
	clean uint64
	// evictions counts evictions: bytes fetched before one are not installed after it.
	evictions uint64
}

// piece is a part of what a read found: bytes, or zeros when buf is nil.
type piece struct {
	off int64
	n   int
	buf []byte
}

// write lays b over the content at off. b becomes the content's and must not be changed.
func (c *content) write(off int64, b []byte, seq uint64) {
	c.cutAll(off, off+int64(len(b)))
	for len(b) > 0 {
		ch := c.chunk(off / chunkSize)
		n := min(int64(len(b)), (ch.idx+1)*chunkSize-off)
		ch.remove(off, off+n)
		ch.insert(extent{off: off, buf: b[:n:n], seq: seq})
		c.lru.touch(ch)
		b, off = b[n:], off+n
	}
}

// fill installs bytes that came from the server where nothing is known yet.
func (c *content) fill(off int64, b []byte) {
	end := off + int64(len(b))
	for at := off; at < end; {
		if p, ok := c.at(at, end); ok {
			at = p.off + int64(p.n)
			continue
		}
		next := c.nextKnown(at, end)
		for at < next {
			ch := c.chunk(at / chunkSize)
			stop := min(next, (ch.idx+1)*chunkSize)
			ch.insert(extent{off: at, buf: b[at-off : stop-off : stop-off]})
			c.lru.touch(ch)
			at = stop
		}
	}
}

// zero makes [off, end) zeros.
func (c *content) zero(off, end int64, seq uint64) {
	if off >= end {
		return
	}
	c.cutAll(off, end)
	c.removeExtents(off, end)
	c.holes = insertHole(c.holes, hole{off, end, seq})
}

// copied makes n bytes at off those that src has at from: as far as they are known, else they are owed by the operation seq.
func (c *content) copied(off int64, src *content, from, n int64, seq uint64) {
	c.cutAll(off, off+n)
	c.removeExtents(off, off+n)
	c.evictions++ // what is being fetched is from before
	for at := from; at < from+n; {
		if p, ok := src.at(at, from+n); ok {
			to := off + p.off - from
			if p.buf == nil {
				c.zero(to, to+int64(p.n), seq)
			} else {
				c.write(to, p.buf[:p.n:p.n], seq)
			}
			at += int64(p.n)
			continue
		}
		next := src.nextKnown(at, from+n)
		c.owed = insertHole(c.owed, hole{off + at - from, off + next - from, seq})
		at = next
	}
}

// owes gives the first part of [off, end) that an operation owes which is not at the server, and that operation's number; 0 for none.
func (c *content) owes(off, end int64) (from int64, seq uint64) {
	for _, h := range c.owed {
		if h.off < end && h.end > off && h.seq > c.clean {
			return max(h.off, off), h.seq
		}
	}
	return end, 0
}

func insertHole(list []hole, h hole) []hole {
	i := sort.Search(len(list), func(i int) bool { return list[i].off >= h.off })
	list = append(list, hole{})
	copy(list[i+1:], list[i:])
	list[i] = h
	return list
}

// truncate forgets all from size on.
func (c *content) truncate(size int64) {
	c.cutAll(size, 1<<63-1)
	c.removeExtents(size, 1<<63-1)
}

// read collects what is known of [off, end). When a part is not known, miss says where
// that starts and ends, and pieces is what comes before it.
func (c *content) read(off, end int64) (pieces []piece, missOff, missEnd int64) {
	for at := off; at < end; {
		p, ok := c.at(at, end)
		if !ok {
			return pieces, at, c.nextKnown(at, end)
		}
		pieces = append(pieces, p)
		at += int64(p.n)
	}
	return pieces, end, end
}

// at gives the known run that covers off, up to end.
func (c *content) at(off, end int64) (piece, bool) {
	if ch := c.chunks[off/chunkSize]; ch != nil {
		i := sort.Search(len(ch.exts), func(i int) bool { return ch.exts[i].end() > off })
		if i < len(ch.exts) && ch.exts[i].off <= off {
			e := ch.exts[i]
			stop := min(end, e.end())
			c.lru.touch(ch)
			return piece{off, int(stop - off), e.buf[off-e.off : stop-e.off]}, true
		}
	}
	i := sort.Search(len(c.holes), func(i int) bool { return c.holes[i].end > off })
	if i < len(c.holes) && c.holes[i].off <= off {
		stop := min(end, c.holes[i].end)
		// A piece of zeros is bounded, so that its length is an int everywhere.
		stop = min(stop, off+1<<30)
		return piece{off: off, n: int(stop - off)}, true
	}
	return piece{}, false
}

// nextKnown is the start of the first known run after off, at most end. off is not known.
func (c *content) nextKnown(off, end int64) int64 {
	next := end
	if i := sort.Search(len(c.holes), func(i int) bool { return c.holes[i].off > off }); i < len(c.holes) {
		next = min(next, c.holes[i].off)
	}
	for idx := off / chunkSize; idx*chunkSize < next; idx++ {
		ch := c.chunks[idx]
		if ch == nil {
			continue
		}
		i := sort.Search(len(ch.exts), func(i int) bool { return ch.exts[i].off > off })
		if i < len(ch.exts) {
			return min(next, ch.exts[i].off)
		}
	}
	return next
}

// committed notes that operations up to seq are at the server.
func (c *content) committed(seq uint64) {
	c.clean = max(c.clean, seq)
	c.owed = slices.DeleteFunc(c.owed, func(h hole) bool { return h.seq <= c.clean })
}

// drop forgets everything.
func (c *content) drop() {
	for _, ch := range c.chunks {
		c.lru.forget(ch)
	}
	c.chunks, c.holes, c.owed = nil, nil, nil
	c.evictions++
}

// evict forgets the clean extents of a chunk.
func (c *content) evict(ch *chunk) {
	kept := ch.exts[:0]
	for _, e := range ch.exts {
		if e.seq > c.clean {
			kept = append(kept, e)
		} else {
			c.lru.bytes -= int64(len(e.buf))
		}
	}
	if len(kept) == len(ch.exts) {
		return
	}
	clear(ch.exts[len(kept):])
	ch.exts = kept
	c.evictions++
	if len(kept) == 0 {
		c.lru.unlink(ch)
		delete(c.chunks, ch.idx)
	}
}

// bytes is the number of bytes cached.
func (c *content) bytes() (n int64) {
	for _, ch := range c.chunks {
		for _, e := range ch.exts {
			n += int64(len(e.buf))
		}
	}
	return n
}

func (c *content) chunk(idx int64) *chunk {
	ch := c.chunks[idx]
	if ch == nil {
		if c.chunks == nil {
			c.chunks = make(map[int64]*chunk)
		}
		ch = &chunk{c: c, idx: idx}
		c.chunks[idx] = ch
	}
	return ch
}

func (c *content) removeExtents(off, end int64) {
	first, last := off/chunkSize, (end-1)/chunkSize
	if last-first < int64(len(c.chunks)) {
		for idx := first; idx <= last; idx++ {
			if ch := c.chunks[idx]; ch != nil {
				c.removeFrom(ch, off, end)
			}
		}
		return
	}
	for idx, ch := range c.chunks {
		if idx >= first && idx <= last {
			c.removeFrom(ch, off, end)
		}
	}
}

func (c *content) removeFrom(ch *chunk, off, end int64) {
	ch.remove(off, end)
	if len(ch.exts) == 0 {
		c.lru.unlink(ch)
		delete(c.chunks, ch.idx)
	}
}

// cutAll takes [off, end) out of the holes, and of what is owed.
func (c *content) cutAll(off, end int64) {
	c.holes = cutHoles(c.holes, off, end)
	c.owed = cutHoles(c.owed, off, end)
}

// cutHoles takes [off, end) out of a list.
func cutHoles(list []hole, off, end int64) []hole {
	i := sort.Search(len(list), func(i int) bool { return list[i].end > off })
	j := i
	var left []hole
	for ; j < len(list) && list[j].off < end; j++ {
		h := list[j]
		if h.off < off {
			left = append(left, hole{h.off, off, h.seq})
		}
		if h.end > end {
			left = append(left, hole{end, h.end, h.seq})
		}
	}
	if i == j {
		return list
	}
	return append(list[:i], append(left, list[j:]...)...)
}

// remove takes [off, end) out of the chunk.
func (ch *chunk) remove(off, end int64) {
	i := sort.Search(len(ch.exts), func(i int) bool { return ch.exts[i].end() > off })
	j := i
	var left [2]extent
	n := 0
	for ; j < len(ch.exts) && ch.exts[j].off < end; j++ {
		e := ch.exts[j]
		ch.c.lru.bytes -= int64(len(e.buf))
		if e.off < off {
			// The capacity goes too: what lies behind is no longer this extent's to grow into.
			k := off - e.off
			left[n] = extent{e.off, e.buf[:k:k], e.seq}
			ch.c.lru.bytes += k
			n++
		}
		if e.end() > end {
			left[n] = extent{end, e.buf[end-e.off:], e.seq}
			ch.c.lru.bytes += int64(len(left[n].buf))
			n++
		}
	}
	if i == j {
		return
	}
	switch {
	case n > j-i: // one extent became two
		ch.exts = append(ch.exts, extent{})
		copy(ch.exts[j+1:], ch.exts[j:])
		copy(ch.exts[i:], left[:n])
	default:
		copy(ch.exts[i:], left[:n])
		rest := copy(ch.exts[i+n:], ch.exts[j:])
		clear(ch.exts[i+n+rest:])
		ch.exts = ch.exts[:i+n+rest]
	}
}

// insert puts e where nothing is. A tiny one is added to a tiny one before it.
func (ch *chunk) insert(e extent) {
	ch.c.lru.bytes += int64(len(e.buf))
	i := sort.Search(len(ch.exts), func(i int) bool { return ch.exts[i].off > e.off })
	if i > 0 {
		p := &ch.exts[i-1]
		if p.end() == e.off && len(p.buf)+len(e.buf) <= tinyExtent {
			// Growing behind len(p.buf) changes nothing that a reader has a slice of.
			if cap(p.buf)-len(p.buf) < len(e.buf) {
				grown := make([]byte, len(p.buf), min(tinyExtent, 2*(len(p.buf)+len(e.buf))))
				copy(grown, p.buf)
				p.buf = grown
			}
			p.buf = append(p.buf, e.buf...)
			p.seq = max(p.seq, e.seq)
			return
		}
	}
	ch.exts = append(ch.exts, extent{})
	copy(ch.exts[i+1:], ch.exts[i:])
	ch.exts[i] = e
}

// chunkList is the LRU list of all chunks of a file system, and their bytes.
type chunkList struct {
	head  chunk // head.next is the one used last
	bytes int64
}

func newChunkList() *chunkList {
	l := &chunkList{}
	l.head.next, l.head.prev = &l.head, &l.head
	return l
}

func (l *chunkList) touch(ch *chunk) {
	if l.head.next == ch {
		return
	}
	l.unlink(ch)
	ch.next, ch.prev = l.head.next, &l.head
	ch.next.prev, l.head.next = ch, ch
}

func (l *chunkList) unlink(ch *chunk) {
	if ch.next != nil {
		ch.next.prev, ch.prev.next = ch.prev, ch.next
		ch.next, ch.prev = nil, nil
	}
}

func (l *chunkList) forget(ch *chunk) {
	for _, e := range ch.exts {
		l.bytes -= int64(len(e.buf))
	}
	l.unlink(ch)
}

// shrink evicts clean extents, least recently used first, until at most limit bytes are cached
// or nothing clean is left among the chunks that it looks at.
func (l *chunkList) shrink(limit int64) {
	if l.bytes <= limit {
		return
	}
	for ch := l.head.prev; ch != &l.head && l.bytes > limit; {
		prev := ch.prev
		ch.c.evict(ch)
		ch = prev
	}
}
