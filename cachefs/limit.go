package cachefs

import (
	"cmp"
	"slices"
	"time"
)

const (
	// maxBehind bounds the data that is not at the server and comes before what an update touches: so no name ever waits
	// for more. Barriers, which never wait, may put more there.
	maxBehind = 16 << 20
	// slowWait is how long a writer waits until the log tells of it.
	slowWait = 5 * time.Second
)

// Waiting is a writer who waits until updates have gone to the server: too much is pending in all (Options.Dirty), or
// before what he writes.
type Waiting struct {
	Name  string        `json:"name"`
	Bytes int64         `json:"bytes"`
	Since time.Duration `json:"since_ns"`
}

// queued is a writer who waits. Guarded by FS.mu.
type queued struct {
	id    uint64
	bytes int64
	since int64
	slow  *time.Timer
}

// room makes a turn wait until there is room for data more bytes, in all and before what it writes: ids, the first of which
// stands for it. It is called before anything is pinned or changed. Called with fs.mu held.
func (t *turn) room(data int64, ids ...uint64) error {
	f := t.fs
	if f.roomFor(data, ids) {
		return nil
	}
	if t.queued == nil {
		q := &queued{id: ids[0], bytes: data, since: f.clock()}
		q.slow = time.AfterFunc(slowWait, func() { f.sayWaiting(q) })
		t.queued = q
		f.queued[q] = true
	}
	t.wait = f.nextCommit()
	return errAgain
}

func (f *FS) roomFor(data int64, ids []uint64) bool {
	total := f.log.Totals().Bytes + f.keeping.bytes
	switch {
	case total == 0:
		return true
	case data > 0 && total+data > f.opt.Dirty:
		return false
	case total+data <= maxBehind || f.opt.Mutant == mutantUnbounded:
		return true
	}
	behind := f.log.Behind(maxBehind, ids...)
	return behind == 0 || behind+data <= maxBehind
}

// leave ends the waiting for room.
func (t *turn) leave() {
	if t.queued == nil {
		return
	}
	t.queued.slow.Stop()
	t.fs.mu.Lock()
	delete(t.fs.queued, t.queued)
	t.fs.mu.Unlock()
}

// sayWaiting tells the log of a writer who has waited long.
func (f *FS) sayWaiting(q *queued) {
	f.mu.Lock()
	still, name, total := f.queued[q], nameFinder{f, map[uint64]map[uint64]string{}}.path(q.id), f.log.Totals().Bytes
	f.mu.Unlock()
	if still {
		f.opt.Logf("who changes %s has waited %v: %d bytes are not at the server yet", name, slowWait, total)
	}
}

// waiting lists the writers who wait, the one who came first first. Called with f.mu held.
func (f *FS) waiting() []Waiting {
	names, now := nameFinder{f, map[uint64]map[uint64]string{}}, f.clock()
	list := make([]Waiting, 0, len(f.queued))
	for q := range f.queued {
		list = append(list, Waiting{names.path(q.id), q.bytes, time.Duration(now - q.since)})
	}
	slices.SortFunc(list, func(a, b Waiting) int { return cmp.Compare(b.Since, a.Since) })
	return list
}
