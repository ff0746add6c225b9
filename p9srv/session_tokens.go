package p9srv

import (
	"errors"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/tokens"
)

func rlerror(err error) *wire.Rlerror { return &wire.Rlerror{Errno: uint32(errnoOf(err))} }

// maxSet bounds the elements of a Tgrant.
const maxSet = 4096

func (r *request) tgrant() error {
	var m wire.Tgrant
	if err := r.decode(&m); err != nil {
		return err
	}
	c, a := r.c, r.c.srv.cfg.Authority
	if len(m.Elems) > maxSet {
		return syscall.EINVAL
	}
	elems := make([]tokens.Elem, len(m.Elems))
	for i, e := range m.Elems {
		if e.Name != "" {
			if err := checkName(e.Name); err != nil {
				return err
			}
		}
		elems[i] = tokens.Elem{ID: e.ID, Name: e.Name, Mode: tokens.Mode(e.Mode)}
	}
	if m.Flags&^(wire.GrantReclaim|wire.GrantReclaimComplete|wire.GrantTry|wire.GrantRaise) != 0 ||
		m.Flags&wire.GrantReclaimComplete != 0 && len(elems) > 0 {
		return syscall.EINVAL
	}
	if len(elems) == 0 {
		a.mu.Lock()
		defer a.unlock(c)
		s := a.mine(c)
		if s == nil {
			return a.noSession()
		}
		a.heard(s)
		if m.Flags&wire.GrantReclaimComplete != 0 {
			if err := a.completes(s); err != nil {
				return err
			}
			a.completed(s)
		}
		r.reply = &wire.Rgrant{Lease: a.lease(s)}
		return nil
	}
	if m.Flags&wire.GrantReclaim != 0 {
		return a.request(r, elems, tokens.Input{Kind: tokens.InReclaim}, func(x *ask) { a.deliverReclaim(x, &m) })
	}
	if m.Flags&wire.GrantRaise != 0 {
		return a.request(r, elems, tokens.Input{Kind: tokens.InRequest, Offer: true, Raise: true}, a.deliverRaise)
	}
	return a.request(r, elems, tokens.Input{Kind: tokens.InRequest, Try: m.Flags&wire.GrantTry != 0}, func(x *ask) { a.deliverGrant(x, &m) })
}

// request asks the manager for a session's deferred request; deliver runs when it is granted.
func (a *Authority) request(r *request, elems []tokens.Elem, in tokens.Input, deliver func(*ask)) error {
	a.mu.Lock()
	defer a.unlock(r.c)
	s := a.mine(r.c)
	if s == nil {
		return a.noSession()
	}
	a.heard(s)
	a.lastReq++
	x := &ask{a: a, id: a.lastReq, elems: elems, s: s, r: r, deliver: deliver, own: true}
	if err := r.deferReply(x); err != nil {
		return err
	}
	a.asks[x.id] = x
	a.todo = append(a.todo, r.endTurn) // what goes along may take a while to fetch
	in.Session, in.Req, in.Elems = tokens.SessionID(s.id), x.id, elems
	a.step(in)
	x.since = a.stepped
	// If it was not granted at once, whoever makes it possible does the rest.
	a.todo = append(a.todo, func() {
		a.mu.Lock()
		x.own = false
		if len(x.tokens) == 0 {
			a.someoneWaits()
		}
		a.unlock(r.c)
	})
	return errDeferred
}

// deliverGrant fetches what goes along with a grant and sends it. The tokens are held: nobody
// changes the objects meanwhile.
func (a *Authority) deliverGrant(x *ask, m *wire.Tgrant) {
	reply := &wire.Rgrant{Tokens: make([]wire.Granted, len(x.tokens))}
	room := int(x.r.c.msize) - wire.RgrantOverhead
	var err error
	for i, t := range x.tokens {
		g := &reply.Tokens[i]
		if err = a.fetch(x, g, t, m.Inline, &room); err != nil {
			break
		}
	}
	a.mu.Lock()
	defer a.unlock(nil)
	if err != nil {
		a.giveUp(x, err)
		return
	}
	reply.Lease = a.lease(x.s)
	a.sent(x, reply)
}

