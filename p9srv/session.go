package p9srv

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv/stable"
	"echo9/tokens"
)

// session is a client with the extension, over all its connections. Its fields
// are guarded by Authority.mu, but those set once.
type session struct {
	a      *Authority
	id     uint64
	client [16]byte
	secret [16]byte
	name   string
	root   wire.QID
	aname  string
	cred   Cred // as whom the server looks things up for it

	// Whom it acts for: one user, those of allowed, or anybody.
	uid     uint32 // wire.NoUID: not one
	allowed map[uint32]bool
	any     bool

	conn     *conn // nil while it is away
	since    int64 // of conn being nil, or of conn
	resuming *request
	told     bool // the client has sent something since it was told what it lost
	peer     Peer
	proc     *process // nil: not known
	dead     bool     // its process is
	returns  bool     // what it has not sent outlives its process: it may come back though that is dead
	until    int64    // its lease is over from then on, as far as the status says
	over     bool     // its lease is over, and that was said
	ended    bool     // it is gone, but a cut of it is still being applied
	space    uint64   // bytes of the disk set aside for it (see space.go)
	offer    uint64   // as many as it was told last
	pending  bool     // it said that it has work that is not committed
	noted    bool     // and that is on record

	// Of an earlier life of the server:
	restored  bool
	completed bool          // it has reclaimed all that it wants
	missed    uint64        // the first epoch whose grace period it missed
	recovered bool          // it missed a grace period, and it is on record that it has reclaimed since what it wants
	unsure    bool          // for whom it may act has to be found out anew, from
	wish      wire.Tsession // what it wished for

	locks      bool                // its locks are those that it had before it was away
	lostLocks  map[uint64]struct{} // but for these objects'
	mustResume uint64              // it lost a lock on this object: nothing of it is applied until it resumes
	leaving    bool                // it is being forgotten
	deathTold  bool

	ranges    []wire.IDRange
	given     uint64 // ids in ranges
	made      uint64 // objects created
	posted    []*request
	unsaid    []recallOut // recalls for which no Trecall is left
	cuts      map[uint64]*partialCut
	cutBytes  int
	committed map[uint64]*partialCut // whole, on their way through the manager
}

func (s *session) label() string { return fmt.Sprintf("%d (%s)", s.id, s.name) }

// userFor is as whom the session acts that names the user uid.
func (s *session) userFor(uid uint32) (uint32, error) {
	switch {
	case s.uid != wire.NoUID:
		return s.uid, nil
	case uid == wire.NoUID, !s.any && !s.allowed[uid]:
		return 0, fmt.Errorf("session %s may not act for user %d: %w", s.label(), uid, syscall.EPERM)
	}
	return uid, nil
}

// sessionID is the number of the connection's session, 0 for plain clients.
func (c *conn) sessionID() uint64 {
	if s := c.session.Load(); s != nil {
		return s.id
	}
	return 0
}

// endSession is called when the connection ends, or begins anew.
func (c *conn) endSession() {
	if s := c.session.Swap(nil); s != nil {
		s.a.disconnected(s, c)
	}
}

func (r *request) tsession() error {
	var m wire.Tsession
	if err := r.decode(&m); err != nil {
		return err
	}
	c, a := r.c, r.c.srv.cfg.Authority
	if m.Flags&^(wire.SessionResume|wire.SessionEnd|wire.SessionAnyUser|wire.SessionReturns) != 0 {
		return syscall.EINVAL
	}
	if m.Flags&wire.SessionEnd != 0 {
		return a.leave(r, c)
	}
	if s := c.session.Load(); s != nil && (m.Flags&wire.SessionResume == 0 || s.client != m.Client) {
		return syscall.EBUSY // one session a connection
	}
	if m.Flags&wire.SessionResume != 0 {
		a.mu.Lock()
		s := a.clients[m.Client]
		unsure := s != nil && s.unsure
		a.mu.Unlock()
		if unsure {
			if err := a.recheck(r, s, &m); err != nil {
				return err
			}
		}
		if s != nil {
			return a.resume(r, &m)
		}
		// It is forgotten: the client gets a new one, which does not say that it was resumed.
	}
	return a.open(r, &m)
}

