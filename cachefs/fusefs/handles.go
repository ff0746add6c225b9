package fusefs

import (
	"context"
	"sync"
	"sync/atomic"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// handle is an open file or directory.
type handle struct {
	n     *node
	file  p9srv.File
	flags uint32 // as the kernel gave them
	cred  *p9srv.Cred
	refs  atomic.Int32 // the kernel's, and writes on their way

	mu     sync.Mutex
	noPriv atomic.Bool // setuid and setgid were looked for: see Write
	other  p9srv.File  // opened when O_APPEND was changed by fcntl: see forWrite
}

// handleTable finds handles by the number that the kernel got.
type handleTable struct {
	mu   sync.RWMutex
	m    map[uint64]*handle
	last uint64
}

func (t *handleTable) add(h *handle) uint64 {
	h.refs.Store(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = map[uint64]*handle{}
	}
	t.last++
	t.m[t.last] = h
	return t.last
}

func (t *handleTable) get(fh uint64) *handle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[fh]
}

func (t *handleTable) remove(fh uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.m[fh]
	delete(t.m, fh)
	return h
}

// all empties the table.
func (t *handleTable) all() []*handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	var hs []*handle
	for _, h := range t.m {
		hs = append(hs, h)
	}
	t.m = nil
	return hs
}

func (t *handleTable) count() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.m)
}

// unref ends a use of h; the last closes its files.
func (f *fileSystem) unref(h *handle) {
	if h.refs.Add(-1) > 0 {
		return
	}
	for _, file := range []p9srv.File{h.file, h.other} {
		if file == nil {
			continue
		}
		// Whoever cares called close(2), and was told by Flush.
		if err := file.Close(f.bg); err != nil {
			f.logf("fuse: object %#x: closing it: %v", h.n.id, err)
		}
	}
	f.nodes.release(h.n)
}

// forWrite gives the file that appends, or that does not. fcntl(F_SETFL) can change
// O_APPEND, and pages of shared mappings are written to where they belong whatever it says.
func (h *handle) forWrite(ctx context.Context, obj p9srv.Object, appending bool) (p9srv.File, error) {
	flags := openFlags(h.flags)
	if (flags&wire.OAppend != 0) == appending {
		return h.file, nil
	}
	h.mu.Lock()
	file := h.other
	h.mu.Unlock()
	if file != nil {
		return file, nil
	}
	flags ^= wire.OAppend
	flags &^= wire.OCreat | wire.OExcl | wire.OTrunc
	file, err := obj.Open(ctx, h.cred, flags)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	spare := file
	if h.other == nil {
		h.other, spare = file, nil
	}
	file = h.other
	h.mu.Unlock()
	if spare != nil {
		_ = spare.Close(ctx) // nothing was written by it
	}
	return file, nil
}
