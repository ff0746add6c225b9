package cachefs

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"echo9/cachefs/order"
	"echo9/cachefs/spool"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/tokens"
)

// After the server's restart what is held has to be reclaimed (docs/faults.md, "The server starts again"): first what pending
// operations need, then what is in use, then the rest, most recently used first. When the connection breaks meanwhile it begins again.

const (
	// reclaimSet bounds the elements of one request, reclaimIdle the objects that nobody uses.
	reclaimSet  = 4096
	reclaimIdle = 50_000
	// grantedSize is what one takes in a reply, at most.
	grantedSize = 64
)

// newEpoch takes in that the server was started again. Called with f.mu held.
func (f *FS) newEpoch() {
	if f.opt.Mutant == mutantNoReclaim {
		return
	}
	f.holder.NewEpoch(func(id uint64) bool {
		n := f.nodes[id]
		return n != nil && n.fresh && id != tokens.DirMove
	})
}

// reclaim claims what was held before the server's restart, if there was one, and says that this is all.
func (f *FS) reclaim(s *resumption) error {
	f.mu.Lock()
	any := f.holder.Reclaiming()
	var elems []wire.GrantElem
	var kept []wire.ReturnElem
	if any {
		elems, kept = f.toReclaim(), f.keptOpen()
	}
	f.mu.Unlock()
	if !any && !s.restarted {
		return nil
	}
	if err := f.reclaimSets(s, elems); err != nil {
		return err
	}
	if err := f.tellOpen(s, kept); err != nil {
		return err
	}
	sent, r := f.clock(), new(wire.Rgrant)
	if err := f.rpc(s.conn, &wire.Tgrant{Flags: wire.GrantReclaim | wire.GrantReclaimComplete}, r, nil); err != nil {
		return fmt.Errorf("saying that all is reclaimed: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	f.leased(sent, r.Lease)
	var lost []wire.LostToken
	for _, l := range f.holder.ReclaimDone() {
		lost = append(lost, wire.LostToken{ID: l.ID})
	}
	f.lostTokens(lost)
	return nil
}

// toReclaim lists what is held, in the order in which it is reclaimed; what is left out is lost in the end. Called with f.mu held.
func (f *FS) toReclaim() []wire.GrantElem {
	held := make(map[uint64]tokens.Mode)
	for _, t := range f.holder.Unreclaimed(nil) {
		held[t.ID] = t.Mode
	}
	var elems []wire.GrantElem
	add := func(id uint64) {
		mode, ok := held[id]
		if !ok {
			return
		}
		delete(held, id)
		e := wire.GrantElem{ID: id, Mode: uint8(mode)}
		if n := f.nodes[id]; n != nil && id != tokens.DirMove {
			e.Version = n.version()
		}
		elems = append(elems, e)
	}
	for e := range f.log.Snapshot().All() {
		for _, id := range e.Op.Writes {
			add(id)
		}
		for _, id := range e.Op.Reads {
			add(id)
		}
	}
	add(f.root.id)
	add(tokens.DirMove)
	var used []uint64
	for id := range held {
		if n := f.nodes[id]; n != nil && n.refs > 0 {
			used = append(used, id)
		}
	}
	slices.Sort(used)
	for _, id := range used {
		add(id)
	}
	most := len(elems) + reclaimIdle
	for k := f.idle.head.next; k != &f.idle.head && len(elems) < most; k = k.next {
		add(k.n.id)
	}
	return elems
}

// reclaimSets reclaims elems, a set at a time.
func (f *FS) reclaimSets(s *resumption, elems []wire.GrantElem) error {
	size := min(reclaimSet, max(1, (int(s.conn.Msize())-wire.RgrantOverhead)/grantedSize))
	for len(elems) > 0 {
		set := elems[:min(size, len(elems))]
		sent, r := f.clock(), new(wire.Rgrant)
		err := f.rpc(s.conn, &wire.Tgrant{Flags: wire.GrantReclaim, Elems: set}, r, func() { f.reclaimedSet(set, r, sent) })
		switch {
		case errors.Is(err, syscall.EMSGSIZE) && size > 1:
			size /= 2
			continue
		case errors.Is(err, p9client.ErrEnded):
			return err
		case errors.Is(err, syscall.ESTALE): // the lease ran out meanwhile: nothing is lost, but the session has to be resumed first
			return fmt.Errorf("reclaiming: %w", err)
		case err != nil: // it will have none of it
			f.opt.Logf("%d objects could not be reclaimed: %v", len(set), err)
			f.reclaimedSet(set, &wire.Rgrant{}, sent)
		case len(r.Tokens) != len(set):
			return fmt.Errorf("%d answers to a reclaim of %d objects: %w", len(r.Tokens), len(set), syscall.EPROTO)
		}
		s.alive()
		elems = elems[len(set):]
	}
	return nil
}

// reclaimedSet takes the answer to a reclaim in.
func (f *FS) reclaimedSet(set []wire.GrantElem, r *wire.Rgrant, sent int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	f.leased(sent, r.Lease)
	now := f.clock()
	var lost []wire.LostToken
	var changed []uint64
	for i, e := range set {
		g := wire.Granted{ID: e.ID}
		if i < len(r.Tokens) && r.Tokens[i].ID == e.ID {
			g = r.Tokens[i]
		}
		if g.Mode < e.Mode {
			lost = append(lost, wire.LostToken{ID: e.ID, Left: g.Mode})
		}
		k := tokens.Token{ID: e.ID, Gen: tokens.Gen(g.Gen), Mode: tokens.Mode(g.Mode)}
		if g.Flags&wire.GrantedChanged != 0 && f.holder.Mode(e.ID) != tokens.None {
			changed = append(changed, e.ID)
			f.holder.Lost(e.ID, tokens.None)
			f.holder.Offered(now, []tokens.Token{k})
		} else {
			f.holder.Reclaimed(k)
		}
	}
	f.lostTokens(lost)
	f.changedMeanwhile(changed)
}

// changedMeanwhile takes in that objects were changed by others while nobody vouched for what is known of them. Called with f.mu held.
func (f *FS) changedMeanwhile(ids []uint64) {
	if len(ids) == 0 {
		return
	}
	for _, id := range ids {
		if n := f.nodes[id]; n != nil {
			f.suspect(n)
		}
	}
	seqs := f.log.Touching(order.ByWrite|order.ByRead, ids...)
	f.drop(f.log.Successors(seqs...), loss{cause: spool.Taken, errno: syscall.EIO, reason: "somebody changed it while the server was away"}, false)
}

// keptOpen are the returns that tell the server what is open here and not held: another life of it may not know. Called with f.mu held.
func (f *FS) keptOpen() []wire.ReturnElem {
	var all []wire.ReturnElem
	for id, n := range f.nodes {
		if n.kept && !n.gone && !n.fresh && f.holder.Mode(id) == tokens.None {
			all = append(all, wire.ReturnElem{ID: id, Flags: wire.ReturnOpen})
		}
	}
	slices.SortFunc(all, func(a, b wire.ReturnElem) int { return int(int64(a.ID) - int64(b.ID)) })
	return all
}

// tellOpen sends such returns.
func (f *FS) tellOpen(s *resumption, open []wire.ReturnElem) error {
	limit := (int(s.conn.Msize()) - wire.TreturnOverhead) / wire.ReturnElemSize
	for set := range slices.Chunk(open, max(1, limit)) {
		if err := f.rpc(s.conn, &wire.Treturn{Tokens: set}, new(wire.Rreturn), nil); err != nil {
			return fmt.Errorf("telling what is open: %w", err)
		}
		s.alive()
	}
	return nil
}
