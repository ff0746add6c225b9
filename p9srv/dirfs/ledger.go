package dirfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"echo9/p9srv/journal"
	"echo9/p9srv/stable"

	"golang.org/x/sys/unix"
)

// Durability says what an acknowledged cut survives.
type Durability uint8

const (
	// DurableCut: a crash of the machine. The default.
	DurableCut Durability = iota
	// DurableOS: a crash of the server's process, not one of the machine.
	DurableOS
)

const (
	// checkpointIdle is how long after the last cut the log is cut, and
	// checkpointAge how long after the first one at most.
	checkpointIdle = time.Second
	checkpointAge  = 5 * time.Second
	// checkpointBytes is the size of the log from which it is cut at once.
	checkpointBytes = 128 << 20
	// maxSyncs is how many objects a checkpoint makes durable one by one; more, by
	// syncfs, which waits for what others have written, too.
	maxSyncs = 64
)

// ledger keeps the books of the log of cuts: which entries still count, which
// objects they name.
//
// An object is in the log when its cutLSN is not below base.
type ledger struct {
	fs   *FS
	log  *journal.Log
	sync bool
	base atomic.Uint64 // entries below are forgotten

	mu      sync.Mutex // taken after FS.mu, never across I/O
	token   int
	open    map[int]journal.LSN // cuts that are being applied: not below this
	last    journal.LSN         // the highest entry known
	touched map[uint64]struct{} // to be made durable at the next checkpoint; nil: too many
	applied map[[16]byte]uint64 // the last cut of each client
	first   time.Time           // when the first entry since the last checkpoint came, and
	latest  time.Time           // the last one
	failed  error               // a checkpoint failed: nothing is taken on any more
	ending  bool                // nor from here on

	cuts sync.WaitGroup // that are being applied

	turn   chan struct{} // holds the right to make a checkpoint
	wake   chan struct{}
	closed chan struct{}
	ended  sync.WaitGroup
}

func newLedger(fs *FS, log *journal.Log, sync bool, next journal.LSN) *ledger {
	l := &ledger{
		fs: fs, log: log, sync: sync, last: next - 1, open: map[int]journal.LSN{},
		touched: map[uint64]struct{}{}, applied: map[[16]byte]uint64{},
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	l.base.Store(uint64(next))
	l.ended.Add(1)
	go l.loop()
	return l
}

// begin says that a cut is about to be logged.
func (l *ledger) begin() (token int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return 0, l.failed
	}
	if l.ending {
		return 0, fmt.Errorf("the server is ending: %w", syscall.EIO)
	}
	l.cuts.Add(1)
	l.token++
	l.open[l.token] = l.last + 1
	return l.token, nil
}

// logged notes the number that an entry got.
func (l *ledger) logged(token int, lsn journal.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last, lsn)
	if _, ok := l.open[token]; ok {
		l.open[token] = lsn
	}
	l.latest = time.Now()
	if l.first.IsZero() {
		l.first = l.latest
		l.kick()
	}
}

// end says that a cut is applied or undone, and which objects are to be made durable.
func (l *ledger) end(token int, ids []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, token)
	l.cuts.Done()
	if l.touched == nil {
		return
	}
	for _, id := range ids {
		l.touched[id] = struct{}{}
	}
	if len(l.touched) > maxSyncs {
		l.touched = nil
	}
}

func (l *ledger) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// loop makes checkpoints when it is time.
func (l *ledger) loop() {
	defer l.ended.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-l.closed:
			return
		case <-l.wake:
		case <-timer.C:
		}
		wait := l.due()
		if wait <= 0 {
			if err := l.checkpoint(); err != nil {
				l.fs.logf("the log of cuts cannot be shortened: %v", err)
			}
			wait = l.due()
		}
		timer.Reset(max(wait, 10*time.Millisecond))
	}
}

// due says how long there is until the next checkpoint.
func (l *ledger) due() time.Duration {
	bytes := l.log.Stats().Bytes
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.first.IsZero() || l.failed != nil:
		return time.Hour
	case bytes >= checkpointBytes:
		return 0
	}
	return min(time.Until(l.latest.Add(checkpointIdle)), time.Until(l.first.Add(checkpointAge)))
}

// checkpoint makes durable what was applied, and has the log forget it.
func (l *ledger) checkpoint() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.mu.Lock()
	if l.failed != nil {
		defer l.mu.Unlock()
		return l.failed
	}
	before := l.last + 1
	for _, lsn := range l.open {
		before = min(before, lsn)
	}
	ids, many := l.touched, l.touched == nil
	l.touched, l.first = map[uint64]struct{}{}, time.Time{}
	if len(l.open) > 0 {
		l.first = l.latest
	}
	var keep []any
	for client, number := range l.applied {
		keep = append(keep, &journal.Applied{Client: client, Number: number})
	}
	l.mu.Unlock()
	if uint64(before) <= l.base.Load() {
		return nil
	}
	err := l.makeDurable(ids, many)
	if err == nil {
		err = l.log.Checkpoint(before, keep)
	}
	if err != nil {
		if errors.Is(err, errKilled) {
			return err
		}
		err = fmt.Errorf("checkpoint: %w", err)
		l.mu.Lock()
		// What could not be made durable may be gone from the host's memory: only the log has it.
		l.failed = fmt.Errorf("%w: serve again to recover from the log", err)
		l.mu.Unlock()
		return err
	}
	l.base.Store(uint64(before))
	return nil
}

