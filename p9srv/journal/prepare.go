package journal

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Segments are prepared in the background, so that going on to the next one costs those who
// wait for a sync nothing. One of those that are ready is kept back from cuts: notes, aborts and checkpoints, which make
// space, find room when the disk is full.
const (
	readyTarget = 2
	spareMost   = 4 // more than these are removed
)

// roomFor gives a segment with so much room, the current one or the next; it waits for one. With l.mu held.
func (l *Log) roomFor(space int64, isCut bool) (*segment, error) {
	begun := l.tries
	for {
		if l.err != nil {
			return nil, l.err
		}
		if n := len(l.live); n > 0 && l.live[n-1].room() >= space {
			return l.live[n-1], nil
		}
		if l.roll(space, isCut) {
			continue
		}
		if l.failed > begun {
			return nil, l.failure
		}
		l.want = max(l.want, space)
		l.prepare()
		l.cond.Wait()
	}
}

// fitting is the first ready segment with so much room, or -1.
func (l *Log) fitting(space int64) int {
	return slices.IndexFunc(l.ready, func(s *segment) bool { return s.room() >= space })
}

// roll goes on to the next segment, if one is ready.
func (l *Log) roll(space int64, isCut bool) bool {
	i := l.fitting(space)
	if i < 0 || isCut && i == len(l.ready)-1 {
		return false
	}
	// Those passed over have numbers that are too low now.
	l.spare = append(l.spare, l.ready[:i]...)
	l.live = append(l.live, l.ready[i])
	l.ready = slices.Delete(l.ready, 0, i+1)
	l.prepare()
	return true
}

// full says whether cuts are to wait for a checkpoint.
func (l *Log) full() bool {
	var sum int64
	for i := 0; i < len(l.live)-1; i++ {
		sum += l.live[i].size
	}
	return sum >= l.opt.Max
}

// prepare starts the preparing of segments, unless it is under way. With l.mu held.
func (l *Log) prepare() {
	if l.preparing || l.err != nil {
		return
	}
	l.preparing = true
	l.tasks.Add(1)
	go func() {
		defer l.tasks.Done()
		l.mu.Lock()
		defer l.mu.Unlock()
		for l.err == nil && l.prepareOne() {
			l.cond.Broadcast()
		}
		l.preparing = false
		l.cond.Broadcast()
	}()
}

// prepareOne does the next thing that is to be done, and says whether there was one. With l.mu held, which is given up in between.
func (l *Log) prepareOne() bool {
	size := l.lacking()
	if size == 0 {
		return l.removeSpare()
	}
	l.tries++
	try := l.tries
	l.seq++
	seq := l.seq
	old := l.takeSpare(size)
	var seg *segment
	var err error
	l.mu.Unlock()
	if old != nil {
		if seg, err = l.recycle(old, seq); err != nil {
			unix.Close(old.fd)
		}
	} else {
		seg, err = l.create(seq, size)
	}
	l.mu.Lock()
	switch {
	case err == nil:
		l.ready = append(l.ready, seg)
	case !diskFull(err):
		l.fail(err)
	case l.usable(size) >= 0:
		// One has become spare meanwhile.
	case len(l.spare) > 0:
		return l.removeSpares(0)
	case size > l.least():
		// A small one will do.
		l.small = true
	case !l.tight && size > tightSegment:
		l.tight = true
	default:
		l.failed, l.failure, l.want, l.lean, l.small, l.tight = try, err, 0, true, false, false
	}
	return true
}

// least is the size of a segment that has just the room that is wanted and not there.
func (l *Log) least() int64 {
	least := min(leastSegment, l.opt.SegmentSize)
	if l.tight {
		least = min(tightSegment, least)
	}
	if l.fitting(l.want) >= 0 {
		return least
	}
	return max(least, align(blockSize+l.want+headerSize, blockSize))
}

// lacking is the size of the segment that is to be prepared next, or 0.
func (l *Log) lacking() int64 {
	if l.want > 0 {
		i := l.fitting(l.want)
		if i >= 0 && i < len(l.ready)-1 {
			l.want = 0 // there is one, and one behind it
		}
	}
	if l.want == 0 && (len(l.ready) >= readyTarget || l.lean) {
		return 0
	}
	if l.small || l.tight {
		return l.least()
	}
	var live int64
	for _, s := range l.live {
		live += s.size
	}
	return max(min(live, l.opt.SegmentSize), l.least())
}

