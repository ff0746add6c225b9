package cachefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/tokens"
)

const (
	// unsentBytes and unsentOps are when background write-back begins by amount.
	unsentBytes = 8 << 20
	unsentOps   = 16_000
	// maxBehind bounds the unsent data of one file, so that no name has more of it behind itself.
	maxBehind = 16 << 20
	// cutBytes and cutRecords bound cuts that somebody waits for.
	cutBytes   = 16 << 20
	cutRecords = 16_000
)

// committing is the part of an FS that sends cuts. There is one cut in flight at a time; a
// recall's goes before an fsync's, and that before background write-back.
type committing struct {
	nextCut  uint64
	demands  []*demand
	progress chan struct{} // closed and replaced when a cut is done, whatever became of it
	// suspects are the objects that a loss made doubtful; true: those above have forgotten them.
	suspects map[*node]bool
	waiters  map[uint64]*error // operations whose caller wants to know what becomes of them
	// copying is how many bytes pending operations copy at the server.
	copying int64
	// unreported losses are told by the next Sync.
	unreported int
}

func (c *committing) init() {
	c.progress = make(chan struct{})
	c.suspects = make(map[*node]bool)
	c.waiters = make(map[uint64]*error)
}

// demand is somebody who waits for operations to be at the server.
type demand struct {
	why    string
	urgent bool
	// What is wanted: all that touches ids so; or the operations seqs; or all up to upTo.
	touch order.Touch
	ids   []uint64
	seqs  []uint64
	upTo  uint64

	done chan error // gets one value
}

// batch is what the next cut is taken from.
type batch struct {
	why     string
	seqs    []uint64
	records int
	bytes   int64
}

