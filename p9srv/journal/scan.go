package journal

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"
)

// image is a segment file as it was read.
type image struct {
	name string
	seq  uint64
	data []byte
}

// rawEntry is a whole entry, not yet decoded.
type rawEntry struct {
	entryHead
	off     int64
	payload []byte
}

// scanned is what a segment holds.
type scanned struct {
	image
	head segmentHead
	// recycled: it was renamed, or is about to be, and holds nothing.
	recycled bool
	entries  []rawEntry // from its beginning, with no gap
	end      int64      // where they end
	// proof is the highest LSN that a whole header in it, also behind end, says to be durable, and proofAt where.
	proof   LSN
	proofAt int64
}

func (s *scanned) first() LSN { return s.entries[0].lsn }
func (s *scanned) last() LSN  { return s.entries[len(s.entries)-1].lsn }

// Damage is the error of a log that has lost what was on stable storage.
type Damage struct {
	Segment string `json:"segment"` // file name in the log's directory
	Offset  int64  `json:"offset"`
	LSN     LSN    `json:"lsn,omitempty"` // of the first entry that is lost, 0: not known
	Why     string `json:"why"`
}

func (d *Damage) Error() string {
	return fmt.Sprintf("the log of cuts is damaged: segment %s at offset %d: %s; `echo9 fsck DIR` tells what is left",
		d.Segment, d.Offset, d.Why)
}

// scanSegment finds the entries of one segment. trust leaves the checksum of payloads out: a
// mutant, for tests.
func scanSegment(im image, trust bool) (*scanned, error) {
	s := &scanned{image: im, end: blockSize}
	head, err := decodeSegmentHead(im.data)
	if v, ok := err.(errVersion); ok {
		return nil, fmt.Errorf("segment %s of the log of cuts: %w", im.name, v)
	}
	if err != nil {
		return nil, &Damage{Segment: im.name, Why: err.Error()}
	}
	s.head = head
	if head.seq != im.seq {
		s.recycled = true
		return s, nil
	}
	if head.size > int64(len(im.data)) {
		return nil, &Damage{Segment: im.name, Offset: int64(len(im.data)),
			Why: fmt.Sprintf("the file has %d bytes of %d", len(im.data), head.size)}
	}
	for {
		e, ok := s.entryAt(s.end, trust)
		if !ok || len(s.entries) > 0 && e.lsn != s.last()+1 {
			break
		}
		s.entries = append(s.entries, e)
		s.end += entrySpace(int64(e.length))
	}
	s.findProof()
	return s, nil
}

// entryAt is the whole entry at offset off, if there is one.
func (s *scanned) entryAt(off int64, trust bool) (e rawEntry, ok bool) {
	if off+headerSize > s.head.size {
		return e, false
	}
	if !e.get(s.data[off:], s.head.salt, off) {
		return e, false
	}
	begin := off + headerSize
	if int64(e.length) > s.head.size-begin {
		return e, false
	}
	e.off = off
	e.payload = s.data[begin : begin+int64(e.length) : begin+int64(e.length)]
	return e, trust || crc32.Checksum(e.payload, castagnoli) == e.payloadCRC
}

// findProof looks at all whole headers, also those behind the end of the entries.
func (s *scanned) findProof() {
	for i := range s.entries {
		s.prove(&s.entries[i].entryHead, s.entries[i].off)
	}
	magic := []byte(entryMagic)
	for off := s.end; off+headerSize <= s.head.size; {
		i := bytes.Index(s.data[off:s.head.size], magic)
		if i < 0 {
			return
		}
		off += int64(i)
		var h entryHead
		if off%8 == 0 && h.get(s.data[off:], s.head.salt, off) {
			s.prove(&h, off)
		}
		off++
	}
}

func (s *scanned) prove(h *entryHead, off int64) {
	if h.durable > s.proof {
		s.proof, s.proofAt = h.durable, off
	}
}

// chain is what a log holds.
type chain struct {
	start    LSN // the first entry that is not forgotten
	next     LSN // one more than the last entry
	segments []*scanned
	entries  []rawEntry
	durable  LSN // the highest LSN that an entry says to be durable
}