// usable is a spare segment that can take the place of one of that size, or -1.
func (l *Log) usable(size int64) int {
	return slices.IndexFunc(l.spare, func(s *segment) bool { return s.size >= min(size, l.least()) })
}

func (l *Log) takeSpare(size int64) *segment {
	i := l.usable(size)
	if i < 0 {
		return nil
	}
	s := l.spare[i]
	l.spare = slices.Delete(l.spare, i, i+1)
	return s
}

// removeSpare removes one more segment than are worth keeping.
func (l *Log) removeSpare() bool { return l.removeSpares(spareMost) }

// removeSpares removes one spare segment if there are more than keep.
func (l *Log) removeSpares(keep int) bool {
	if len(l.spare) <= keep {
		return false
	}
	s := l.spare[0]
	l.spare = slices.Delete(l.spare, 0, 1)
	l.mu.Unlock()
	err := l.h.unlink(s.name)
	unix.Close(s.fd)
	l.mu.Lock()
	if err != nil {
		l.fail(err)
	}
	return true
}

// Shrink gives back the space of segments that are kept for later, and says how many bytes that was.
func (l *Log) Shrink() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	freed := int64(0)
	for len(l.spare) > 0 && l.err == nil {
		freed += l.spare[0].size
		l.removeSpares(0)
	}
	return freed
}

func newSalt() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// create makes a segment, written from end to end.
func (l *Log) create(seq uint64, size int64) (*segment, error) {
	name := "new-" + segmentName(seq)
	fd, err := l.h.create(name)
	if err != nil {
		return nil, err
	}
	s := &segment{segmentHead: segmentHead{seq: seq, salt: newSalt(), size: size}, name: name, fd: fd, end: blockSize}
	err = l.h.allocate(fd, name, size)
	if err == nil {
		err = l.fill(s)
	}
	if err != nil {
		if uerr := l.h.unlink(name); uerr != nil && uerr != errBroken {
			err = fmt.Errorf("%w; and %v", err, uerr)
		}
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

func (l *Log) fill(s *segment) error {
	chunk := make([]byte, min(1<<20, s.size))
	for off := int64(0); off < s.size; {
		n := min(int64(len(chunk)), s.size-off)
		if err := l.h.write(s.fd, s.name, [][]byte{chunk[:n]}, off); err != nil {
			return err
		}
		off += n
	}
	return l.number(s)
}

// number writes a segment's first block and gives it its name: what is a segment by its name has a whole first block.
func (l *Log) number(s *segment) error {
	if err := l.h.write(s.fd, s.name, [][]byte{s.encode()}, 0); err != nil {
		return err
	}
	if err := l.h.fsync(s.fd, s.name); err != nil {
		return err
	}
	if err := l.h.rename(s.name, segmentName(s.seq)); err != nil {
		return err
	}
	s.name = segmentName(s.seq)
	return l.h.syncDir()
}

// recycle makes a segment that holds nothing any more a new one. What it held is no
// entry under its new salt.
func (l *Log) recycle(old *segment, seq uint64) (*segment, error) {
	if _, numbered := segmentSeq(old.name); numbered {
		name := "spare-" + old.name
		if err := l.h.rename(old.name, name); err != nil {
			return nil, err
		}
		if err := l.h.syncDir(); err != nil {
			return nil, err
		}
		old.name = name
	}
	s := &segment{segmentHead: segmentHead{seq: seq, salt: newSalt(), size: old.size}, name: old.name, fd: old.fd, end: blockSize}
	if l.opt.mutants.noSalt {
		s.salt = old.salt
	}
	return s, l.number(s)
}

func (l *Log) closeFiles() {
	for _, s := range slices.Concat(l.live, l.ready, l.spare) {
		unix.Close(s.fd)
	}
	unix.Close(l.h.dir)
	l.live, l.ready, l.spare = nil, nil, nil
}
