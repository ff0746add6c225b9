package cachefs

import (
	"errors"
	"fmt"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9client"
)

// sending is a cut on its way, in parts that fit the msize.
type sending struct {
	batch  *batch
	conn   *p9client.Conn
	number uint64
	seqs   []uint64
	ops    []*order.Op

	net    *order.Net // nil before prepare
	parts  []*wire.Tcommit
	origin []int // for each record as sent, which of net.Records it was

	sent    int // parts
	first   int64
	waiting int // parts without an answer
	results chan error
	replies []wire.Rcommit

	// settled, guarded by fs.mu: what became of it is known from elsewhere, and was taken in.
	settled bool
}

// prepare makes the messages of the cut, once; the last one has no fence yet.
func (s *sending) prepare() {
	if s.net != nil {
		return
	}
	s.net = order.NetEffect(s.ops)
	s.parts, s.origin = splitCut(s.number, len(s.net.Fence), s.net.Records, int(s.conn.Msize()))
	s.again()
}

// again makes as if nothing had been sent.
func (s *sending) again() {
	s.sent, s.waiting = 0, 0
	s.results, s.replies = make(chan error, len(s.parts)), make([]wire.Rcommit, len(s.parts))
}

// wait waits for the answers to all that was sent. Nobody needs them.
func (s *sending) wait() {
	for ; s.waiting > 0; s.waiting-- {
		<-s.results
	}
}

// sendParts sends the cut's parts up to the n-th.
func (f *FS) sendParts(s *sending, n int) {
	if s.sent == 0 {
		s.first = f.clock()
	}
	for ; s.sent < n; s.sent++ {
		f.stats.messages.Add(1)
		s.waiting++
		s.conn.Go(s.parts[s.sent], &s.replies[s.sent], func(err error) {
			f.stats.replies.Add(1)
			s.results <- err
		})
	}
}

// sendCut sends what is left of a cut and waits for the answer that counts.
//
// The parts go one after the other without waiting. A server may get them out of order when it is busy (it takes
// them in with several goroutines) and refuses the whole cut then: nothing of it was applied, and it goes once more,
// each part after the answer to the one before.
func (f *FS) sendCut(s *sending, fence []cut.Fence) (*wire.Rcommit, error) {
	f.flushBacklog() // which cut the operations went with must be known to whoever learns that it was applied
	s.parts[len(s.parts)-1].Fence = fence
	if h := f.opt.Hooks.Sent; h != nil {
		h(len(s.parts))
	}
	f.sendParts(s, len(s.parts))
	reply, err := f.answer(s)
	if err == nil && len(s.parts) > 1 && reply.Status == wire.CommitRefused && reply.Record == wholeCut {
		f.unstage()
		s.again()
		for i := range s.parts {
			f.sendParts(s, i+1)
			if err := <-s.results; err != nil {
				return nil, err
			}
			s.waiting--
		}
		reply, err = f.answer(s)
	}
	return reply, err
}

// wholeCut is the record number that means the cut as a whole.
const wholeCut = ^uint32(0)

// answer waits for the answers to all parts of a cut, and gives the one that counts. Meanwhile the next cut is staged.
func (f *FS) answer(s *sending) (*wire.Rcommit, error) {
	var err error
	for s.waiting > 0 {
		f.stage(s)
		select {
		case e := <-s.results:
			err = errors.Join(err, e)
			s.waiting--
		case <-f.kick: // there may be enough for the next one now
		}
	}
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.stats.cuts++
	f.stats.parts += len(s.parts)
	f.leased(s.first, s.replies[len(s.parts)-1].Lease)
	f.mu.Unlock()
	// A part that is not the last may be the one that was refused.
	for i := range s.replies {
		if s.replies[i].Status != wire.CommitAccepted {
			return &s.replies[i], nil
		}
	}
	return nil, fmt.Errorf("the last part of a cut was answered as if it were not: %w", syscall.EPROTO)
}

// stage sends the cut after s ahead, all of it but its last part, which makes it be applied: while the server
// applies s, a stream goes on. The last part goes when s is applied. If it is not, the number is used again,
// and what was sent ahead under it is no more than a cut that was never ended (see unstage). Nothing is staged when
// somebody waits for a cut: it comes first, and so no recall waits for more than before.
func (f *FS) stage(s *sending) {
	f.mu.Lock()
	busy := int64(0)
	for _, op := range s.ops {
		busy += int64(len(op.Bytes))
	}
	if f.ahead != nil || f.dead != nil || !f.online || s.settled || len(f.demands) > 0 || len(f.suspects) > 0 || f.opt.Mutant == mutantWrongOrder ||
		f.log.Totals().Bytes-busy < f.opt.CutBytes {
		f.mu.Unlock()
		return
	}
	next := f.begin(f.background("amount", 0), s.number+1)
	f.ahead = next
	f.mu.Unlock()
	next.prepare()
	f.sendParts(next, len(next.parts)-1)
}

// unstage takes back what was staged, because the cut before it is not applied. Its parts have been
// taken in when this returns: none of them can come between those of the number's next cut.
func (f *FS) unstage() {
	f.mu.Lock()
	s := f.ahead
	if s != nil {
		f.ahead = nil
		f.log.Returned(s.number)
	}
	f.mu.Unlock()
	if s != nil {
		s.wait()
	}
}

// splitCut makes the messages of a cut, with room in the last one for so long a fence. Records whose bytes
// do not fit one are split. origin tells for each record as sent which of records it was.
func splitCut(number uint64, fence int, records []cut.Record, msize int) (parts []*wire.Tcommit, origin []int) {
	room := msize - wire.TcommitOverhead
	part := &wire.Tcommit{Cut: number}
	left := room
	next := func() {
		parts = append(parts, part)
		part = &wire.Tcommit{Cut: number, Part: uint32(len(parts))}
		left = room
	}
	add := func(i int, r cut.Record) {
		size := wire.RecordSize(&r)
		if size > left && len(part.Records) > 0 {
			next()
		}
		part.Records = append(part.Records, r)
		origin = append(origin, i)
		left -= size
	}
	for i, r := range records {
		for r.Kind == cut.Data && wire.RecordSize(&r) > left {
			fixed := wire.RecordSize(&r) - len(r.Bytes)
			if left < fixed+4096 && left < room {
				next()
				continue
			}
			n := left - fixed
			if n >= len(r.Bytes) {
				break
			}
			head := r
			head.Bytes = r.Bytes[:n:n]
			add(i, head)
			r.Off += uint64(n)
			r.Bytes = r.Bytes[n:]
		}
		add(i, r)
	}
	if fence*wire.FenceSize > left {
		next()
	}
	part.Flags = wire.CommitLast
	return append(parts, part), origin
}
