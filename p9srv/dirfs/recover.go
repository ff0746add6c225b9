package dirfs

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

// redoEvery is how often a recovery says in the log that it is still at work.
const redoEvery = 10 * time.Second

// recovery brings the tree to what the log says, before anything is served.
//
// It can be cut short at any system call: what it moves stays in the private directory
// until the log is empty, and the log says what it was about to do. So the next one goes on.
type recovery struct {
	fs      *FS
	log     *journal.Log
	entries []journal.Entry
	last    journal.LSN
	plan    *journal.Plan
	seen    *journal.Seen
	work    *journal.Work
	redone  time.Time // when the log was told last

	spots   map[uint64][]spot // where objects are, as far as handles do not tell
	held    map[uint64]int    // descriptors of objects that only a search of the whole tree found
	apart   []int             // descriptors of directories that are apart
	free    int               // for names in the private directory
	removed []spot            // directories that the host removes, but does not move
	ctimes  []journal.Ctime
}

// recoveryMutant names a mechanism to be left out, so that tests can see that they notice.
type recoveryMutant uint8

const (
	noMutant   recoveryMutant = iota
	noRecovery                // nothing is done
	noRedo                    // the log is not told that a recovery acts
	earlyClear                // the private place is cleared first
	forgetKept                // who keeps what is not written
)

// spot is a name: in a directory of the log, or in a private directory.
type spot struct {
	dir  uint64 // 0: private
	fd   int    // of the private directory
	name string
}

// refused is the host's refusal of something that cut lsn was the last to change.
type refused struct {
	lsn  journal.LSN
	what string
	err  error
}

func (e *refused) Error() string { return e.what + ": " + e.err.Error() }
func (e *refused) Unwrap() error { return e.err }

// recover does what the log says is missing in the tree, makes it durable, and empties the log. It
// gives the last cut of each client that is there.
func (fs *FS) recover(log *journal.Log, entries []journal.Entry) (applied map[[16]byte]uint64, err error) {
	r := &recovery{fs: fs, log: log, entries: entries}
	if !slices.ContainsFunc(entries, func(e journal.Entry) bool { return e.Cut != nil }) {
		return journal.Reduce(entries).Applied, nil
	}
	r.last = entries[len(entries)-1].LSN
	if fs.opt.mutant == earlyClear {
		if err := fs.state.clear(); err != nil {
			return nil, err
		}
	}
	for {
		err := r.attempt()
		r.close()
		var no *refused
		if err == nil {
			return r.plan.Applied, r.finish()
		}
		if !errors.As(err, &no) {
			return nil, err
		}
		lsn := r.plan.UndoInstead(no.lsn)
		if lsn == 0 {
			return nil, fmt.Errorf("%w\nNothing is lost: the log in %s has what is missing, and the next start goes on. Make what the host refuses possible (space, quota, permissions, a file system that is not read-only), and start again; `echo9 fsck %s` shows what is to be done",
				err, fs.state.dir, fs.dir)
		}
		fs.logf("recovery: cut %d was not acknowledged, and the host refuses it now: it is undone (%v)", lsn, err)
		if err := r.append(journal.Entry{Abort: &journal.Abort{Cut: lsn}}); err != nil {
			return nil, err
		}
	}
}

// append makes an entry part of the log, durably.
func (r *recovery) append(e journal.Entry) error {
	var err error
	if e.Abort != nil {
		e.LSN, err = r.log.Append(e.Abort)
	} else {
		e.LSN, err = r.log.Append(e.Redo)
	}
	if err == nil {
		err = r.log.Wait(e.LSN)
	}
	if err != nil {
		return fmt.Errorf("write to the log: %w", err)
	}
	r.entries = append(r.entries, e)
	r.last = e.LSN
	return nil
}

// attempt looks, decides, and does.
func (r *recovery) attempt() error {
	r.plan = journal.Reduce(r.entries)
	if err := r.look(); err != nil {
		return err
	}
	r.work = r.plan.Resolve(r.seen)
	for _, l := range r.work.Left {
		r.fs.logf("recovery: left alone: %s", r.explain(l))
	}
	if r.fs.opt.mutant == noRecovery {
		return nil
	}
	if len(r.work.Make)+len(r.work.Bind)+len(r.work.Set) == 0 {
		return r.enterRows() // of which the table may not have reached the disk
	}
	r.work.Redo.Time = time.Now().UnixNano()
	if err := r.makeAll(); err != nil {
		return err
	}
	if err := r.redo(); err != nil {
		return err
	}
	for _, phase := range []func() error{r.contentAll, r.bindAll, r.dropSpare, r.attrAll, r.enterRows} {
		if err := phase(); err != nil {
			return err
		}
	}
	return nil
}

