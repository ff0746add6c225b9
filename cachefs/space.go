package cachefs

import "context"

// Data is taken on only as far as the server has set space aside for it; what goes beyond is written through, and so the
// writer himself is told when the disk is full. Near the end everything is, for names and attributes need space, too.

const (
	// minSpace is what is asked for at least, as long as Options.Dirty allows it.
	minSpace = 16 << 20
	// scarce: who asked for more and has less writes names and attributes through, too.
	scarce = 4 << 20
)

// space is what the server has set aside for the session. has goes down with each cut by the data in it, as it does at the server.
type space struct {
	has   int64
	peak  int64 // the most that was needed since it was asked for
	asked int64
	short bool          // the last answer was less than that
	ch    chan struct{} // closed and replaced when the answer has come
}

// wish says what to ask for, and what is taken on. Called with f.mu held.
func (f *FS) wish() (space, held uint64) {
	s := &f.space
	used := f.log.Totals().Bytes
	s.peak = max(s.peak, used)
	s.asked = max(min(max(2*s.peak, s.asked/2, minSpace), f.opt.Dirty), s.peak)
	s.peak = used
	s.has = min(s.has, s.asked) // the rest is given back
	return uint64(s.asked), uint64(used)
}

// spaced takes the answer in. Called with f.mu held.
func (f *FS) spaced(has uint64) {
	s := &f.space
	s.has = int64(min(has, maxSize))
	s.short = s.has < s.asked
	close(s.ch)
	s.ch = make(chan struct{})
}

// spent takes off what an applied cut used. Called with f.mu held.
func (s *space) spent(bytes int64) { s.has -= min(bytes, s.has) }

// unknown: the server may have set aside less since it was last heard of, or nothing. Called with f.mu held.
func (f *FS) unknown() {
	f.space.has, f.space.short = 0, false
	f.poke(f.renew)
}

// reserve says whether an update of n with so many bytes is to be written through, because no space is set aside for it. Then
// nothing is pending on n, so that a refusal is this update's. Called with fs.mu held, before anything is pinned.
func (t *turn) reserve(n *node, data int64) (through bool, err error) {
	f := t.fs
	s := &f.space
	need := data
	if data > 0 {
		need += f.log.Totals().Bytes
		s.peak = max(s.peak, need)
	}
	fits := need <= s.has
	if data == 0 {
		fits = !s.short || s.has >= scarce
	}
	switch {
	case fits || f.opt.Mutant == mutantNoSpace || f.opt.Writes == Sync:
		return false, nil
	case !s.short:
		// More may be had.
		ch := s.ch
		f.poke(f.renew)
		t.wait = func(ctx context.Context) error { return f.waitFor(ctx, ch) }
		return false, errAgain
	}
	switch {
	case data > 0 && f.log.Totals().Bytes > 0:
		// What it takes at the server must not be what is set aside for others.
		upTo := f.lastSeq
		t.wait = func(ctx context.Context) error { return f.demand(ctx, &demand{why: "space", upTo: upTo}) }
		return false, errAgain
	case f.pendingOn(n) > 0:
		t.wait = func(ctx context.Context) error { return f.flushObject(ctx, n, "space") }
		return false, errAgain
	}
	return true, nil
}
