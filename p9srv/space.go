package p9srv

import (
	"syscall"

	"echo9/internal/cut"
	"echo9/internal/wire"
)

// Space on the host's disk is set aside for what sessions have not sent yet, so that what a client has taken on is not refused when it comes:
// who has nothing set aside gets ENOSPC first, be it a plain client or a session that writes through. A session's cuts use up what it has, at
// both ends alike. Nothing holds the host's own processes off, and neither inodes, quotas nor directories' blocks can be set aside: this makes refusals
// rare, not impossible. It is forgotten when the server ends; a session asks again within a quarter of its lease.

const (
	// A floorShare-th of a disk, and at most maxFloor, is never set aside, nor given to those who have nothing set aside as long as others
	// have: names need space, too, and the log segments that are larger than what goes into them.
	floorShare = 10
	maxFloor   = 256 << 20
	// perByte: the log has each byte, too, until the host's file has.
	perByte = 2
	// fewSharers: when there is too little a session has no more than a share of so many, whoever else is there: who comes is not to find
	// nothing, nor who is there a disk that has grown smaller meanwhile.
	fewSharers = 4
	// fewInodes: with fewer left nothing is set aside, so that clients write through and are told.
	fewInodes = 1000
)

// disk is how much is left.
type disk struct {
	total, free uint64 // bytes
	inodes      bool   // there are enough
	known       bool
	spent       uint64 // what cuts had used when the Backend was asked: of what they have since, free does not know
}

// disk asks the Backend. It is called without locks.
func (a *Authority) disk() disk {
	d := disk{known: true, spent: a.spent.Load()}
	st, err := a.cfg.Backend.StatFS(background)
	switch {
	case err != nil:
		return d // nothing can be promised
	case st.Blocks == 0:
		return disk{}
	}
	size := uint64(st.BlockSize)
	d.total, d.free, d.inodes = st.Blocks*size, st.Bavail*size, st.Files == 0 || st.Ffree >= fewInodes
	return d
}

// spare is how much of what is free is above the floor.
func (d disk) spare() uint64 { return d.free - min(d.free, d.total/floorShare, maxFloor) }

// lendable is how much may be set aside in all.
func (d disk) lendable() uint64 {
	if !d.inodes {
		return 0
	}
	return d.spare() / perByte
}

// setSpace changes what is set aside for a session, and what it knows of that. mu is held.
func (s *session) setSpace(n uint64) {
	s.a.lent.Add(n - s.space)
	s.space = n
	s.offer = min(s.offer, n)
}

// lend sets aside for a session what it wants, as far as there is, and says how much that is. When there is too little each
// comes to an equal share, and something is left for others who come; who is away for longer than his lease has nothing any more. mu is held.
//
// It may be less than before. Until the session hears of that it takes data on by what it was told the last time: that stays set aside,
// and is not before the next time reduced to what it holds then, or was offered last. (A session asks when the answer before has come.)
func (a *Authority) lend(s *session, want, held uint64, d disk) uint64 {
	if a.mutant != mutantTakeAtOnce {
		s.setSpace(min(s.space, max(held, min(s.offer, want))))
	}
	got := a.share(s, want, d)
	if got < want && a.takeBack() > 0 {
		got = a.share(s, want, d)
	}
	if got > s.space || a.mutant == mutantTakeAtOnce {
		s.setSpace(got)
	}
	s.offer = got
	return got
}

// share is how much a session that wants so much may have. mu is held.
func (a *Authority) share(s *session, want uint64, d disk) uint64 {
	lendable, others := d.lendable(), a.lent.Load()-s.space
	lendable -= min(lendable, a.spent.Load()-d.spent)
	switch {
	case !d.known:
		return want // a Backend that says nothing has no end
	case others >= lendable:
		return 0
	}
	rest := lendable - others
	if want <= rest/2 {
		return want
	}
	sharers := uint64(1)
	for _, o := range a.sessions {
		if o != s && !o.over {
			sharers++
		}
	}
	return min(want, lendable/max(fewSharers, sharers+1), max(rest/2, min(s.space, rest)))
}

// takeBack takes what is set aside for sessions that are away and whose lease is over, and says how much that was: what they
// have not sent may be refused then, as what they hold may go to others. mu is held.
func (a *Authority) takeBack() (taken uint64) {
	for _, s := range a.sessions {
		if s.over && s.conn == nil && a.mutant != mutantKeepSpace {
			taken += s.space
			s.setSpace(0)
		}
	}
	return taken
}

// used takes off the data of an applied cut of a session. mu is held.
func (s *session) used(n uint64) {
	s.a.spent.Add(n)
	s.offer -= min(s.offer, n)
	s.setSpace(s.space - min(s.space, n))
}

func dataBytes(records []cut.Record) uint64 {
	var n uint64
	for i := range records {
		if records[i].Kind == cut.Data {
			n += uint64(len(records[i].Bytes))
		}
	}
	return n
}

// noRoom refuses a cut that would take what is set aside for others; nil: it does not.
func (a *Authority) noRoom(s *session, p *partialCut) *wire.Rcommit {
	need := dataBytes(p.Records)
	a.mu.Lock()
	has, others := s.space, a.lent.Load()-s.space
	a.unlock(nil)
	if need <= has || others == 0 {
		return nil
	}
	d := a.disk()
	if !d.known || perByte*(others+need) <= d.spare() {
		return nil
	}
	a.mu.Lock()
	others -= min(others, a.takeBack())
	a.unlock(nil)
	if perByte*(others+need) <= d.spare() {
		return nil
	}
	// The first record that does not fit any more.
	left := has
	for i := range p.Records {
		if n := uint64(len(p.Records[i].Bytes)); p.Records[i].Kind != cut.Data {
		} else if n > left {
			return refusal(p.Number, uint32(i), syscall.ENOSPC)
		} else {
			left -= n
		}
	}
	return nil
}

// roomFor says whether a plain client may write n bytes more than there are.
func (a *Authority) roomFor(n uint64) bool {
	if a == nil || n == 0 {
		return true
	}
	lent := a.lent.Load()
	if lent == 0 {
		return true
	}
	d := a.disk()
	if !d.known || perByte*lent+n <= d.spare() {
		return true
	}
	a.mu.Lock()
	lent -= min(lent, a.takeBack())
	a.unlock(nil)
	return perByte*lent+n <= d.spare()
}
