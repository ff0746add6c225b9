package journal

import (
	"bytes"
	"testing"
)

// A first batch that went over two segments, and of which only the second half reached the disk, is the torn end of an empty log.
func TestTornFirstBatch(t *testing.T) {
	make := func(seq uint64, lsn, durable LSN) image {
		head := segmentHead{seq: seq, salt: seq, size: blockSize + 1024}
		data := append(head.encode(), bytes.Repeat([]byte{0}, 1024)...)
		p, err := newPending(aCut(1, 100))
		if err != nil {
			t.Fatal(err)
		}
		p.lsn, p.durable = lsn, durable
		p.put(p.pieces[0], head.salt, blockSize)
		copy(data[blockSize:], bytes.Join(p.pieces, nil))
		return image{name: segmentName(seq), seq: seq, data: data}
	}
	read := func(images ...image) (*chain, error) {
		var segments []*scanned
		for _, im := range images {
			s, err := scanSegment(im, false)
			if err != nil {
				t.Fatal(err)
			}
			segments = append(segments, s)
		}
		return link(segments)
	}
	torn := make(1, 1, 0)
	torn.data[blockSize+headerSize+5] ^= 1
	if c, err := read(torn, make(2, 2, 0)); err != nil || c.next != 1 || len(c.entries) != 0 {
		t.Errorf("next is %d, with %d entries, %v", c.next, len(c.entries), err)
	}
	if _, err := read(torn, make(2, 2, 1)); err == nil {
		t.Error("entry 1 was durable, and is not missed")
	}
}