// link puts the segments of a log, in the order of their numbers, together: to a run of entries without a gap.
// Of segments before it nothing counts any more, and what is behind it is the torn end of the log, or a *Damage: then
// the chain is what is left.
func link(segments []*scanned) (*chain, error) {
	runs := findRuns(segments)
	c := &chain{start: 1, next: 1}
	found := false
	for _, run := range slices.Backward(runs) {
		start, err := startOf(run)
		if err != nil {
			return c, err
		}
		if start < run[0].first() {
			continue // something is missing before it
		}
		found = true
		c.start, c.segments = start, run
		c.next = run[len(run)-1].last() + 1
		break
	}
	for _, s := range c.segments {
		for _, e := range s.entries {
			if e.lsn >= c.start {
				c.entries = append(c.entries, e)
			}
		}
	}
	for _, s := range segments {
		c.durable = max(c.durable, s.proof)
		if s.proof < c.next {
			continue
		}
		if !found && len(runs) > 0 {
			first := runs[0][0]
			return c, &Damage{Segment: first.name, Offset: first.entries[0].off, LSN: 1,
				Why: fmt.Sprintf("the log begins with entry %d, nothing says what was before, and segment %s at offset %d says that entries were on stable storage",
					first.first(), s.name, s.proofAt)}
		}
		return c, lost(c, segments, s)
	}
	return c, nil
}

// lost is the damage: c.next is not there, and the segment proof says that it was.
func lost(c *chain, segments []*scanned, proof *scanned) error {
	d := &Damage{LSN: c.next, Segment: proof.name, Offset: blockSize}
	if n := len(c.segments); n > 0 {
		d.Segment, d.Offset = c.segments[n-1].name, c.segments[n-1].end
	} else if i := slices.IndexFunc(segments, func(s *scanned) bool { return !s.recycled }); i >= 0 {
		d.Segment, d.Offset = segments[i].name, segments[i].end
	}
	d.Why = fmt.Sprintf("entry %d is not whole, and segment %s at offset %d says that it and what follows up to %d was on stable storage",
		c.next, proof.name, proof.proofAt, proof.proof)
	return d
}

// findRuns groups segments with entries that follow each other without a gap.
func findRuns(segments []*scanned) [][]*scanned {
	var runs [][]*scanned
	for _, s := range segments {
		if len(s.entries) == 0 {
			continue
		}
		if n := len(runs); n > 0 {
			if run := runs[n-1]; run[len(run)-1].last()+1 == s.first() {
				runs[n-1] = append(run, s)
				continue
			}
		}
		runs = append(runs, []*scanned{s})
	}
	return runs
}

// startOf is the first entry that counts: what the last checkpoint of the run says, 1 if there is none and
// nothing was ever forgotten, else 0.
func startOf(run []*scanned) (LSN, error) {
	for _, s := range slices.Backward(run) {
		for _, e := range slices.Backward(s.entries) {
			if e.kind != kindCheckpoint {
				continue
			}
			x, err := decode(e.kind, e.payload)
			if err != nil {
				return 0, fmt.Errorf("segment %s of the log of cuts at offset %d: %w", s.name, e.off, err)
			}
			return x.(*checkpoint).Before, nil
		}
	}
	if run[0].first() == 1 {
		return 1, nil
	}
	return 0, nil
}

// decodeEntries are the entries for those who use the log.
func (c *chain) decodeEntries() ([]Entry, error) {
	var out []Entry
	for _, raw := range c.entries {
		x, err := decode(raw.kind, raw.payload)
		if err != nil {
			return nil, fmt.Errorf("entry %d of the log of cuts: %w", raw.lsn, err)
		}
		e := Entry{LSN: raw.lsn}
		switch x := x.(type) {
		case *Cut:
			e.Cut = x
		case *Note:
			e.Note = x
		case *Abort:
			e.Abort = x
		case *Applied:
			e.Applied = x
		case *Settled:
			e.Settled = x
		case *Redo:
			e.Redo = x
		default:
			continue // the log's own
		}
		out = append(out, e)
	}
	return out, nil
}
