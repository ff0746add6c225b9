package cachefs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/tokens"
)

const (
	// leaseMargin is taken off each lease, for clocks that run at different speeds.
	leaseMargin = 200 * time.Millisecond
	// postedRecalls is how many Trecalls the server always has.
	postedRecalls = 4
	// lowIDs: with fewer ids left another range is asked for.
	lowIDs = 512
)

func (f *FS) openSession(ctx context.Context) error {
	rand.Read(f.client[:])
	rand.Read(f.secret[:])
	t := &wire.Tsession{Flags: f.wishes(), Client: f.client, Secret: f.secret, Aname: f.opt.Aname, Name: f.opt.Name}
	sent := f.clock()
	if err := f.callOn(ctx, f.conn, t, &f.session, nil); err != nil {
		return fmt.Errorf("opening a session: %w", err)
	}
	f.mu.Lock()
	f.leased(sent, f.session.Lease)
	f.setTime(f.session.Time)
	f.ids = f.session.IDs
	f.number, f.epoch = f.session.Session, f.session.Epoch
	f.root = f.nodeFor(f.session.Root)
	f.idle.remove(f.root)
	f.nextCut = f.session.LastCut + 1
	f.noteSession()
	f.noteRange(f.ids.First, f.ids.Count, f.ids.Gen)
	f.mu.Unlock()
	if f.opt.Backlog != nil {
		if err := f.opt.Backlog.Flush(); err != nil {
			return err
		}
	}
	if err := f.bindRoot(ctx, f.conn); err != nil {
		return err
	}
	for range postedRecalls {
		f.postRecall(f.conn)
	}
	f.online = true
	f.workers.Add(2)
	go f.keepLink()
	go f.commitLoop()
	f.poke(f.renew) // for space
	return nil
}

// wishes are the flags with which a session is opened or resumed.
func (f *FS) wishes() uint32 {
	if f.opt.Backlog != nil {
		return wire.SessionAnyUser | wire.SessionReturns
	}
	return wire.SessionAnyUser
}

// bindRoot binds a fid to the root.
func (f *FS) bindRoot(ctx context.Context, conn *p9client.Conn) error {
	uid := f.session.UID
	if uid == wire.NoUID {
		uid = f.opt.Cred.UID
	}
	d, err := f.bindOn(ctx, conn, f.session.Root.Path, uid, wire.BindNoOpen)
	if err != nil {
		return fmt.Errorf("binding the root: %w", err)
	}
	f.mu.Lock()
	f.rootFid = d
	f.mu.Unlock()
	return nil
}

// ready says whether operations can be served now; on errAgain the turn waits for the lease. Called with f.mu held.
func (f *FS) ready(t *turn) error {
	if f.dead != nil {
		return f.dead
	}
	if f.holder.Valid(f.clock()) {
		return nil
	}
	ch := f.leaseCh
	t.wait = func(ctx context.Context) error {
		f.poke(f.renew)
		return f.waitFor(ctx, ch)
	}
	return errAgain
}

// waitFor waits until ch is closed, the session ends, or ctx does.
func (f *FS) waitFor(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-f.ended:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.dead
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

func (f *FS) poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// leased notes the lease that a reply to a request of time sent carried. Called with f.mu held.
func (f *FS) leased(sent int64, ms uint32) {
	if ms == 0 {
		return
	}
	lease := int64(ms) * int64(time.Millisecond)
	f.leaseLen = lease
	if f.opt.Mutant == mutantServeOver {
		lease += int64(time.Hour)
	}
	f.holder.LeaseGranted(sent, lease)
	close(f.leaseCh)
	f.leaseCh = make(chan struct{})
}

// setTime learns the server's clock. Called with f.mu held.
func (f *FS) setTime(server int64) {
	if server != 0 {
		f.offset = server - time.Now().UnixNano()
	}
}

// askRenewal asks for the lease to be renewed, and for ids when there are few, and gives where the answer comes; none
// comes when the connection ends.
func (f *FS) askRenewal(conn *p9client.Conn) chan linkEvent {
	t := &wire.Trenew{}
	f.mu.Lock()
	if f.toldPending = f.log.Totals().Ops > 0; f.toldPending {
		t.Flags |= wire.RenewPending
	}
	if f.ids.Count+f.nextIDs.Count < lowIDs {
		t.Flags |= wire.RenewIDs
	}
	t.Space, t.Held = f.wish()
	f.mu.Unlock()
	r := new(wire.Rrenew)
	sent := f.clock()
	answer := make(chan linkEvent, 1)
	f.stats.messages.Add(1)
	conn.Go(t, r, func(err error) {
		f.stats.replies.Add(1)
		switch {
		case errors.Is(err, p9client.ErrEnded):
		case errors.Is(err, syscall.ESTALE): // the session has gone
			f.hangUp(conn)
		case err != nil: // it cannot write down what it is told; a later one may succeed
			f.notRenewed(err)
			answer <- linkRenewed
		case r.Resume:
			answer <- linkOver
		default:
			f.renewed(r, sent)
			answer <- linkRenewed
		}
	})
	return answer
}

// notRenewed notes, once, that the lease is not renewed.
func (f *FS) notRenewed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.unrenewed && !f.closing {
		f.event("the server does not renew the lease: %v", err)
	}
	f.unrenewed = true
}

