package cachefs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/p9client"
)

// The link is the way to the server, over all its connections: f.conn is the present one. Requests wait while
// f.online is not set, and whoever has none answered because its connection ended asks again on the next one.

// fid is a fid of one connection.
type fid struct {
	conn *p9client.Conn
	n    uint32
}

// reach waits until requests go out, and gives the connection.
func (f *FS) reach(ctx context.Context) (*p9client.Conn, error) {
	for {
		f.mu.Lock()
		conn, ch, dead := f.conn, f.upCh, f.dead
		up := f.online && conn.Err() == nil
		f.mu.Unlock()
		switch {
		case dead != nil:
			return nil, dead
		case up:
			return conn, nil
		}
		if err := f.waitFor(ctx, ch); err != nil {
			return nil, err
		}
	}
}

// persist runs fn, and again on the next connection when the one that it had ended meanwhile, or when the lease was over at the server.
func (f *FS) persist(ctx context.Context, fn func(conn *p9client.Conn) error) error {
	for {
		conn, err := f.reach(ctx)
		if err != nil {
			return err
		}
		switch err = fn(conn); {
		case errors.Is(err, errOver):
			if err := f.revived(ctx, err); err != nil {
				return err
			}
		case !errors.Is(err, p9client.ErrEnded):
			return err
		}
	}
}

// errOver is the answer to a request for which the session's lease was over at the server: it says nothing of any object, and
// the request is made again when the session was resumed.
var errOver = fmt.Errorf("the lease was over: %w", syscall.ESTALE)

// meant gives what the error of a reply says. ESTALE is also what the server answers when the lease is over there, which it never is before it is over
// here. Called in the order in which replies come: so a resumption has not been answered yet.
func (f *FS) meant(err error) error {
	if !errors.Is(err, syscall.ESTALE) || f.opt.Mutant == mutantBelieveStale {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holder.Valid(f.clock()) {
		return err
	}
	return errOver
}

// revived waits until the lease is good again. Who ends the session has no use for that, and gets err back.
func (f *FS) revived(ctx context.Context, err error) error {
	for {
		f.mu.Lock()
		valid, closing, ch := f.holder.Valid(f.clock()), f.closing, f.leaseCh
		f.mu.Unlock()
		switch {
		case valid:
			return nil
		case closing:
			return err
		}
		f.poke(f.renew)
		if err := f.waitFor(ctx, ch); err != nil {
			return err
		}
	}
}

// call does one request that names no fid. onReply runs when the reply has come, in the order in which the
// server sent its replies; a request that is cancelled is flushed.
func (f *FS) call(ctx context.Context, t, r wire.Message, onReply func()) error {
	return f.persist(ctx, func(conn *p9client.Conn) error { return f.callOn(ctx, conn, t, r, onReply) })
}

// callOn is call on one connection.
func (f *FS) callOn(ctx context.Context, conn *p9client.Conn, t, r wire.Message, onReply func()) error {
	if err := ctx.Err(); err != nil {
		return interrupted(ctx)
	}
	f.stats.messages.Add(1)
	done := make(chan error, 1)
	call := conn.Go(t, r, func(err error) {
		f.stats.replies.Add(1)
		if err == nil && onReply != nil {
			onReply()
		}
		done <- f.meant(err)
	})
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		call.Flush()
		if err = <-done; err != nil {
			err = interrupted(ctx)
		}
	}
	return err
}

// interrupted is the error of what ends with its context.
func interrupted(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errSoft) {
		return cause
	}
	return fmt.Errorf("%w: %w", syscall.EINTR, cause)
}

// errSoft ends waits for a server that does not answer, with Options.Soft.
var errSoft = fmt.Errorf("the server does not answer: %w", syscall.EIO)

// softly gives the context of an operation that with Options.Soft does not wait for ever for a server that is away.
func (f *FS) softly(ctx context.Context) (context.Context, func()) {
	if f.opt.Soft == 0 {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	began, soft := f.clock(), int64(f.opt.Soft)
	var timer *time.Timer
	timer = time.AfterFunc(f.opt.Soft, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		now := f.clock()
		waited := now - max(began, f.downAt)
		switch {
		case f.downAt == 0:
			timer.Reset(f.opt.Soft)
		case waited >= soft:
			cancel(errSoft)
		default:
			timer.Reset(time.Duration(soft - waited))
		}
	})
	return ctx, func() { timer.Stop(); cancel(nil) }
}

// keepLink keeps the lease, and the connection.
func (f *FS) keepLink() {
	defer f.workers.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-f.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	l := newLink(f.clock(), int64(f.session.Lease)*int64(time.Millisecond), f.opt.Dial != nil)
	k := &linkKeeper{f: f, ctx: ctx, link: l, conn: f.conn}
	defer func() { k.conn.Close() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		f.noteServing()
		timer.Reset(time.Duration(l.wait(f.clock())))
		var gone <-chan struct{}
		if l.state == linkUp {
			gone = k.conn.Done()
		}
		e := linkTick
		select {
		case <-f.ended:
			return
		case <-gone:
			e = linkBroke
		case e = <-k.answer:
			k.answer = nil
			k.leaseOf(e)
		case <-f.renew:
			e = k.wanted()
		case <-timer.C:
			if n := f.stats.replies.Load(); n != k.heard {
				k.heard = n
				l.step(f.clock(), linkHeard, 0)
			}
		}
		for more := true; more; {
			e, more = k.do(l.step(f.clock(), e, rand.Float64()))
		}
	}
}