// open makes a session.
func (a *Authority) open(r *request, m *wire.Tsession) error {
	c := r.c
	s := &session{
		a: a, client: m.Client, secret: m.Secret, name: m.Name, aname: m.Aname, conn: c, peer: c.peer, told: true,
		cuts: map[uint64]*partialCut{}, committed: map[uint64]*partialCut{}, since: a.cfg.Clock(), locks: true,
		returns: m.Flags&wire.SessionReturns != 0, until: a.cfg.Clock() + int64(a.cfg.Lease),
	}
	if err := a.whom(s, c, m); err != nil {
		return err
	}
	root, err := a.cfg.Backend.Root(r, &s.cred, m.Aname)
	if err != nil {
		return err
	}
	s.root = root.QID()
	root.Release()
	count := a.cfg.IDs
	first, err := a.cfg.Backend.AllocIDs(count)
	if errors.Is(err, syscall.EROFS) {
		first, count, err = 0, 0, nil // it will create nothing
	}
	if err != nil {
		return err
	}
	// From here on plain operations ask the manager. Those that did not are waited for.
	a.mu.Lock()
	a.opening++
	a.lastSession++
	s.id = a.lastSession
	s.cred.Session = s.id
	ids := wire.IDRange{First: first, Count: count, Gen: uint64(a.m.NewGen())}
	err = a.mayOpen(m)
	a.unlock(c)
	a.gate.mu.Lock()
	a.gate.managed.Store(true)
	a.gate.mu.Unlock()
	if err == nil {
		err = a.recorded(s.openRecords(m, ids)...)
	}

	a.mu.Lock()
	defer func() {
		a.opening--
		a.checkGate()
		a.unlock(c)
	}()
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	if err := a.mayOpen(m); err != nil {
		a.note(stable.Record{Kind: stable.End, Session: s.id})
		return err
	}
	if old := a.clients[m.Client]; old != nil {
		a.endSession(old, "its client begins anew")
	}
	a.sessions[s.id], a.clients[s.client] = s, s
	if c.peer.HasCred {
		a.follow(s, openProcess(c.nc, c.peer.PID))
	}
	a.step(tokens.Input{Kind: tokens.InSessionOpen, Session: tokens.SessionID(s.id)})
	s.addRange(ids)
	c.session.Store(s)
	a.startTicking()
	a.cfg.Logf("session %s begins: %s", s.label(), c.peer.Addr)
	reply := a.describe(s)
	reply.Lease, reply.IDs = uint32(a.cfg.Lease/time.Millisecond), ids
	r.reply = reply
	return nil
}

// mayOpen tells why a client may not open a session. mu is held.
func (a *Authority) mayOpen(m *wire.Tsession) error {
	old := a.clients[m.Client]
	switch {
	case old != nil && !sameSecret(old, m):
		return syscall.EPERM
	case a.closed, old == nil && !a.room():
		return syscall.EAGAIN
	}
	return nil
}

// room tells whether there may be one more session. When there are too many, the one that has been away for the
// longest past its lease has to go, without pending work rather than with it. mu is held.
func (a *Authority) room() bool {
	n := 0
	var longest *session
	for _, s := range a.sessions {
		if s.leaving {
			continue
		}
		n++
		if s.conn == nil && s.over && (longest == nil || !s.pending && longest.pending ||
			s.pending == longest.pending && s.since < longest.since) {
			longest = s
		}
	}
	if n < a.cfg.MaxSessions {
		return true
	}
	if longest == nil {
		return false
	}
	a.forget(longest)
	return true
}

// whom decides for whom a session acts.
func (a *Authority) whom(s *session, c *conn, m *wire.Tsession) error {
	own, err := a.cfg.Users.uidFor(c.peer, wire.NoUID, "")
	if err != nil {
		return err
	}
	s.uid = own
	if a.cfg.Users.anyUser(c.peer) {
		switch {
		case m.Flags&wire.SessionAnyUser != 0:
			s.uid, s.any = wire.NoUID, true
		case len(m.Users) == 1:
			s.uid = m.Users[0]
		case len(m.Users) > 1:
			s.uid, s.allowed = wire.NoUID, map[uint32]bool{}
			for _, u := range m.Users {
				s.allowed[u] = true
			}
		}
		if s.uid == wire.NoUID && len(m.Users) == 1 && !s.any {
			return syscall.EINVAL
		}
	}
	s.cred.UID = own
	if s.uid != wire.NoUID {
		s.cred.UID = s.uid
	}
	s.cred.GID, s.cred.Groups = a.groups.lookup(s.cred.UID)
	return nil
}

func sameSecret(s *session, m *wire.Tsession) bool {
	return subtle.ConstantTimeCompare(s.secret[:], m.Secret[:]) == 1
}

// describe is what Rsession says of a session, but for its lease, ids and losses. mu is held.
func (a *Authority) describe(s *session) *wire.Rsession {
	m := &wire.Rsession{
		Session: s.id, Epoch: a.cfg.Epoch, Time: time.Now().UnixNano(), UID: s.uid, GID: wire.NoUID, Root: s.root,
		MaxCutBytes: uint32(min(a.cfg.MaxCutBytes, math.MaxUint32)), MaxCutRecords: uint32(a.cfg.MaxCutRecords),
	}
	if s.any {
		m.Flags |= wire.SessionAnyUser
	}
	if s.uid != wire.NoUID {
		m.GID = s.cred.GID
	}
	return m
}

