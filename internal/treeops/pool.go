package treeops

import (
	"context"
	"sync"
)

// pool runs tasks that may add tasks. The last one added runs first, so that a
// tree is gone through depth first and the stack stays small. The first error
// cancels the rest.
type pool struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	cond  *sync.Cond
	stack []func(context.Context) error
	busy  int // tasks on the stack or running
	owned map[*Node]struct{}
}

// runPool runs first and all that it adds, on n goroutines, and returns when
// nothing is left.
func runPool(ctx context.Context, n int, first func(ctx context.Context, p *pool) error) error {
	p := &pool{owned: make(map[*Node]struct{})}
	p.cond = sync.NewCond(&p.mu)
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	p.add(func(ctx context.Context) error { return first(ctx, p) })
	var wg sync.WaitGroup
	for range n {
		wg.Go(p.work)
	}
	wg.Wait()
	// What the tasks that were not run would have released.
	for n := range p.owned {
		n.Release()
	}
	err := context.Cause(p.ctx)
	p.cancel(nil)
	return err
}

// add puts a task on the stack.
func (p *pool) add(task func(context.Context) error) {
	p.mu.Lock()
	p.stack = append(p.stack, task)
	p.busy++
	p.mu.Unlock()
	p.cond.Signal()
}

// own makes the pool release n in the end, unless free does before.
func (p *pool) own(n *Node) *Node {
	p.mu.Lock()
	p.owned[n] = struct{}{}
	p.mu.Unlock()
	return n
}

func (p *pool) free(n *Node) {
	p.mu.Lock()
	delete(p.owned, n)
	p.mu.Unlock()
	n.Release()
}

func (p *pool) work() {
	for {
		p.mu.Lock()
		for len(p.stack) == 0 && p.busy > 0 {
			p.cond.Wait()
		}
		if p.busy == 0 {
			p.mu.Unlock()
			return
		}
		task := p.stack[len(p.stack)-1]
		p.stack = p.stack[:len(p.stack)-1]
		p.mu.Unlock()

		// After an error the tasks left are taken off the stack and not run.
		if p.ctx.Err() == nil {
			if err := task(p.ctx); err != nil {
				p.cancel(err)
			}
		}

		p.mu.Lock()
		p.busy--
		last := p.busy == 0
		p.mu.Unlock()
		if last {
			p.cond.Broadcast()
		}
	}
}

// countdown runs done once, when it has been released as often as it was taken.
type countdown struct {
	mu   sync.Mutex
	n    int
	done func() error
}

func (c *countdown) take(n int) {
	c.mu.Lock()
	c.n += n
	c.mu.Unlock()
}

func (c *countdown) release() error {
	c.mu.Lock()
	c.n--
	zero := c.n == 0
	c.mu.Unlock()
	if zero {
		return c.done()
	}
	return nil
}
