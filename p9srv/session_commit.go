package p9srv

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv/stable"
	"echo9/tokens"
)

// partialCut is a cut on its way: parts come in, the manager checks it, the Backend applies it.
type partialCut struct {
	cut.Cut
	parts   uint32
	bytes   int
	refused *wire.Rcommit // why a part was; later parts of the number are answered alike
	r       *request      // the last part
	going   bool          // is being applied
}

// maxPending bounds the cuts of a session whose parts have come in part or that wait for their turn.
const maxPending = 32

// wholeCut is the record number that means the cut as a whole.
const wholeCut = ^uint32(0)

func (r *request) tcommit() error {
	var m wire.Tcommit
	r.body, r.own = append([]byte(nil), r.body...), true // records alias it until the cut is applied
	if err := r.decode(&m); err != nil {
		return err
	}
	a, c := r.c.srv.cfg.Authority, r.c
	a.mu.Lock()
	s := a.mine(c)
	if s == nil {
		a.unlock(c)
		return a.noSession()
	}
	a.heard(s)
	p := a.addPart(s, &m, len(r.body))
	if m.Flags&^wire.CommitLast != 0 && p.refused == nil {
		p.refused = refusal(m.Cut, wholeCut, fmt.Errorf("flags %#x, which there are not: %w", m.Flags, syscall.EINVAL))
	}
	if s.mustResume != 0 && p.refused == nil {
		p.refused = fenced(m.Cut, s.mustResume)
	}
	if p.refused != nil || m.Flags&wire.CommitLast == 0 {
		defer a.unlock(c)
		reply := wire.Rcommit{Cut: m.Cut, Status: wire.CommitAccepted}
		if p.refused == nil {
			a.step(tokens.Input{Kind: tokens.InProgress, Session: tokens.SessionID(s.id)})
		} else {
			reply = *p.refused // the answer to the part before may not be encoded yet
			if m.Flags&wire.CommitLast != 0 {
				a.dropCut(s, p)
				a.counted(&reply)
			}
		}
		reply.Lease = a.lease(s)
		r.reply = &reply
		return nil
	}
	defer a.unlock(c)
	p.Fence = m.Fence
	born, refused := a.check(s, p)
	if refused != nil {
		a.dropCut(s, p)
		a.counted(refused)
		refused.Lease = a.lease(s)
		r.reply = refused
		return nil
	}
	if err := r.deferReply(nil); err != nil {
		a.dropCut(s, p)
		return err
	}
	delete(s.cuts, p.Number)
	if old := s.committed[p.Number]; old != nil {
		// Sent again while it is being applied: the answer to it is the answer to both.
		s.cutBytes -= p.bytes
		a.send(old.r, &wire.Rcommit{Cut: p.Number, Status: wire.CommitOutOfOrder, Record: wholeCut})
		old.r = r
		return errDeferred
	}
	p.r = r
	s.committed[p.Number] = p
	fence := make([]tokens.Held, 0, len(p.Fence))
	for _, f := range p.Fence {
		if !slices.ContainsFunc(born, func(b tokens.Born) bool { return b.ID == f.ID }) {
			fence = append(fence, tokens.Held{ID: f.ID, Gen: tokens.Gen(f.Gen), Mode: tokens.Mode(f.Mode)})
		}
	}
	a.step(tokens.Input{Kind: tokens.InCommit, Session: tokens.SessionID(s.id), Cut: p.Number, Fence: fence, Born: born})
	return errDeferred
}

// refusal is the answer to a cut of which nothing is applied.
func refusal(number uint64, record uint32, err error) *wire.Rcommit {
	return &wire.Rcommit{Cut: number, Status: wire.CommitRefused, Errno: uint32(errnoOf(err)), Record: record, Reason: shorten(err.Error())}
}

// shorten keeps a reason within what a reply carries easily.
func shorten(s string) string { return s[:min(len(s), 500)] }

func fenced(number, id uint64) *wire.Rcommit {
	return &wire.Rcommit{Cut: number, Status: wire.CommitFenced, ID: id, Record: wholeCut, Errno: uint32(syscall.ESTALE)}
}