// deliverRaise sends what was raised: of all of it the client knows what there is to know.
func (a *Authority) deliverRaise(x *ask) {
	reply := &wire.Rgrant{Tokens: make([]wire.Granted, len(x.tokens))}
	for i, t := range x.tokens {
		reply.Tokens[i] = wire.Granted{ID: x.elems[i].ID, Gen: uint64(t.Gen), Mode: uint8(t.Mode)}
	}
	a.mu.Lock()
	defer a.unlock(nil)
	reply.Lease = a.lease(x.s)
	a.sent(x, reply)
}

// giveUp takes a granted request back that cannot be answered. mu is held.
func (a *Authority) giveUp(x *ask, err error) {
	if a.asks[x.id] == x {
		delete(a.asks, x.id)
		a.step(tokens.Input{Kind: tokens.InCancel, Req: x.id})
		a.send(x.r, rlerror(err))
	}
}

// sent puts a grant on the session's FIFO. Recalls of it may follow. mu is held.
func (a *Authority) sent(x *ask, m wire.Message) bool {
	if a.asks[x.id] != x {
		return false // flushed, or the session is gone
	}
	delete(a.asks, x.id)
	if !a.send(x.r, m) {
		a.step(tokens.Input{Kind: tokens.InCancel, Req: x.id})
		return false
	}
	a.count.grants.Add(1)
	a.step(tokens.Input{Kind: tokens.InSent, Req: x.id})
	return true
}

// fetch fills in what goes along with a token: attributes, a link's target, a small file's content.
func (a *Authority) fetch(x *ask, g *wire.Granted, t tokens.Token, inline uint32, room *int) error {
	*g = wire.Granted{ID: t.ID, Gen: uint64(t.Gen), Mode: uint8(t.Mode)}
	defer func() { *room -= wire.GrantedSize(g) }()
	if t.Mode == tokens.None {
		g.Flags = wire.GrantedAbsent
		return nil
	}
	if t.ID == tokens.DirMove {
		return nil
	}
	o, err := a.cfg.Backend.Lookup(background, t.ID)
	if err != nil {
		return err
	}
	defer o.Release()
	attr, err := o.GetAttr(background, &x.s.cred)
	if err != nil {
		return err
	}
	a.fill(x.s, o, attr, g, inline, *room)
	if wire.GrantedSize(g) > *room {
		return syscall.EMSGSIZE
	}
	return nil
}

// fill puts attributes into g, and a link's target or a small content where there is room.
func (a *Authority) fill(s *session, o Object, attr wire.Attr, g *wire.Granted, inline uint32, room int) {
	g.Attr = attr
	g.Flags |= wire.GrantedAttr
	// Most objects have none, and every write and every create under FUSE asks (security.capability, ACLs).
	if names, err := o.ListXattr(background, &s.cred); len(names) == 0 && (err == nil || errors.Is(err, syscall.EOPNOTSUPP)) {
		g.Attr.Flags |= wire.AttrNoXattrs
	}
	switch attr.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		target, err := o.Readlink(background, &s.cred)
		if err != nil || wire.GrantedSize(g)+len(target) > room {
			g.Flags &^= wire.GrantedAttr
			return
		}
		g.Target = target
	case syscall.S_IFREG:
		most := uint64(min(inline, a.cfg.MaxInline))
		if attr.Size > most || inline == 0 || wire.GrantedSize(g)+4+int(attr.Size) > room {
			return
		}
		if attr.Size == 0 {
			g.Flags |= wire.GrantedInline
			return
		}
		f, err := o.Open(background, &s.cred, wire.ORdonly)
		if err != nil {
			return // the client finds out why when it asks
		}
		defer f.Close(background)
		p := make([]byte, attr.Size)
		if n, err := f.ReadAt(background, p, 0); err == nil && n == len(p) {
			g.Inline = p
			g.Flags |= wire.GrantedInline
		}
	}
}

// recallOut is a recall that could not be said yet.
type recallOut struct {
	tokens []tokens.Recall
	any    int
}

// postedRecall is the ticket of a Trecall that waits.
type postedRecall struct {
	a *Authority
	s *session
	r *request
}

// Resolved implements Ticket.
func (*postedRecall) Resolved(int) (uint64, bool) { return 0, false }

