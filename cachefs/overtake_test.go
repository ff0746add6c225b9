package cachefs

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// TestRecallOvertakesDrain: with a large drain going on, at most what was on its way and the cut behind it (which may be, too) go before
// the cut that a recall waits for; and nothing is sent twice, by the drain nor by the recall. Until the one who recalls has what he
// wants the drain goes on only while a recall waits for it: so it has begun by then, and has not ended.
func TestRecallOvertakesDrain(t *testing.T) {
	const files, size = 64, 1 << 20
	w := newWorld(t)
	var mu sync.Mutex
	var before, most, sent int64 // before: since the last recall's cut
	seen := make(map[uint64]int)
	cutBytes := int64(0)
	recalls := 0
	b := w.cache()
	var a *FS
	var held atomic.Bool
	recalled := func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.demands) > 0 && a.demands[0].urgent
	}
	a = w.cache(func(o *Options) {
		o.Dirty, o.CutBytes = 1<<30, 2<<20
		cutBytes = o.CutBytes
		o.Hooks.Commit = func(i CutInfo) {
			if i.Why != "recall" && !soon(func() bool { return !held.Load() || recalled() }) {
				t.Error("no recall comes")
			}
			waits := recalled()
			mu.Lock()
			defer mu.Unlock()
			sent += i.Bytes
			for _, op := range i.Ops {
				seen[op.Seq]++
			}
			switch {
			case i.Why == "recall":
				recalls++
				before = 0
			case waits:
				before += i.Bytes
				most = max(most, before)
			}
		}
	})
	for i := range files {
		ok(t, a.Mkdir(bg, fmt.Sprint(i), 0o755))
	}
	ok(t, a.Mkdir(bg, "d", 0o755))
	ok(t, a.Sync(bg))
	same(t, "pending", a.Status().Pending, 0)
	held.Store(true)
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for i := range files {
		ok(t, a.WriteFile(bg, fmt.Sprint(i, "/f"), data, 0o644))
	}
	ok(t, a.WriteFile(bg, "d/f", []byte("wanted"), 0o644))
	if a.Status().PendingBytes < 16<<20 {
		t.Fatal("there is no drain going on")
	}
	hasContent(t, b, "d/f", "wanted")
	left := a.Status().PendingBytes
	held.Store(false)
	ok(t, a.Sync(bg))
	if left == 0 || recalls == 0 || most > 2*cutBytes {
		t.Errorf("%d cuts for recalls; %d bytes were left then, and %d went while one waited, in cuts of %d", recalls, left, most, cutBytes)
	}
	same(t, "bytes sent", sent, int64(files*size+len("wanted")))
	for seq, n := range seen {
		if n != 1 {
			t.Errorf("update %d was sent %d times", seq, n)
		}
	}
}