// addPart puts a part to the others of its cut. mu is held.
func (a *Authority) addPart(s *session, m *wire.Tcommit, size int) *partialCut {
	p := s.cuts[m.Cut]
	if m.Part == 0 {
		if p != nil {
			a.dropCut(s, p)
		}
		p = &partialCut{Cut: cut.Cut{Client: stable.Key(s.client, s.id), Number: m.Cut}}
		if len(s.cuts)+len(s.committed) >= maxPending {
			p.refused = refusal(m.Cut, wholeCut, fmt.Errorf("too many cuts under way: %w", syscall.EAGAIN))
			return p
		}
		s.cuts[m.Cut] = p
	}
	if p == nil || p.refused == nil && m.Part != p.parts {
		refused := refusal(m.Cut, wholeCut, fmt.Errorf("part %d of cut %d is out of order: %w", m.Part, m.Cut, syscall.EINVAL))
		if p == nil {
			return &partialCut{refused: refused}
		}
		p.refused = refused
		return p
	}
	if p.refused != nil {
		return p
	}
	p.parts++
	p.bytes += size
	s.cutBytes += size
	switch {
	case p.bytes > a.cfg.MaxCutBytes, len(p.Records)+len(m.Records) > a.cfg.MaxCutRecords:
		p.refused = refusal(m.Cut, wholeCut, fmt.Errorf("the cut is too large: %w", syscall.E2BIG))
	case s.cutBytes > 4*a.cfg.MaxCutBytes:
		p.refused = refusal(m.Cut, wholeCut, fmt.Errorf("too much is under way: %w", syscall.EAGAIN))
	case p.Records == nil:
		p.Records = m.Records
	default:
		p.Records = append(p.Records, m.Records...)
	}
	if p.refused != nil {
		p.Records = nil
	}
	return p
}

// dropCut forgets the parts of a cut. mu is held.
func (a *Authority) dropCut(s *session, p *partialCut) {
	if s.cuts[p.Number] == p {
		delete(s.cuts, p.Number)
		s.cutBytes -= p.bytes
	}
}

// check checks what can be checked without the Backend: whom the records act for, where new ids come
// from, and that the fence names all that they touch. mu is held.
func (a *Authority) check(s *session, p *partialCut) (born []tokens.Born, refused *wire.Rcommit) {
	isBorn := map[uint64]bool{}
	held := map[uint64]uint8{}
	for _, f := range p.Fence {
		held[f.ID] = max(held[f.ID], f.Mode)
	}
	for i := range p.Records {
		r := &p.Records[i]
		uid, err := s.userFor(r.UID)
		if err != nil {
			return nil, refusal(p.Number, uint32(i), err)
		}
		r.UID = uid
		if r.Kind != cut.Create {
			continue
		}
		ids, ok := s.rangeOf(r.ID)
		if !ok {
			return nil, refusal(p.Number, uint32(i), fmt.Errorf("object id %d is not the session's to give: %w", r.ID, syscall.EPERM))
		}
		if isBorn[r.ID] {
			return nil, refusal(p.Number, uint32(i), fmt.Errorf("object %d is created twice: %w", r.ID, syscall.EINVAL))
		}
		isBorn[r.ID] = true
		born = append(born, tokens.Born{ID: r.ID, Gen: tokens.Gen(ids.Gen)})
	}
	for i := range p.Records {
		r := &p.Records[i]
		if r.Kind == cut.Bind {
			if err := checkName(r.Name); err != nil {
				return nil, refusal(p.Number, uint32(i), err)
			}
		}
		for id, mode := range touched(r) {
			if !isBorn[id] && held[id] < mode && a.mutant != mutantSkipFence {
				return nil, fenced(p.Number, id)
			}
		}
	}
	return born, nil
}

// touched gives what a record writes and reads: these tokens its cut's fence must name.
func touched(r *cut.Record) map[uint64]uint8 {
	const read, write = uint8(tokens.Read), uint8(tokens.Write)
	t := map[uint64]uint8{}
	switch r.Kind {
	case cut.Create, cut.Release:
	case cut.Bind:
		t[r.Dir] = write
		for _, id := range []uint64{r.ID, r.Before} {
			if id != 0 {
				t[id] = write
			}
		}
	case cut.Copy:
		t[r.Source] = read
		t[r.ID] = write
	default:
		t[r.ID] = write
	}
	return t
}

// checkMoves checks that directories get another parent only under dirmove: else two such moves could make a loop. The
// cut's objects are busy, and all cuts before it are applied: so what it moves is known.
func (a *Authority) checkMoves(p *partialCut) *wire.Rcommit {
	for _, f := range p.Fence {
		if f.ID == tokens.DirMove && f.Mode == uint8(tokens.Write) {
			return nil
		}
	}
	from := map[uint64]uint64{} // object → a directory that it leaves
	made := map[uint64]bool{}
	for i := range p.Records {
		switch r := &p.Records[i]; {
		case r.Kind == cut.Create:
			made[r.ID] = true
		case r.Kind == cut.Bind && r.Before != 0 && r.Before != r.ID:
			from[r.Before] = r.Dir
		}
	}
	for i := range p.Records {
		r := &p.Records[i]
		dir, moves := from[r.ID]
		if r.Kind != cut.Bind || r.ID == 0 || r.ID == r.Before || !moves || dir == r.Dir || made[r.ID] {
			continue
		}
		o, err := a.cfg.Backend.Lookup(background, r.ID)
		if err != nil {
			continue // Apply says what is wrong
		}
		isDir := o.QID().Type&wire.QTDir != 0
		o.Release()
		if isDir {
			return fenced(p.Number, tokens.DirMove)
		}
	}
	return nil
}

