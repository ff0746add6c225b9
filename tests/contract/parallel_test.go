package contract

import (
	"context"
	"testing"
	"time"

	"echo9/tests/internal/need"
)

// TestParallel: clients at the same time, each held against a model of its own part.
func TestParallel(t *testing.T) {
	need.Root(t)
	runs := uint64(8)
	if need.Full() {
		runs = 200
	}
	var total counts
	end := time.Now().Add(*forTime)
	for n := uint64(0); *forTime > 0 && time.Now().Before(end) || *forTime == 0 && n < runs; n++ {
		dir, remove, err := scratch("")
		if err != nil {
			t.Fatal(err)
		}
		c, err := parallel(context.WithoutCancel(t.Context()), *seed+n, 80, "", dir)
		remove()
		if total.add(c); err != nil {
			t.Errorf("seed %d: %v", *seed+n, err)
			break
		}
	}
	t.Log(total)
}

// TestParallelNotices: a client that does not write back what is recalled is noticed.
func TestParallelNotices(t *testing.T) {
	need.Root(t)
	for n := range uint64(20) {
		dir, remove, err := scratch("")
		if err != nil {
			t.Fatal(err)
		}
		_, err = parallel(context.WithoutCancel(t.Context()), n, 60, "skipRecall", dir)
		remove()
		if err != nil {
			t.Logf("seed %d: %v", n, err)
			return
		}
	}
	t.Error("not noticed")
}
