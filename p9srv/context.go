package p9srv

import (
	"context"
	"sync"
	"time"
)

// reqContext is the context of one request. It makes its channel only for who
// asks for it, so that the many operations that never wait cost nothing.
type reqContext struct {
	mu   sync.Mutex
	done chan struct{}
	err  error
}

// Deadline is none.
func (*reqContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value is none.
func (*reqContext) Value(any) any { return nil }

// Done is closed when the request is flushed or its connection ends.
func (x *reqContext) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done == nil {
		x.done = make(chan struct{})
		if x.err != nil {
			close(x.done)
		}
	}
	return x.done
}

// Err is context.Canceled once the request is flushed or its connection has ended.
func (x *reqContext) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

func (x *reqContext) cancel() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == nil {
		x.err = context.Canceled
		if x.done != nil {
			close(x.done)
		}
	}
}

// used tells whether somebody may still look at the context.
func (x *reqContext) used() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.done != nil || x.err != nil
}
