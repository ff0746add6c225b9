package p9srv

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv/stable"
	"echo9/tokens"
)

// The extension's remaining messages: Trenew, Tbind and Treaddirplus.

func init() {
	for typ, o := range map[uint8]op{
		wire.TypeTsession:     {run: (*request).tsession, quick: true},
		wire.TypeTgrant:       {run: (*request).tgrant, quick: true},
		wire.TypeTrecall:      {run: (*request).trecall, quick: true},
		wire.TypeTreturn:      {run: (*request).treturn, quick: true},
		wire.TypeTcommit:      {run: (*request).tcommit, quick: true},
		wire.TypeTreaddirplus: {run: (*request).treaddirplus, quick: true},
		wire.TypeTrenew:       {run: (*request).trenew, quick: true},
		wire.TypeTbind:        {run: (*request).tbind},
	} {
		// What a session tells the token manager it tells in order: parts of cuts, cuts, returns.
		o.ext, o.ordered = true, typ != wire.TypeTbind
		ops[typ] = o
	}
}

// maxSpareIDs bounds the ids that a session has been given and has not used.
const maxSpareIDs = 1 << 20

func (r *request) trenew() error {
	var m wire.Trenew
	if err := r.decode(&m); err != nil {
		return err
	}
	a, c := r.c.srv.cfg.Authority, r.c
	var first uint64
	if m.Flags&wire.RenewIDs != 0 {
		a.mu.Lock()
		s := a.mine(c)
		want := s != nil && s.given-min(s.given, s.made)+a.cfg.IDs <= maxSpareIDs
		a.unlock(c)
		if want {
			var err error
			first, err = a.cfg.Backend.AllocIDs(a.cfg.IDs)
			if err != nil && !errors.Is(err, syscall.EROFS) {
				return err
			}
		}
	}
	var d disk
	if m.Space > 0 {
		d = a.disk()
	}
	a.mu.Lock()
	defer a.unlock(c)
	s := a.mine(c)
	if s == nil {
		return a.noSession()
	}
	pending := m.Flags&wire.RenewPending != 0
	s.pending = pending
	if a.m.Expired(a.cfg.Clock(), tokens.SessionID(s.id)) {
		r.reply = &wire.Rrenew{Time: time.Now().UnixNano(), Resume: true}
		return nil
	}
	a.heard(s)
	var ids wire.IDRange
	var records []stable.Record
	if first != 0 {
		ids = wire.IDRange{First: first, Count: a.cfg.IDs, Gen: uint64(a.m.NewGen())}
		records = append(records, s.rangeRecord(ids))
	}
	switch {
	case pending && !s.noted:
		records = append(records, stable.Record{Kind: stable.Pending, Session: s.id})
	case !pending && s.noted:
		s.noted = false
		a.note(stable.Record{Kind: stable.Idle, Session: s.id})
	}
	// What is set aside and what a cut has used of it must be told in the order in which it was: this reply takes its
	// place among those to cuts here.
	if err := r.deferReply(nil); err != nil {
		return err
	}
	if len(records) == 0 || a.store == nil {
		a.send(r, a.renewed(s, ids, &m, d))
		return errDeferred
	}
	a.durably(func(err error) {
		if m.Space > 0 {
			d = a.disk() // it took a while
		}
		a.mu.Lock()
		defer a.unlock(nil)
		switch {
		case err != nil:
			a.send(r, rlerror(fmt.Errorf("record what a session has: %w", err)))
		case a.mine(c) == s:
			switch {
			case pending && s.pending:
				s.noted = true
			case pending: // it has said since that it has none
				a.note(stable.Record{Kind: stable.Idle, Session: s.id})
			}
			a.send(r, a.renewed(s, ids, &m, d))
		}
	}, records...)
	return errDeferred
}

