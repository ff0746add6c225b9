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
	// fewInodes: with fewer left nothing is set aside, so that clients write through and are told.
	fewInodes = 1000
)

// disk is how much is left.
type disk struct {
	total, free uint64 // bytes
	inodes      bool   // there are enough
	known       bool
}

// disk asks the Backend. It is called without locks.
func (a *Authority) disk() disk {
	st, err := a.cfg.Backend.StatFS(background)
	switch {
	case err != nil:
		return disk{known: true} // nothing can be promised
	case st.Blocks == 0:
		return disk{}
	}
	size := uint64(st.BlockSize)
	return disk{st.Blocks * size, st.Bavail * size, st.Files == 0 || st.Ffree >= fewInodes, true}
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

// setSpace changes what is set aside for a session. mu is held.
func (s *session) setSpace(n uint64) {
	s.a.lent.Add(n - s.space)
	s.space = n
}

// lend sets aside for a session what it wants, as far as there is, and says how much that is. Something is left for others who come:
// it gets at most half of what nobody has. mu is held.
func (a *Authority) lend(s *session, want uint64, d disk) uint64 {
	lendable, lent := d.lendable(), a.lent.Load()-s.space
	switch {
	case !d.known:
		s.setSpace(want) // a Backend that says nothing has no end
	case lent >= lendable:
		s.setSpace(0)
	default:
		rest := lendable - lent
		s.setSpace(min(want, max(rest/2, min(s.space, rest))))
	}
	return s.space
}

// used takes off what an applied cut of a session has used. mu is held.
func (s *session) used(p *partialCut) { s.setSpace(s.space - min(s.space, dataBytes(p.Records))) }

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
	return !d.known || perByte*lent+n <= d.spare()
}
