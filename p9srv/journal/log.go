package journal

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"syscall"
	"time"
)

// Options say how a log is kept.
type Options struct {
	// Sync: Wait waits for stable storage; else only for the kernel, and a crash of the
	// machine may lose the end of the log.
	Sync bool
	Logf func(format string, args ...any)
	// Step is asked before every system call that changes something; nil: always yes. Its error
	// is what the call under way returns, and the log is broken. It is called by several goroutines.
	Step func(name string) error
	// SegmentSize is the size that segments grow to; 0: 16 MiB, less on a small file system.
	SegmentSize int64
	// Max is the size of the log from which cuts wait for a checkpoint; 0: 512 MiB, less on a small file system.
	Max int64

	hook    func(hostOp) error
	lazy    time.Duration // in place of lazySync
	mutants mutants
}

// mutants break the log, for tests.
type mutants struct {
	noSync  bool // nothing is synced before Wait returns
	noCheck bool // Open does not look at the checksum of payloads
	noSalt  bool // a recycled segment is used as it is, under its old salt
}

const (
	leastSegment   = 1 << 20
	tightSegment   = 256 << 10 // where the disk has not even that much
	defaultSegment = 16 << 20
	defaultMax     = 512 << 20
	// lazySync is how long what nobody waits for may be on its way to stable storage.
	lazySync = 50 * time.Millisecond
)

// Log is an open log. Its methods may be called by several goroutines.
type Log struct {
	h   *files
	opt Options

	mu   sync.Mutex
	cond *sync.Cond // on mu: some of the below changed
	err  error      // the log is broken, or closed

	next      LSN // of the next entry
	start     LSN // the first entry that is not forgotten
	forgotten LSN // what start is when the checkpoints under way are durable
	queue     []*pending
	written   LSN // up to this the kernel has it
	synced    LSN // up to this it is on stable storage
	claim     LSN // up to this an entry says that all is on stable storage
	proven    LSN // and is so itself
	waited    LSN // up to this somebody was told so
	waiting   int // in Wait
	writing   bool
	dirty     []*segment // written to since they were last synced; of whoever is writing
	timer     *time.Timer
	armed     bool

	seq       uint64     // the highest number that a segment had
	live      []*segment // with entries that count, in their order; the last is written to
	ready     []*segment // prepared, in the order of their numbers
	spare     []*segment // to be recycled
	want      int64      // somebody waits for a segment with so much room
	tries     int        // attempts to prepare segments that have begun
	failed    int        // the last of them that failed
	failure   error      // why
	lean      bool       // it failed, nobody wants room: not tried again
	small     bool       // the disk is nearly full
	tight     bool       // it has no room for leastSegment
	preparing bool
	tasks     sync.WaitGroup

	stats Stats
}

// pending is an entry that has its place and is not written yet.
type pending struct {
	entryHead
	seg    *segment
	off    int64
	pieces [][]byte
}

// segment is a file of the log.
type segment struct {
	segmentHead
	name string
	fd   int
	end  int64 // where the next entry goes
	last LSN   // the last entry in it
}

// room is what is left, but for a mark.
func (s *segment) room() int64 { return s.size - s.end - headerSize }

// Append queues e, a pointer to one of the entry types, and gives its number. What e refers to must not
// be changed until Wait has returned for it. It does not wait for e to be durable; a Cut waits while the log is as large as
// it may be, all wait while a segment is being prepared. ENOSPC or EDQUOT: there is no room for e, and the log goes on.
func (l *Log) Append(e any) (LSN, error) {
	p, err := newPending(e)
	if err != nil {
		return 0, err
	}
	_, isCut := e.(*Cut)
	l.mu.Lock()
	defer l.mu.Unlock()
	for isCut && l.err == nil && l.full() {
		l.cond.Wait()
	}
	if err := l.place(p, isCut); err != nil {
		return 0, err
	}
	if isCut {
		l.stats.Cuts++
	} else if !l.writing {
		// Nobody may wait for it, and it is to outlive this process.
		l.round(false)
		if l.written < p.lsn {
			return 0, l.err
		}
	}
	l.arm()
	return p.lsn, nil
}

