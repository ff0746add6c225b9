package treeops

import (
	"sync"
	"testing"
	"time"
)

// gate lets through all that comes, until hold.
type gate struct {
	mu           sync.Mutex
	of           map[any]int // what is inside: of which file how many
	in, most     int
	until        int
	distinct     bool
	open, failed chan struct{}
}

// hold keeps what comes until n are inside at a time, for good if they never are; of n files if distinct. So what is in
// flight at a time is what is asked for at a time, however the machine schedules it.
func (g *gate) hold(t *testing.T, n int, distinct bool) {
	g.mu.Lock()
	g.until, g.distinct, g.most = n, distinct, 0
	open := make(chan struct{})
	g.open, g.failed = open, make(chan struct{})
	failed := g.failed
	g.mu.Unlock()
	late := time.AfterFunc(time.Minute, func() { close(failed) })
	t.Cleanup(func() { late.Stop() })
}

// was is how many were inside at most since hold.
func (g *gate) was() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most
}

func (g *gate) enter(file any) (leave func()) {
	g.mu.Lock()
	if g.of == nil {
		g.of = make(map[any]int)
	}
	g.of[file]++
	g.in++
	n := g.in
	if g.distinct {
		n = len(g.of)
	}
	g.most = max(g.most, n)
	open, failed := g.open, g.failed
	if open != nil && n >= g.until {
		close(open)
		g.open, open = nil, nil
	}
	g.mu.Unlock()
	if open != nil {
		select {
		case <-open:
		case <-failed:
		}
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.in--
		if g.of[file]--; g.of[file] == 0 {
			delete(g.of, file)
		}
	}
}