// renewed takes an answer to Trenew in.
func (f *FS) renewed(r *wire.Rrenew, sent int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unrenewed = false
	f.leased(sent, r.Lease)
	f.setTime(r.Time)
	f.spaced(r.Space)
	if r.IDs.Count > 0 {
		f.noteRange(r.IDs.First, r.IDs.Count, r.IDs.Gen)
		if f.ids.Count == 0 {
			f.ids = r.IDs
		} else {
			f.nextIDs = r.IDs
		}
		close(f.idsCh)
		f.idsCh = make(chan struct{})
	}
}

// newID gives the id of an object that is about to be created, and makes the turn wait when there is none left.
// Called with f.mu held.
func (f *FS) newID(t *turn) (uint64, error) {
	if f.ids.Count == 0 {
		f.ids, f.nextIDs = f.nextIDs, wire.IDRange{}
	}
	if f.ids.Count+f.nextIDs.Count < lowIDs {
		f.poke(f.renew)
	}
	if f.ids.Count == 0 {
		ch := f.idsCh
		t.wait = func(ctx context.Context) error { return f.waitFor(ctx, ch) }
		return 0, errAgain
	}
	id := f.ids.First
	f.ids.First++
	f.ids.Count--
	f.holder.Born(id, tokens.Gen(f.ids.Gen))
	return id, nil
}

// postRecall posts a Trecall, and another one when it has been answered.
func (f *FS) postRecall(conn *p9client.Conn) {
	r := new(wire.Rrecall)
	sent := f.clock()
	conn.Go(&wire.Trecall{}, r, func(err error) {
		switch {
		case errors.Is(err, p9client.ErrEnded):
		case err != nil: // the session has gone, or gone on to another connection
			f.hangUp(conn)
		default:
			f.stats.replies.Add(1)
			f.recalled(r, sent)
			f.postRecall(conn)
		}
	})
}

// recalled takes a recall in; it runs in the order in which the server sent things.
func (f *FS) recalled(r *wire.Rrecall, sent int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.recalls += len(r.Tokens)
	for _, e := range r.Tokens {
		if n := f.nodes[e.ID]; n != nil {
			f.inVain(n)
		}
		f.holder.Recalled(tokens.Recall{ID: e.ID, Gen: tokens.Gen(e.Gen), Keep: tokens.Mode(e.Keep), Why: tokens.Why(e.Why)})
	}
	if r.Any > 0 {
		f.holder.RecalledAny(int(r.Any))
	}
	f.leased(sent, r.Lease)
	f.settle()
}

// giveBack forgets what the token covered and sends Treturn. Called with f.mu held.
func (f *FS) giveBack(o tokens.HolderOutput) {
	e := wire.ReturnElem{ID: o.ID, Gen: uint64(o.Gen), Keep: uint8(o.Keep)}
	if n := f.nodes[o.ID]; n != nil && f.opt.Mutant != mutantIgnoreRecall {
		n.mine = false
		if o.Keep == tokens.None {
			// It may have been opened since the holder was told that all is ready, under a pin from before.
			if o.Open || n.opens > 0 {
				n.kept = true
				e.Flags = wire.ReturnOpen
			}
			n.forget()
		}
	}
	f.returns = append(f.returns, e)
}

// sendReturns sends what giveBack has collected, when requests go out. What has no answer when the connection
// ends goes once more on the next one. Called with f.mu held.
func (f *FS) sendReturns() {
	if len(f.returns) == 0 || !f.online {
		return
	}
	conn := f.conn
	limit := (int(conn.Msize()) - wire.TreturnOverhead) / wire.ReturnElemSize
	for len(f.returns) > 0 {
		k := min(limit, len(f.returns))
		t := &wire.Treturn{Tokens: f.returns[:k:k]}
		f.returns = f.returns[k:]
		r := new(wire.Rreturn)
		sent := f.clock()
		f.stats.messages.Add(1)
		f.unreturned = append(f.unreturned, t)
		conn.Go(t, r, func(err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if errors.Is(err, p9client.ErrEnded) {
				return
			}
			f.stats.replies.Add(1)
			f.unreturned = slices.DeleteFunc(f.unreturned, func(u *wire.Treturn) bool { return u == t })
			if err == nil {
				f.leased(sent, r.Lease)
			}
		})
	}
	f.returns = nil
}

var errClosed = errors.New("the file system is closed")

// endSession tells the server that the session is over: all that it holds is free.
func (f *FS) endSession(ctx context.Context) error {
	t := &wire.Tsession{Flags: wire.SessionEnd, Client: f.client, Secret: f.secret, Aname: f.opt.Aname, Name: f.opt.Name}
	if err := f.call(ctx, t, new(wire.Rsession), nil); err != nil {
		return fmt.Errorf("ending the session: %w", err)
	}
	return nil
}
