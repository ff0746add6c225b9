package cachefs

import (
	"context"

	"echo9/internal/wire"
	"echo9/tokens"
)

// Raising ahead: who changes one file of a directory after another (rm -r, mv, chmod -R) needs the write token of each,
// and has, from the listing, only the read tokens. When the second one is asked for, those of the files that come next in
// the directory are asked for with it, more and more of them, where nobody else is in the way. When somebody wants one back
// that was not used it is not tried again for a while.

const (
	firstAhead = 32
	mostAhead  = 512
	aheadPause = 16 // how often the write token of a file is asked for until it is tried again
)

// siblings is how the files of a directory are changed. Guarded by fs.mu.
type siblings struct {
	asked  int           // write tokens asked for one by one; below 0: raising ahead was in vain
	window int           // how many were asked for ahead at last
	next   int           // where in the list of names the next ones are
	raised chan struct{} // the raise under way; closed when it is over
}

// raising gives what to wait for instead of asking for the write tokens that the turn lacks: a raise that is under way and may bring
// one. It begins one where that is worth while; then the turn asks beside it. Called with fs.mu held.
func (t *turn) raising(resolved []tokens.Elem) <-chan struct{} {
	f := t.fs
	for _, e := range resolved {
		n := f.nodes[e.ID]
		if e.Mode != tokens.Write || n == nil || n.ents != nil || !n.attrOK || len(n.up) == 0 || f.holder.Mode(n.id) != tokens.Read {
			continue
		}
		d := f.nodes[n.up[0]]
		if d == nil || d.ents == nil || !d.ents.complete || f.holder.Mode(d.id) == tokens.None {
			continue
		}
		s := &d.siblings
		switch {
		case s.raised == nil:
			if s.asked++; s.asked >= 2 && f.opt.Mutant != mutantOneByOne {
				f.raiseAhead(d, t.position(d, n))
			}
		case n.ahead:
			return s.raised
		}
		return nil
	}
	return nil
}

// position is where n stands in the list of d's names, as far as the turn knows; else where the last raise ended.
func (t *turn) position(d, n *node) int {
	for _, e := range t.elems {
		if e.ID == d.id && e.Name != "" {
			if x, _ := d.ents.lookup(e.Name); x != nil && x.id == n.id {
				return x.pos
			}
		}
	}
	return d.siblings.next
}

// raiseAhead begins to raise the files of d from a place in the list on. Called with fs.mu held.
func (f *FS) raiseAhead(d *node, from int) {
	s := &d.siblings
	s.window = min(max(2*s.window, firstAhead), mostAhead)
	var set []wire.GrantElem
	names := d.ents.list
	for i := 0; i < len(names) && len(set) < s.window; i++ {
		s.next = (from + i + 1) % len(names)
		x := names[s.next]
		if x == nil {
			continue
		}
		c := f.nodes[x.id]
		if c != nil && c.ents == nil && c.attrOK && !c.suspect && f.holder.Mode(c.id) == tokens.Read {
			c.ahead = true
			set = append(set, wire.GrantElem{ID: c.id, Mode: uint8(tokens.Write)})
		}
	}
	if len(set) == 0 {
		return
	}
	s.raised = make(chan struct{})
	d.ref()
	f.workers.Add(1)
	go f.raise(d, set)
}

// raise asks for the write tokens of a set of d's files.
func (f *FS) raise(d *node, set []wire.GrantElem) {
	defer f.workers.Done()
	sent, r := f.clock(), new(wire.Rgrant)
	// Whatever becomes of it: who needs one of them asks for it.
	_ = f.call(context.Background(), &wire.Tgrant{Flags: wire.GrantRaise, Elems: set}, r, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		defer f.settle()
		f.leased(sent, r.Lease)
		toks := make([]tokens.Token, len(r.Tokens))
		for i, g := range r.Tokens {
			toks[i] = tokens.Token{ID: g.ID, Gen: tokens.Gen(g.Gen), Mode: tokens.Mode(g.Mode)}
		}
		f.holder.Offered(f.clock(), toks)
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	for _, e := range set {
		if n := f.nodes[e.ID]; n != nil && f.holder.Mode(e.ID) != tokens.Write {
			n.ahead = false
		}
	}
	close(d.siblings.raised)
	d.siblings.raised = nil
	d.unref()
}

// inVain notes that somebody else wants a token that may have been raised ahead, and that was not used since. Called with f.mu held.
func (f *FS) inVain(n *node) {
	if !n.ahead {
		return
	}
	n.ahead = false
	if len(n.up) == 0 {
		return
	}
	if d := f.nodes[n.up[0]]; d != nil {
		d.siblings.asked, d.siblings.window = -aheadPause, 0
	}
}
