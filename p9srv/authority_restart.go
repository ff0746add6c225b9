package p9srv

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv/stable"
	"echo9/tokens"
)

// storeRetry is how long after a failure what must be durable is tried again.
const storeRetry = time.Second

// Restore takes up the sessions of the server's earlier life, and begins the grace period in which they reclaim. It is
// called once, before anything is served. Without it, and where the Backend keeps no sessions, they end with the Authority.
func (a *Authority) Restore() error {
	if d, ok := a.cfg.Backend.(Durable); ok {
		a.store = d.Sessions()
	}
	if a.store == nil {
		a.cfg.Noticef("sessions do not outlive this server: nothing may be written here; its clients lose what they hold when it is started again")
		return nil
	}
	known := a.store.Known()
	a.cfg.Epoch = max(a.cfg.Epoch, known.Epoch+1)
	if err := a.recorded(stable.Record{Kind: stable.Epoch, Epoch: a.cfg.Epoch, Session: known.Last}); err != nil {
		return fmt.Errorf("begin epoch %d of the server: %w", a.cfg.Epoch, err)
	}
	a.mu.Lock()
	defer a.unlock(nil)
	a.lastSession, a.deaths = known.Last, known.Deaths
	a.cfg.Tokens.Record = true
	a.m = tokens.NewManager(a.cfg.Tokens, firstGen(a.cfg.Epoch))
	for _, id := range slices.Sorted(maps.Keys(known.Sessions)) {
		a.restore(known.Sessions[id])
	}
	if len(a.sessions) == 0 {
		return nil
	}
	a.gate.managed.Store(true)
	a.grace = a.mutant != mutantNoGrace
	if a.grace {
		a.step(tokens.Input{Kind: tokens.InGrace})
	}
	a.startTicking()
	if _, awaited, on := a.m.Grace(); on {
		a.awaited = len(awaited)
		a.notice(nil, "grace: waiting for %s, at most %v: %s", plural(len(awaited), "session"), a.cfg.Grace, a.labels(awaited))
	}
	return nil
}

// firstGen is the generation before the first of an epoch.
func firstGen(epoch uint64) tokens.Gen { return tokens.Gen(epoch << 32) }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// shownSessions is how many sessions a line of the log names.
const shownSessions = 8

// labels names sessions. mu is held.
func (a *Authority) labels(ids []tokens.SessionID) string {
	var names []string
	for _, id := range ids[:min(len(ids), shownSessions)] {
		s := a.sessions[uint64(id)]
		if s == nil {
			continue
		}
		name := s.label()
		if s.pending {
			name += ", with work pending"
		}
		names = append(names, name)
	}
	if more := len(ids) - shownSessions; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, "; ")
}

// restore makes a session of what stable storage knows of it. mu is held.
func (a *Authority) restore(c *stable.Session) {
	if old := a.clients[c.Client]; old != nil {
		a.endSession(old, "its client began anew") // and the server died before that was written
	}
	now := a.cfg.Clock()
	s := &session{
		a: a, id: c.ID, client: c.Client, secret: c.Secret, name: c.Name, aname: c.Aname, uid: wire.NoUID,
		cred: Cred{UID: c.UID, Session: c.ID}, wish: wire.Tsession{Flags: c.Flags, Users: c.Users}, unsure: true,
		returns: c.Flags&wire.SessionReturns != 0,
		peer:    Peer{Addr: c.Peer}, told: true, over: true, since: now, restored: true, missed: c.Missed,
		pending: c.Pending, noted: c.Pending, lostLocks: c.Locks,
		cuts: map[uint64]*partialCut{}, committed: map[uint64]*partialCut{},
	}
	if c.Missed != 0 { // it is away since then
		s.since -= max(0, time.Now().Unix()-int64(c.Missed)) * int64(time.Second)
	}
	for i, r := range c.Ranges {
		s.ranges = append(s.ranges, wire.IDRange{First: r.First, Count: r.Count, Gen: r.Gen})
		s.given += r.Count
		if i > 0 {
			s.made += c.Ranges[i-1].Count // most likely; nobody counted
		}
	}
	a.sessions[s.id], a.clients[s.client] = s, s
	in := tokens.Input{
		Kind: tokens.InRestore, Session: tokens.SessionID(s.id), Cut: a.store.LastCut(stable.Key(s.client, s.id)), Missed: c.Missed != 0,
	}
	for _, id := range slices.Sorted(maps.Keys(c.Lost)) {
		in.Lost = append(in.Lost, tokens.Lost{ID: id, Left: tokens.Mode(c.Lost[id])})
	}
	a.step(in)
	if c.Proc != "" && !s.returns && !isAlive(c.Proc) {
		a.endSession(s, "its client is dead")
	}
}

