package p9client

import (
	"sync"

	"echo9/internal/wire"
)

// maxCalls is how many requests besides Tflush can be under way. Each is flushed
// at most once, so that there always is a tag for its Tflush: twice maxCalls, and
// those that are kept (maxLate), are fewer than the tags.
const maxCalls = (int(wire.NoTag) - 1 - maxLate) / 2

// tags knows which request has which tag. The lowest that were freed last are
// used first, so that the table stays small.
type tags struct {
	calls []*Call // by tag; nil when it is free
	free  []uint16
	used  int // by requests that are not Tflush
}

// take gives the call a tag, false when too many are under way.
func (s *tags) take(call *Call) (uint16, bool) {
	if s.used == maxCalls {
		return 0, false
	}
	s.used++
	return s.takeFlush(call), true
}

// takeFlush gives a Tflush a tag.
func (s *tags) takeFlush(call *Call) uint16 {
	if n := len(s.free); n > 0 {
		tag := s.free[n-1]
		s.free = s.free[:n-1]
		s.calls[tag] = call
		return tag
	}
	s.calls = append(s.calls, call)
	return uint16(len(s.calls) - 1)
}

// put frees the tag of a request, putFlush that of a Tflush.
func (s *tags) put(tag uint16) {
	s.used--
	s.putFlush(tag)
}

func (s *tags) putFlush(tag uint16) {
	s.calls[tag] = nil
	s.free = append(s.free, tag)
}

// call gives the request of that tag, nil when there is none.
func (s *tags) call(tag uint16) *Call {
	if int(tag) < len(s.calls) {
		return s.calls[tag]
	}
	return nil
}

// fids gives out fids.
type fids struct {
	mu   sync.Mutex
	free []uint32
	next uint32
	kept map[uint32]bool // of flushed requests; true: given back meanwhile
}

func (f *fids) get() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.free); n > 0 {
		fid := f.free[n-1]
		f.free = f.free[:n-1]
		return fid
	}
	f.next++
	return f.next - 1
}

func (f *fids) put(fid uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.kept[fid]; ok {
		f.kept[fid] = true
		return
	}
	f.free = append(f.free, fid)
}

// keep holds a fid back, once it is given back, until settle.
func (f *fids) keep(fid uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept == nil {
		f.kept = map[uint32]bool{}
	}
	f.kept[fid] = false
}

func (f *fids) settle(fid uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept[fid] {
		f.free = append(f.free, fid)
	}
	delete(f.kept, fid)
}
