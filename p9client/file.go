package p9client

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// file is an open fid.
type file struct {
	t     *Tree
	o     *object // of which it holds a reference
	fid   uint32
	flags uint32
	unit  int // bytes of data a message

	closing sync.Once
}

var _ p9srv.File = (*file)(nil)

func (o *object) file(fid, flags, iounit uint32) *file {
	unit := o.t.payload()
	if iounit > 0 && int64(iounit) < int64(unit) {
		unit = int(iounit)
	}
	f := &file{t: o.t, o: o, fid: fid, flags: flags, unit: unit}
	o.t.mu.Lock()
	o.refs++
	o.files = append(o.files, f)
	o.t.mu.Unlock()
	return f
}

// window is how many messages of one large read or write are under way at once.
const window = 8

// ReadAt takes a short reply for the end of the file, as all 9P clients do.
func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading at %d: %w", off, syscall.EINVAL)
	}
	return f.t.readAt(ctx, f.fid, f.unit, p, off)
}

func (t *Tree) readAt(ctx context.Context, fid uint32, unit int, p []byte, off int64) (int, error) {
	return inPieces(p, off, unit, window, func(p []byte, off int64) (int, error) {
		r := wire.Rread{Data: p[:0:len(p)]}
		err := t.c.RPC(ctx, &wire.Tread{Fid: fid, Offset: uint64(off), Count: uint32(len(p))}, &r)
		return len(r.Data), err
	})
}

func (f *file) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("writing at %d: %w", off, syscall.EINVAL)
	}
	if f.flags&wire.OAppend == 0 {
		return f.t.writeAt(ctx, f.fid, f.unit, p, off)
	}
	n := 0
	for n < len(p) { // what is appended must come in order
		m, err := f.t.write(ctx, f.fid, p[n:min(len(p), n+f.unit)], off+int64(n))
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (t *Tree) writeAt(ctx context.Context, fid uint32, unit int, p []byte, off int64) (int, error) {
	return inPieces(p, off, unit, window, func(p []byte, off int64) (int, error) {
		return t.write(ctx, fid, p, off)
	})
}

// write writes all of p, or fails.
func (t *Tree) write(ctx context.Context, fid uint32, p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		var r wire.Rwrite
		if err := t.c.RPC(ctx, &wire.Twrite{Fid: fid, Offset: uint64(off) + uint64(n), Data: p[n:]}, &r); err != nil {
			return n, err
		}
		if r.Count == 0 || int(r.Count) > len(p)-n {
			return n, fmt.Errorf("an Rwrite of %d bytes where %d were sent: %w", r.Count, len(p)-n, syscall.EIO)
		}
		n += int(r.Count)
	}
	return n, nil
}

// inPieces does p in pieces of unit bytes, up to width of them at a time. It
// tells how much was done without a gap, and the first error.
func inPieces(p []byte, off int64, unit, width int, do func(p []byte, off int64) (int, error)) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(p) <= unit {
		return do(p, off)
	}
	type result struct {
		n   int
		err error
	}
	pieces := slices.Collect(slices.Chunk(p, unit))
	results := make([]result, len(pieces))
	var (
		mu   sync.Mutex
		next int
		stop bool // a piece was short or failed: later ones are not begun
		wg   sync.WaitGroup
	)
	for range min(width, len(pieces)) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				if stop || i == len(pieces) {
					mu.Unlock()
					return
				}
				next++
				mu.Unlock()
				n, err := do(pieces[i], off+int64(i)*int64(unit))
				mu.Lock()
				results[i] = result{n, err}
				stop = stop || n < len(pieces[i])
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	total := 0
	for i, r := range results[:next] {
		total += r.n
		if r.err != nil || r.n < len(pieces[i]) {
			return total, r.err
		}
	}
	return total, nil
}

// ReadDir gives what the server lists; some leave "." and ".." out.
func (f *file) ReadDir(ctx context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
	count := uint32(min(f.t.payload(), 256<<10))
	for {
		var r wire.Rreaddir
		if err := f.t.c.RPC(ctx, &wire.Treaddir{Fid: f.fid, Offset: cookie, Count: count}, &r); err != nil {
			return err
		}
		if len(r.Data) == 0 {
			return nil
		}
		for e := range r.Entries() {
			if !fn(e) {
				return nil
			}
			cookie = e.Offset
		}
	}
}

func (f *file) Fsync(ctx context.Context, dataOnly bool) error {
	t := &wire.Tfsync{Fid: f.fid}
	if dataOnly {
		t.DataSync = 1
	}
	return f.t.c.RPC(ctx, t, &wire.Rfsync{})
}

func (f *file) Allocate(ctx context.Context, mode uint32, off, length uint64) error {
	return fmt.Errorf("allocating, which 9P2000.L does not have: %w", syscall.EOPNOTSUPP)
}

func (f *file) Close(ctx context.Context) error {
	err := fmt.Errorf("closing a file twice: %w", syscall.EBADF)
	f.closing.Do(func() {
		f.t.mu.Lock()
		f.o.files = slices.DeleteFunc(f.o.files, func(x *file) bool { return x == f })
		f.t.mu.Unlock()
		err = nil
		if f.fid != f.o.fid { // else they share it, see createdAndGone
			err = f.t.clunkWait(ctx, f.fid)
		}
		f.o.Release()
	})
	return err
}
