package cachefs

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"echo9/cachefs/order"
	"echo9/cachefs/spool"
	"echo9/p9srv"
	"echo9/tokens"
)

// Event is something that a user should know: lost updates, a lost connection.
type Event struct {
	At   time.Time
	Text string
}

// maxEvents is how many events are remembered at least. When there are twice as many the older half goes: to those who follow
// the file of events it is truncated then, as a log is that is rotated.
const maxEvents = 1000

// event notes an event. Called with f.mu held.
func (f *FS) event(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(f.events) == 2*maxEvents {
		f.events = slices.Clone(f.events[maxEvents:])
	}
	f.events = append(f.events, Event{time.Now(), text})
	f.saying.queue = append(f.saying.queue, text)
	if f.saying.idle == nil {
		f.saying.idle = make(chan struct{})
		go f.sayAll()
	}
}

// saying is the events on their way to the log, in order. Nobody waits for the log, but Close.
type saying struct {
	queue []string
	idle  chan struct{} // closed when all are said; nil: nothing is being said
}

// sayAll logs what is queued.
func (f *FS) sayAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.saying.queue) > 0 {
		text := f.saying.queue[0]
		f.saying.queue = f.saying.queue[1:]
		f.mu.Unlock()
		f.opt.Logf("%s", text)
		f.mu.Lock()
	}
	close(f.saying.idle)
	f.saying.idle = nil
}

// sayTime bounds the wait for a log that does not take what is said.
const sayTime = 10 * time.Second

// said waits until all events so far are in the log.
func (f *FS) said() {
	f.mu.Lock()
	idle := f.saying.idle
	f.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-time.After(sayTime):
	}
}

// refused drops operations that the server will not do, and what depends on them: they are failed calls.
// Called with f.mu held.
func (f *FS) refused(guilty []uint64, errno syscall.Errno, reason string) {
	waited := true
	for _, seq := range guilty {
		if w := f.waiters[seq]; w != nil {
			*w = errno
		} else {
			waited = false
		}
	}
	if reason == "" {
		reason = errno.Error()
	}
	gone := f.log.Dependents(guilty...)
	if f.opt.Mutant == mutantNoDependents {
		gone = guilty
	}
	f.drop(gone, loss{cause: spool.Refused, errno: errno, reason: reason}, waited)
}

// taken drops the operations of a cut whose tokens went to somebody else, and all that come after them. Called with f.mu held.
func (f *FS) taken(cut, ids []uint64) {
	for _, id := range ids {
		f.holder.Lost(id, tokens.None)
		if n := f.nodes[id]; n != nil {
			f.suspect(n)
		}
	}
	seqs := f.log.Touching(order.ByWrite|order.ByRead, ids...)
	if !slices.ContainsFunc(cut, func(seq uint64) bool { return slices.Contains(seqs, seq) }) {
		seqs = cut // none of its own that we know of: the server and we do not agree on what it needs
	}
	f.drop(f.log.Successors(seqs...), loss{cause: spool.Taken, errno: syscall.EIO, reason: reasonTaken}, false)
}

// loss is why operations are lost. Of those sent nobody knows whether the server did them.
type loss struct {
	cause  spool.Cause
	errno  syscall.Errno
	reason string
	sent   map[uint64]bool
}

// drop forgets operations that are lost, and has them kept and told. When quiet, and the callers of all of them wait for
// them, these are told, and nobody else. Called with f.mu held.
func (f *FS) drop(seqs []uint64, why loss, quiet bool) {
	ops := f.log.Drop(seqs...)
	for _, op := range ops {
		f.copyDone(op)
		if w := f.waiters[op.Seq]; w != nil {
			if *w == nil {
				*w = why.errno
			}
		} else {
			quiet = false
		}
	}
	if !quiet {
		f.unreported += len(ops)
		f.stats.lost += len(ops)
		f.keep(ops, why)
	}
	f.recount(ops)
	for _, op := range ops {
		for _, id := range op.Writes {
			if n := f.nodes[id]; n != nil && id != order.DirMove {
				f.suspect(n)
			}
		}
		if n := f.nodes[op.ID]; n != nil {
			f.mourn(n, op, quiet)
		}
		if !quiet {
			for _, dir := range []uint64{op.Dir, op.Dir2} {
				if n := f.nodes[dir]; n != nil && dir != order.DirMove {
					n.report()
				}
			}
		}
	}
	f.forgetAbove()
}

// recount counts the names of objects anew of which lost operations had given or taken one. A file that so has none left,
// though the operation which took the last one did not know, is kept like any other while it is open here. Called with f.mu held.
func (f *FS) recount(lost []*order.Op) {
	var fewer []*node
	for _, op := range lost {
		if n := f.nodes[op.Unnames()]; n != nil && n.attrOK {
			n.attr.Nlink++
			f.log.Moved(n.id)
		}
		if n := f.nodes[op.ID]; op.Kind == order.Link && n != nil && n.attrOK && n.attr.Nlink > 0 {
			n.attr.Nlink--
			n.dropUp(op.Dir, n.attr.Nlink+1)
			fewer = append(fewer, n)
		}
	}
	for _, n := range fewer {
		if n.attr.Nlink > 0 || n.kept {
			continue
		}
		seqs := f.log.Touching(order.ByWrite, n.id)
		slices.Reverse(seqs)
		i := slices.IndexFunc(seqs, func(seq uint64) bool { return f.log.Op(seq).Unnames() == n.id })
		if i < 0 {
			continue
		}
		n.kept = n.opens > 0
		f.log.Amend(seqs[i], func(op *order.Op) { op.Last, op.Keep = true, n.kept })
	}
}