// Done implements Ticket: the Trecall was flushed, or its connection is gone.
func (p *postedRecall) Done() {
	a := p.a
	a.mu.Lock()
	defer a.unlock(nil)
	for i, r := range p.s.posted {
		if r == p.r {
			p.s.posted = append(p.s.posted[:i:i], p.s.posted[i+1:]...)
			a.step(tokens.Input{Kind: tokens.InPosted, Session: tokens.SessionID(p.s.id), N: -1})
			return
		}
	}
}

// maxPosted bounds the Trecalls of a session that wait.
const maxPosted = 256

func (r *request) trecall() error {
	if err := r.decode(&wire.Trecall{}); err != nil {
		return err
	}
	a := r.c.srv.cfg.Authority
	a.mu.Lock()
	defer a.unlock(r.c)
	s := a.mine(r.c)
	switch {
	case s == nil:
		return a.noSession()
	case len(s.posted) >= maxPosted:
		return syscall.EAGAIN
	}
	a.heard(s)
	if err := r.deferReply(&postedRecall{a, s, r}); err != nil {
		return err
	}
	s.posted = append(s.posted, r)
	if len(s.unsaid) > 0 {
		out := s.unsaid[0]
		s.unsaid = s.unsaid[1:]
		a.say(s, out)
		return errDeferred
	}
	a.step(tokens.Input{Kind: tokens.InPosted, Session: tokens.SessionID(s.id), N: 1})
	return errDeferred
}

// recall does an OutRecall. mu is held.
func (a *Authority) recall(s *session, o *tokens.Output) {
	a.count.recalls.Add(uint64(len(o.Recalls)))
	a.say(s, recallOut{append([]tokens.Recall(nil), o.Recalls...), o.Any})
}

// say answers a posted Trecall. When all of them were flushed just now, the next one is answered so. mu is held.
func (a *Authority) say(s *session, out recallOut) {
	m := &wire.Rrecall{Any: uint32(out.any)}
	for _, t := range out.tokens {
		m.Tokens = append(m.Tokens, wire.RecallElem{
			ID: t.ID, Gen: uint64(t.Gen), Keep: uint8(t.Keep), Why: uint8(t.Why),
			Deadline: uint32(a.cfg.RecallDeadline / time.Millisecond),
		})
	}
	m.Lease = a.lease(s)
	for len(s.posted) > 0 {
		r := s.posted[0]
		s.posted = s.posted[1:]
		if a.send(r, m) {
			return
		}
	}
	if s.conn != nil {
		s.unsaid = append(s.unsaid, out)
	}
}

func (r *request) treturn() error {
	var m wire.Treturn
	if err := r.decode(&m); err != nil {
		return err
	}
	a := r.c.srv.cfg.Authority
	a.mu.Lock()
	s := a.mine(r.c)
	a.unlock(r.c)
	if s == nil {
		return a.noSession()
	}
	for _, e := range m.Tokens {
		if e.Keep > uint8(tokens.Write) {
			return syscall.EINVAL
		}
		if e.Flags&wire.ReturnClosed != 0 {
			a.cfg.Backend.DropOpen(s.id, e.ID)
		}
		if e.Flags&wire.ReturnOpen == 0 {
			continue
		}
		// Before the token is free: then somebody else may unlink the object.
		if err := a.cfg.Backend.KeepOpen(s.id, e.ID); err != nil {
			r.c.complain("session %s has object %d open, which cannot be kept: %v", s.label(), e.ID, err)
		}
	}
	a.mu.Lock()
	defer a.unlock(r.c)
	if a.mine(r.c) != s {
		return a.noSession()
	}
	a.heard(s)
	for _, e := range m.Tokens {
		a.count.returns.Add(1)
		since, was := a.m.Recalled(tokens.SessionID(s.id), e.ID)
		a.step(tokens.Input{Kind: tokens.InReturn, Session: tokens.SessionID(s.id), ID: e.ID, Gen: tokens.Gen(e.Gen), Keep: tokens.Mode(e.Keep)})
		if _, is := a.m.Recalled(tokens.SessionID(s.id), e.ID); was && !is {
			a.recallMax = max(a.recallMax, a.cfg.Clock()-since)
		}
	}
	r.reply = &wire.Rreturn{Lease: a.lease(s)}
	return nil
}
