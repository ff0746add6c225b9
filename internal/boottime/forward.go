package boottime

import (
	"sync"
	"time"
)

// Forward makes a clock that never goes back: while c does, as when a machine is restored from a snapshot, it goes on at
// the pace of Go's monotonic clock.
func Forward(c Clock) Clock {
	var mu sync.Mutex
	shown, last, mono := int64(0), int64(0), time.Time{}
	return func() int64 {
		mu.Lock()
		defer mu.Unlock()
		t, now := c(), time.Now()
		switch {
		case mono.IsZero():
			shown = t
		case t >= last:
			shown += t - last
		default:
			shown += max(0, int64(now.Sub(mono)))
		}
		last, mono = t, now
		return shown
	}
}
