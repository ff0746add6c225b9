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
	"echo9/p9client"
	"echo9/tokens"
)

const (
	// unsentBytes and unsentOps are when background write-back begins by amount.
	unsentBytes = 8 << 20
	unsentOps   = 16_000
	// cutBytes and cutRecords bound cuts that somebody waits for.
	cutBytes   = 16 << 20
	cutRecords = 16_000
)

// committing is the part of an FS that sends cuts. The server is asked to apply one at a time; a
// recall's goes before an fsync's, and that before background write-back. While it applies one of a stream, what
// comes next is on its way already (see stage).
type committing struct {
	nextCut  uint64
	flying   *sending // the cut of which the answer is waited for
	disputed bool     // the server said of the last one what does not fit what we know
	ahead    *sending // the next cut, of which all but the last part is on its way
	demands  []*demand
	progress chan struct{} // closed and replaced when a cut is done, whatever became of it
	// suspects are the objects that a loss made doubtful; true: those above have forgotten them.
	suspects map[*node]bool
	// untold are the objects of which something was lost that nobody was told of yet, and in what they lay then.
	untold  map[*node][]uint64
	waiters map[uint64]*error // operations whose caller wants to know what becomes of them
	// queued are the writers who wait for room.
	queued map[*queued]bool
	// copying is how many bytes pending operations copy at the server.
	copying int64
	// unreported losses are told by the next Sync.
	unreported int
}

