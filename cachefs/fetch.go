package cachefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/tokens"
)

const (
	firstWindow = 128 << 10
	maxWindow   = 8 << 20
)

// The fids that a node may have bound at the server.
const (
	fidRead = iota // opened for reading; as long as the file is open here
	fidBare        // not opened; as long as the object is used here
)

// boundFid is a fid bound to a node, or about to be.
type boundFid struct {
	conn  *p9client.Conn
	fid   fid
	ready chan struct{} // closed when fid or err is set
	err   error
}

// fetch is a range of a file's bytes on its way.
type fetch struct {
	off, end int64
	done     chan struct{}
	err      error
}

// sequential notes a read of [off, end) and sizes the window. Called with fs.mu held.
func (h *file) sequential(off, end int64) {
	switch {
	case off == h.nextRead && off > 0:
		h.window = min(max(2*h.window, firstWindow), maxWindow)
	case end == h.nextRead:
		// The same read, tried again.
	case off != 0:
		h.window, h.aheadTo = 0, 0
	default:
		h.window = firstWindow
	}
	h.nextRead = end
}

// readAhead starts fetching what a sequential reader will want. Called with fs.mu held.
func (h *file) readAhead(from int64) {
	n := h.n
	size := int64(n.attr.Size)
	if h.window == 0 || from >= size || h.aheadTo-from > h.window/2 {
		return
	}
	start := max(from, h.aheadTo)
	end := min(start+h.window, size)
	if start >= end {
		return
	}
	h.aheadTo = end
	if _, miss, missEnd := n.content().read(start, end); miss < missEnd {
		if from, _ := n.content().owes(miss, end); from > miss {
			n.fs.startFetch(n, h.uid(), miss, end)
		}
	}
}

func (h *file) uid() uint32 {
	if f := h.n.fs; f.session.UID != wire.NoUID {
		return f.session.UID
	}
	return h.cred.UID
}

// fetch gives a function that waits until [off, end), at least from off on, was fetched. Called with f.mu held.
func (f *FS) fetch(h *file, n *node, off, end int64) func(context.Context) error {
	if from, seq := n.content().owes(off, end); from == off && seq != 0 {
		// It is being copied at the server.
		return f.nextDemand(&demand{why: "read", seqs: []uint64{seq}})
	}
	for _, fe := range n.fetches {
		if fe.off <= off && off < fe.end {
			return f.fetched(fe)
		}
	}
	f.wantedContent++
	if fe := f.fetchSmall(n, h.uid()); fe != nil {
		return f.fetched(fe)
	}
	end = min(max(end, off+h.window), int64(n.attr.Size))
	h.aheadTo = max(h.aheadTo, end)
	return f.fetched(f.startFetch(n, h.uid(), off, end))
}

func (f *FS) fetched(fe *fetch) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := f.waitFor(ctx, fe.done); err != nil {
			return err
		}
		return fe.err
	}
}

// startFetch begins to fetch what is not known of [off, end), up to what is known or on its way. Called with f.mu held.
func (f *FS) startFetch(n *node, uid uint32, off, end int64) *fetch {
	end = n.content().nextKnown(off, end)
	end, _ = n.content().owes(off, end)
	for _, fe := range n.fetches {
		if fe.off > off {
			end = min(end, fe.off)
		}
	}
	fe := &fetch{off: off, end: end, done: make(chan struct{})}
	n.fetches = append(n.fetches, fe)
	n.ref()
	gen, evictions := f.holder.Gen(n.id), n.data.evictions
	f.stats.fetches++
	f.workers.Add(1)
	go func() {
		defer f.workers.Done()
		fe.err = f.runFetch(n, uid, fe, gen, evictions)
		f.fetchedAll(n, fe)
	}()
	return fe
}

// fetchedAll ends a fetch.
func (f *FS) fetchedAll(n *node, fe *fetch) {
	f.mu.Lock()
	n.fetches = slices.DeleteFunc(n.fetches, func(x *fetch) bool { return x == fe })
	if len(n.fetches) == 0 && n.opens == 0 {
		f.closeFid(n, fidRead)
	}
	n.unref()
	f.mu.Unlock()
	close(fe.done)
}

// runFetch reads a range in pieces, all of them in flight at once, and installs each.
func (f *FS) runFetch(n *node, uid uint32, fe *fetch, gen tokens.Gen, evictions uint64) error {
	ctx := context.Background()
	return f.persist(ctx, func(conn *p9client.Conn) error {
		d, err := f.nodeFid(ctx, conn, n, fidRead, uid)
		if err != nil {
			return err
		}
		size := int64(wire.MaxRead(conn.Msize()))
		count := (fe.end - fe.off + size - 1) / size
		results := make(chan error, count)
		for off := fe.off; off < fe.end; off += size {
			want := min(size, fe.end-off)
			r := &wire.Rread{Data: make([]byte, 0, want)}
			f.stats.messages.Add(1)
			conn.Go(&wire.Tread{Fid: d.n, Offset: uint64(off), Count: uint32(want)}, r, func(err error) {
				f.stats.replies.Add(1)
				if err == nil {
					f.installData(n, off, want, r.Data, gen, evictions)
				}
				results <- f.meant(err)
			})
		}
		for range count {
			err = errors.Join(err, <-results)
		}
		if err != nil {
			return fmt.Errorf("reading object %d: %w", n.id, err)
		}
		return nil
	})
}

