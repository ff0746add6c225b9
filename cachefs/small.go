package cachefs

import (
	"context"
	"slices"

	"echo9/internal/wire"
	"echo9/tokens"
)

// Small files are read whole, by a Tgrant with the content: one message, where a fid to read from takes three. Who reads one file
// of a directory after another, and has listed it before without the contents, gets those that come next along with it, more and more
// of them, for as long as they are used.

const (
	// wholeInlines is up to how many times Options.Inline a file is read whole.
	wholeInlines = 4

	firstSmall = 8
	mostSmall  = 128
	// smallBytes bounds what comes along at once.
	smallBytes = 256 << 10
	// smallTrial is how many files come along before it counts whether they are used.
	smallTrial = 64
)

// smallFiles is how the small files of a directory are read. Guarded by fs.mu.
type smallFiles struct {
	reads  int // of those that had to be asked for
	window int // how many came along at last
	next   int // where in the list of names the next ones are
	ahead  int // that came along so far
	used   int // of these
}

// small says whether n's content is to be had whole: it is not larger than most, and nothing is known of it. Called with fs.mu held.
func (f *FS) small(n *node, most uint32) bool {
	size := int64(n.attr.Size)
	if !n.attrOK || !isRegular(n.attr.Mode) || n.fresh || size == 0 || size > int64(most) || len(n.fetches) > 0 || n.fids[fidRead] != nil || f.opt.Mutant == mutantOneByOne {
		return false
	}
	if n.data == nil {
		return true
	}
	if _, miss, end := n.data.read(0, size); miss != 0 || end != size {
		return false
	}
	from, _ := n.data.owes(0, size)
	return from == size
}

// alongWith gives the files whose contents come along with that of n. Called with fs.mu held.
func (f *FS) alongWith(n *node) []*node {
	d := f.directory(n)
	if d == nil {
		return nil
	}
	s := &d.together().small
	if s.reads++; s.reads < 2 {
		return nil
	}
	if s.ahead >= smallTrial && 4*s.used < s.ahead {
		s.ahead-- // it is tried again some time
		return nil
	}
	s.window = min(max(2*s.window, firstSmall), mostSmall)
	var set []*node
	bare := int64(wire.GrantedSize(&wire.Granted{Flags: wire.GrantedAttr}))
	left := min(smallBytes, int64(f.conn.Msize())/2) - bare - int64(n.attr.Size)
	s.next = f.after(d, n, s.next, func(c *node) bool {
		if f.holder.Mode(c.id) == tokens.None || !f.small(c, f.opt.Inline) {
			return true
		}
		if left -= bare + int64(c.attr.Size); left < 0 {
			return false
		}
		c.along = true
		set = append(set, c)
		return len(set) < s.window
	})
	s.ahead += len(set)
	return set
}

// wasAlong notes that what came along with another file is used. Called with fs.mu held.
func (f *FS) wasAlong(n *node) {
	n.along = false
	if d := f.directory(n); d != nil {
		d.together().small.used++
	}
}

// wholeFetch is the fetch of a whole small file.
type wholeFetch struct {
	fetch
	n         *node
	gen       tokens.Gen
	evictions uint64
	came      bool
}

// fetchSmall begins to fetch the content of n, if it is small, and of others with it; nil: not in this way. Called with fs.mu held.
func (f *FS) fetchSmall(n *node, uid uint32) *fetch {
	if !f.small(n, wholeInlines*f.opt.Inline) || f.holder.Mode(n.id) == tokens.None {
		return nil
	}
	nodes := append([]*node{n}, f.alongWith(n)...)
	set := make([]*wholeFetch, len(nodes))
	for i, c := range nodes {
		c.ref()
		set[i] = &wholeFetch{n: c, gen: f.holder.Gen(c.id), evictions: c.content().evictions,
			fetch: fetch{end: int64(c.attr.Size), done: make(chan struct{})}}
		c.fetches = append(c.fetches, &set[i].fetch)
	}
	f.stats.fetches++
	f.workers.Add(1)
	go func() {
		defer f.workers.Done()
		f.runSmall(set)
		if !set[0].came {
			// It cannot be had so now: it is wanted back, it has grown, or only who had it open may read it.
			set[0].err = f.runFetch(n, uid, &set[0].fetch, set[0].gen, set[0].evictions)
		}
		for _, w := range set {
			f.fetchedAll(w.n, &w.fetch)
		}
	}()
	return &set[0].fetch
}

// runSmall asks for contents, without waiting for what somebody else has.
func (f *FS) runSmall(set []*wholeFetch) {
	elems := make([]wire.GrantElem, len(set))
	for i, w := range set {
		elems[i] = wire.GrantElem{ID: w.n.id, Mode: uint8(tokens.Read)}
	}
	sent, r := f.clock(), new(wire.Rgrant)
	// Whatever becomes of it: who needs one of them asks for it.
	_ = f.call(context.Background(), &wire.Tgrant{Flags: wire.GrantTry, Inline: wholeInlines * f.opt.Inline, Elems: elems}, r, func() {
		f.grantedAlong(r, sent)
		for i := range min(len(set), len(r.Tokens)) {
			w, g := set[i], &r.Tokens[i]
			if g.ID == w.n.id && g.Flags&wire.GrantedInline != 0 {
				f.installData(w.n, 0, w.end, slices.Clone(g.Inline), w.gen, w.evictions) // so that one file does not keep all of the answer
				w.came = true
			}
		}
	})
}

// grantedAlong takes tokens over that no operation waits for. It runs in the order in which the server sent things.
func (f *FS) grantedAlong(r *wire.Rgrant, sent int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	f.leased(sent, r.Lease)
	toks := make([]tokens.Token, len(r.Tokens))
	for i, g := range r.Tokens {
		toks[i] = tokens.Token{ID: g.ID, Gen: tokens.Gen(g.Gen), Mode: tokens.Mode(g.Mode)}
	}
	install := f.holder.Offered(f.clock(), toks)
	for i := range r.Tokens {
		f.take(&r.Tokens[i], install[i])
	}
}