func (c *committing) init() {
	c.progress = make(chan struct{})
	c.suspects = make(map[*node]bool)
	c.untold = make(map[*node][]uint64)
	c.waiters = make(map[uint64]*error)
	c.queued = make(map[*queued]bool)
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
		next := time.Hour
		if f.online && !f.wantResume {
			var b *batch
			if b, next = f.nextBatch(); b != nil {
				f.commit(b) // unlocks
				continue
			}
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
	f.keepRest()
	f.wakeCommitted()
}

// nextBatch says what is to be sent now; if nothing is, when to look again. Called with f.mu held.
func (f *FS) nextBatch() (*batch, time.Duration) {
	if f.ahead != nil {
		return f.ahead.batch, 0
	}
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
	if total.Bytes >= min(unsentBytes, f.opt.Dirty/2) || total.Ops >= unsentOps || len(f.queued) > 0 {
		return f.background("amount", 0), 0
	}
	age := f.clock() - total.Oldest
	if age >= int64(f.opt.WriteBehind) {
		// What is half as old goes along: fewer cuts.
		return f.background("age", f.clock()-int64(f.opt.WriteBehind)/2), 0
	}
	return nil, time.Duration(int64(f.opt.WriteBehind)-age) + time.Millisecond
}

// background is the oldest operations, issued before that time (0: any). Called with f.mu held.
func (f *FS) background(why string, before int64) *batch {
	seqs := f.log.Prefix(order.Limit{Ops: f.opt.CutOps, Bytes: f.opt.CutBytes, Before: before}).Seqs
	if f.opt.Mutant == mutantWrongOrder && len(seqs) > 0 {
		seqs = f.log.IdealOfOps(seqs[len(seqs)-1]).Seqs
	}
	return &batch{why, seqs, 2 * f.opt.CutOps, f.opt.CutBytes}
}

// begin takes the operations of a cut from the log. Called with f.mu held.
func (f *FS) begin(b *batch, number uint64) *sending {
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
	s := &sending{batch: b, conn: f.conn, number: number, seqs: f.log.Take(b.seqs, records, bytes)}
	s.ops = f.log.Begin(number, s.seqs)
	return s
}

// commit sends one cut and takes its result in. Called with f.mu held, which it unlocks.
func (f *FS) commit(b *batch) {
	s := f.ahead
	f.ahead = nil
	if s == nil {
		s = f.begin(b, f.nextCut)
	}
	f.flying = s
	f.mu.Unlock()
	s.prepare()

	f.mu.Lock()
	fence, missing := f.fence(s.net.Fence)
	f.mu.Unlock()
	var reply *wire.Rcommit
	var err error
	switch {
	case len(missing) > 0:
		s.wait()
	case len(s.net.Records) == 0:
		reply = &wire.Rcommit{Status: wire.CommitApplied}
	default:
		if h := f.opt.Hooks.Commit; h != nil {
			h(CutInfo{s.number, b.why, s.ops, len(s.net.Records), s.net.Bytes})
		}
		reply, err = f.sendCut(s, fence)
	}
	if err == nil && (reply == nil || reply.Status != wire.CommitApplied) {
		f.unstage()
	}
	if err != nil && !f.resolved(s, err) {
		f.fail(fmt.Errorf("sending cut %d: %w", s.number, err))
		return
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.wakeCommitted()
	defer f.settle()
	f.flying = nil
	switch {
	case s.settled:
	case len(missing) > 0:
		f.log.Returned(s.number)
		f.taken(s.seqs, missing)
	case reply.Status == wire.CommitApplied:
		f.landed(s)
	case reply.Status == wire.CommitRefused:
		f.log.Returned(s.number)
		guilty := s.seqs
		if int(reply.Record) < len(s.origin) {
			guilty = s.net.Ops[s.origin[reply.Record]]
		}
		f.refused(guilty, syscall.Errno(reply.Errno), reply.Reason)
	case !f.disputed:
		// It knows something that we do not: of tokens or locks that were lost, or of what it has applied. It tells when the session is resumed.
		f.log.Returned(s.number)
		f.disputed = true
		f.resumeSoon()
	case reply.Status == wire.CommitFenced:
		f.log.Returned(s.number)
		f.taken(s.seqs, []uint64{reply.ID})
	default:
		f.log.Returned(s.number)
		go f.fail(fmt.Errorf("cut %d is out of order at the server", s.number))
	}
}

// resolved waits until it is known what became of a cut that had no answer: that is so when the session was resumed.
// It is false when the session cannot go on.
func (f *FS) resolved(s *sending, err error) bool {
	if !errors.Is(err, p9client.ErrEnded) {
		if !errors.Is(err, syscall.ESTALE) {
			return false
		}
		s.conn.Close() // it is not the session's connection any more
	}
	for {
		f.mu.Lock()
		settled, dead, ch := s.settled, f.dead, f.progress
		f.mu.Unlock()
		if settled || dead != nil {
			return settled
		}
		select {
		case <-ch:
		case <-f.ended:
		}
	}
}

// settleCuts takes in, when the session was resumed, what became of the cut that was under way: lastCut is the last one that
// was applied. What was not goes back among what is pending. Called with f.mu held.
func (f *FS) settleCuts(lastCut uint64) {
	s := f.flying
	applied := s != nil && s.number <= lastCut
	if f.opt.Mutant == mutantResendBlind {
		applied = false
	}
	if f.ahead != nil {
		f.log.Returned(f.ahead.number)
		f.ahead = nil
	}
	f.nextCut = lastCut + 1
	if f.restoring != nil {
		f.restore(lastCut)
	}
	if s == nil || s.settled {
		return
	}
	s.settled = true
	if !applied {
		f.log.Returned(s.number)
		return
	}
	f.landed(s)
	f.nextCut = lastCut + 1
}

// landed takes in that a cut was applied. Called with f.mu held.
func (f *FS) landed(s *sending) {
	if len(s.net.Records) > 0 {
		f.nextCut++
	}
	f.disputed = false
	f.space.spent(s.net.Bytes)
	before := f.log.Totals().Ops
	f.applied(s.number, s.ops, s.net.Records)
	f.stats.landed += before - f.log.Totals().Ops
	f.stats.records += len(s.net.Records)
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
		f.based(op)
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
	// The server is to know at once that there is something to be lost; that there is nothing any more it learns when the lease is renewed.
	tell := total.Ops > 0 && !f.toldPending
	wake := total.Ops == 1 || total.Bytes >= min(unsentBytes, f.opt.Dirty/2) || total.Ops >= unsentOps
	f.mu.Unlock()
	if wake {
		f.poke(f.kick)
	}
	if tell {
		f.poke(f.renew)
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
	ctx, stop := f.softly(ctx)
	defer stop()
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
