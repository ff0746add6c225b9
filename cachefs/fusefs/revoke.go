package fusefs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

const (
	// namePatience is how long an invalidation of names may wait for the kernel's lock of the directory.
	namePatience = 2 * time.Millisecond
	// preciseNames is how many names are invalidated one by one.
	preciseNames = 64
	// limit is when a revocation of pages gives up: a recall must end.
	limit = 1200 * time.Millisecond
	// revokers is how many objects of one call are worked on at once.
	revokers = 16
)

// revoke makes the kernel drop what it caches of the objects. It is what the
// backend calls; see "Recall" in the package's documentation.
func (f *fileSystem) revoke(ctx context.Context, revs []p9srv.Revocation) {
	began := time.Now()
	f.stats.revocations.Add(1)
	now := f.revs.Add(1)
	var nodes []*node
	for _, r := range revs {
		if r.Keep > 0 {
			continue // others may read, too: so may the kernel
		}
		n := f.nodes.find(r.ID)
		if n == nil {
			continue // whoever is about to enter it sees that f.revs has moved on
		}
		n.mu.Lock()
		n.revoking++
		n.lastRev = now
		if n.revoking == 1 {
			close(n.revoked)
		}
		n.mu.Unlock()
		nodes = append(nodes, n)
	}
	var wg sync.WaitGroup
	work := make(chan *node)
	for range min(revokers, len(nodes)-1) {
		wg.Go(func() {
			for n := range work {
				f.revokeNode(ctx, n)
			}
		})
	}
	for _, n := range nodes {
		if len(nodes) == 1 {
			f.revokeNode(ctx, n)
			break
		}
		work <- n
	}
	close(work)
	wg.Wait()
	if d := int64(time.Since(began)); d > f.stats.slowest.Load() {
		f.stats.slowest.Store(d)
	}
}

// revokeNode does one object, and ends its revocation.
func (f *fileSystem) revokeNode(ctx context.Context, n *node) {
	if !f.hooks.skipAttr {
		f.dropAttr(ctx, n)
	}
	if !f.hooks.skipNames {
		f.dropNames(ctx, n)
	}
	f.dropData(ctx, n) // last: its last step is the end of the revocation
	f.nodes.release(n)
}

// ended notes, with n.mu held, the end of a revocation.
func (f *fileSystem) ended(n *node) {
	n.endRevocation()
	n.lastRev = f.revs.Add(1)
	if n.revoking == 0 {
		n.revoked = make(chan struct{})
	}
}

// dropAttr makes the kernel forget the attributes. The kernel ignores answers to requests that
// it sent before. It may not know the node yet, when the answer that introduces it
// is on its way.
func (f *fileSystem) dropAttr(ctx context.Context, n *node) {
	n.mu.Lock()
	until := n.attrUntil
	n.mu.Unlock()
	for pause := 100 * time.Microsecond; time.Now().Before(until.Add(slack)); pause = min(2*pause, 5*time.Millisecond) {
		err := f.notify.invalAttr(n.nid)
		if !errors.Is(err, unix.ENOENT) || !f.nodes.known(n) {
			break // done, or the mount is gone
		}
		if !sleep(ctx, pause) {
			return
		}
	}
	n.mu.Lock()
	if n.attrUntil.Equal(until) {
		n.attrUntil = time.Time{}
	}
	n.mu.Unlock()
}

// dropNames makes the kernel forget the names in a directory: one by one, or all names of the
// mount at once, or by waiting until they time out.
func (f *fileSystem) dropNames(ctx context.Context, n *node) {
	n.mu.Lock()
	now := time.Now()
	last := n.manyUntil
	many := last.Add(slack).After(now)
	names := make(map[string]bool, min(len(n.names), preciseNames+1))
	for k, t := range n.names {
		if t.until.Add(slack).Before(now) {
			continue
		}
		if t.until.After(last) {
			last = t.until
		}
		names[k] = t.dir
	}
	if !many && len(names) == 0 {
		n.names = nil
		n.mu.Unlock()
		return
	}
	precise := !f.hooks.preciseNone && !many && len(names) <= preciseNames && !n.invalBusy && (n.updating == 0 || !f.epochs())
	if precise {
		n.invalBusy = true
	}
	n.mu.Unlock()

	if precise && f.dropEach(ctx, n, names, last) {
		f.forgetNames(n, last)
		return
	}
	if f.epochs() && !f.submounts() && f.notify.newEpoch() == nil {
		f.stats.epochs.Add(1)
		f.forgetNames(n, last)
		return
	}
	f.stats.waits.Add(1)
	n.mu.Lock()
	n.cautious = time.Now().Add(cautiousFor)
	n.mu.Unlock()
	if sleep(ctx, time.Until(last.Add(slack))) {
		f.forgetNames(n, last)
	}
}

func (f *fileSystem) epochs() bool { return f.notify.epoch && !f.hooks.noEpoch }

// forgetNames forgets what was told until last.
func (f *fileSystem) forgetNames(n *node, last time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, t := range n.names {
		if !t.until.After(last) {
			delete(n.names, k)
		}
	}
	if !n.manyUntil.After(last) {
		n.manyUntil = time.Time{}
	}
}

// dropEach invalidates names one by one, in a goroutine of its own, since the kernel makes it wait for
// the directory's lock. It says whether that was done with patience. The goroutine of
// a stuck one ends when the kernel gives the lock back.
//
// A directory's name is made to expire rather than dropped: to drop it would make getcwd(2) fail for
// those who work below it and unmount what is mounted there. But an answer on its way, to a question
// whether the old name is still good, would make it live again: so a name that was told a moment
// ago is made to expire again.
func (f *fileSystem) dropEach(ctx context.Context, n *node, names map[string]bool, last time.Time) bool {
	done := make(chan struct{})
	n = f.nodes.again(n)
	f.background.Go(func() {
		defer f.nodes.release(n)
		for name, dir := range names {
			if err := f.notify.invalName(n.nid, name, dir && f.notify.expireOnly); err != nil && !errors.Is(err, unix.ENOENT) {
				break // the mount is gone
			}
		}
		n.mu.Lock()
		n.invalBusy = false
		n.mu.Unlock()
		close(done)
	})
	patience := namePatience
	if f.hooks.patience > 0 {
		patience = f.hooks.patience
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		return false
	case <-ctx.Done():
		return false
	}
	if !f.notify.expireOnly {
		return true
	}
	var again time.Time
	n.mu.Lock()
	for k, dir := range names {
		if t := n.names[k]; dir && t.at.After(again) {
			again = t.at
		}
	}
	n.mu.Unlock()
	if again.IsZero() || time.Since(again) > slack {
		return true
	}
	if !sleep(ctx, time.Until(again.Add(slack))) {
		return false
	}
	n.mu.Lock()
	busy := n.invalBusy
	n.invalBusy = true
	n.mu.Unlock()
	if busy {
		return false
	}
	dirs := map[string]bool{}
	for k, dir := range names {
		if dir {
			dirs[k] = true
		}
	}
	return f.dropEach(ctx, n, dirs, last)
}

// submounts says whether something is mounted below the mount: a new epoch would unmount it.
func (f *fileSystem) submounts() bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	below := escapeMount(filepath.Clean(f.path)) + "/"
	for line := range strings.SplitSeq(string(b), "\n") {
		if w := strings.Fields(line); len(w) > 4 && strings.HasPrefix(w[4], below) {
			return true
		}
	}
	return false
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