// makeDurable makes objects durable, with the table of ids.
func (l *ledger) makeDurable(ids map[uint64]struct{}, many bool) error {
	fs := l.fs
	if err := fs.ids.compact(); err != nil {
		return fmt.Errorf("write the table of ids anew: %w", err)
	}
	if !l.sync {
		return nil // it is in the kernel's hands, and that is what was promised
	}
	if err := fs.ids.sync(); err != nil {
		return err
	}
	if many {
		if err := fs.step("syncfs"); err != nil {
			return err
		}
		return eintr(func() error { return unix.Syncfs(fs.mountFD) })
	}
	for id := range ids {
		fs.mu.Lock()
		n := fs.byID[id]
		if n != nil {
			n.refs++
		}
		fs.mu.Unlock()
		if n == nil {
			// Forgotten for want of room, or gone: then its directory is among the ids.
			if _, ok := fs.ids.row(id); !ok {
				continue
			}
			return eintr(func() error { return unix.Syncfs(fs.mountFD) })
		}
		err := n.sync()
		n.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// sync makes an object durable. What is neither a file nor a directory is durable with its directory.
func (n *node) sync() error {
	if n.typ != unix.S_IFREG && n.typ != unix.S_IFDIR {
		return nil
	}
	fd, err := n.pin()
	if err != nil {
		if errors.Is(err, syscall.ESTALE) {
			return nil // gone
		}
		return fmt.Errorf("make object %d durable: %w", n.id, err)
	}
	defer n.unpin()
	if err := n.fs.step("fsync"); err != nil {
		return err
	}
	return n.fs.forced(fd, func() error {
		f, err := unix.Openat(n.fs.procFD, itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("make object %d durable: %w", n.id, err)
		}
		defer unix.Close(f)
		if err := eintr(func() error { return unix.Fsync(f) }); err != nil {
			return fmt.Errorf("make object %d durable: %w", n.id, err)
		}
		return nil
	})
}

// inLog says whether entries that count name n.
func (fs *FS) inLog(n *node) bool {
	at := n.cutLSN.Load()
	return at != 0 && fs.ledger != nil && at >= fs.ledger.base.Load() && n.settled.Load() < at
}

// settle makes objects durable, and says in the log that earlier entries do not count
// for them any more. It gives the entry's number.
func (l *ledger) settle(nodes []*node) (journal.LSN, error) {
	e := &journal.Settled{}
	for _, n := range nodes {
		e.IDs = append(e.IDs, n.id)
		if !l.sync {
			continue
		}
		if err := n.sync(); err != nil {
			return 0, err
		}
	}
	lsn, err := l.log.Append(e)
	if err != nil {
		return 0, fmt.Errorf("log that objects are settled: %w", err)
	}
	l.mu.Lock()
	l.last = max(l.last, lsn)
	l.mu.Unlock()
	for _, n := range nodes {
		n.settled.Store(uint64(lsn))
	}
	return lsn, nil
}

// disturb is called before objects are changed other than by a cut: what the log says of
// them must not be laid over that at a recovery.
func (fs *FS) disturb(nodes ...*node) error {
	var in []*node
	for _, n := range nodes {
		if n != nil && fs.inLog(n) {
			in = append(in, n)
		}
	}
	if len(in) == 0 {
		return nil
	}
	lsn, err := fs.ledger.settle(in)
	if err != nil {
		return err
	}
	if err := fs.ledger.log.Wait(lsn); err != nil {
		return fmt.Errorf("log that objects are settled: %w", err)
	}
	return nil
}

// Checkpoint makes everything that was applied durable in the tree itself, and shortens the log.
func (fs *FS) Checkpoint(ctx context.Context) error {
	if fs.ledger == nil {
		return nil
	}
	return fs.ledger.checkpoint()
}

// LastCut tells the number of the last cut of a client that was applied, 0 for none.
func (fs *FS) LastCut(client [16]byte) uint64 {
	if fs.ledger == nil {
		return 0
	}
	fs.ledger.mu.Lock()
	defer fs.ledger.mu.Unlock()
	return fs.ledger.applied[client]
}

// forget forgets the last cuts of sessions that are no more.
func (l *ledger) forget(gone func(session uint64) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.applied, func(client [16]byte, _ uint64) bool {
		s := stable.SessionOf(client)
		return s != 0 && gone(s)
	})
}

// close ends the keeping of books, with a last checkpoint, when all cuts that were begun are done.
func (l *ledger) close() error {
	l.mu.Lock()
	l.ending = true
	l.mu.Unlock()
	l.cuts.Wait()
	close(l.closed)
	l.ended.Wait()
	err := l.checkpoint()
	return errors.Join(err, l.log.Close())
}

// LogStats tell what the log of cuts holds, and what was written and synced. There is none in a read-only export.
func (fs *FS) LogStats() journal.Stats {
	if fs.ledger == nil {
		return journal.Stats{}
	}
	return fs.ledger.log.Stats()
}