// newPending encodes e.
func newPending(e any) (*pending, error) {
	p := new(pending)
	var err error
	if p.kind, p.pieces, err = encode(e); err != nil {
		return nil, err
	}
	n, crc := 0, uint32(0)
	for i, piece := range p.pieces {
		if i == 0 {
			piece = piece[headerSize:]
		}
		n += len(piece)
		crc = crc32.Update(crc, castagnoli, piece)
	}
	if n > maxPayload {
		return nil, fmt.Errorf("an entry of %d bytes is too large for the log of cuts: %w", n, syscall.EFBIG)
	}
	p.length, p.payloadCRC = uint32(n), crc
	if pad := entrySpace(int64(n)) - headerSize - int64(n); pad > 0 {
		p.pieces = append(p.pieces, zeros[:pad])
	}
	return p, nil
}

var zeros [blockSize]byte

// place gives p its number and its place. With l.mu held; it may wait.
func (l *Log) place(p *pending, isCut bool) error {
	space := entrySpace(int64(p.length))
	seg, err := l.roomFor(space, isCut)
	if err != nil {
		return err
	}
	l.put(p, seg)
	return nil
}

// put gives p the next place in seg.
func (l *Log) put(p *pending, seg *segment) {
	space := entrySpace(int64(p.length))
	p.lsn, l.next = l.next, l.next+1
	p.seg, p.off = seg, seg.end
	seg.end += space
	seg.last = p.lsn
	l.queue = append(l.queue, p)
	l.stats.Entries++
	l.stats.Written += space
}

// Wait returns when the entry lsn and all before it are on stable storage (without Options.Sync: in the kernel's
// hands). All who wait at a time share one sync.
func (l *Log) Wait(lsn LSN) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.wait(lsn, l.opt.Sync)
	if err == nil {
		l.waited = max(l.waited, lsn)
		l.arm()
	}
	return err
}

func (l *Log) wait(lsn LSN, sync bool) error {
	if lsn >= l.next {
		return fmt.Errorf("waiting for entry %d of the log of cuts, the last is %d: %w", lsn, l.next-1, syscall.EINVAL)
	}
	l.waiting++
	for l.reached(sync) < lsn && l.err == nil {
		if l.writing {
			l.cond.Wait()
		} else {
			l.round(sync)
		}
	}
	l.waiting--
	if l.reached(sync) < lsn {
		return l.err
	}
	if l.waiting == 0 && !l.writing && len(l.queue) > 0 && l.err == nil {
		l.round(false) // what nobody waits for goes to the kernel at once
	}
	return nil
}

func (l *Log) reached(sync bool) LSN {
	if sync {
		return l.synced
	}
	return l.written
}

// round writes all that is queued, and syncs it. Called with l.mu held, which is given up in between; whoever finds
// l.writing set waits for its end instead.
func (l *Log) round(sync bool) {
	batch, durable := l.queue, l.synced
	l.queue = nil
	l.writing = true
	l.mu.Unlock()
	err := l.write(batch, durable)
	if err == nil && sync {
		err = l.sync()
	}
	l.mu.Lock()
	l.writing = false
	if err != nil {
		l.fail(err)
		return
	}
	if n := len(batch); n > 0 {
		l.written, l.claim = batch[n-1].lsn, durable
		l.stats.Writes++
	}
	if sync {
		l.synced, l.proven = l.written, l.claim
		l.stats.Syncs++
	}
	l.arm()
	l.cond.Broadcast()
}