// demand queues d and waits for it. An abandoned demand goes on without anybody waiting.
func (f *FS) demand(ctx context.Context, d *demand) error {
	f.mu.Lock()
	if f.dead != nil {
		f.mu.Unlock()
		return f.dead
	}
	f.queue(d)
	f.mu.Unlock()
	select {
	case err := <-d.done:
		return err
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

// queue adds a demand. Called with f.mu held.
func (f *FS) queue(d *demand) {
	d.done = make(chan error, 1)
	at := len(f.demands)
	if d.urgent {
		at = slices.IndexFunc(f.demands, func(o *demand) bool { return !o.urgent })
		if at < 0 {
			at = len(f.demands)
		}
	}
	f.demands = slices.Insert(f.demands, at, d)
	f.poke(f.kick)
}

// pending are the operations that d still waits for, with all that precedes them. Called with f.mu held.
func (f *FS) pending(d *demand) []uint64 {
	switch {
	case d.ids != nil:
		return f.log.IdealOf(d.touch, d.ids...).Seqs
	case d.seqs != nil:
		d.seqs = slices.DeleteFunc(d.seqs, func(seq uint64) bool { return f.log.Op(seq) == nil })
		if len(d.seqs) == 0 {
			return nil
		}
		return f.log.IdealOfOps(d.seqs...).Seqs
	default:
		if f.log.Totals().Ops == 0 {
			return nil
		}
		seqs := f.log.Prefix(order.Limit{Ops: cutRecords, Bytes: cutBytes}).Seqs
		if len(seqs) == 0 || seqs[0] > d.upTo {
			return nil
		}
		return seqs
	}
}

// commitLoop is the committer.
func (f *FS) commitLoop() {
	defer f.workers.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		f.mu.Lock()
		if f.dead != nil {
			f.abandon()
			f.mu.Unlock()
			return
		}
		b, next := f.nextBatch()
		if b != nil {
			f.commit(b) // unlocks
			continue
		}
		f.mu.Unlock()
		timer.Reset(next)
		select {
		case <-f.kick:
		case <-timer.C:
		case <-f.ended:
		}
	}
}

// abandon tells all who wait that nothing will come. Called with f.mu held.
func (f *FS) abandon() {
	for _, d := range f.demands {
		d.done <- f.dead
	}
	f.demands = nil
	f.wakeCommitted()
}

// nextBatch says what is to be sent now; if nothing is, when to look again. Called with f.mu held.
func (f *FS) nextBatch() (*batch, time.Duration) {
	if b := f.mend(); b != nil {
		return b, 0
	}
	for len(f.demands) > 0 {
		d := f.demands[0]
		if seqs := f.pending(d); len(seqs) > 0 {
			return &batch{d.why, seqs, cutRecords, cutBytes}, 0
		}
		f.demands = slices.Delete(f.demands, 0, 1)
		d.done <- nil
	}
	total := f.log.Totals()
	if total.Ops == 0 {
		return nil, time.Hour
	}
	lim := order.Limit{Ops: f.opt.CutOps, Bytes: f.opt.CutBytes}
	background := func(why string) (*batch, time.Duration) {
		seqs := f.log.Prefix(lim).Seqs
		if f.opt.Mutant == mutantWrongOrder && len(seqs) > 0 {
			seqs = f.log.IdealOfOps(seqs[len(seqs)-1]).Seqs
		}
		return &batch{why, seqs, 2 * f.opt.CutOps, f.opt.CutBytes}, 0
	}
	if total.Bytes >= min(unsentBytes, f.opt.Dirty/2) || total.Ops >= unsentOps {
		return background("amount")
	}
	age := f.clock() - total.Oldest
	if age >= int64(f.opt.WriteBehind) {
		// What is half as old goes along: fewer cuts.
		lim.Before = f.clock() - int64(f.opt.WriteBehind)/2
		return background("age")
	}
	return nil, time.Duration(int64(f.opt.WriteBehind)-age) + time.Millisecond
}

// commit sends one cut and takes its result in. Called with f.mu held, which it unlocks.
func (f *FS) commit(b *batch) {
	records := b.records
	if f.session.MaxCutRecords > 0 {
		records = min(records, int(f.session.MaxCutRecords))
	}
	// The fence goes in one message.
	records = max(1, min(records, int(f.conn.Msize())/(4*wire.FenceSize)))
	bytes := b.bytes
	if f.session.MaxCutBytes > 0 {
		bytes = min(bytes, int64(f.session.MaxCutBytes))
	}
	seqs := f.log.Take(b.seqs, records, bytes)
	number := f.nextCut
	ops := f.log.Begin(number, seqs)
	f.mu.Unlock()

	net := order.NetEffect(ops)

	f.mu.Lock()
	fence, missing := f.fence(net.Fence)
	f.mu.Unlock()
	var reply *wire.Rcommit
	var sent []int
	var err error
	switch {
	case len(missing) > 0:
	case len(net.Records) == 0:
		reply = &wire.Rcommit{Status: wire.CommitApplied}
	default:
		if h := f.opt.Hooks.Commit; h != nil {
			h(CutInfo{number, b.why, ops, len(net.Records), net.Bytes})
		}
		reply, sent, err = f.sendCut(number, fence, net.Records)
		if err != nil {
			f.fail(fmt.Errorf("sending cut %d: %w", number, err))
			return
		}
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.wakeCommitted()
	defer f.settle()
	switch {
	case len(missing) > 0:
		f.log.Returned(number)
		f.taken(seqs, missing)
	case reply.Status == wire.CommitApplied:
		if len(net.Records) > 0 {
			f.nextCut++
		}
		f.stats.landed += len(ops)
		f.stats.records += len(net.Records)
		f.applied(number, ops, net.Records)
	case reply.Status == wire.CommitRefused:
		f.log.Returned(number)
		guilty := seqs
		if int(reply.Record) < len(sent) {
			guilty = net.Ops[sent[reply.Record]]
		}
		f.refused(guilty, syscall.Errno(reply.Errno), reply.Reason)
	case reply.Status == wire.CommitFenced:
		f.log.Returned(number)
		f.taken(seqs, []uint64{reply.ID})
	default:
		go f.fail(fmt.Errorf("cut %d is out of order at the server", number))
	}
}

// fence gives the fence of a cut, or the objects whose tokens are not held. Called with f.mu held.
func (f *FS) fence(operands []order.Operand) (fence []cut.Fence, missing []uint64) {
	elems := make([]tokens.Elem, len(operands))
	for i, o := range operands {
		elems[i] = tokens.Elem{ID: o.ID, Mode: tokens.Read}
		if o.Write {
			elems[i].Mode = tokens.Write
		}
	}
	held, ok := f.holder.Fence(elems, nil)
	if !ok {
		for i := range elems {
			if _, ok := f.holder.Fence(elems[i:i+1], nil); !ok {
				missing = append(missing, elems[i].ID)
			}
		}
		return nil, missing
	}
	fence = make([]cut.Fence, len(held))
	for i, h := range held {
		fence[i] = cut.Fence{ID: h.ID, Gen: uint64(h.Gen), Mode: uint8(h.Mode)}
	}
	return fence, nil
}

// sendCut sends a cut in parts that fit and waits for the last answer. origin tells for each
// record as sent which of records it was.
//
// The parts go one after the other without waiting. A server may get them out of order when it is busy (it takes
// them in with several goroutines) and refuses the whole cut then: nothing of it was applied, and it goes once more,
// each part after the answer to the one before.
func (f *FS) sendCut(number uint64, fence []cut.Fence, records []cut.Record) (reply *wire.Rcommit, origin []int, err error) {
	parts, origin := splitCut(number, fence, records, int(f.conn.Msize()))
	if h := f.opt.Hooks.Sent; h != nil {
		h(len(parts))
	}
	reply, err = f.sendParts(parts, len(parts))
	if err == nil && len(parts) > 1 && reply.Status == wire.CommitRefused && reply.Record == wholeCut {
		reply, err = f.sendParts(parts, 1)
	}
	return reply, origin, err
}

// wholeCut is the record number that means the cut as a whole.
const wholeCut = ^uint32(0)

// sendParts sends the parts of a cut, at most so many at a time without an answer, and gives the answer that counts.
func (f *FS) sendParts(parts []*wire.Tcommit, atOnce int) (*wire.Rcommit, error) {
	results := make(chan error, len(parts))
	replies := make([]wire.Rcommit, len(parts))
	sent := f.clock()
	var err error
	waiting := 0
	for i, t := range parts {
		f.stats.messages.Add(1)
		f.conn.Go(t, &replies[i], func(err error) { results <- err })
		if waiting++; waiting == atOnce {
			err = errors.Join(err, <-results)
			waiting--
		}
	}
	for range waiting {
		err = errors.Join(err, <-results)
	}
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.stats.cuts++
	f.stats.parts += len(parts)
	f.leased(sent, replies[len(parts)-1].Lease)
	f.mu.Unlock()
	// A part that is not the last may be the one that was refused.
	for i := range replies {
		if replies[i].Status != wire.CommitAccepted {
			return &replies[i], nil
		}
	}
	return nil, fmt.Errorf("the last part of a cut was answered as if it were not: %w", syscall.EPROTO)
}

// splitCut makes the messages of a cut. Records whose bytes do not fit one are split.
func splitCut(number uint64, fence []cut.Fence, records []cut.Record, msize int) (parts []*wire.Tcommit, origin []int) {
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
	if len(fence)*wire.FenceSize > left {
		next()
	}
	part.Fence, part.Flags = fence, wire.CommitLast
	return append(parts, part), origin
}

// applied takes in that a cut is at the server. Called with f.mu held.
func (f *FS) applied(number uint64, ops []*order.Op, records []cut.Record) {
	f.log.Applied(number)
	for i := range records {
		if n := f.nodes[records[i].ID]; n != nil && records[i].Kind == cut.Create {
			n.fresh = false
		}
	}
	seen := make(map[uint64]struct{})
	for _, op := range ops {
		f.copyDone(op)
		n := f.nodes[op.ID]
		if n != nil {
			switch op.Kind {
			case order.Write, order.Truncate, order.Allocate, order.Punch, order.Copy:
				n.content().committed(op.Seq)
			}
		}
		delete(f.waiters, op.Seq)
		for _, id := range op.Writes {
			seen[id] = struct{}{}
		}
	}
	for id := range seen {
		if n := f.nodes[id]; n != nil && id != order.DirMove {
			f.afterCommit(n)
			f.reap(n)
		}
	}
	f.shrink()
}

// afterCommit lets go of an object that is no more. Called with f.mu held.
func (f *FS) afterCommit(n *node) {
	if n.attrOK && n.attr.Nlink == 0 && n.opens == 0 && !n.kept && !n.gone && f.pendingOn(n) == 0 {
		n.gone = true
		if n.fresh {
			f.holder.Forget(n.id) // the server never heard of it
		} else {
			f.holder.GiveBack(n.id, tokens.None)
		}
	}
}

// shrink keeps the cache within its limit. Called with f.mu held.
func (f *FS) shrink() { f.lru.shrink(f.opt.Cache + f.log.Totals().Bytes) }

// wakeCommitted wakes all who wait for progress of commits. Called with f.mu held.
func (f *FS) wakeCommitted() {
	close(f.progress)
	f.progress = make(chan struct{})
}

// nextCommit gives a function that waits for the next result of a cut. Called with f.mu held.
func (f *FS) nextCommit() func(context.Context) error {
	ch := f.progress
	f.poke(f.kick)
	return func(ctx context.Context) error { return f.waitFor(ctx, ch) }
}

// noteDirty wakes the committer when it may have something to do: it knows by itself when something gets old.
func (f *FS) noteDirty() {
	f.mu.Lock()
	total := f.log.Totals()
	wake := total.Ops == 1 || total.Bytes >= min(unsentBytes, f.opt.Dirty/2) || total.Ops >= unsentOps
	f.mu.Unlock()
	if wake {
		f.poke(f.kick)
	}
}

// throttle waits until there is room for data more bytes in all, and for n.
func (f *FS) throttle(ctx context.Context, n *node, data int64) error {
	if data == 0 {
		return nil
	}
	for {
		f.mu.Lock()
		total := f.log.Totals().Bytes
		_, own := f.log.Object(n.id)
		if total == 0 || total+data <= f.opt.Dirty && (own == 0 || own+data <= maxBehind) {
			f.mu.Unlock()
			return nil
		}
		wait := f.nextCommit()
		f.mu.Unlock()
		if err := wait(ctx); err != nil {
			return err
		}
	}
}

// await notes that somebody will ask what became of operations. Called with f.mu held.
func (f *FS) await(seqs []uint64) {
	for _, seq := range seqs {
		f.waiters[seq] = new(error)
	}
}

// awaited waits for operations that await was told of, and gives their error.
func (f *FS) awaited(ctx context.Context, seqs []uint64) error {
	f.mu.Lock()
	results := make([]*error, len(seqs))
	for i, seq := range seqs {
		results[i] = f.waiters[seq]
	}
	f.mu.Unlock()
	if err := f.demand(ctx, &demand{why: "through", seqs: slices.Clone(seqs)}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, seq := range seqs {
		delete(f.waiters, seq)
		if results[i] != nil && *results[i] != nil {
			return *results[i]
		}
	}
	return nil
}
