package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// neighbourPart measures small overwrites while somebody else dirties much on the same file system.
func neighbourPart(ctx context.Context, mnt string, c config) ([]row, error) {
	o, err := newOverwriter(ctx, mnt, "neighbour")
	if err != nil {
		return nil, err
	}
	var written atomic.Int64
	ended := make(chan error, 1)
	go func() { ended <- dirty(ctx, filepath.Join(mnt, "neighbour.big"), c.dirty, &written) }()
	for written.Load() < min(c.dirty/10, 256<<20) {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("the neighbour ended early: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	stopped := false
	s, err := o.turns(ctx, func(n int) bool {
		select {
		case err = <-ended:
			stopped = true
		default:
		}
		return stopped
	})
	if err != nil {
		return nil, err
	}
	if len(s.local) < 5 {
		return nil, fmt.Errorf("the neighbour was done after %d rounds: give it more with -dirty", len(s.local))
	}
	mean := func(d []time.Duration) time.Duration {
		sum := time.Duration(0)
		for _, x := range d {
			sum += x
		}
		return sum / time.Duration(len(d))
	}
	detail := fmt.Sprintf("means of %d; medians: local %s, ", len(s.local), show(median(s.local)))
	rows := []row{
		{what: "with a neighbour: a cut", local: mean(s.local), echo9: mean(s.direct), goal: 2, detail: detail + show(median(s.direct))},
		{what: "with a neighbour: through a cache", local: mean(s.local), echo9: mean(s.cached), goal: 2, detail: detail + show(median(s.cached))},
	}
	return rows, o.close(ctx)
}

// dirty writes a file of so many bytes, through the page cache, and removes it.
func dirty(ctx context.Context, path string, bytes int64, written *atomic.Int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer f.Close()
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i * 7)
	}
	for written.Load() < bytes && ctx.Err() == nil {
		n, err := f.Write(b)
		if err != nil {
			return err
		}
		written.Add(int64(n))
	}
	return ctx.Err()
}
