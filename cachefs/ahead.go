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

	small smallFiles
}

// together is how the files of a directory are used. Called with fs.mu held.
func (d *node) together() *siblings {
	if d.siblings == nil {
		d.siblings = new(siblings)
	}
	return d.siblings
}

// raising gives what to wait for instead of asking for the write tokens that the turn lacks: a raise that is under way and may bring
// one. It begins one where that is worth while; then the turn asks beside it. Called with fs.mu held.
func (t *turn) raising(resolved []tokens.Elem) <-chan struct{} {
	f := t.fs
	for _, e := range resolved {
		n := f.nodes[e.ID]
		if e.Mode != tokens.Write || n == nil || n.ents != nil || !n.attrOK || f.holder.Mode(n.id) != tokens.Read {
			continue
		}
		d := f.directory(n)
		if d == nil {
			continue
		}
		s := d.together()
		switch {
		case s.raised == nil:
			if s.asked++; s.asked >= 2 && f.opt.Mutant != mutantOneByOne {
				f.raiseAhead(d, n)
			}
		case n.ahead:
			return s.raised
		}
		return nil
	}
	return nil
}

// raiseAhead begins to raise the files of d that come after n. Called with fs.mu held.
func (f *FS) raiseAhead(d, n *node) {
	s := d.together()
	s.window = min(max(2*s.window, firstAhead), mostAhead, max(1, (int(f.conn.Msize())-wire.RgrantOverhead)/grantedSize))
	var set []wire.GrantElem
	s.next = f.after(d, n, s.next, func(c *node) bool {
		if f.holder.Mode(c.id) == tokens.Read {
			c.ahead = true
			set = append(set, wire.GrantElem{ID: c.id, Mode: uint8(tokens.Write)})
		}
		return len(set) < s.window
	})
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
	_ = f.call(context.Background(), &wire.Tgrant{Flags: wire.GrantRaise, Elems: set}, r, func() { f.grantedAlong(r, sent) })
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

// after calls fn for the files that follow n in the list of d's names, once around, as far as they are known and good, until it says
// no. from is where it ended last, near which n is looked for first; the answer is where it ends now. Called with fs.mu held.
func (f *FS) after(d, n *node, from int, fn func(c *node) bool) int {
	names := d.ents.list
	at := 0
	for i := range names {
		if x := names[(from+i)%len(names)]; x != nil && x.id == n.id {
			at = (from + i) % len(names)
			break
		}
	}
	for i := 1; i < len(names); i++ {
		k := (at + i) % len(names)
		if names[k] == nil {
			continue
		}
		if c := f.nodes[names[k].id]; c != nil && c.ents == nil && c.attrOK && !c.suspect && !fn(c) {
			return k
		}
	}
	return at
}

// directory gives the directory that n has a name in, if all its names are known. Called with fs.mu held.
func (f *FS) directory(n *node) *node {
	if len(n.up) == 0 {
		return nil
	}
	d := f.nodes[n.up[0]]
	if d == nil || d.ents == nil || !d.ents.complete || f.holder.Mode(d.id) == tokens.None {
		return nil
	}
	return d
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
	if d := f.nodes[n.up[0]]; d != nil && d.siblings != nil {
		d.siblings.asked, d.siblings.window = -aheadPause, 0
	}
}