// mourn does to the object of a lost operation what the loss means for it. Called with f.mu held.
func (f *FS) mourn(n *node, op *order.Op, quiet bool) {
	switch op.Kind {
	case order.Create, order.Mkdir, order.Symlink, order.Mknod, order.Tmpfile:
		if n.fresh {
			n.gone = true
			n.lost++
			delete(f.suspects, n)
			n.suspect = false
			n.forget()
			f.holder.Forget(n.id)
		}
	case order.Link, order.Unlink, order.Rmdir, order.Rename, order.Barrier:
		// The object keeps what it contains; it is its directories that differ.
	case order.Write, order.Truncate, order.Allocate, order.Punch, order.Copy:
		if !quiet {
			n.lost++
			n.report()
		}
	default:
		if !quiet {
			n.lost++
			n.report()
			n.marred = true
		}
	}
}

// report notes that something was lost that somebody is to be told of. Where the object lies is soon forgotten, with all
// else that is known of it. Called with f.mu held.
func (n *node) report() {
	n.reported++
	places := n.fs.untold[n]
	for _, dir := range n.fs.parentsOf(n.id) {
		if !slices.Contains(places, dir) {
			places = append(places, dir)
		}
	}
	n.fs.untold[n] = places
}

// halfMade tells with EIO, once, that what is about to get another name is not what its maker left, when nobody was told of that
// yet: something was lost of an object, or of what lies below it, and it was not begun anew since. Else a file that is written, closed and then renamed into
// place would be put there without its content. Called with f.mu held.
func (f *FS) halfMade(objs ...*node) error {
	var err error
	for n := range f.untold {
		moved := func(o *node) bool { return n == o || o.ents != nil && f.liesBelow(n.id, o.id) }
		if n.gone || n.whole == n.reported && !n.marred || f.opt.Mutant == mutantPublish || !slices.ContainsFunc(objs, moved) {
			continue
		}
		n.tell()
		err = syscall.EIO
	}
	return err
}

// tell notes that somebody is told of all that was lost of n so far. Called with f.mu held.
func (n *node) tell() {
	n.told, n.marred = n.reported, false
	delete(n.fs.untold, n)
}

// begunAnew notes that a file is made anew from nothing: who renames it then need not be told of what was lost before, who
// syncs it still is. Called with f.mu held.
func (n *node) begunAnew() { n.whole = n.reported }

// liesBelow says whether an object has a name somewhere below a directory, or had when something of it was lost, as far as is known. Called with f.mu held.
func (f *FS) liesBelow(id, dir uint64) bool {
	seen := map[uint64]bool{}
	var climb func(id uint64) bool
	climb = func(id uint64) bool {
		return slices.ContainsFunc(slices.Concat(f.parentsOf(id), f.untold[f.nodes[id]]), func(up uint64) bool {
			if up == dir {
				return true
			}
			if up == order.Somewhere || seen[up] {
				return false
			}
			seen[up] = true
			return climb(up)
		})
	}
	return climb(id)
}

// suspect marks an object whose cached state includes what was lost: it is not used
// until the rest of its pending work is at the server, and then fetched afresh. Called with f.mu held.
func (f *FS) suspect(n *node) {
	if n.gone || n.suspect {
		return
	}
	n.suspect = true
	f.suspects[n] = false
	f.poke(f.kick)
}

// forgetAbove has those above forget what they know of the suspects. Called with f.mu held.
func (f *FS) forgetAbove() {
	var revs []p9srv.Revocation
	var nodes []*node
	for n, told := range f.suspects {
		if !told {
			nodes = append(nodes, n)
			revs = append(revs, p9srv.Revocation{ID: n.id})
		}
	}
	if len(f.revokers) == 0 {
		for _, n := range nodes {
			f.suspects[n] = true
		}
		return
	}
	f.workers.Add(1)
	go func() {
		defer f.workers.Done()
		f.revoke(revs)
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, n := range nodes {
			if n.suspect {
				f.suspects[n] = true
			}
		}
		f.poke(f.kick)
	}()
}

// mend gives back to use what has no pending work any more, and says what is to be sent so that the rest can
// follow. Called with f.mu held, by the committer, with no cut in flight.
func (f *FS) mend() *batch {
	if len(f.suspects) == 0 {
		return nil
	}
	var ids []uint64
	for n, told := range f.suspects {
		if f.pendingOn(n) > 0 {
			ids = append(ids, n.id)
			continue
		}
		if !told {
			continue
		}
		delete(f.suspects, n)
		n.suspect = false
		n.forget()
		f.reap(n)
	}
	f.wakeCommitted()
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	seqs := f.log.IdealOf(order.ByWrite, ids...).Seqs
	if len(seqs) == 0 {
		return nil
	}
	return &batch{"mend", seqs, cutRecords, cutBytes}
}
