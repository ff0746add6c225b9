package fusefs

import (
	"context"
	"time"

	"echo9/p9srv"
)

const (
	// parkPatience is how long READs wait for an invalidation that may be waiting for them,
	// counted from when no other READ runs; parkMax in all.
	parkPatience = 2 * time.Millisecond
	parkMax      = 50 * time.Millisecond
	// barePatience is how long a READ waits for a token to cover its data before it is
	// answered without. bareMemory is how long an object is remembered as one that gets none.
	barePatience = 100 * time.Millisecond
	bareMemory   = time.Second
)

// dropData makes the kernel drop the pages of n and ends the revocation, in one step with the
// finding that no READ was answered since the last invalidation began.
func (f *fileSystem) dropData(ctx context.Context, n *node) {
	select {
	case n.dataSem <- struct{}{}:
		defer func() { <-n.dataSem }()
	case <-ctx.Done():
		n.mu.Lock()
		f.ended(n)
		n.mu.Unlock()
		return
	}
	began, limit := time.Now(), limit
	if f.hooks.limit > 0 {
		limit = f.hooks.limit
	}
	for pass := 0; ; pass++ {
		n.mu.Lock()
		if !n.pages || f.hooks.skipData {
			f.ended(n)
			n.mu.Unlock()
			return
		}
		todo := n.beginPass(pass == 0)
		var idle <-chan struct{}
		if pass > 0 {
			n.parking, n.unpark = true, make(chan struct{})
			idle = n.whenIdle()
		}
		n.mu.Unlock()

		f.stats.passes.Add(1)
		done := make(chan struct{})
		f.background.Go(func() {
			for _, s := range todo {
				_ = f.notify.invalData(n.nid, s.off, s.length) // an error: the kernel does not know the node, or is gone
			}
			close(done)
		})
		finished := f.awaitPass(ctx, n, done, idle, limit-time.Since(began))

		n.mu.Lock()
		clean := finished && n.endPass(&f.hooks)
		if clean {
			f.ended(n)
		}
		n.noParking()
		if !clean && (ctx.Err() != nil || time.Since(began) > limit) {
			n.bareAt = time.Now() // better not to let the kernel have more pages
			f.ended(n)
			f.stats.gaveUp.Add(1)
			n.mu.Unlock()
			f.logf("fuse: object %#x: the kernel did not give its pages back within %v", n.id, time.Since(began))
			return
		}
		n.mu.Unlock()
		if clean {
			return
		}
	}
}

// awaitPass waits for an invalidation. READs are parked meanwhile if idle is not nil, but not for long.
func (f *fileSystem) awaitPass(ctx context.Context, n *node, done <-chan struct{}, idle <-chan struct{}, limit time.Duration) bool {
	end := time.NewTimer(max(limit, 0))
	defer end.Stop()
	var park <-chan time.Time
	if idle != nil {
		t := time.NewTimer(parkMax)
		defer t.Stop()
		park = t.C
	}
	for {
		select {
		case <-done:
			return true
		case <-idle:
			t := time.NewTimer(parkPatience)
			defer t.Stop()
			idle, park = nil, t.C
		case <-park:
			n.mu.Lock()
			n.noParking()
			n.mu.Unlock()
			idle, park = nil, nil
		case <-ctx.Done():
			return false
		case <-end.C:
			return false
		}
	}
}

// noParking lets parked READs go on. n.mu is held.
func (n *node) noParking() {
	if n.parking {
		n.parking = false
		close(n.unpark)
	}
}

// whenIdle gives a channel that is closed when no READ runs. n.mu is held.
func (n *node) whenIdle() <-chan struct{} {
	if n.idle == nil {
		n.idle = make(chan struct{})
	}
	ch := n.idle
	n.maybeIdle()
	return ch
}

func (n *node) maybeIdle() {
	if n.active == 0 && n.idle != nil {
		close(n.idle)
		n.idle = nil
	}
}

// read answers a READ. The kernel may keep what it gets: so the answer is given only when its data were
// covered by a token and no revocation ended since, or while a revocation is under way that will
// drop it: see drops.
func (f *fileSystem) read(ctx context.Context, n *node, file p9srv.File, buf []byte, off int64) (int, error) {
	if !f.caches() {
		c, err := file.ReadAt(ctx, buf, off)
		n.mu.Lock()
		n.pages = true
		n.overlay(buf[:max(c, 0)], off)
		n.mu.Unlock()
		return c, err
	}
	var since time.Time // of the first data that were not covered
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		n.mu.Lock()
		for n.parking {
			ch := n.unpark
			n.mu.Unlock()
			f.stats.parked.Add(1)
			select {
			case <-ch:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			n.mu.Lock()
		}
		a := n.arrived(span{off, int64(len(buf))}, &f.hooks)
		n.active++
		n.mu.Unlock()

		covered := f.cover(n.id) > 0
		c, err := file.ReadAt(ctx, buf, off)

		n.mu.Lock()
		n.active--
		n.maybeIdle()
		if err != nil {
			n.mu.Unlock()
			return 0, err
		}
		switch n.answer(a, covered, &f.hooks) {
		case askAgain:
			n.mu.Unlock()
			continue
		case bare:
			if time.Since(n.bareAt) >= bareMemory && (since.IsZero() || time.Since(since) <= barePatience) {
				n.mu.Unlock()
				if since.IsZero() {
					since = time.Now() // most likely the token is there now: at once again
					continue
				}
				if !sleep(ctx, pause) {
					return 0, ctx.Err()
				}
				continue
			}
			// No token is to be had. The pages go as soon as the kernel has them.
			n.bareAt = time.Now()
			f.stats.bare.Add(1)
			f.sweep(n)
		}
		n.pages = true
		n.overlay(buf[:c], off)
		n.mu.Unlock()
		return c, nil
	}
}

// dropWritten drops the pages of what a direct WRITE has written, before it is answered: a READ may have brought them back, with
// what was there before, since the kernel dropped them to send the WRITE. Only recent kernels do so by themselves; and before
// Linux 6.6 they dropped nothing.
func (f *fileSystem) dropWritten(n *node, off, length int64) {
	n.mu.Lock()
	pages := n.pages || n.active > 0 // an active READ may have its data already
	n.mu.Unlock()
	if pages && !f.hooks.keepWritten {
		_ = f.notify.invalData(n.nid, off, length) // an error: the kernel is gone
	}
	if f.hooks.wrote != nil {
		f.hooks.wrote()
	}
}

// sweep drops the pages of n soon.
func (f *fileSystem) sweep(n *node) {
	n = f.nodes.again(n)
	f.background.Go(func() {
		_ = f.notify.invalData(n.nid, 0, 0)
		f.nodes.release(n)
	})
}

// isBare says whether the object lately got no token: then it is better opened without a page cache.
func (n *node) isBare() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Since(n.bareAt) < bareMemory
}