// linkKeeper is the shell of a link: the goroutine that does what it says.
type linkKeeper struct {
	f    *FS
	ctx  context.Context
	link *link

	conn   *p9client.Conn
	answer chan linkEvent // of the renewal under way
	heard  int64          // replies when last looked
	refuse error          // why the server will not have the session
}

// wanted says what it is that somebody wants.
func (k *linkKeeper) wanted() linkEvent {
	k.f.mu.Lock()
	defer k.f.mu.Unlock()
	if k.f.wantResume {
		return linkOver
	}
	return linkWanted
}

// do does one thing, and gives what happened then, if anything.
func (k *linkKeeper) do(d linkDo) (linkEvent, bool) {
	f := k.f
	switch d {
	case linkRenew:
		k.heard = f.stats.replies.Load()
		k.answer = f.askRenewal(k.conn)
	case linkHangUp:
		f.opt.Logf("the server has not answered for %v: connecting again", time.Duration(k.link.lease/4))
		k.conn.Close()
	case linkDown:
		f.down(k.conn.Err())
	case linkDial:
		<-k.conn.Finished()
		conn, err := f.dial(k.ctx)
		if err != nil {
			f.unreached(err)
			return linkBroke, true
		}
		k.conn = conn
		return linkDialed, true
	case linkResume:
		if err := f.resume(k.ctx, k.conn); err != nil {
			return k.unresumed(err), true
		}
		k.leaseOf(linkResumed)
		return linkResumed, true
	case linkEnd:
		f.fail(fmt.Errorf("the connection to the server is gone: %v", k.cause())) // not %w: it is no connection's end any more
	}
	return 0, false
}

// leastLease bounds how often a lease is renewed, whatever a server says.
const leastLease = 100 * time.Millisecond

// leaseOf has the lease renewed as often as its present length bids: another life of the server may give shorter ones. What a
// resumption tells may be what is left of one.
func (k *linkKeeper) leaseOf(e linkEvent) {
	k.f.mu.Lock()
	lease := k.f.leaseLen
	k.f.mu.Unlock()
	switch {
	case lease == 0:
	case e == linkResumed:
		k.link.lease = max(min(k.link.lease, lease), int64(leastLease))
	case e == linkRenewed:
		k.link.lease = max(lease, int64(leastLease))
	}
}

func (k *linkKeeper) cause() error {
	if k.refuse != nil {
		return k.refuse
	}
	if err := k.conn.Err(); err != nil {
		return err
	}
	return p9client.ErrEnded
}

// unresumed says what follows from a resumption that failed: the next try is on another connection.
func (k *linkKeeper) unresumed(err error) linkEvent {
	k.conn.Close()
	k.answer = nil
	k.f.down(err)
	var refused *refusedSession
	if errors.As(err, &refused) {
		k.refuse = refused
		return linkRefused
	}
	k.f.unreached(err)
	return linkBroke
}

// dial connects again.
func (f *FS) dial(ctx context.Context) (*p9client.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := f.opt.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if !conn.Ext() {
		conn.Close()
		return nil, fmt.Errorf("the server does not speak %s any more: %w", wire.ExtVersion, syscall.EPROTONOSUPPORT)
	}
	return conn, nil
}

const (
	// dialTime and resumeTime bound one try. A resumption waits for a cut that is being applied.
	dialTime   = 10 * time.Second
	resumeTime = 20 * time.Second
)

// down has requests wait from now on.
func (f *FS) down(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.online
	f.online = false
	if was && f.dead == nil && !f.closing && f.opt.Dial != nil {
		f.told = false
		f.event("the connection is broken: %v; connecting again", err)
	}
}

// hangUp ends a connection that is no use any more, unless the session is being ended on it.
func (f *FS) hangUp(conn *p9client.Conn) {
	f.mu.Lock()
	closing := f.closing
	f.mu.Unlock()
	if !closing {
		conn.Close()
	}
}

// unreached notes, once for each break, why the server cannot be reached.
func (f *FS) unreached(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead == nil && !f.closing && !f.told {
		f.told = true
		f.event("the server cannot be reached: %v", err)
	}
}

// noteServing notes since when there is trouble: no connection, or no lease.
func (f *FS) noteServing() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock()
	valid := f.holder.Valid(now)
	if !valid && !f.leaseOver && f.dead == nil && !f.closing {
		f.event("the lease is over: nothing is served until the server answers")
	}
	f.leaseOver = !valid
	switch {
	case valid && f.online:
		f.downAt = 0
	case f.downAt == 0:
		f.downAt = now
	}
}
