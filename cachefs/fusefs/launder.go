package fusefs

import (
	"context"

	"echo9/p9srv"
)

// laundered is a write from a shared mapping on its way to the backend.
type laundered struct {
	file p9srv.File
	data []byte
	off  int64
	free func() // file is no longer needed
	done chan struct{}
	err  error
	lost bool // nobody waits for the result any more
}

// writeBack does a write that the kernel sends when it cleans the pages of a shared mapping. An invalidation
// may be waiting for it, and the write for a token that comes only when the invalidation is over: so
// it is taken on at once when the object is being revoked, and done afterwards, before
// anything else is written, and before fsync and close return. free is called when file is no longer needed.
func (f *fileSystem) writeBack(ctx context.Context, n *node, file p9srv.File, free func(), data []byte, off int64) error {
	w := &laundered{file: file, data: append([]byte(nil), data...), off: off, free: free, done: make(chan struct{})}
	n.mu.Lock()
	n.laundry = append(n.laundry, w)
	if !n.laundering {
		n.laundering, n.washed = true, make(chan struct{})
		m := f.nodes.again(n)
		f.background.Go(func() { f.launder(m) })
	}
	revoked := n.revoked
	n.mu.Unlock()
	if f.hooks.serialLaunder {
		revoked = nil
	}
	select {
	case <-w.done:
		return w.err
	case <-revoked:
	case <-ctx.Done():
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	default:
	}
	w.lost = true
	f.stats.laundered.Add(1)
	return nil
}

// launder does the writes of n one after the other.
func (f *fileSystem) launder(n *node) {
	defer f.nodes.release(n)
	for {
		n.mu.Lock()
		if len(n.laundry) == 0 {
			n.laundering = false
			close(n.washed)
			n.mu.Unlock()
			return
		}
		w := n.laundry[0]
		n.mu.Unlock()
		_, err := w.file.WriteAt(f.bg, w.data, w.off)
		if f.witness != nil {
			f.witness.Seen(n.id) // the pages stay in the kernel
		}
		n.mu.Lock()
		w.err = err
		n.laundry = n.laundry[1:]
		lost := err != nil && w.lost
		if lost {
			n.washErr = err
		}
		close(w.done)
		n.mu.Unlock()
		if lost {
			f.logf("fuse: object %#x: %d bytes at %d, written through a mapping, are lost: %v", n.id, len(w.data), w.off, err)
		}
		w.free()
	}
}

// settle waits until what was taken on from mappings is written.
func (f *fileSystem) settle(ctx context.Context, n *node) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.laundering {
		ch := n.washed
		n.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			n.mu.Lock()
			return ctx.Err()
		}
		n.mu.Lock()
	}
	return nil
}

// settled is settle for fsync and close, which also tell of a failure, once.
func (f *fileSystem) settled(ctx context.Context, n *node) error {
	if err := f.settle(ctx, n); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.washErr
	n.washErr = nil
	return err
}

// overlay puts what is on its way over what was read. n.mu is held.
func (n *node) overlay(buf []byte, off int64) {
	end := off + int64(len(buf))
	for _, w := range n.laundry {
		from, to := max(off, w.off), min(end, w.off+int64(len(w.data)))
		if from < to {
			copy(buf[from-off:to-off], w.data[from-w.off:to-w.off])
		}
	}
}
