package dirfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"syscall"

	"echo9/internal/cut"
	"echo9/p9srv"
	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

var _ p9srv.Committer = (*FS)(nil)

// apply is a cut being applied. It first checks all that can be checked, then makes
// what is new in a private place, and looks at what there was; then the cut goes to the log, and when it is
// durable there its steps are taken on the host, each with its undo: content, bindings,
// attributes. The first step that the host refuses makes all be undone.
type apply struct {
	fs   *FS
	cred *p9srv.Cred
	c    *cut.Cut

	objs  map[uint64]*cutObj
	list  []*cutObj // in the order of their first record
	slots map[slotKey]*slot
	binds []*slot            // in the order of their records
	moved map[devIno]*cutObj // directories that get another name

	creds   map[uint32]*p9srv.Cred
	allowed map[permKey]error

	rec     int // the record that is being checked or done
	steps   int
	undoing bool
	undo    []func() error
	touched []*cutObj // whose times are put back when the cut is undone
	trash   []trashed
	final   []func() error // steps that cannot be undone, last
	newIDs  []uint64
	newRows []idRow
	saved   int64    // bytes held for undo
	keeps   []uint64 // objects that stable storage was told the session keeps

	token int         // of the ledger
	lsn   journal.LSN // of its entry in the log, 0: none yet
}

// cutObj is an object that a cut names.
type cutObj struct {
	id  uint64
	rec int // of its creation, -1 when it was there before
	n   *node
	typ uint32 // S_IFMT bits

	content []int // records
	attrs   []int
	xattrs  []int
	gains   []*slot // names that it gets
	loses   []*slot // names that it loses
	gets    int     // names bound in it, of a directory
	keep    bool

	// What there was before, of an object that was: see prepare.
	hadXattrs   []journal.Xattr
	overwritten []journal.Bytes
	bytesRead   bool // overwritten is complete

	attr  cut.Record // the attribute records together
	st    unix.Statx_t
	hasSt bool
	holds int  // pins held until the end
	touch bool // is among the touched

	making  bool  // creation under way: a cycle if met again
	made    int64 // ctime of a new object when it was complete
	primary *slot // its name in a directory that is new, too: it is made there
	private place // where it is when it has no name: in tmp or orphans, or aside in a directory
}

func (o *cutObj) isDir() bool   { return o.typ == unix.S_IFDIR }
func (o *cutObj) created() bool { return o.rec >= 0 }

// slot is a name that a cut binds.
type slot struct {
	dir           *cutObj
	name          string
	rec           int
	before, after *cutObj // nil: unbound
	now           *cutObj // while the cut is applied
}

type slotKey struct {
	dir  uint64
	name string
}

// place is an entry: of a directory of the tree, or of a private directory.
type place struct {
	dir  *cutObj // nil: private
	fd   int     // of a private directory
	name string
}

func (p place) none() bool { return p.name == "" }

// trashed is a private name that goes when the cut is done.
type trashed struct {
	obj *cutObj
	at  place
}

type permKey struct {
	uid  uint32
	id   uint64
	mask uint32
}

// Apply applies a cut wholly, or refuses it and leaves no trace.
func (fs *FS) Apply(ctx context.Context, cred *p9srv.Cred, c *cut.Cut) error {
	if err := ctx.Err(); err != nil {
		return &cut.Refusal{Record: -1, Err: fmt.Errorf("%w: %w", err, syscall.EINTR)}
	}
	if err := fs.readOnly(); err != nil {
		return &cut.Refusal{Record: -1, Err: err}
	}
	if cred == nil {
		cred = &p9srv.Cred{UID: fs.uid, GID: fs.gid}
	}
	err := fs.apply(cred, c)
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	if full && !errors.Is(err, p9srv.ErrInDoubt) && fs.makeSpace() {
		err = fs.apply(cred, c)
	}
	return err
}

// makeSpace has the log of cuts give back what it can do without, and what is kept of objects that are gone only as long as the log names
// them. It says whether there may be more room than before.
func (fs *FS) makeSpace() bool {
	l := fs.ledger
	l.mu.Lock()
	some := uint64(l.last) >= l.base.Load()
	l.mu.Unlock()
	if some {
		if err := l.checkpoint(); err != nil {
			return false
		}
	}
	return l.log.Shrink() > 0 || some
}

// apply applies a cut wholly, or refuses it.
func (fs *FS) apply(cred *p9srv.Cred, c *cut.Cut) error {
	a := &apply{
		fs: fs, cred: cred, c: c,
		objs: map[uint64]*cutObj{}, slots: map[slotKey]*slot{},
		creds: map[uint32]*p9srv.Cred{}, allowed: map[permKey]error{},
	}
	defer a.done()
	err := a.index()
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return a.refusal(err)
	}
	err = fs.withQuota(cred, a.run)
	if err != nil && !errors.Is(err, p9srv.ErrInDoubt) {
		return a.refusal(err)
	}
	return err
}

