package cachefs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/tokens"
)

// listCount is how many bytes of a listing are asked for at once, at most.
const listCount = 512 << 10

// maxTorn is how often a listing that was torn by a recall is begun again, before it is used once as it is.
const maxTorn = 3

// listing is the fetching of a directory's names.
type listing struct {
	done chan struct{}
	torn bool // the directory's token was lost since it began
	err  error
	// once is what whoever waits for it gets, whatever has become of the directory's token since: what was
	// there when all was known, or when the listing could never be kept, all that came.
	once []wire.Dirent
}

// ReadDir calls fn for the entries after cookie.
func (h *file) ReadDir(ctx context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
	n, f := h.n, h.n.fs
	if n.ents == nil {
		return syscall.ENOTDIR
	}
	h.listMu.Lock()
	defer h.listMu.Unlock()
	f.mu.Lock()
	err := h.check()
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if cookie == 0 || h.list == nil {
		if h.list, err = f.list(ctx, h); err != nil {
			return err
		}
	}
	if cookie == 0 && !fn(wire.Dirent{QID: n.qid, Offset: 1, Type: direntType(modeDir), Name: "."}) {
		return nil
	}
	if cookie <= 1 {
		up := n.qid
		f.mu.Lock()
		if len(n.up) > 0 && n != f.root {
			up.Path = n.up[0]
		}
		f.mu.Unlock()
		if !fn(wire.Dirent{QID: up, Offset: 2, Type: direntType(modeDir), Name: ".."}) {
			return nil
		}
	}
	for i := max(cookie, 2) - 2; i < uint64(len(h.list)); i++ {
		if !fn(h.list[i]) {
			return nil
		}
	}
	return nil
}

// list gives all names of a directory, in an order of no meaning; the slice is shared.
func (f *FS) list(ctx context.Context, h *file) (names []wire.Dirent, err error) {
	n := h.n
	var l *listing
	err = f.do(ctx, &h.cred, func(t *turn) error {
		if err := h.check(); err != nil {
			return err
		}
		if n.gone {
			return syscall.ENOENT
		}
		if l != nil && l.once != nil {
			f.observe(n)
			names = l.once
			return nil
		}
		if f.holder.Mode(n.id) != tokens.None || n.fresh {
			t.want(n, tokens.Read)
			if err := t.pin(); err != nil {
				return err
			}
			f.observe(n)
			if n.ents.complete {
				names = n.ents.snapshot()
				return nil
			}
		}
		t.wait, l = f.fetchList(n)
		return errAgain
	})
	return names, err
}

// wholeDirectory is the size (st_size) of a directory up to which it is listed when a few of its names were
// missed: some thousands of names.
const wholeDirectory = 256 << 10

// missed notes that a name in n is not known, and gives n if it is worth while to wait for a listing instead of
// asking for the name. Who asks for two names of a directory asks for more, and a listing costs a message or two
// for all of them, their attributes and small contents. Where it is soon worth nothing again, because others
// change the directory, it is tried less and less. Called with f.mu held.
func (f *FS) missed(n *node) *node {
	if n == nil || n.fresh || n.ents == nil || n.ents.complete || !n.attrOK || n.attr.Size > wholeDirectory {
		return nil
	}
	if n.listing != nil {
		return n
	}
	if n.misses++; n.misses >= 2 && n.misses&(n.misses-1) == 0 {
		return n
	}
	return nil
}

// fetchList gives a function that waits until the names of a directory are known. Called with f.mu held.
func (f *FS) fetchList(n *node) (func(context.Context) error, *listing) {
	l := n.listing
	if l == nil {
		l = &listing{done: make(chan struct{})}
		n.listing = l
		n.ref()
		f.workers.Add(1)
		go func() {
			defer f.workers.Done()
			l.err = f.runList(n, l)
			f.mu.Lock()
			n.listing = nil
			n.unref()
			f.settle()
			f.mu.Unlock()
			close(l.done)
		}()
	}
	return func(ctx context.Context) error {
		if err := f.waitFor(ctx, l.done); err != nil {
			return err
		}
		return l.err
	}, l
}

// runList fetches the names of a directory, with their attributes and tokens.
func (f *FS) runList(n *node, l *listing) error {
	for try := 0; ; try++ {
		all, err := f.listOnce(n, l)
		if errors.Is(err, errOver) {
			if err = f.revived(context.Background(), err); err == nil {
				try--
				continue
			}
		}
		if errors.Is(err, p9client.ErrEnded) {
			try-- // where it was is good for that connection only
			continue
		}
		if err != nil {
			return fmt.Errorf("listing directory %d: %w", n.id, err)
		}
		f.mu.Lock()
		whole := l.once != nil
		f.mu.Unlock()
		if whole {
			return nil
		}
		if try == maxTorn {
			l.once = all
			return nil
		}
	}
}

