package cachefs

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"echo9/cachefs/order"
	"echo9/cachefs/spool"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/tokens"
)

// refusedSession is why a server will not have the session any more: there is no use in asking again.
type refusedSession struct{ err error }

func (e *refusedSession) Error() string { return "the server refuses the session: " + e.err.Error() }
func (e *refusedSession) Unwrap() error { return e.err }

// resumption is what Rsession said, for the steps that follow.
type resumption struct {
	conn      *p9client.Conn
	reply     wire.Rsession
	sent      int64 // when it was asked for: its lease counts from then
	forgotten bool  // the server does not know the session: it is a new one
	restarted bool  // it has another epoch
	lost      int   // updates
	watch     *time.Timer
}

// alive notes that the server has answered.
func (s *resumption) alive() { s.watch.Reset(resumeTime) }

// resume goes on with the session on conn: a new connection, or the present one when the lease was over at the server. Until
// it is done no request goes out but its own. The order of the steps is that of docs/faults.md.
func (f *FS) resume(ctx context.Context, conn *p9client.Conn) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	s := &resumption{conn: conn, watch: time.AfterFunc(resumeTime, func() { conn.Close() })}
	defer s.watch.Stop()
	same := f.pause(conn)
	f.mu.Lock()
	t := &wire.Tsession{
		Flags: wire.SessionResume | f.wishes(), Client: f.client, Secret: f.secret,
		Epoch: f.epoch, LastCut: f.nextCut - 1, Aname: f.opt.Aname, Name: f.opt.Name,
	}
	lost := f.stats.lost
	f.mu.Unlock()
	s.sent = f.clock()
	err := f.rpc(conn, t, &s.reply, func() { f.resumed(s) })
	switch {
	case errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOENT):
		return &refusedSession{err}
	case err != nil:
		return fmt.Errorf("resuming the session: %w", err)
	case s.reply.UID != f.session.UID || s.reply.Root.Path != f.session.Root.Path:
		return &refusedSession{fmt.Errorf("it is another user's, or another tree: %w", syscall.ESTALE)}
	}
	s.alive()
	if err := f.saveBacklog(); err != nil {
		return err
	}
	if !same {
		if err := f.bindRoot(context.Background(), conn); err != nil {
			return err
		}
	}
	if err := f.claimLocks(s); err != nil {
		return err
	}
	if err := f.reclaim(s); err != nil {
		return err
	}
	if !same {
		for range postedRecalls {
			f.postRecall(conn)
		}
	}
	f.mu.Lock()
	s.lost = f.stats.lost - lost
	f.mu.Unlock()
	f.back(s)
	return nil
}

// rpc is a request of a resumption: it ends when the connection does.
func (f *FS) rpc(conn *p9client.Conn, t, r wire.Message, onReply func()) error {
	return f.callOn(context.Background(), conn, t, r, onReply)
}

// pause has requests wait, and tells whether conn is the present connection. Then it waits until the cut that is
// under way on it was answered: what Rsession says is said of a session at rest.
func (f *FS) pause(conn *p9client.Conn) (same bool) {
	f.mu.Lock()
	f.online = false
	same = f.conn == conn
	for same && f.flying != nil && f.dead == nil {
		ch := f.progress
		f.mu.Unlock()
		select {
		case <-ch:
		case <-f.ended:
		case <-conn.Done():
			return same // the cut waits for what the next connection tells
		}
		f.mu.Lock()
	}
	f.mu.Unlock()
	if same {
		f.unstage()
	}
	return same
}

// resumed takes Rsession in: first which cut was applied last, then what was lost.
func (f *FS) resumed(s *resumption) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	defer f.wakeCommitted()
	r := &s.reply
	s.forgotten = r.Flags&wire.SessionResume == 0
	s.restarted = r.Epoch != f.epoch
	flying := f.flying
	f.settleCuts(r.LastCut)
	f.number, f.epoch = r.Session, r.Epoch
	if f.restoring != nil {
		f.session.Lease, f.session.MaxCutBytes, f.session.MaxCutRecords = r.Lease, r.MaxCutBytes, r.MaxCutRecords
	}
	f.setTime(r.Time)
	switch {
	case s.forgotten:
		f.forgotten(flying, r)
	case s.restarted:
		f.returns, f.unreturned = nil, nil // nothing is held there any more
		f.newEpoch()
	case f.holder.Reclaiming():
		f.newEpoch()
	}
	f.lostTokens(r.Lost)
	f.tellClosed(r.Lost)
	f.leased(s.sent, r.Lease)
	if s.restarted || s.forgotten {
		f.noteSession()
	}
	if s.forgotten {
		f.ranges = nil
		f.noteRange(f.ids.First, f.ids.Count, f.ids.Gen)
	}
}