// recorded makes records durable, and waits for that. mu is not held.
func (a *Authority) recorded(records ...stable.Record) error {
	if a.store == nil {
		return nil
	}
	done := make(chan error, 1)
	a.store.Note(func(err error) { done <- err }, records...)
	return <-done
}

// durably has records made durable, and then calls then, when mu is free. mu is held.
func (a *Authority) durably(then func(error), records ...stable.Record) {
	switch {
	case a.store == nil:
		a.todo = append(a.todo, func() { then(nil) })
	case a.mutant == mutantNoRecord:
		a.store.Note(nil, records...)
		a.todo = append(a.todo, func() { then(nil) })
	default:
		a.store.Note(then, records...)
	}
}

// note records what need not be durable. mu is held.
func (a *Authority) note(records ...stable.Record) {
	if a.store != nil {
		a.store.Note(nil, records...)
	}
}

// again calls f after a while, with mu held, unless all is over by then.
func (a *Authority) again(f func()) {
	time.AfterFunc(storeRetry, func() {
		a.mu.Lock()
		if !a.closed {
			f()
		}
		a.unlock(nil)
	})
}

// revoked notes that a session lost something for a request. mu is held.
func (a *Authority) revoked(s *session, o *tokens.Output) {
	a.count.revoked.Add(1)
	if s != nil {
		a.event(s, "session %s: lost object %d (generation %d, %v left): its lease is over and somebody wants it", s.label(), o.ID, o.Gen, o.Keep)
	}
	taken := stable.Record{Kind: stable.Revoked, Session: uint64(o.Session), Lost: []stable.Lost{{ID: o.ID, Left: uint8(o.Keep)}}}
	if a.store == nil {
		a.todo = append(a.todo, func() { a.keepTaken(taken) }) // before who asked hears of it
		return
	}
	a.toRecord(o.Req, taken)
}

// keepTaken keeps objects alive for sessions that are away and lost them, for they may have them open: when they are back they say whether they do
// (Treturn). mu is not held.
func (a *Authority) keepTaken(records ...stable.Record) {
	for _, r := range records {
		if r.Kind != stable.Revoked {
			continue
		}
		for _, l := range r.Lost {
			if l.Left != uint8(tokens.None) || l.ID == tokens.DirMove {
				continue
			}
			err := a.cfg.Backend.KeepOpen(r.Session, l.ID)
			if err != nil && !errors.Is(err, syscall.ESTALE) && !errors.Is(err, syscall.ENOENT) {
				a.cfg.Logf("object %d, which session %d may have open, cannot be kept: %v", l.ID, r.Session, err)
			}
		}
	}
}

// toRecord keeps what must be durable before a request is granted. mu is held.
func (a *Authority) toRecord(req tokens.ReqID, r stable.Record) {
	if a.store == nil {
		return
	}
	if a.revoking == nil {
		a.revoking = map[tokens.ReqID][]stable.Record{}
	}
	a.revoking[req] = append(a.revoking[req], r)
}

// recordRevoked makes durable what was taken for requests in the last step: only then are they granted. mu is held.
func (a *Authority) recordRevoked() {
	if len(a.revoking) == 0 {
		return
	}
	all := a.revoking
	a.revoking = nil
	for _, req := range slices.Sorted(maps.Keys(all)) {
		a.recordFor(req, all[req])
	}
}