// installData takes bytes that came from the server, if they are still true.
func (f *FS) installData(n *node, off, want int64, data []byte, gen tokens.Gen, evictions uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.holder.StillHeld(n.id, gen) || !n.attrOK || n.suspect || n.content().evictions != evictions {
		return
	}
	size := int64(n.attr.Size)
	if off >= size {
		return
	}
	if int64(len(data)) < want {
		// Shorter than its size says: somebody changed it behind the server. The rest reads as zeros.
		data = append(data, make([]byte, want-int64(len(data)))...)
	}
	n.data.fill(off, data[:min(int64(len(data)), size-off)])
	f.shrink()
}

// nodeFid gives a fid of a node, and binds it if it is not there on this connection.
func (f *FS) nodeFid(ctx context.Context, conn *p9client.Conn, n *node, which int, uid uint32) (fid, error) {
	f.mu.Lock()
	b := n.fids[which]
	if b != nil && b.conn == conn {
		f.mu.Unlock()
		if err := f.waitFor(ctx, b.ready); err != nil {
			return fid{}, err
		}
		return b.fid, b.err
	}
	b = &boundFid{conn: conn, ready: make(chan struct{})}
	n.fids[which] = b
	f.mu.Unlock()

	flags := wire.BindNoOpen
	if which == fidRead {
		flags = wire.ORdonly
	}
	// Others wait for it, too: it goes on when ctx ends.
	ctx = context.WithoutCancel(ctx)
	b.fid, b.err = f.bindOn(ctx, conn, n.id, uid, flags)
	if errors.Is(b.err, syscall.EACCES) && f.session.Flags&wire.SessionAnyUser != 0 && f.session.UID == wire.NoUID {
		// It was open here before its mode changed.
		b.fid, b.err = f.bindOn(ctx, conn, n.id, 0, flags)
	}
	if b.err != nil {
		f.mu.Lock()
		if n.fids[which] == b {
			n.fids[which] = nil
		}
		f.mu.Unlock()
	}
	close(b.ready)
	return b.fid, b.err
}

// closeFid gives a fid of a node back. Called with f.mu held, when nobody uses it.
func (f *FS) closeFid(n *node, which int) {
	b := n.fids[which]
	if b == nil || which == fidRead && len(n.fetches) > 0 {
		return
	}
	select {
	case <-b.ready:
		n.fids[which] = nil
		if b.err == nil {
			f.clunk(b.fid)
		}
	default: // whoever binds it has a reference, and comes here again
	}
}

func (f *FS) closeFids(n *node) {
	f.closeFid(n, fidRead)
	f.closeFid(n, fidBare)
}

// readDirect reads past the cache: the server's answer is as good as what a token would cover, if nothing
// of ours is pending that it does not have.
func (f *FS) readDirect(ctx context.Context, h *file, p []byte, off int64) (int, error) {
	total := 0
	for total < len(p) {
		got, want := 0, 0
		err := f.persist(ctx, func(conn *p9client.Conn) (err error) {
			want = min(len(p)-total, int(wire.MaxRead(conn.Msize())))
			got, err = f.readDirectOn(ctx, conn, h, p[total:][:want], off+int64(total))
			return err
		})
		if err != nil {
			return total, err
		}
		total += got
		if got < want {
			break
		}
	}
	return total, nil
}

// readDirectOn does one read of readDirect.
func (f *FS) readDirectOn(ctx context.Context, conn *p9client.Conn, h *file, p []byte, off int64) (int, error) {
	n := h.n
	d, err := f.nodeFid(ctx, conn, n, fidRead, h.uid())
	if err != nil {
		return 0, err
	}
	r := &wire.Rread{Data: make([]byte, 0, len(p))}
	done := make(chan error, 1)
	for {
		f.mu.Lock()
		if f.pendingOn(n) == 0 || f.dead != nil {
			break
		}
		f.mu.Unlock()
		if err := f.demand(ctx, &demand{why: "read", touch: order.ByWrite, ids: []uint64{n.id}}); err != nil {
			return 0, err
		}
	}
	// It is sent before any later update can be.
	call := conn.Go(&wire.Tread{Fid: d.n, Offset: uint64(off), Count: uint32(len(p))}, r, func(err error) {
		f.stats.replies.Add(1)
		done <- f.meant(err)
	})
	f.mu.Unlock()
	select {
	case err = <-done:
	case <-ctx.Done():
		call.Flush()
		if err = <-done; err != nil {
			err = interrupted(ctx)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("reading object %d: %w", n.id, err)
	}
	return copy(p, r.Data), nil
}
