package cachefs

import (
	"context"
	"slices"
	"sync"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

const (
	// maxWrite is the most data of one update, and maxWhole the largest write that is taken on wholly or not at all.
	maxWrite = 1 << 20
	maxWhole = 4 << 20
)

// Modes of fallocate(2).
const (
	fallocKeepSize  = 0x01
	fallocPunchHole = 0x02
	fallocZeroRange = 0x10
)

// file is an open file or directory.
type file struct {
	n     *node
	cred  p9srv.Cred
	flags uint32
	// Values of n.lost and n.reported: what was lost since kills the file, or is told once.
	lostSeen uint64
	// As errseq_t of Linux has it: what nobody was told of yet, it is told who opens next.
	reportedSeen uint64 // guarded by fs.mu
	closed       bool   // guarded by fs.mu

	// Of sequential reading; guarded by fs.mu.
	nextRead, aheadTo, window int64

	listMu sync.Mutex
	list   []wire.Dirent // the listing as of the last read from its start
}

// usable says whether the file may still be used. Called with fs.mu held.
func (h *file) usable() error {
	switch {
	case h.closed:
		return syscall.EBADF
	case h.n.lost != h.lostSeen && h.n.ents != nil:
		return syscall.ESTALE
	case h.n.lost != h.lostSeen:
		return syscall.EIO
	}
	return nil
}

// check is usable for somebody who is told the error. Called with fs.mu held.
func (h *file) check() error {
	err := h.usable()
	if err != nil && !h.closed {
		h.tell()
	}
	return err
}

// tell notes that the user of the file is told of all that was lost so far. Called with fs.mu held.
func (h *file) tell() {
	h.n.tell()
	h.reportedSeen = h.n.reported
}

// ReadAt reads at most len(p) bytes.
func (h *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, f := h.n, h.n.fs
	if n.ents != nil {
		return 0, syscall.EISDIR
	}
	if h.flags&wire.OAccMode == wire.OWronly {
		return 0, syscall.EBADF
	}
	if off < 0 {
		return 0, syscall.EINVAL
	}
	var pieces []piece
	total, fetches, direct := 0, 0, false
	err := f.do(ctx, &h.cred, func(t *turn) error {
		if err := h.check(); err != nil {
			return err
		}
		t.want(n, tokens.Read)
		t.inline = true
		if err := t.pin(); err != nil {
			return err
		}
		f.observe(n)
		if off >= int64(n.attr.Size) {
			return nil
		}
		end := min(off+int64(len(p)), int64(n.attr.Size))
		h.sequential(off, end)
		got, miss, missEnd := n.content().read(off, end)
		if miss < missEnd {
			if fetches++; fetches > 8+len(p)/(64<<10) {
				// What is fetched is taken away or evicted each time: read past the cache.
				direct = true
				return nil
			}
			t.wait = f.fetch(h, n, miss, missEnd)
			return errAgain
		}
		if n.along {
			f.wasAlong(n)
		}
		h.readAhead(end)
		pieces, total = got, int(end-off)
		return nil
	})
	if direct {
		return f.readDirect(ctx, h, p, off)
	}
	if err != nil {
		return 0, err
	}
	for _, pc := range pieces {
		dst := p[pc.off-off:][:pc.n]
		if pc.buf == nil {
			clear(dst)
		} else {
			copy(dst, pc.buf)
		}
	}
	return total, nil
}

// WriteAt writes all of p.
func (h *file) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if h.n.ents != nil || h.flags&wire.OAccMode == wire.ORdonly {
		return 0, syscall.EBADF
	}
	if off < 0 {
		return 0, syscall.EINVAL
	}
	done := 0
	for done < len(p) {
		b := p[done:min(done+maxWhole, len(p))]
		if err := h.write(ctx, b, off+int64(done)); err != nil {
			return done, err
		}
		done += len(b)
	}
	return done, nil
}

// write takes at most maxWhole bytes on: all of them, or when it fails none.
func (h *file) write(ctx context.Context, p []byte, off int64) error {
	n, f := h.n, h.n.fs
	var pieces [][]byte
	for b := range slices.Chunk(p, maxWrite) {
		pieces = append(pieces, slices.Clone(b))
	}
	return f.update(ctx, &h.cred, n, int64(len(p)), func(t *turn) error {
		if err := h.check(); err != nil {
			return err
		}
		t.want(n, tokens.Write)
		if err := t.pin(); err != nil {
			return err
		}
		at, size := off, int64(n.attr.Size)
		if h.flags&wire.OAppend != 0 {
			at = size
		}
		if at > maxSize-int64(len(p)) {
			return syscall.EFBIG
		}
		for _, b := range pieces {
			h.wrote(t, b, at)
			at += int64(len(b))
		}
		f.shrink()
		return nil
	})
}