// write puts the batch into its segments, with as few calls as can be. Each ends with zeros up to a block's end, so that
// the kernel never has to read a block first.
func (l *Log) write(batch []*pending, durable LSN) error {
	for len(batch) > 0 {
		seg := batch[0].seg
		var pieces [][]byte
		n := 0
		end := batch[0].off
		for ; n < len(batch) && batch[n].seg == seg; n++ {
			p := batch[n]
			p.durable = durable
			p.put(p.pieces[0], seg.salt, p.off)
			pieces = append(pieces, p.pieces...)
			end += entrySpace(int64(p.length))
		}
		if pad := align(end, blockSize) - end; pad > 0 {
			pieces = append(pieces, zeros[:pad])
		}
		if len(l.dirty) == 0 || l.dirty[len(l.dirty)-1] != seg {
			l.dirty = append(l.dirty, seg)
		}
		if err := l.h.write(seg.fd, seg.name, pieces, batch[0].off); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// sync makes what was written durable.
func (l *Log) sync() error {
	if l.opt.mutants.noSync {
		return nil
	}
	for _, seg := range l.dirty {
		if err := l.h.fdatasync(seg.fd, seg.name); err != nil {
			return err
		}
	}
	l.dirty = l.dirty[:0]
	return nil
}

// fail breaks the log: nothing is assumed of it any more. With l.mu held.
func (l *Log) fail(err error) {
	if s, ok := err.(stopped); ok {
		err = s.error
	}
	if l.err == nil {
		l.err = err
		l.opt.Logf("the log of cuts is broken, nothing is committed any more: %v", err)
	}
	l.h.dead.Store(true)
	l.cond.Broadcast()
}

// arm starts the clock for what nobody waits for. With l.mu held.
func (l *Log) arm() {
	if l.armed || l.err != nil || !l.unsettled() {
		return
	}
	l.armed = true
	l.tasks.Add(1)
	if l.timer == nil {
		l.timer = time.AfterFunc(cmp.Or(l.opt.lazy, lazySync), l.settle)
	} else {
		l.timer.Reset(cmp.Or(l.opt.lazy, lazySync))
	}
}

// unsettled says whether something is left to be done when time has passed.
func (l *Log) unsettled() bool {
	last := l.next - 1
	if !l.opt.Sync {
		return l.written < last
	}
	return l.synced < last || l.proven < l.waited
}

// settle writes and syncs what nobody waits for; then a mark says that it is durable, so that damage to
// it can be told from a torn end.
func (l *Log) settle() {
	defer l.tasks.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	if l.err != nil {
		return
	}
	if err := l.settleNow(); err != nil && l.err == nil {
		l.opt.Logf("the log of cuts: %v", err)
	}
}

func (l *Log) settleNow() error {
	last := l.next - 1
	if err := l.wait(last, l.opt.Sync); err != nil || !l.opt.Sync {
		return err
	}
	if l.next-1 != last || l.proven >= l.waited {
		return nil // somebody is at it
	}
	p, err := newPending(new(mark))
	if err != nil {
		return err
	}
	n := len(l.live)
	if n == 0 || l.live[n-1].room() < 0 {
		return nil // not worth a segment
	}
	l.put(p, l.live[n-1])
	return l.wait(p.lsn, true)
}

// Last is the number of the last entry, 0 if there never was one.
func (l *Log) Last() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// Durable is the number up to which Wait returns at once.
func (l *Log) Durable() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reached(l.opt.Sync)
}

// Close makes all that was appended durable and ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.err == os.ErrClosed {
		l.mu.Unlock()
		return nil
	}
	if l.err == nil {
		l.waited = l.next - 1
		if err := l.settleNow(); err != nil && l.err == nil {
			l.fail(err)
		}
	}
	err := l.err
	l.err = os.ErrClosed
	l.h.dead.Store(true)
	if l.armed && l.timer.Stop() {
		l.armed = false
		l.tasks.Done()
	}
	l.cond.Broadcast()
	for l.writing {
		l.cond.Wait()
	}
	l.mu.Unlock()
	l.tasks.Wait()
	l.closeFiles()
	return err
}
