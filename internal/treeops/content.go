package treeops

import (
	"context"
	"errors"
	"io"
	"sync"

	"echo9/p9srv"
)

// chunks lends buffers of the tree's chunk size.
type chunks struct {
	size int
	pool sync.Pool
}

func newChunks(size int) *chunks {
	c := &chunks{size: size}
	c.pool.New = func() any { b := make([]byte, size); return &b }
	return c
}

// readOut copies a file to w in order, with several reads in flight. size is
// what the file is thought to have: it bounds the reading ahead, not the copy.
func (t *Tree) readOut(ctx context.Context, f p9srv.File, size uint64, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	type piece struct {
		buf *[]byte
		n   int
		err error
	}
	ahead := min(t.opt.Ahead, int(min(size/uint64(t.opt.Chunk), 1<<16))+1)
	bufs := newChunks(t.opt.Chunk)
	queue := make([]chan piece, 0, ahead)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var next int64
	start := func() {
		c := make(chan piece, 1)
		off := next
		next += int64(t.opt.Chunk)
		queue = append(queue, c)
		wg.Go(func() {
			buf := bufs.pool.Get().(*[]byte)
			n, err := f.ReadAt(ctx, *buf, off)
			c <- piece{buf, n, err}
		})
	}
	for range ahead {
		start()
	}
	for {
		p := <-queue[0]
		queue = queue[1:]
		if err := ctx.Err(); err != nil {
			return err // also where a Backend does not look at it
		}
		if p.n > 0 {
			if _, err := w.Write((*p.buf)[:p.n]); err != nil {
				return err
			}
			t.opt.Progress(0, int64(p.n))
		}
		if p.err != nil && !errors.Is(p.err, io.EOF) {
			return p.err
		}
		if p.n < t.opt.Chunk {
			return nil
		}
		bufs.pool.Put(p.buf)
		start()
	}
}

// writeIn copies r to a file from offset 0, with several writes in flight, and
// returns the length.
func (t *Tree) writeIn(ctx context.Context, f p9srv.File, r io.Reader) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	bufs := newChunks(t.opt.Chunk)
	slots := make(chan struct{}, t.opt.Ahead)
	var wg sync.WaitGroup
	var off int64
	var rerr error
	for rerr == nil && ctx.Err() == nil {
		buf := bufs.pool.Get().(*[]byte)
		var n int
		n, rerr = io.ReadFull(r, *buf)
		if n == 0 {
			break
		}
		slots <- struct{}{}
		at := off
		off += int64(n)
		wg.Go(func() {
			defer func() { <-slots }()
			if _, err := f.WriteAt(ctx, (*buf)[:n], at); err != nil {
				cancel(err)
			}
			bufs.pool.Put(buf)
			t.opt.Progress(0, int64(n))
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	cancel(nil)
	if err != nil {
		return off, err
	}
	if rerr != nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF) {
		return off, rerr
	}
	return off, nil
}

// Cat writes a file's content to w.
func (t *Tree) Cat(ctx context.Context, name string, w io.Writer) error {
	n, err := t.Find(ctx, name, true)
	if err != nil {
		return err
	}
	defer n.Release()
	return pathErr("read", name, t.readNode(ctx, n, w))
}