// redo tells the log that we are about to act.
func (r *recovery) redo() error {
	e := r.work.Redo
	if r.fs.opt.mutant == noRedo {
		r.plan.Redone(&e)
		return nil
	}
	if err := r.append(journal.Entry{Redo: &e}); err != nil {
		return err
	}
	r.plan.Redone(&e)
	r.redone = time.Now()
	return nil
}

// step is asked before each system call that changes the host.
func (r *recovery) step(name string) error {
	if !r.redone.IsZero() && time.Since(r.redone) > redoEvery {
		r.work.Redo.Time = time.Now().UnixNano()
		if err := r.redo(); err != nil {
			return err
		}
	}
	return r.fs.step(name)
}

// do takes one step for something that cut lsn was the last to change.
func (r *recovery) do(lsn journal.LSN, what string, fn func() error) error {
	err := r.step(what)
	if err == nil {
		err = eintr(fn)
	}
	var errno syscall.Errno
	if err != nil && asErrno(err, &errno) {
		return &refused{lsn, what, err}
	}
	return err
}

// finish makes all that was done durable, and empties the log.
func (r *recovery) finish() error {
	fs := r.fs
	if err := r.rescue(); err != nil {
		return err
	}
	if err := r.showTimes(); err != nil {
		return err
	}
	if err := fs.ids.sync(); err != nil {
		return err
	}
	if err := fs.step("syncfs"); err != nil {
		return err
	}
	if err := eintr(func() error { return unix.Syncfs(fs.mountFD) }); err != nil {
		return fmt.Errorf("make the tree durable: %w", err)
	}
	var keep []any
	for client, number := range r.plan.Applied {
		keep = append(keep, &journal.Applied{Client: client, Number: number})
	}
	if err := r.log.Checkpoint(r.last+1, keep); err != nil {
		return fmt.Errorf("empty the log: %w", err)
	}
	if n := len(r.plan.Cuts); n > 0 {
		fs.logf("recovery: %d cuts were in the log; %d names were bound, %d objects brought to what they were to be, %d made anew",
			n, len(r.work.Bind), len(r.work.Set), len(r.work.Make))
	}
	return nil
}

// showTimes has objects shown with the ctimes that cuts gave them: those that the recovery set, and those of cuts that were
// applied before, of which the table of ids may not have reached the disk.
func (r *recovery) showTimes() error {
	var ctimes []journal.Ctime
	for _, e := range r.entries {
		if e.Note != nil {
			ctimes = append(ctimes, e.Note.Ctimes...)
		}
	}
	fs := r.fs
	if err := fs.ids.show(append(ctimes, r.ctimes...)); err != nil {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for id, n := range fs.byID { // the root, and what has been looked at
		tm := fs.ids.timesOf(id)
		n.ctHost, n.ctShown = tm.host, tm.shown
	}
	return nil
}

func (r *recovery) close() {
	closeFDs(r.apart...)
	r.apart = nil
	for id, fd := range r.held {
		unix.Close(fd)
		delete(r.held, id)
	}
}

// explain says what is left alone in words that people know.
func (r *recovery) explain(l journal.Left) string {
	if l.Slot != nil {
		return r.path(l.Slot.Dir, l.Slot.Name) + ": " + l.Why
	}
	return r.path(l.Goal.ID, "") + ": " + l.Why
}

// path is the name of something, from the export's root on, as far as it can be found out.
func (r *recovery) path(id uint64, name string) string {
	path := fmt.Sprintf("object %d", id)
	if fd, err := r.open(id); err == nil {
		if p, err := os.Readlink(procPath(fd)); err == nil {
			path = p
			if rel, err := filepath.Rel(r.fs.dir, p); err == nil && !strings.HasPrefix(rel, "..") {
				path = rel
			}
		}
		unix.Close(fd)
	}
	return filepath.Join(path, name)
}

// freeSpot is a name in the private directory that nobody has.
func (r *recovery) freeSpot() spot {
	r.free++
	return spot{fd: r.fs.state.tmp, name: "r" + itoa(r.free)}
}

var errNotFound = fmt.Errorf("not found: %w", syscall.ESTALE)

const endOfLog = journal.LSN(math.MaxUint64)
