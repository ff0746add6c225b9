package journal

import (
	"fmt"
	"syscall"
)

// Checkpoint forgets all entries before the entry before: what they say is durable in the tree. The entries keep are
// appended, so that they outlive it. It is durable when Checkpoint returns, whatever Options.Sync says.
func (l *Log) Checkpoint(before LSN, keep []any) error {
	var kept []*pending
	for _, e := range keep {
		p, err := newPending(e)
		if err != nil {
			return err
		}
		kept = append(kept, p)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if before > l.next {
		return fmt.Errorf("a checkpoint before entry %d of the log of cuts, the last is %d: %w", before, l.next-1, syscall.EINVAL)
	}
	// Never does a checkpoint become durable that tells of entries which are not.
	if before > 1 {
		if err := l.wait(before-1, true); err != nil {
			return err
		}
	}
	for _, p := range kept {
		if err := l.place(p, false); err != nil {
			return err
		}
	}
	if _, err := l.roomFor(entrySpace(16), false); err != nil {
		return err
	}
	l.forgotten = max(l.forgotten, before)
	p, err := newPending(&checkpoint{Before: l.forgotten})
	if err != nil {
		return err
	}
	if err := l.place(p, false); err != nil {
		return err
	}
	if err := l.wait(p.lsn, true); err != nil {
		return err
	}
	l.waited = max(l.waited, p.lsn)
	l.start = max(l.start, before)
	l.retire()
	l.arm()
	return nil
}

// retire makes segments with nothing but forgotten entries spare. With l.mu held.
func (l *Log) retire() {
	n := 0
	for n < len(l.live)-1 && l.live[n].last < l.start {
		n++
	}
	if n == 0 {
		return
	}
	l.spare = append(l.spare, l.live[:n]...)
	l.live = append([]*segment(nil), l.live[n:]...)
	l.lean, l.small, l.tight = false, false, false
	l.prepare()
	l.cond.Broadcast()
}

// Stats tell what a log holds and what was done since it was opened.
type Stats struct {
	First, Last, Durable LSN // entries that are not forgotten
	Segments             int
	Bytes                int64 // on disk, of segments that cannot be used again before a checkpoint
	Ready                int64 // on disk, besides
	Entries, Cuts        int64
	Written              int64 // bytes of entries
	Writes, Syncs        int64 // rounds of them
}

// Stats are the present ones.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.First, s.Last, s.Durable = l.start, l.next-1, l.reached(l.opt.Sync)
	s.Segments = len(l.live)
	for i, seg := range l.live {
		if i < len(l.live)-1 {
			s.Bytes += seg.size
		} else {
			s.Bytes += min(seg.end, seg.size)
			s.Ready += seg.size - min(seg.end, seg.size)
		}
	}
	for _, seg := range l.ready {
		s.Ready += seg.size
	}
	for _, seg := range l.spare {
		s.Ready += seg.size
	}
	return s
}