// lostTokens takes in what went to others while the session was away. Called with f.mu held.
func (f *FS) lostTokens(lost []wire.LostToken) {
	var seqs []uint64
	for _, l := range lost {
		left := tokens.Mode(l.Left)
		f.holder.Lost(l.ID, left)
		touch := order.ByWrite
		if left == tokens.None {
			touch |= order.ByRead
		}
		seqs = append(seqs, f.log.Touching(touch, l.ID)...)
		n := f.nodes[l.ID]
		if n == nil || l.ID == tokens.DirMove {
			continue
		}
		n.mine = false
		if left == tokens.None {
			f.suspect(n)
			if n.opens > 0 && !n.gone && !n.fresh {
				n.kept = true
				f.returns = append(f.returns, wire.ReturnElem{ID: l.ID, Flags: wire.ReturnOpen})
			}
		}
	}
	f.drop(f.log.Successors(seqs...), loss{cause: spool.Taken, errno: syscall.EIO, reason: reasonTaken}, false)
}

// tellClosed tells the server what it need not keep alive: of what it took it does not know whether it is open here. Called with f.mu held.
func (f *FS) tellClosed(lost []wire.LostToken) {
	for _, l := range lost {
		if n := f.nodes[l.ID]; l.Left != uint8(tokens.None) || l.ID == tokens.DirMove || n != nil && n.kept || f.opt.Mutant == mutantTellNothing {
			continue
		}
		f.returns = append(f.returns, wire.ReturnElem{ID: l.ID, Flags: wire.ReturnClosed})
	}
}

const reasonTaken = "the right to change it went to somebody else"

// forgotten takes in that the server does not know the session any more: all is lost but what was applied. Called with f.mu held.
func (f *FS) forgotten(flying *sending, r *wire.Rsession) {
	why := loss{cause: spool.Forgotten, errno: syscall.EIO, reason: "the server has forgotten the session"}
	if flying != nil && flying.number > r.LastCut {
		why.cause, why.sent = spool.Doubt, make(map[uint64]bool)
		for _, seq := range flying.seqs {
			why.sent[seq] = true
		}
	}
	if len(f.sentBefore) > 0 {
		why.cause, why.sent = spool.Doubt, f.sentBefore
	}
	for _, t := range f.holder.Held(nil) {
		f.holder.Lost(t.ID, tokens.None)
	}
	f.drop(f.log.Since(0), why, false)
	for id, n := range f.nodes {
		if n.gone || id == tokens.DirMove {
			continue
		}
		n.mine = false
		if n.kept {
			n.kept = false
			if n.attr.Nlink == 0 { // nobody keeps it
				n.gone = true
				n.lost++
			}
		}
		f.suspect(n)
	}
	f.forgetAbove()
	f.returns, f.unreturned = nil, nil
	f.holder.ReclaimDone()
	f.ids, f.nextIDs = r.IDs, wire.IDRange{}
	close(f.idsCh)
	f.idsCh = make(chan struct{})
	f.loseLocks()
	f.event("the server has forgotten the session: it begins anew")
}

// back lets requests go out.
func (f *FS) back(s *resumption) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn, f.online, f.wantResume, f.told = s.conn, true, false, false
	var again []wire.ReturnElem
	for _, t := range f.unreturned {
		again = append(again, t.Tokens...)
	}
	f.returns, f.unreturned = append(again, f.returns...), nil
	close(f.upCh)
	f.upCh = make(chan struct{})
	close(f.leaseCh)
	f.leaseCh = make(chan struct{})
	f.unknown()
	f.settle()
	f.poke(f.kick)
	f.wakeCommitted()
	what := "the connection is back"
	switch {
	case s.forgotten:
	case s.restarted:
		what = "the server has started again, and the session goes on"
	}
	if s.lost > 0 {
		what += fmt.Sprintf(": %d updates were lost", s.lost)
	}
	f.event("%s", what)
}

// resumeSoon has the session resumed on the connection that is there. Called with f.mu held.
func (f *FS) resumeSoon() {
	f.wantResume = true
	f.poke(f.renew)
}