// addRange adds a range to the session's. mu is held.
func (s *session) addRange(ids wire.IDRange) {
	s.ranges = append(s.ranges, ids)
	s.given += ids.Count
}

// rangeOf is the session's range that an id is from. mu is held.
func (s *session) rangeOf(id uint64) (wire.IDRange, bool) {
	for i := len(s.ranges) - 1; i >= 0; i-- {
		if r := s.ranges[i]; id >= r.First && id-r.First < r.Count {
			return r, true
		}
	}
	return wire.IDRange{}, false
}

// resume gives a session a new connection. What the old one may still bring is thrown away.
func (a *Authority) resume(r *request, m *wire.Tsession) error {
	c := r.c
	var old *conn
	var proc *process
	if c.peer.HasCred {
		proc = openProcess(c.nc, c.peer.PID)
	}
	name := procName(c.peer)
	a.mu.Lock()
	defer func() {
		if s := c.session.Load(); s == nil || s.proc != proc {
			proc.close()
		}
		a.unlock(c)
		if old != nil {
			old.hangUp(fmt.Errorf("the session has gone on to another connection"))
		}
	}()
	s := a.clients[m.Client]
	switch {
	case s == nil:
		return syscall.ESTALE
	case !sameSecret(s, m):
		return syscall.EPERM
	case s.resuming != nil:
		return syscall.EBUSY
	}
	if old = s.conn; old == c {
		old = nil
	} else if old != nil {
		a.hungUp(s)
	}
	if err := r.deferReply(nil); err != nil {
		return err
	}
	s.conn, s.resuming, s.since, s.peer, s.told = c, r, a.cfg.Clock(), c.peer, false
	s.over, s.mustResume, s.deathTold = false, 0, false
	s.returns = m.Flags&wire.SessionReturns != 0
	c.session.Store(s)
	a.follow(s, proc)
	if a.store != nil {
		a.note(stable.Record{Kind: stable.Moved, Session: s.id, Peer: c.peer.Addr, Proc: name})
	}
	a.step(tokens.Input{Kind: tokens.InConnected, Session: tokens.SessionID(s.id)})
	return errDeferred
}

// resumed answers the Tsession that resumes. mu is held.
func (a *Authority) resumed(s *session, o *tokens.Output) {
	r := s.resuming
	s.resuming = nil
	if r == nil {
		return
	}
	m := a.describe(s)
	m.Flags |= wire.SessionResume
	m.Lease, m.LastCut = uint32(o.Lease/int64(time.Millisecond)), o.Cut
	s.until = a.cfg.Clock() + o.Lease
	if a.grace && s.reclaiming() {
		m.Flags |= wire.SessionGrace
	}
	for _, l := range o.Lost {
		m.Lost = append(m.Lost, wire.LostToken{ID: l.ID, Left: uint8(l.Left)})
	}
	if n := len(s.ranges); n > 0 {
		m.IDs = wire.IDRange{Gen: s.ranges[n-1].Gen} // it has its ranges; Trenew gives more
	}
	a.send(r, m)
	a.cfg.Logf("session %s is back: %s; %d objects lost", s.label(), s.peer.Addr, len(o.Lost))
}

// heard notes that the session's client has sent something: it knows what it was told. mu is held.
func (a *Authority) heard(s *session) {
	if !s.told {
		s.told = true
		a.step(tokens.Input{Kind: tokens.InTold, Session: tokens.SessionID(s.id)})
	}
}

// mine is the session of the connection, unless it has gone on to another one. mu is held.
func (a *Authority) mine(c *conn) *session {
	if s := c.session.Load(); s != nil && s.conn == c && a.sessions[s.id] == s {
		return s
	}
	return nil
}

// errNoSession is the answer to the extension's messages of a connection without a session.
const errNoSession = syscall.ESTALE

// noSession refuses, and counts, what came for a session that is no more, or has gone on to another connection.
func (a *Authority) noSession() error {
	a.count.stale.Add(1)
	return errNoSession
}

// leave ends the connection's session at the client's wish.
func (a *Authority) leave(r *request, c *conn) error {
	a.mu.Lock()
	defer a.unlock(c)
	s := a.mine(c)
	if s == nil {
		return a.noSession()
	}
	s.pending = false // who ends his session knows what he does; what he said of it in passing is out of date
	reply := a.describe(s)
	reply.Flags |= wire.SessionEnd
	a.endSession(s, "its client has ended it")
	c.session.Store(nil)
	r.reply = reply
	return nil
}