// recordFor makes durable what was taken for a request. When that fails the request is refused; what was taken
// is nobody's until it is on record. mu is held.
func (a *Authority) recordFor(req tokens.ReqID, records []stable.Record) {
	a.durably(func(err error) {
		a.mu.Lock()
		defer a.unlock(nil)
		switch {
		case a.closed:
			return
		case err == nil:
			a.atWork(func() { // not on the goroutine that writes the records: the Backend may have it write more
				a.keepTaken(records...)
				a.mu.Lock()
				a.step(tokens.Input{Kind: tokens.InRecorded, Req: req})
				a.unlock(nil)
			})
			return
		}
		a.refuse(req, fmt.Errorf("record what is taken from a session: %w", err))
		a.again(func() { a.recordFor(req, records) })
	}, records...)
}

// refuse answers a request that the manager has decided to grant, but that is not to be. mu is held.
func (a *Authority) refuse(req tokens.ReqID, err error) {
	x := a.asks[req]
	switch {
	case x == nil:
	case x.s == nil:
		x.state = askDenied
		a.wake(x, err)
	default:
		delete(a.asks, req)
		if x.r != nil {
			a.send(x.r, rlerror(err))
		}
		a.step(tokens.Input{Kind: tokens.InCancel, Req: req})
	}
}

// recordMissed makes durable who missed the grace period: nothing is granted before. mu is held.
func (a *Authority) recordMissed(ids []uint64) {
	record := []stable.Record{{Kind: stable.Missed, Epoch: a.cfg.Epoch, Sessions: ids}}
	if a.mutant == mutantNoMissed {
		record = nil
	}
	for _, id := range ids {
		if s := a.sessions[id]; s != nil {
			s.recovered = false // what is recorded now comes after
			if s.missed == 0 {
				s.missed = a.cfg.Epoch
				a.late.await(id)
			}
		}
	}
	a.durably(func(err error) {
		a.mu.Lock()
		defer a.unlock(nil)
		if err == nil {
			a.step(tokens.Input{Kind: tokens.InMissedRecorded})
			return
		}
		a.cfg.Noticef("the grace period cannot end before it is on record who missed it: %v", err)
		a.again(func() { a.recordMissed(ids) })
	}, record...)
}

// graceEnds: everything is granted again. mu is held.
func (a *Authority) graceEnds() {
	if !a.grace {
		return
	}
	a.grace = false
	var missing []tokens.SessionID
	for _, id := range slices.Sorted(maps.Keys(a.sessions)) {
		if s := a.sessions[id]; s.missed == a.cfg.Epoch {
			missing = append(missing, tokens.SessionID(id))
		}
	}
	if a.awaited > 0 {
		did := ""
		if len(missing) > 0 {
			did = fmt.Sprintf(", %d did not (%s)", len(missing), a.labels(missing))
		}
		a.notice(nil, "grace is over: %s came back%s", plural(a.awaited-len(missing), "session"), did)
	}
	for _, x := range a.afterGrace {
		if x.state == askWaiting {
			x.state = askGranted
			a.wake(x, nil)
		}
	}
	a.afterGrace = nil
}

// someoneWaits says once that somebody has to wait for the end of the grace period. mu is held.
func (a *Authority) someoneWaits() {
	if a.grace && !a.graceSaid {
		a.graceSaid = true
		until, awaited, _ := a.m.Grace()
		a.notice(nil, "grace: who wants something now waits for %s, at most %v", plural(len(awaited), "session"),
			time.Duration(max(0, until-a.cfg.Clock())).Round(100*time.Millisecond))
	}
}

// reclaiming tells whether the session, of an earlier life of the server, has not said that it has reclaimed all.
func (s *session) reclaiming() bool { return s.restored && !s.completed }

// completes has it on record that a session which missed a grace period has reclaimed now what it wants, before it is told so: from then on
// its lease counts, and after another crash it has to be awaited. mu is held, and not while that is written.
func (a *Authority) completes(s *session) error {
	for s.reclaiming() && s.missed != 0 && !s.recovered && a.mutant != mutantNoRecord {
		a.unlock(nil)
		err := a.recorded(stable.Record{Kind: stable.Completed, Session: s.id})
		a.mu.Lock()
		if err != nil {
			return fmt.Errorf("record that session %d has reclaimed all: %w", s.id, err)
		}
		s.recovered = true
	}
	return nil
}

