package cachefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/cachefs/order"
	"echo9/internal/wire"
)

// behindMost is how much data that is not on its way comes before what touches any one object.
func behindMost(f *FS) (most int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []uint64
	for id := range f.log.Objects() {
		ids = append(ids, id)
	}
	for _, id := range ids {
		n := int64(0)
		for _, op := range f.log.Ops(f.log.IdealOf(order.ByWrite|order.ByRead, id).Seqs) {
			n += int64(len(op.Bytes))
		}
		most = max(most, n)
	}
	return most
}

// TestBehindBounded: several files are written under other names and renamed into one directory, faster than they can be sent: a cut
// goes only when all writers wait or have ended. Never is there more than 16 MiB before any one object: a recall of the directory waits
// for no more. Without the bound (the mutant) there is.
func TestBehindBounded(t *testing.T) {
	for _, mutant := range []string{"", mutantUnbounded} {
		w := newWorld(t)
		var writers atomic.Int64
		most := int64(0) // the committer's, until all is sent
		var a *FS
		a = w.cache(func(o *Options) {
			o.Mutant = mutant
			o.Hooks.Commit = func(CutInfo) {
				if !soon(func() bool { return int64(len(a.Status().Waiting)) >= writers.Load() }) {
					t.Error("the writers neither wait nor end")
				}
				most = max(most, behindMost(a))
			}
		})
		ok(t, a.Mkdir(bg, "d", 0o755))
		ok(t, a.Mkdir(bg, "e", 0o755))
		var wg sync.WaitGroup
		writers.Store(4)
		for i := range 4 {
			wg.Go(func() {
				defer writers.Add(-1)
				for k := range 8 {
					name := fmt.Sprintf("e/%d.%d", i, k)
					h, err := a.OpenFile(bg, name, wire.OWronly|wire.OCreat, 0o644)
					if err == nil {
						for off := range 3 {
							_, werr := h.WriteAt(bg, bytes.Repeat([]byte{byte(k)}, 1<<20), int64(off)<<20)
							err = errors.Join(err, werr)
						}
						err = errors.Join(err, h.Close(bg), a.Rename(bg, name, fmt.Sprintf("d/%d.%d", i, k)))
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		ok(t, a.Sync(bg))
		same(t, "names", len(strings.Fields(names(t, w.direct(), "d"))), 32)
		t.Logf("mutant %q: %d bytes at most came before one object", mutant, most)
		if bounded := most <= maxBehind; bounded != (mutant == "") {
			t.Errorf("mutant %q: %d bytes came before one object", mutant, most)
		}
	}
}

// TestCancelledWrite: writers at the limit are told of, and when they give up nothing of what they wrote is there; the others go on.
func TestCancelledWrite(t *testing.T) {
	w := newWorld(t)
	var blocked atomic.Bool
	goOn := make(chan struct{})
	a := w.cache(func(o *Options) {
		o.Dirty = 4 << 20
		o.Hooks.Commit = func(CutInfo) {
			if blocked.Load() {
				<-goOn
			}
		}
	})
	h := open(t, a, "f", wire.ORdwr|wire.OCreat)
	other := open(t, a, "other", wire.ORdwr|wire.OCreat)
	ok(t, a.Sync(bg))
	blocked.Store(true)
	full := bytes.Repeat([]byte("a"), 4<<20)
	_, err := h.WriteAt(bg, full, 0)
	ok(t, err)

	results := make(chan error)
	go func() { _, err := other.WriteAt(bg, []byte("other"), 0); results <- err }()
	ctx, cancel := context.WithCancel(bg)
	for i := range 3 {
		go func() {
			n, err := h.WriteAt(ctx, bytes.Repeat([]byte{byte('x' + i)}, 3<<20), int64(i)<<20)
			if err != nil && n != 0 {
				err = fmt.Errorf("%d bytes were taken on by a write that failed: %w", n, err)
			}
			results <- err
		}()
	}
	for len(a.Status().Waiting) < 4 {
		time.Sleep(time.Millisecond)
	}
	if s := a.Status().String(); strings.Count(s, "waiting  a change of /f, of 3145728 bytes") != 3 || !strings.Contains(s, "a change of /other, of 5 bytes") {
		t.Errorf("the status does not tell who waits:\n%s", s)
	}
	cancel()
	for range 3 {
		fails(t, <-results, syscall.EINTR)
	}
	same(t, "writers that wait", len(a.Status().Waiting), 1)
	close(goOn)
	ok(t, <-results)
	same(t, "writers that wait", len(a.Status().Waiting), 0)
	hasContent(t, a, "f", string(full))
	_, err = h.WriteAt(bg, []byte("end"), int64(len(full)))
	ok(t, err)
	ok(t, a.Sync(bg))
	hasContent(t, w.direct(), "f", string(full)+"end")
	hasContent(t, w.direct(), "other", "other")
	same(t, "updates lost", a.Status().Lost, 0)
}

// TestLimitIsReached: a writer that waits has updates sent, however young, and little of them.
func TestLimitIsReached(t *testing.T) {
	w := newWorld(t)
	a := w.cache(func(o *Options) { o.Dirty = 1 << 20 })
	h := open(t, a, "f", wire.ORdwr|wire.OCreat)
	_, err := h.WriteAt(bg, make([]byte, 300<<10), 0)
	ok(t, err)
	ctx, cancel := context.WithTimeout(bg, patience)
	defer cancel()
	_, err = h.WriteAt(ctx, make([]byte, 1<<20), 300<<10)
	ok(t, err)
}

// TestMemoryBounded: a file much larger than the limits is written; the memory in use stays near them.
func TestMemoryBounded(t *testing.T) {
	const limit = 16 << 20
	w := newWorld(t)
	a := w.cache(func(o *Options) { o.Dirty, o.Cache = limit, limit })
	h := open(t, a, "f", wire.OWronly|wire.OCreat)
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	piece := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	most := uint64(0)
	for off := range int64(256) {
		_, err := h.WriteAt(bg, piece, off<<20)
		ok(t, err)
		if off%16 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
		if s := a.Status(); s.PendingBytes > limit || s.CachedBytes > 2*limit {
			t.Fatalf("%d bytes are pending, %d cached", s.PendingBytes, s.CachedBytes)
		}
	}
	ok(t, h.Close(bg))
	// What is pending is in the log and in the cache as one; a cut on its way is held by its messages, and by the server in this process, too.
	if used := int64(most) - int64(before.HeapAlloc); used > 6*limit {
		t.Errorf("%d bytes are in use, with limits of %d", used, limit)
	} else {
		t.Logf("%d MiB in use at most, with limits of %d MiB each", used>>20, limit>>20)
	}
}