// hungUp forgets what hangs on the session's connection. mu is held.
func (a *Authority) hungUp(s *session) {
	s.conn, s.since = nil, a.cfg.Clock()
	s.posted, s.unsaid, s.resuming = nil, nil, nil
	s.cuts, s.cutBytes = map[uint64]*partialCut{}, 0
	for _, p := range s.committed {
		s.cutBytes += p.bytes
	}
	a.step(tokens.Input{Kind: tokens.InDisconnected, Session: tokens.SessionID(s.id)})
	// Cuts that waited behind the one at work are forgotten by the manager.
	for n, p := range s.committed {
		if !p.going {
			delete(s.committed, n)
			s.cutBytes -= p.bytes
		}
	}
}

// disconnected: the connection of a session is gone.
func (a *Authority) disconnected(s *session, c *conn) {
	a.mu.Lock()
	defer a.unlock(c)
	if s.conn != c || a.sessions[s.id] != s {
		return
	}
	a.hungUp(s)
	if s.dead && !s.returns {
		a.endSession(s, "its client is dead")
		return
	}
	a.cfg.Logf("session %s: its connection is gone; it may come back", s.label())
}

// watch ends the session of a client whose process is dead, as soon as its connection is gone, too.
func (a *Authority) watch(s *session, p *process) {
	if !p.wait() {
		return
	}
	a.mu.Lock()
	defer a.unlock(nil)
	if a.sessions[s.id] == s && s.proc == p {
		s.dead = true
		if s.conn == nil && !s.returns {
			a.endSession(s, "its client is dead")
		}
	}
}

// follow watches the process at the other end of the session's connection. mu is held.
func (a *Authority) follow(s *session, p *process) {
	s.proc.close()
	s.proc, s.dead = p, false
	if p != nil {
		a.later(func() { a.watch(s, p) })
	}
}

// expired: the session's lease is over. mu is held.
func (a *Authority) expired(s *session) {
	s.over = true
	if s.pending {
		a.notice(s, "session %s: its lease is over, with work pending; what it holds goes to who wants it", s.label())
		return
	}
	a.event(s, "session %s: its lease is over; what it holds goes to who wants it", s.label())
}

// endSession frees all that a session has. mu is held.
func (a *Authority) endSession(s *session, why string) {
	a.note(stable.Record{Kind: stable.End, Session: s.id, Dead: s.pending, Time: time.Now().UnixNano()})
	if s.pending {
		a.notice(s, "session %s died with work pending: %s", s.label(), why)
		a.died(s)
	} else {
		a.cfg.Logf("session %s ends: %s", s.label(), why)
	}
	if c := s.conn; c != nil && c.session.CompareAndSwap(s, nil) {
		for _, r := range s.posted {
			a.send(r, rlerror(errNoSession))
		}
	}
	s.setSpace(0)
	delete(a.sessions, s.id)
	a.late.came(s.id)
	if a.clients[s.client] == s {
		delete(a.clients, s.client)
	}
	s.conn, s.posted = nil, nil
	s.proc.close()
	id := s.id
	a.step(tokens.Input{Kind: tokens.InSessionGone, Session: tokens.SessionID(id)})
	for n, x := range a.asks {
		if x.s == s {
			delete(a.asks, n)
			if x.r != nil {
				a.send(x.r, rlerror(errNoSession))
			}
		}
	}
	if a.applying(s) {
		s.ended = true // the Backend is told when the cut is done
		a.ending++
	} else {
		a.release(id)
	}
	a.checkGate()
}

// applying tells whether a cut of the session is being applied. mu is held.
func (a *Authority) applying(s *session) bool {
	for _, p := range s.committed {
		if p.going {
			return true
		}
	}
	return false
}

// checkGate lets plain operations by again when there are no sessions. mu is held.
func (a *Authority) checkGate() {
	if len(a.sessions) == 0 && a.ending == 0 && a.opening == 0 {
		a.gate.managed.Store(false)
	}
}

// forgetOld ends sessions that have been away for longer than courtesy bids. mu is held.
func (a *Authority) forgetOld() {
	now := a.cfg.Clock()
	for _, s := range a.sessions {
		if s.conn == nil && s.over && !s.leaving && now-s.since > int64(a.cfg.Courtesy) {
			a.forget(s)
		}
	}
}

// forget ends a session that did not come back, as soon as that is durable: for others may get then what it
// had, and it must not reclaim that. mu is held.
func (a *Authority) forget(s *session) {
	s.leaving = true
	if a.clients[s.client] == s {
		delete(a.clients, s.client) // if it comes back now it begins anew
	}
	a.durably(func(err error) {
		a.mu.Lock()
		defer a.unlock(nil)
		switch {
		case err != nil:
			a.again(func() { a.forget(s) })
		case a.sessions[s.id] == s:
			a.endSession(s, "it did not come back")
		}
	}, stable.Record{Kind: stable.End, Session: s.id, Dead: s.pending, Time: time.Now().UnixNano()})
}