// run stages, logs and applies the cut.
func (a *apply) run() error {
	err := a.take(a.createAll, a.prepare, a.recordKept, a.log, a.contentAll, a.bindAll, a.attrAll, a.enterRows, a.irreversible)
	if err == nil {
		a.commit()
		return nil
	}
	at := a.rec
	a.rollback()
	a.dropKept()
	if a.fs.killed.Load() {
		if a.token != 0 {
			a.fs.ledger.end(a.token, nil)
		}
		return errKilled
	}
	if a.token != 0 {
		if aerr := a.abort(); aerr != nil && a.lsn != 0 {
			// The log may have the cut, and cannot be told that it is none.
			err = fmt.Errorf("%w: %w", p9srv.ErrInDoubt, errors.Join(err, aerr))
		}
	}
	a.rec = at
	return err
}

// take takes phases one after the other.
func (a *apply) take(phases ...func() error) error {
	for _, phase := range phases {
		if err := phase(); err != nil {
			return err
		}
	}
	return nil
}

func (a *apply) refusal(err error) error {
	var errno syscall.Errno
	if !asErrno(err, &errno) {
		err = fmt.Errorf("%w: %w", err, syscall.EIO)
	}
	return &cut.Refusal{Record: a.rec, Err: err}
}

// do takes one step. Tests make the n-th fail.
func (a *apply) do(step string, fn func() error) error {
	if a.undoing {
		step = "undo: " + step
	}
	if err := a.fs.step(step); err != nil {
		return err
	}
	a.steps++
	if a.fs.fail != nil && !a.undoing {
		if err := a.fs.fail(step, a.steps); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	if err := eintr(fn); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

// undoBy notes how the step just taken is undone.
func (a *apply) undoBy(fn func() error) { a.undo = append(a.undo, fn) }

// rollback undoes all steps, the last first, and then puts times back.
func (a *apply) rollback() {
	a.undoing = true
	for i, fn := range slices.Backward(a.undo) {
		if a.fs.step("undo") != nil {
			return
		}
		if a.fs.skipUndo != nil && a.fs.skipUndo(i) {
			continue
		}
		if err := fn(); err != nil {
			a.fs.logf("a refused cut could not be undone wholly: %v", err)
		}
	}
	for _, o := range a.touched {
		if a.fs.step("undo times") != nil {
			return
		}
		fd, err := o.n.pin()
		if err == nil {
			err = utimesFD(fd, &[2]unix.Timespec{timespec(nanos(o.st.Atime)), timespec(nanos(o.st.Mtime))})
			o.n.unpin()
		}
		if err != nil {
			a.fs.logf("the times of object %d could not be put back: %v", o.id, err)
		}
	}
	for _, o := range a.list {
		if o.created() && o.n != nil {
			a.fs.mu.Lock()
			o.n.goneLocked()
			a.fs.mu.Unlock()
		}
	}
}

// done gives back what the cut held.
func (a *apply) done() {
	for _, o := range a.list {
		for ; o.holds > 0; o.holds-- {
			o.n.unpin()
		}
		if o.n != nil {
			o.n.Release()
		}
	}
}

// hold opens o's descriptor and keeps it until the cut is done.
func (a *apply) hold(o *cutObj) (int, error) {
	fd, err := o.n.pin()
	if err == nil {
		o.holds++
	}
	return fd, err
}

// with runs fn with o's descriptor.
func (o *cutObj) with(fn func(fd int) error) error {
	fd, err := o.n.pin()
	if err != nil {
		return err
	}
	defer o.n.unpin()
	return fn(fd)
}

// stat gives o's attributes as they were before the cut.
func (o *cutObj) stat() (*unix.Statx_t, error) {
	if o.hasSt {
		return &o.st, nil
	}
	if err := o.with(func(fd int) error { return statFD(fd, &o.st) }); err != nil {
		return nil, err
	}
	o.hasSt = true
	return &o.st, nil
}

// touching notes that o's times will change by what is done to it.
func (a *apply) touching(o *cutObj) error {
	if o.touch || o.created() {
		return nil
	}
	if _, err := o.stat(); err != nil {
		return err
	}
	o.touch = true
	a.touched = append(a.touched, o)
	return nil
}

// at runs fn with the directory of a place.
func (p place) at(fn func(dirfd int) error) error {
	if p.dir == nil {
		return fn(p.fd)
	}
	return p.dir.with(fn)
}

func (s *slot) place() place { return place{dir: s.dir, name: s.name} }

// tmpPlace is a private name that nobody else has.
func (a *apply) tmpPlace() place {
	return place{fd: a.fs.state.tmp, name: strconv.FormatUint(a.fs.tmpSeq.Add(1), 10)}
}

func (a *apply) orphanPlace(o *cutObj) place {
	return place{fd: a.fs.state.orphans, name: strconv.FormatUint(o.id, 10)}
}

// ResolveName gives the id bound to name in directory dir, 0 when there is none.
func (fs *FS) ResolveName(ctx context.Context, dir uint64, name string) (uint64, error) {
	n, err := fs.lookup(dir)
	if err != nil {
		return 0, err
	}
	defer n.Release()
	o, err := n.walk(ctx, nil, name, nil)
	if err != nil {
		var errno syscall.Errno
		if asErrno(err, &errno) && errno == syscall.ENOENT {
			return 0, nil
		}
		return 0, err
	}
	defer o.Release()
	return o.id, nil
}
