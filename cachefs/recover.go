package cachefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"echo9/cachefs/backlog"
	"echo9/cachefs/order"
	"echo9/cachefs/spool"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/tokens"
)

// Recovered is what became of a backlog.
type Recovered struct {
	Updates int // that an earlier process had not sent, as far as is known
	Lost    int // of them: taken, refused, or of a session that the server has forgotten
}

// Recover does what an earlier process could not do any more: it goes on with that one's session on conn, sends what is in the
// backlog, in order, and ends the session. What is lost is told, and kept, as any loss. The backlog is empty then.
// When it fails, but for a session that another user has, it may be tried again.
func Recover(ctx context.Context, conn *p9client.Conn, o Options, state *backlog.State, progress func(pending int, bytes int64)) (Recovered, error) {
	var r Recovered
	if !conn.Ext() {
		return r, fmt.Errorf("the server does not speak %s: %w", wire.ExtVersion, syscall.EPROTONOSUPPORT)
	}
	f := newFS(conn, o)
	f.takeUp(state)
	if err := f.resume(ctx, conn); err != nil {
		conn.Close()
		return f.unrecovered(ctx, err)
	}
	f.mu.Lock()
	f.restoring = nil
	r.Updates = f.log.Totals().Ops + f.stats.lost
	f.online = true
	f.mu.Unlock()
	f.workers.Add(2)
	go f.keepLink()
	go f.commitLoop()
	err := f.regrant(ctx)
	if err == nil {
		err = f.Wait(ctx, progress)
	}
	f.mu.Lock()
	r.Lost = f.stats.lost
	left, dead := f.log.Totals().Ops, f.dead
	f.mu.Unlock()
	switch {
	case err != nil && (left > 0 || dead != nil):
		f.fail(errClosed)
		f.workers.Wait()
		f.said()
		return r, fmt.Errorf("%d updates of the backlog are not at the server: %w", left, err)
	}
	f.kept(ctx)
	err = f.Close(ctx)
	if err != nil && errors.Is(err, syscall.EIO) && r.Lost > 0 {
		err = nil // that was told
	}
	return r, err
}

// unrecovered says what follows when the session cannot be resumed: when the server will never have it again all is lost, and kept.
func (f *FS) unrecovered(ctx context.Context, err error) (r Recovered, _ error) {
	var refused *refusedSession
	if !errors.As(err, &refused) {
		return r, err
	}
	f.mu.Lock()
	if f.log.Totals().Ops == 0 && f.stats.lost == 0 {
		f.restore(0)
	}
	store := f.opt.Backlog
	f.opt.Backlog, f.log.Watch, f.log.Noted = nil, nil, nil
	f.drop(f.log.Since(0), loss{cause: spool.Forgotten, errno: syscall.EIO, reason: err.Error(), sent: f.sentBefore}, false)
	r.Lost = f.stats.lost
	r.Updates = r.Lost
	f.mu.Unlock()
	f.kept(ctx)
	f.fail(errClosed)
	f.said()
	return r, store.Clear()
}

// takeUp makes an FS what an earlier process's was, as far as it is in the backlog.
func (f *FS) takeUp(state *backlog.State) {
	s := state.Session
	f.restoring = state
	f.client, f.secret, f.number, f.epoch, f.nextCut = s.Client, s.Secret, s.Number, s.Epoch, 1
	f.opt.Order, f.opt.Name = s.Policy, s.Name
	f.session = wire.Rsession{
		Session: s.Number, Epoch: s.Epoch, UID: s.UID, GID: s.GID, Root: wire.QID{Type: wire.QTDir, Version: s.RootVersion, Path: s.Root},
	}
	f.conn = nil // none is the present one yet
	f.root = f.nodeFor(f.session.Root)
	f.idle.remove(f.root)
}