// renewed is the answer to a Trenew that gives ids, and space as far as there is. mu is held.
func (a *Authority) renewed(s *session, ids wire.IDRange, m *wire.Trenew, d disk) *wire.Rrenew {
	if ids.Count > 0 {
		s.addRange(ids)
	}
	return &wire.Rrenew{Time: time.Now().UnixNano(), Lease: a.lease(s), IDs: ids, Space: a.lend(s, m.Space, m.Held, d)}
}

func (r *request) tbind() error {
	var m wire.Tbind
	if err := r.decode(&m); err != nil {
		return err
	}
	a, c := r.c.srv.cfg.Authority, r.c
	if c.session.Load() == nil {
		return a.noSession()
	}
	if m.Flags != wire.BindNoOpen && m.Flags&(wire.OTrunc|wire.OCreat) != 0 {
		return errUpdate
	}
	if err := c.freeFid(m.Fid); err != nil {
		return err
	}
	cred, err := c.cred(m.UID, "")
	if err != nil {
		return err
	}
	reply := &wire.Rbind{}
	if m.Flags != wire.BindNoOpen && !a.comesBack(c) {
		if err := r.admit(tokens.Elem{ID: m.ID, Mode: tokens.Read}); err != nil {
			return err
		}
	}
	o, err := a.cfg.Backend.Lookup(r, m.ID)
	if err != nil {
		return err
	}
	reply.QID = o.QID()
	f := newFid(newRef(o), cred, nil, "")
	if m.Flags != wire.BindNoOpen {
		file, err := o.Open(r, cred, m.Flags)
		if err != nil {
			f.end(c)
			return err
		}
		f.open.Store(&openFile{file, m.Flags})
		reply.Iounit = c.iounit()
	}
	r.done()
	if err := c.putFid(m.Fid, f); err != nil {
		f.end(c)
		return err
	}
	a.mu.Lock()
	if s := a.mine(c); s != nil {
		a.heard(s)
		reply.Lease = a.lease(s)
	}
	a.unlock(c)
	r.reply = reply
	return nil
}

// comesBack tells whether the connection's session is awaited in the grace period: it opens again what it had open without
// having reclaimed it, for nobody else changes anything meanwhile.
func (a *Authority) comesBack(c *conn) bool {
	a.mu.Lock()
	defer a.unlock(c)
	s := a.mine(c)
	return s != nil && a.grace && s.reclaiming()
}

// maxDirs bounds the directories of one Treaddirplus, maxEntries its entries.
const (
	maxDirs    = 256
	maxEntries = 4096
)

func (r *request) treaddirplus() error {
	var m wire.Treaddirplus
	if err := r.decode(&m); err != nil {
		return err
	}
	if len(m.Dirs) == 0 || len(m.Dirs) > maxDirs {
		return syscall.EINVAL
	}
	elems := make([]tokens.Elem, len(m.Dirs))
	for i, d := range m.Dirs {
		elems[i] = tokens.Elem{ID: d.ID, Mode: tokens.Read}
	}
	return r.c.srv.cfg.Authority.request(r, elems, tokens.Input{Kind: tokens.InRequest}, func(x *ask) { x.a.deliverDirs(x, &m) })
}

// deliverDirs reads the directories, whose tokens are held, and the attributes of entries for
// which a token can be had at once.
func (a *Authority) deliverDirs(x *ask, m *wire.Treaddirplus) {
	room := int(min(m.Count, x.r.c.msize)) - wire.RreaddirplusOverhead
	reply := &wire.Rreaddirplus{}
	var err error
	var offers []*ask
	for i, t := range x.tokens {
		if i > 0 && room < 2*wire.PlusDirSize {
			break
		}
		d := wire.PlusDir{ID: t.ID, Gen: uint64(t.Gen), Mode: uint8(t.Mode)}
		var offer *ask
		if offer, err = a.readPlus(x, &d, m.Dirs[i].Cookie, m.Inline, &room); err != nil {
			break
		}
		if offer != nil {
			offers = append(offers, offer)
		}
		reply.Dirs = append(reply.Dirs, d)
		if !d.EOF {
			break // what comes behind would only make this one wait
		}
	}
	a.mu.Lock()
	defer a.unlock(nil)
	sent := false
	if err != nil && len(reply.Dirs) == 0 {
		a.giveUp(x, err)
	} else {
		// Directories that were left out are granted all the same: the client is told so by none, and
		// gives them back when they are recalled.
		reply.Lease = a.lease(x.s)
		sent = a.sent(x, reply)
	}
	for _, o := range offers {
		delete(a.asks, o.id)
		kind := tokens.InCancel
		if sent {
			kind = tokens.InSent
		}
		a.step(tokens.Input{Kind: kind, Req: o.id})
	}
}

