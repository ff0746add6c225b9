package cachefs

import (
	"context"
	"sync"
	"time"

	"echo9/cachefs/order"
	"echo9/p9srv"
	"echo9/tokens"
)

// relinquish is a token that is to go down to keep.
type relinquish struct {
	id   uint64
	keep tokens.Mode
}

// touch says which operations must be at the server before a token goes down to keep.
func (r relinquish) touch() order.Touch {
	if r.keep == tokens.None {
		return order.ByWrite | order.ByRead
	}
	return order.ByWrite
}

// relinquish prepares tokens to go back: it sends what conflicts with that, has the kernel forget,
// and tells the holder. Those that nothing is pending on do not wait for the others.
func (f *FS) relinquish(give []relinquish) {
	defer f.workers.Done()
	var clean, dirty []relinquish
	f.mu.Lock()
	for _, r := range give {
		if r.keep == tokens.None {
			f.revoking[r.id]++
		}
		if f.opt.Mutant != mutantSkipRecall && len(f.log.Touching(r.touch(), r.id)) > 0 {
			dirty = append(dirty, r)
		} else {
			clean = append(clean, r)
		}
	}
	f.mu.Unlock()
	switch {
	case len(dirty) == 0:
		f.handOver(clean)
		return
	case len(clean) > 0:
		f.workers.Add(1)
		go func() {
			defer f.workers.Done()
			f.handOver(clean)
		}()
	}
	began := time.Now()
	for _, touch := range []order.Touch{order.ByWrite, order.ByWrite | order.ByRead} {
		var ids []uint64
		for _, r := range dirty {
			if r.touch() == touch {
				ids = append(ids, r.id)
			}
		}
		if len(ids) == 0 {
			continue
		}
		if f.demand(context.Background(), &demand{why: "recall", urgent: true, touch: touch, ids: ids}) != nil {
			return // the session is over, and the tokens with it
		}
	}
	if d := time.Since(began); d > time.Second {
		f.opt.Logf("a recall of %d objects waited %v for updates to be at the server", len(dirty), d.Round(time.Millisecond))
	}
	f.handOver(dirty)
}

// handOver has those above forget, and lets the tokens go.
func (f *FS) handOver(give []relinquish) {
	var revs []p9srv.Revocation
	ids := make([]uint64, len(give))
	gone := make(map[uint64]bool) // there is nothing to be served of these
	f.mu.Lock()
	for _, r := range give {
		if n := f.nodes[r.id]; n == nil || n.gone {
			gone[r.id] = true
		}
	}
	f.mu.Unlock()
	for i, r := range give {
		ids[i] = r.id
		if r.keep == tokens.None && !gone[r.id] {
			revs = append(revs, p9srv.Revocation{ID: r.id})
		}
	}
	f.revoke(revs)
	if h := f.opt.Hooks.BeforeReturn; h != nil {
		h(context.Background(), ids)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	for _, r := range give {
		// No update was let in since the recall, so nothing new is pending: but a
		// directory's rename may have read the object. Then once more.
		if f.opt.Mutant != mutantSkipRecall && f.dead == nil && len(f.log.Touching(r.touch(), r.id)) > 0 {
			f.workers.Add(1)
			go f.relinquish([]relinquish{r})
		} else {
			open := false
			if n := f.nodes[r.id]; n != nil && r.keep == tokens.None {
				open = n.opens > 0
			}
			f.holder.Relinquished(r.id, r.keep, open)
		}
		if r.keep == tokens.None {
			if f.revoking[r.id]--; f.revoking[r.id] == 0 {
				delete(f.revoking, r.id)
			}
		}
	}
}

// revoke calls those who were given to OnRevoke, with no lock held.
func (f *FS) revoke(revs []p9srv.Revocation) {
	f.mu.Lock()
	revokers := f.revokers
	f.mu.Unlock()
	if len(revs) == 0 || len(revokers) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-f.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	var wg sync.WaitGroup
	for _, fn := range revokers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			fn(ctx, revs)
		}()
	}
	wg.Wait()
}

// OnRevoke adds a function to be called, with no lock held, before reads of objects stop being covered
// by tokens: when it returns, nobody above serves anything old of them.
func (f *FS) OnRevoke(fn func(ctx context.Context, revs []p9srv.Revocation)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revokers = append(f.revokers[:len(f.revokers):len(f.revokers)], fn)
}

// maxTTL bounds what TTL answers.
const maxTTL = time.Second

// TTL is how long from now what was just told of an object (attributes, the names in a directory) may be served
// without asking again. It is 0 when nothing is held, and while the object is wanted back.
func (f *FS) TTL(id uint64) time.Duration {
	if f.plain != nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[id]
	if f.dead != nil || n == nil || n.suspect || n.gone || f.revoking[id] > 0 ||
		f.holder.Mode(id) == tokens.None || f.holder.RecallPending(id) {
		return 0
	}
	return min(maxTTL, time.Duration(f.holder.LeaseLeft(f.clock())))
}