func (f *FS) listOnce(n *node, l *listing) (all []wire.Dirent, err error) {
	all = []wire.Dirent{}
	var cookie uint64
	var inline uint32
	f.mu.Lock()
	l.torn = false
	if f.wantedContent > 1 {
		inline = f.opt.Inline
		f.wantedContent /= 2
	}
	f.mu.Unlock()
	for {
		conn, err := f.reach(context.Background())
		if err != nil {
			return nil, err
		}
		r := new(wire.Rreaddirplus)
		sent := f.clock()
		t := &wire.Treaddirplus{Count: min(listCount, conn.Msize()), Inline: inline,
			Dirs: []wire.DirRead{{ID: n.id, Cookie: cookie}}}
		first := cookie == 0
		if err := f.callOn(context.Background(), conn, t, r, func() { f.listed(n, l, r, sent, first) }); err != nil {
			return nil, err
		}
		if len(r.Dirs) != 1 || r.Dirs[0].ID != n.id {
			return nil, fmt.Errorf("an answer about other directories: %w", syscall.EPROTO)
		}
		d := &r.Dirs[0]
		for i := range d.Entries {
			e := &d.Entries[i]
			qid, typ := identity(e)
			all = append(all, wire.Dirent{QID: qid, Offset: uint64(len(all)) + 3, Type: typ, Name: e.Name})
			cookie = e.Offset
		}
		if d.EOF {
			return all, nil
		}
		if len(d.Entries) == 0 {
			return nil, errors.New("a listing that does not go on")
		}
	}
}

// identity gives what a listing says of an entry's identity: more, if its attributes came along.
func identity(e *wire.PlusEntry) (wire.QID, uint8) {
	switch {
	case e.Token.Flags&wire.GrantedAttr != 0:
		return canonical(e.Token.Attr.QID), direntType(e.Token.Attr.Mode)
	case e.QID.Type&wire.QTDir != 0:
		return canonical(e.QID), direntType(modeDir)
	case e.QID.Type&wire.QTSymlink != 0:
		return canonical(e.QID), direntType(modeSymlink)
	}
	return canonical(e.QID), 0
}

// listed takes a part of a listing over; it runs in the order in which the server sent things.
func (f *FS) listed(n *node, l *listing, r *wire.Rreaddirplus, sent int64, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	f.leased(sent, r.Lease)
	if len(r.Dirs) != 1 || r.Dirs[0].ID != n.id {
		return
	}
	d := &r.Dirs[0]
	had := f.holder.Mode(n.id) != tokens.None
	granted := []wire.Granted{{ID: d.ID, Gen: d.Gen, Mode: d.Mode, Flags: wire.GrantedAttr, Attr: d.Attr}}
	for i := range d.Entries {
		granted = append(granted, d.Entries[i].Token)
	}
	toks := make([]tokens.Token, 0, len(granted))
	for i := range granted {
		if granted[i].Gen == 0 {
			granted[i].Mode = uint8(tokens.None)
		}
		toks = append(toks, tokens.Token{ID: granted[i].ID, Gen: tokens.Gen(granted[i].Gen), Mode: tokens.Mode(granted[i].Mode)})
	}
	install := f.holder.Offered(f.clock(), toks)
	for i := range granted {
		f.take(&granted[i], install[i])
	}
	if f.holder.Mode(n.id) == tokens.None || n.suspect || n.gone {
		l.torn = true
		return
	}
	if !had && !first {
		l.torn = true // what came before was not covered
	}
	if l.torn {
		return
	}
	for i := range d.Entries {
		e := &d.Entries[i]
		if _, known := n.ents.lookup(e.Name); known {
			continue // our own pending updates are newer
		}
		qid, typ := identity(e)
		n.ents.bind(e.Name, qid, typ)
		if c := f.nodes[e.QID.Path]; c != nil && f.holder.Mode(c.id) != tokens.None {
			c.addUp(n.id)
		}
	}
	if d.EOF {
		if !n.ents.complete {
			n.ents.finish()
		}
		l.once = n.ents.snapshot()
	}
	f.trim()
}

// trim gives back the tokens of objects that nobody has used for long, when there are too many. Called with f.mu held.
func (f *FS) trim() {
	for over := f.idle.len - f.opt.Objects; over > 0; over-- {
		k := f.idle.head.prev
		n := k.n
		f.idle.push(n) // whatever becomes of it, the next one is another
		if f.holder.Mode(n.id) == tokens.None {
			f.reap(n)
		} else if f.pendingOn(n) == 0 {
			f.holder.GiveBack(n.id, tokens.None)
		}
	}
}