// readPlus reads entries of one directory behind the cookie, as many as fit.
func (a *Authority) readPlus(x *ask, d *wire.PlusDir, cookie uint64, inline uint32, room *int) (offer *ask, err error) {
	cred := &x.s.cred
	dir, err := a.cfg.Backend.Lookup(background, d.ID)
	if err != nil {
		return nil, err
	}
	defer dir.Release()
	if d.Attr, err = dir.GetAttr(background, cred); err != nil {
		return nil, err
	}
	f, err := dir.Open(background, cred, wire.ORdonly|wire.ODirectory)
	if err != nil {
		return nil, err
	}
	defer f.Close(background)
	left := *room - wire.PlusDirSize
	var elems []tokens.Elem
	d.EOF = true
	full := wire.PlusEntry{Token: wire.Granted{Flags: wire.GrantedAttr}}
	err = f.ReadDir(background, cookie, func(e wire.Dirent) bool {
		if e.Name == "." || e.Name == ".." {
			return true
		}
		full.Name = e.Name
		size := wire.PlusEntrySize(&full)
		if size > left || len(d.Entries) >= maxEntries {
			d.EOF = false
			return false
		}
		left -= size
		d.Entries = append(d.Entries, wire.PlusEntry{Name: e.Name, Offset: e.Offset, QID: e.QID, Token: wire.Granted{ID: e.QID.Path}})
		elems = append(elems, tokens.Elem{ID: e.QID.Path, Mode: tokens.Read})
		return true
	})
	if err != nil {
		return nil, err
	}
	*room = left
	if len(elems) == 0 {
		if !d.EOF {
			return nil, syscall.EMSGSIZE
		}
		return nil, nil
	}
	offer = a.offer(x.s, elems)
	if offer == nil {
		return nil, nil
	}
	for i := range d.Entries {
		e := &d.Entries[i]
		t := offer.tokens[i]
		if t.Mode == tokens.None {
			continue
		}
		// Only now that the token is held are the attributes what they will be.
		e.Token.Gen, e.Token.Mode = uint64(t.Gen), uint8(t.Mode)
		o, attr, err := dir.Walk(background, cred, e.Name)
		if err != nil {
			continue // no attributes, then; the client asks when it needs them
		}
		if o.ID() == e.QID.Path {
			e.QID = o.QID()
			bare := wire.GrantedSize(&wire.Granted{Flags: wire.GrantedAttr})
			a.fill(x.s, o, attr, &e.Token, inline, left+bare)
			left -= wire.GrantedSize(&e.Token) - bare
		}
		o.Release()
	}
	*room = left
	return offer, nil
}

// offer takes read tokens of those elements where nobody is in the way.
func (a *Authority) offer(s *session, elems []tokens.Elem) *ask {
	x := &ask{a: a, elems: elems, s: s}
	a.mu.Lock()
	defer a.unlock(nil)
	if a.sessions[s.id] != s {
		return nil
	}
	a.lastReq++
	x.id = a.lastReq
	a.asks[x.id] = x
	a.step(tokens.Input{Kind: tokens.InRequest, Session: tokens.SessionID(s.id), Req: x.id, Elems: elems, Offer: true})
	if a.asks[x.id] != x || len(x.tokens) != len(elems) {
		delete(a.asks, x.id)
		return nil
	}
	return x
}