// completed: the session will reclaim nothing more. mu is held.
func (a *Authority) completed(s *session) {
	if s.reclaiming() {
		s.completed, s.locks = true, true // it has claimed those that it had: the rest is lost, and it was told
		a.late.came(s.id)
		if s.missed != 0 {
			s.missed, s.recovered = 0, false
			a.note(stable.Record{Kind: stable.Completed, Session: s.id})
		}
	}
	a.step(tokens.Input{Kind: tokens.InReclaimed, Session: tokens.SessionID(s.id)})
}

// deliverReclaim looks whether what a session had before is still as it knew it, and sends what it got.
func (a *Authority) deliverReclaim(x *ask, m *wire.Tgrant) {
	reply := &wire.Rgrant{Tokens: make([]wire.Granted, len(x.tokens))}
	var gone []tokens.Token
	for i, t := range x.tokens {
		g := &reply.Tokens[i]
		*g = wire.Granted{ID: m.Elems[i].ID, Gen: uint64(t.Gen), Mode: uint8(t.Mode)}
		if t.Mode == tokens.None || t.ID == tokens.DirMove {
			continue
		}
		version, err := a.versionOf(x.s, t.ID)
		if err != nil && !errors.Is(err, syscall.ESTALE) && !errors.Is(err, syscall.ENOENT) {
			a.mu.Lock()
			a.giveUp(x, fmt.Errorf("reclaim object %d: %w", t.ID, err)) // it may be had later
			a.unlock(nil)
			return
		}
		if err != nil {
			g.Gen, g.Mode = 0, 0
			gone = append(gone, t)
		} else if version != m.Elems[i].Version {
			g.Flags = wire.GrantedChanged
		}
	}
	a.mu.Lock()
	defer a.unlock(nil)
	s := x.s
	reply.Lease = a.lease(s)
	if !a.sent(x, reply) {
		return
	}
	for i := range reply.Tokens {
		if reply.Tokens[i].Mode != 0 {
			a.count.reclaimed.Add(1)
		}
	}
	for _, t := range gone {
		a.step(tokens.Input{Kind: tokens.InReturn, Session: tokens.SessionID(s.id), ID: t.ID, Gen: t.Gen})
	}
}

// versionOf is the version of an object's data now.
func (a *Authority) versionOf(s *session, id uint64) (uint64, error) {
	o, err := a.cfg.Backend.Lookup(background, id)
	if err != nil {
		return 0, err
	}
	defer o.Release()
	attr, err := o.GetAttr(background, &s.cred)
	return attr.DataVersion, err
}

// openRecords is what must be known of a session after a restart.
func (s *session) openRecords(m *wire.Tsession, ids wire.IDRange) []stable.Record {
	return []stable.Record{{
		Kind: stable.Open, Session: s.id, Client: s.client, Secret: s.secret, Aname: s.aname, Name: s.name, Peer: s.peer.Addr,
		Proc: procName(s.peer), UID: s.owner(), Flags: m.Flags & (wire.SessionAnyUser | wire.SessionReturns), Users: m.Users,
	}, s.rangeRecord(ids)}
}

func (s *session) rangeRecord(ids wire.IDRange) stable.Record {
	return stable.Record{Kind: stable.Range, Session: s.id, ID: ids.First, Count: ids.Count, Gen: ids.Gen}
}

// recheck finds out for whom a session of an earlier life may act now, and its root.
func (a *Authority) recheck(r *request, s *session, m *wire.Tsession) error {
	if !sameSecret(s, m) {
		return nil // resume says so
	}
	var now session
	if err := a.whom(&now, r.c, &s.wish); err != nil {
		return err
	}
	now.cred.Session = s.id
	root, err := a.cfg.Backend.Root(r, &now.cred, s.aname)
	if err != nil {
		return err
	}
	qid := root.QID()
	root.Release()
	a.mu.Lock()
	defer a.unlock(r.c)
	if s.unsure {
		s.unsure = false
		s.uid, s.allowed, s.any, s.cred, s.root = now.uid, now.allowed, now.any, now.cred, qid
	}
	return nil
}