// commitGo: the fence holds, and everything that the cut touches is busy until it is applied. mu is held.
func (a *Authority) commitGo(s *session, id tokens.SessionID, number uint64) {
	var p *partialCut
	if s != nil {
		p = s.committed[number]
	}
	if p == nil {
		// Its session is gone, or was away while the cut waited for its turn: it is not applied, and
		// a client that comes back sends it again.
		a.later(func() {
			a.mu.Lock()
			a.step(tokens.Input{Kind: tokens.InCommitted, Session: id, Cut: number})
			a.unlock(nil)
		})
		return
	}
	p.going = true
	cred := s.cred
	a.working.Add(1)
	a.later(func() {
		defer a.working.Done()
		a.apply(s, p, &cred)
	})
	if a.mutant == mutantNoBusy {
		a.later(func() {
			a.mu.Lock()
			a.step(tokens.Input{Kind: tokens.InCommitted, Session: tokens.SessionID(s.id), Cut: p.Number, Applied: true})
			a.unlock(nil)
		})
	}
}

// apply applies a cut and says so.
func (a *Authority) apply(s *session, p *partialCut, cred *Cred) {
	if a.beforeApply != nil {
		a.beforeApply(s.id, p.Number)
	}
	reply := a.checkMoves(p)
	if reply == nil {
		reply = a.noRoom(s, p)
	}
	if reply == nil {
		if reply = a.applied(cred, p); reply == nil {
			a.inDoubt(s, p)
			return
		}
	}
	applied := reply.Status == wire.CommitApplied
	a.mu.Lock()
	defer a.unlock(nil)
	if applied {
		s.used(dataBytes(p.Records))
		for i := range p.Records {
			if p.Records[i].Kind == cut.Create {
				s.made++
			}
		}
	}
	p.going = false
	if a.mutant != mutantNoBusy {
		a.step(tokens.Input{Kind: tokens.InCommitted, Session: tokens.SessionID(s.id), Cut: p.Number, Applied: applied})
	}
	a.counted(reply)
	a.answerCut(s, p, reply)
	if s.ended {
		a.ending--
		id := s.id
		a.release(id)
		a.checkGate()
	}
}

// inDoubt ends the connection of a session whose cut nobody can give an answer to. What the cut touches stays
// busy: nobody sees it until the server was started again.
func (a *Authority) inDoubt(s *session, p *partialCut) {
	a.mu.Lock()
	c := s.conn
	a.cfg.Logf("session %s: cut %d is in doubt: its log has failed, and the server must be started again", s.label(), p.Number)
	a.unlock(nil)
	if c != nil {
		c.hangUp(ErrInDoubt)
	}
}

// applied has the Backend apply a cut, and gives the answer; nil when there is none to give.
func (a *Authority) applied(cred *Cred, p *partialCut) *wire.Rcommit {
	err := a.cfg.Backend.Apply(background, cred, &p.Cut)
	if err == nil {
		return &wire.Rcommit{Cut: p.Number, Status: wire.CommitApplied}
	}
	if errors.Is(err, ErrInDoubt) {
		return nil
	}
	var ref *cut.Refusal
	record := wholeCut
	if errors.As(err, &ref) && ref.Record >= 0 {
		record = uint32(ref.Record)
	}
	return refusal(p.Number, record, err)
}

// answerCut answers the last part of a cut and forgets the cut. mu is held.
func (a *Authority) answerCut(s *session, p *partialCut, m *wire.Rcommit) {
	if s.committed[p.Number] == p {
		delete(s.committed, p.Number)
		s.cutBytes -= p.bytes
	}
	m.Lease = a.lease(s)
	if p.r != nil {
		a.send(p.r, m)
	}
}

// counted counts the outcome of a cut.
func (a *Authority) counted(m *wire.Rcommit) {
	switch m.Status {
	case wire.CommitApplied:
		a.count.applied.Add(1)
	case wire.CommitRefused:
		a.count.refused.Add(1)
	default:
		a.count.fenced.Add(1)
	}
}

// commitRefused: the manager will not have the cut. mu is held.
func (a *Authority) commitRefused(s *session, o *tokens.Output) {
	p := s.committed[o.Cut]
	if p == nil || p.going {
		return
	}
	m := &wire.Rcommit{Cut: o.Cut, Status: wire.CommitOutOfOrder, Record: wholeCut, Errno: uint32(syscall.EINVAL)}
	switch o.Denied {
	case tokens.DeniedFence:
		m = fenced(o.Cut, o.ID)
	case tokens.DeniedLimit:
		m = refusal(o.Cut, wholeCut, denial(o.Denied))
	}
	a.counted(m)
	a.answerCut(s, p, m)
}

// commitKnown: the cut was applied before. mu is held.
func (a *Authority) commitKnown(s *session, number uint64) {
	if p := s.committed[number]; p != nil && !p.going {
		a.answerCut(s, p, &wire.Rcommit{Cut: number, Status: wire.CommitApplied})
	}
}