// wrote does a write in memory; b is kept. Called with fs.mu held, with the file's token pinned for writing.
func (h *file) wrote(t *turn, b []byte, at int64) {
	n := h.n
	size, end := int64(n.attr.Size), at+int64(len(b))
	attr := n.wrote(uint64(max(size, end)))
	t.strip(n, &attr)
	seq := t.appendAs(t.writer(n), &order.Op{Kind: order.Write, ID: n.id, Off: uint64(at), Bytes: b, Attrs: []order.Attr{attr}})
	c := n.content()
	if at > size {
		c.zero(size, at, seq)
	}
	c.write(at, b, seq)
}

// Fsync returns when what was done to the object, and all that precedes it, is durable.
func (h *file) Fsync(ctx context.Context, dataOnly bool) error {
	f := h.n.fs
	f.mu.Lock()
	err := h.check()
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if err := f.flushObject(ctx, h.n, "fsync"); err != nil {
		return err
	}
	f.kept(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := h.check(); err != nil {
		return err
	}
	if h.reportedSeen != h.n.reported {
		h.tell()
		return syscall.EIO
	}
	return nil
}

// flushObject waits until all that was done to an object so far is at the server.
func (f *FS) flushObject(ctx context.Context, n *node, why string) error {
	f.mu.Lock()
	if f.dead != nil {
		defer f.mu.Unlock()
		return f.dead
	}
	d := &demand{why: why, seqs: slices.Clone(f.log.Touching(order.ByWrite, n.id))}
	f.mu.Unlock()
	if len(d.seqs) == 0 {
		return nil
	}
	ctx, stop := f.softly(ctx)
	defer stop()
	return f.demand(ctx, d)
}

// Flush tells what the write behind met, and with the policy OnClose writes what the file was changed to.
func (h *file) Flush(ctx context.Context) error { return h.flush(ctx, h.check) }

func (h *file) flush(ctx context.Context, check func() error) error {
	f := h.n.fs
	f.mu.Lock()
	err := check()
	f.mu.Unlock()
	if err == nil && f.opt.Writes == OnClose && h.flags&wire.OAccMode != wire.ORdonly {
		if err = f.flushObject(ctx, h.n, "close"); err == nil {
			f.mu.Lock()
			err = check()
			f.mu.Unlock()
		}
	}
	return err
}

// Close ends the use. Its error does not count as told: kernels drop that of a clunk or a release.
func (h *file) Close(ctx context.Context) error {
	n, f := h.n, h.n.fs
	err := h.flush(ctx, h.usable)
	f.mu.Lock()
	defer f.mu.Unlock()
	if h.closed {
		return syscall.EBADF
	}
	h.closed = true
	n.opens--
	if n.opens == 0 {
		f.closeFid(n, fidRead)
		if n.kept && f.dead == nil {
			n.kept = false
			t := &turn{fs: f, cred: &h.cred}
			seq := t.append(&order.Op{Kind: order.Release, ID: n.id})
			if f.opt.Writes != Behind {
				f.queue(&demand{why: "through", seqs: []uint64{seq}}) // nobody waits for it, and nothing is to stay unsent
			}
			f.poke(f.kick)
		} else if n.attrOK && n.attr.Nlink == 0 {
			f.afterCommit(n)
		}
	}
	n.unref()
	f.settle()
	return err
}

// Allocate is fallocate(2).
func (h *file) Allocate(ctx context.Context, mode uint32, off, length uint64) error {
	n, f := h.n, h.n.fs
	if n.ents != nil || h.flags&wire.OAccMode == wire.ORdonly {
		return syscall.EBADF
	}
	if length == 0 || off > maxSize || length > maxSize-off {
		return syscall.EINVAL
	}
	kind := order.Allocate
	switch mode {
	case 0, fallocKeepSize:
	case fallocPunchHole | fallocKeepSize, fallocZeroRange, fallocZeroRange | fallocKeepSize:
		kind = order.Punch
	default:
		return syscall.EOPNOTSUPP
	}
	var seqs []uint64
	err := f.do(ctx, &h.cred, func(t *turn) error {
		if err := h.check(); err != nil {
			return err
		}
		t.want(n, tokens.Write)
		if err := t.pin(); err != nil {
			return err
		}
		size, end := n.attr.Size, off+length
		grown := size
		if mode&fallocKeepSize == 0 {
			grown = max(size, end)
		}
		attr := n.wrote(grown)
		if grown == size {
			attr.Valid &^= cut.AttrSize
		}
		t.strip(n, &attr)
		if kind == order.Punch {
			// Beyond the end there is nothing to make zero, and a record of it would make the file grow.
			length = min(end, max(grown, off)) - off
		}
		seq := t.appendAs(t.writer(n), &order.Op{Kind: kind, ID: n.id, Off: off, Len: length, Attrs: []order.Attr{attr}})
		c := n.content()
		if kind == order.Punch {
			c.zero(int64(off), int64(min(end, grown)), seq)
		}
		if grown > size {
			c.zero(int64(size), int64(grown), seq)
		}
		seqs = append(seqs, t.seqs...)
		f.await(seqs) // whether a host can do it is its answer
		return nil
	})
	if err != nil {
		return err
	}
	return f.awaited(ctx, seqs)
}
