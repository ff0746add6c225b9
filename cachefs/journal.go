package cachefs

import (
	"context"
	"slices"

	"echo9/cachefs/backlog"
	"echo9/cachefs/order"
	"echo9/tokens"
)

// With Options.Backlog everything that is pending is in a file, too, before the operation returns to its caller: a process that is
// killed and started again goes on with the session (see Recover).

const (
	// The backlog is written anew when what is out of date in it is more than what is not, and this.
	backlogSlack = 16 << 20
	// backlogOp is about what an operation takes beside its data.
	backlogOp = 256
)

// journaling is the backlog's part of an FS. Guarded by FS.mu.
type journaling struct {
	restoring  *backlog.State          // what an earlier process left, and this one is to send
	sentBefore map[uint64]bool         // what that one had on its way
	ranges     []backlog.Range         // of ids that the session was given
	bases      map[uint64]backlog.Base // of objects, as they are in the backlog
	rewriting  bool
	unkept     bool // the backlog failed, and that was said
}

// journal has the log's changes written to the backlog. Called before anything is in the log, or with f.mu held.
func (f *FS) journal() {
	issued := f.opt.Hooks.Issued
	f.log.Watch = issued
	store := f.opt.Backlog
	if store == nil {
		return
	}
	f.bases = make(map[uint64]backlog.Base)
	f.log.Watch = func(op order.Op) {
		if issued != nil {
			issued(op)
		}
		if op.Seq != 0 {
			f.noteBases(&op)
			store.Append(backlog.Record{Kind: backlog.Issued, Op: &op})
		}
	}
	f.log.Noted = func(n order.Note) {
		store.Append(backlog.Of(n))
		if n.Kind == order.Applied {
			f.trimBacklog()
		}
	}
}

// noteBases notes what is at the server of the objects that an operation is about, if that is not in the backlog. Called with f.mu held.
func (f *FS) noteBases(op *order.Op) {
	for _, ids := range [2][]uint64{op.Writes, op.Reads} {
		for _, id := range ids {
			n := f.nodes[id]
			if n == nil || n.fresh || id == tokens.DirMove {
				continue
			}
			b := n.backlogBase()
			if old, ok := f.bases[id]; ok && old == b {
				continue
			}
			f.bases[id] = b
			f.opt.Backlog.Append(backlog.Record{Kind: backlog.Based, ID: id, Base: b})
		}
	}
}

// backlogBase is what is known of the object as it is at the server.
func (n *node) backlogBase() backlog.Base {
	mode := uint32(modeRegular)
	if n.ents != nil {
		mode = modeDir
	}
	return backlog.Base{Mode: mode, Ctime: n.base.ctime, Mtime: n.base.mtime, Size: n.base.size}
}

// noteSession notes as whom the session is had. Called with f.mu held.
func (f *FS) noteSession() {
	if f.opt.Backlog != nil && f.restoring == nil {
		f.opt.Backlog.Append(backlog.Record{Kind: backlog.Opened, Session: f.backlogSession()})
	}
}

func (f *FS) backlogSession() *backlog.Session {
	return &backlog.Session{
		Server: f.opt.Server, Aname: f.opt.Aname, Place: f.opt.Place, Name: f.opt.Name, Client: f.client, Secret: f.secret,
		Number: f.number, Epoch: f.epoch, UID: f.session.UID, GID: f.session.GID,
		Root: f.session.Root.Path, RootVersion: f.session.Root.Version, Policy: f.opt.Order,
	}
}

// noteRange notes a range of ids. Called with f.mu held.
func (f *FS) noteRange(first, count, gen uint64) {
	if f.opt.Backlog == nil || count == 0 {
		return
	}
	r := backlog.Range{First: first, Count: count, Gen: gen}
	f.ranges = append(f.ranges, r)
	f.opt.Backlog.Append(backlog.Record{Kind: backlog.Ranged, Range: r})
}

// saved returns when operations that were just issued are where they survive this process: in the backlog or, when that fails, at the server.
func (f *FS) saved(ctx context.Context, seqs []uint64) error {
	store := f.opt.Backlog
	if store == nil || f.opt.Mutant == mutantLateBacklog {
		return nil
	}
	err := store.Flush()
	if err == nil {
		return nil
	}
	f.mu.Lock()
	if !f.unkept {
		f.unkept = true
		f.event("%v: changes go to the server at once until it works again", err)
	}
	f.mu.Unlock()
	f.renewBacklogSoon()
	return f.demand(ctx, &demand{why: "backlog", seqs: slices.Clone(seqs)})
}

// flushBacklog has all that is known in the backlog, before the server learns that we know it.
func (f *FS) flushBacklog() {
	if f.opt.Backlog != nil && f.opt.Mutant != mutantLateBacklog {
		_ = f.opt.Backlog.Flush() // whoever waits for it gets the error
	}
}

// trimBacklog has the backlog written anew when most of it is out of date. Called with f.mu held.
func (f *FS) trimBacklog() {
	total := f.log.Totals()
	live := total.Bytes + int64(total.Ops)*backlogOp
	if f.opt.Backlog.Size() > 2*live+backlogSlack {
		f.renewBacklog()
	}
}

// renewBacklogSoon is renewBacklog, without f.mu.
func (f *FS) renewBacklogSoon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewBacklog()
}

// renewBacklog has a goroutine write the backlog anew. Called with f.mu held.
func (f *FS) renewBacklog() {
	if f.rewriting || f.dead != nil || f.restoring != nil {
		return
	}
	f.rewriting = true
	f.workers.Add(1)
	go func() {
		defer f.workers.Done()
		err := f.rewriteBacklog()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rewriting = false
		if err == nil && f.unkept {
			f.unkept = false
			f.event("the backlog works again")
		}
	}()
}

// rewriteBacklog puts what is pending now in the place of all that was.
func (f *FS) rewriteBacklog() error {
	return f.opt.Backlog.Rewrite(&f.mu, func() []backlog.Record {
		all := []backlog.Record{{Kind: backlog.Opened, Session: f.backlogSession()}}
		for _, r := range f.ranges {
			all = append(all, backlog.Record{Kind: backlog.Ranged, Range: r})
		}
		inUse := make(map[uint64]backlog.Base)
		for op := range f.log.All() {
			for _, ids := range [2][]uint64{op.Writes, op.Reads} {
				for _, id := range ids {
					if b, ok := f.bases[id]; ok {
						inUse[id] = b
					}
				}
			}
		}
		for id, b := range inUse {
			if n := f.nodes[id]; n != nil && f.restoring == nil {
				b = n.backlogBase()
				inUse[id] = b
			}
			all = append(all, backlog.Record{Kind: backlog.Based, ID: id, Base: b})
		}
		f.bases = inUse
		for op := range f.log.All() {
			all = append(all, backlog.Record{Kind: backlog.Issued, Op: op})
		}
		for _, c := range f.log.Flights() {
			all = append(all, backlog.Record{Kind: backlog.Began, Cut: c.Cut, Seqs: c.Seqs})
		}
		return all
	})
}

// clearBacklog removes the backlog of a session that has ended with nothing left to be sent.
func (f *FS) clearBacklog() error {
	f.mu.Lock()
	left := f.log.Totals().Ops
	f.mu.Unlock()
	if f.opt.Backlog == nil || left > 0 {
		return nil
	}
	return f.opt.Backlog.Clear()
}