// restore builds the log of what is in the backlog and is not at the server, which has applied the cuts up to last. Called with f.mu held.
func (f *FS) restore(last uint64) {
	state := f.restoring
	flying := make(map[uint64]bool)
	for _, c := range state.Flights {
		for _, seq := range c.Seqs {
			flying[seq] = c.Cut > last
		}
	}
	state.Known(last)
	log, was := state.Log()
	f.log, f.lastSeq = log, 0
	f.sentBefore = make(map[uint64]bool)
	for seq, old := range was {
		if flying[old] {
			f.sentBefore[seq] = true
		}
	}
	f.ranges = state.Ranges
	f.journal()
	f.bases = state.Bases
	now := f.clock()
	fresh := make(map[uint64]bool)
	for op := range f.log.All() {
		f.lastSeq = op.Seq
		op.At = now // on this process's clock
		if creates(op) && !op.OnlyOrders() {
			fresh[op.ID] = true
		}
	}
	for e := range f.needed() {
		if fresh[e.ID] {
			f.holder.Born(e.ID, tokens.Gen(f.genOf(e.ID)))
		} else {
			// Held, but under which generation the server says when it is asked (regrant, reclaim).
			f.holder.Offered(now, []tokens.Token{{ID: e.ID, Gen: 1, Mode: e.Mode}})
		}
		if e.ID == tokens.DirMove {
			continue
		}
		b, known := state.Bases[e.ID]
		qid := wire.QID{Path: e.ID}
		if known && isDir(b.Mode) {
			qid.Type = wire.QTDir
		}
		if f.nodes[e.ID] == nil {
			f.nodeFor(qid)
		}
		n := f.nodes[e.ID]
		n.fresh = fresh[e.ID]
		if known {
			n.base.ctime, n.base.mtime, n.base.size = b.Ctime, b.Mtime, b.Size
		}
	}
}

func creates(op *order.Op) bool {
	switch op.Kind {
	case order.Create, order.Mkdir, order.Symlink, order.Mknod, order.Tmpfile:
		return true
	}
	return false
}

// genOf is the generation of the range that an id is from.
func (f *FS) genOf(id uint64) uint64 {
	for _, r := range f.ranges {
		if id >= r.First && id-r.First < r.Count {
			return r.Gen
		}
	}
	return 0
}

// needed are the tokens that the operations in the log need. Called with f.mu held.
func (f *FS) needed() map[tokens.Elem]struct{} {
	modes := make(map[uint64]tokens.Mode)
	for op := range f.log.All() {
		if op.OnlyOrders() || op.Kind == order.Release {
			continue
		}
		for _, id := range op.Writes {
			modes[id] = tokens.Write
		}
		for _, id := range op.Reads {
			if id != order.Somewhere {
				modes[id] = max(modes[id], tokens.Read)
			}
		}
	}
	elems := make(map[tokens.Elem]struct{}, len(modes))
	for id, mode := range modes {
		elems[tokens.Elem{ID: id, Mode: mode}] = struct{}{}
	}
	return elems
}

// regrantSet bounds the elements of one request.
const regrantSet = 500

// regrant learns the generations of the tokens that the session has had all the time. It is called once, before any operation.
func (f *FS) regrant(ctx context.Context) error {
	f.mu.Lock()
	var elems []wire.GrantElem
	for e := range f.needed() {
		n := f.nodes[e.ID]
		if f.holder.Gen(e.ID) != 1 || n != nil && n.fresh && e.ID != tokens.DirMove {
			continue // reclaimed, or our own
		}
		f.holder.Lost(e.ID, tokens.None)
		elems = append(elems, wire.GrantElem{ID: e.ID, Mode: uint8(e.Mode)})
	}
	f.settle()
	f.mu.Unlock()
	slices.SortFunc(elems, func(a, b wire.GrantElem) int { return int(int64(a.ID) - int64(b.ID)) })
	for size := regrantSet; len(elems) > 0; {
		set := elems[:min(size, len(elems))]
		r, sent := new(wire.Rgrant), f.clock()
		err := f.call(ctx, &wire.Tgrant{Flags: wire.GrantTry, Elems: set}, r, func() { f.regranted(r, sent) })
		switch {
		case err == nil:
		case len(set) > 1 && (errors.Is(err, syscall.ESTALE) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EMSGSIZE)):
			size = 1
			continue
		case errors.Is(err, syscall.ESTALE) || errors.Is(err, syscall.EAGAIN):
			f.mu.Lock()
			f.lostTokens([]wire.LostToken{{ID: set[0].ID}})
			f.settle()
			f.mu.Unlock()
		default:
			return fmt.Errorf("asking for the tokens of the backlog: %w", err)
		}
		elems = elems[len(set):]
	}
	return nil
}

func (f *FS) regranted(r *wire.Rgrant, sent int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	f.leased(sent, r.Lease)
	for _, g := range r.Tokens {
		f.holder.Offered(f.clock(), []tokens.Token{{ID: g.ID, Gen: tokens.Gen(g.Gen), Mode: tokens.Mode(g.Mode)}})
	}
}

// saveBacklog has the backlog say what Rsession told, before anything else is sent: then the server may forget it.
func (f *FS) saveBacklog() error {
	f.mu.Lock()
	restoring := f.restoring != nil
	f.mu.Unlock()
	switch {
	case f.opt.Backlog == nil:
		return nil
	case restoring:
		return f.rewriteBacklog()
	}
	f.flushBacklog()
	return nil
}
