package dirfs

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"echo9/internal/cut"
	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

// maxCopied bounds the bytes that the Copy records of one cut may carry: they go to the log.
const maxCopied = 64 << 20

// prepare looks at what there was before the cut: for the log, and for undoing.
func (a *apply) prepare() error {
	for _, o := range a.list {
		if o.created() {
			continue
		}
		if _, err := o.stat(); err != nil {
			return fmt.Errorf("object %d: %w", o.id, err)
		}
		if err := a.oldXattrs(o); err != nil {
			return fmt.Errorf("object %d: %w", o.id, err)
		}
		if len(o.content) > 0 || o.attr.Valid&cut.AttrSize != 0 {
			a.rec = o.contentRecord()
			if err := a.oldBytes(o); err != nil {
				return fmt.Errorf("write object %d: %w", o.id, err)
			}
		}
	}
	return nil
}

// oldXattrs reads the extended attributes that the cut changes.
func (a *apply) oldXattrs(o *cutObj) error {
	for _, i := range o.xattrs {
		a.rec = i
		x := journal.Xattr{Name: a.c.Records[i].Name}
		err := o.with(func(fd int) error {
			return a.fs.forced(fd, func() (err error) {
				x.Value, err = getXattr(procPath(fd), x.Name)
				return err
			})
		})
		switch err {
		case nil:
			x.Was = true
		case unix.ENODATA:
		default:
			return fmt.Errorf("save extended attribute %s: %w", x.Name, err)
		}
		o.hadXattrs = append(o.hadXattrs, x)
	}
	return nil
}

// lost gives the parts of a file of the given size that its content records overwrite or cut off.
func (a *apply) lost(o *cutObj, size int64) []span {
	var spans []span
	add := func(off, end int64) {
		if end = min(end, size); off < end {
			spans = append(spans, span{off, end})
		}
	}
	for _, i := range o.content {
		switch r := &a.c.Records[i]; r.Kind {
		case cut.Truncate:
			add(int64(r.Size), size)
		case cut.Data, cut.Zero, cut.Copy:
			add(int64(r.Off), int64(r.Off)+max(int64(r.Len), int64(len(r.Bytes))))
		}
	}
	if o.attr.Valid&cut.AttrSize != 0 {
		add(int64(o.attr.Size), size)
	}
	slices.SortFunc(spans, func(s, t span) int { return int(min(max(s.off-t.off, -1), 1)) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.off <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, s.end)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// oldBytes reads what the cut overwrites, as far as that is held in memory.
func (a *apply) oldBytes(o *cutObj) error {
	spans := a.lost(o, int64(o.st.Size))
	total := int64(0)
	for _, s := range spans {
		total += s.end - s.off
	}
	if total == 0 {
		o.bytesRead = true
		return nil
	}
	if a.saved+total > maxSaved {
		return nil
	}
	a.saved += total
	return o.with(func(path int) error {
		return a.fs.forced(path, func() error {
			fd, err := a.fs.openQuiet(path, unix.O_RDONLY)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			for _, s := range spans {
				b := make([]byte, s.end-s.off)
				k, err := preadFull(fd, b, s.off)
				if err != nil {
					return fmt.Errorf("save what is overwritten: %w", err)
				}
				o.overwritten = append(o.overwritten, journal.Bytes{Off: uint64(s.off), B: b[:k:k]})
			}
			o.bytesRead = true
			return nil
		})
	})
}

// openQuiet opens what a path descriptor stands for, without reads being noted as accesses where the host lets us:
// what a cut reads for itself is none.
func (fs *FS) openQuiet(path, flags int) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Openat(fs.procFD, itoa(path), flags|unix.O_NOATIME, 0)
	if err == unix.EPERM { // somebody else's file
		return unix.Openat(fs.procFD, itoa(path), flags, 0)
	}
	return fd, err
}

// log puts the cut into the log and waits until it is as durable as is promised.
func (a *apply) log() error {
	l := a.fs.ledger
	records, err := a.withoutCopies()
	if err != nil {
		return err
	}
	if a.token, err = l.begin(); err != nil {
		return err
	}
	if err := a.settleDisturbed(); err != nil {
		return err
	}
	e := &journal.Cut{Client: a.c.Client, Session: a.cred.Session, Number: a.c.Number, Time: time.Now().UnixNano(), Records: records}
	e.Objects = make([]journal.Object, 0, len(a.list))
	for _, o := range a.list {
		e.Objects = append(e.Objects, a.entryOf(o))
	}
	a.rec = -1
	if a.lsn, err = l.log.Append(e); err != nil {
		return fmt.Errorf("log the cut: %w", err)
	}
	l.logged(a.token, a.lsn)
	if err := l.log.Wait(a.lsn); err != nil {
		return fmt.Errorf("log the cut: %w", err)
	}
	return nil
}

// settleDisturbed finds the objects that somebody else has changed since the log named
// them, by their ctimes, and settles them.
func (a *apply) settleDisturbed() error {
	fs := a.fs
	var disturbed []*node
	fs.mu.Lock()
	for _, o := range a.list {
		if !o.created() && fs.inLog(o.n) && o.n.noted != nanos(o.st.Ctime) {
			disturbed = append(disturbed, o.n)
		}
	}
	fs.mu.Unlock()
	if len(disturbed) == 0 {
		return nil
	}
	_, err := fs.ledger.settle(disturbed)
	return err
}

func (a *apply) entryOf(o *cutObj) journal.Object {
	n := o.n
	e := journal.Object{ID: o.id, Born: o.created(), Overwritten: o.overwritten, Xattrs: o.hadXattrs}
	a.fs.mu.Lock()
	e.Ident = journal.Ident{Dev: n.key.dev, Ino: n.key.ino, Tag: n.tag, Handle: n.handle}
	e.Parent, e.Name = n.parent, n.name
	a.fs.mu.Unlock()
	if o.created() {
		if o.private.fd == a.fs.state.tmp && o.private.dir == nil {
			e.Place = o.private.name
		}
		return e
	}
	e.Before = journal.Attrs{
		Mode: uint32(o.st.Mode), UID: o.st.Uid, GID: o.st.Gid, Size: o.st.Size,
		Atime: nanos(o.st.Atime), Mtime: nanos(o.st.Mtime), Ctime: nanos(o.st.Ctime),
	}
	return e
}

// withoutCopies gives the records with the bytes of Copy records in them: what these are
// copied from may be another thing when the log is read.
func (a *apply) withoutCopies() ([]cut.Record, error) {
	records := a.c.Records
	total := uint64(0)
	cloned := false
	for i := range a.c.Records {
		r := &a.c.Records[i]
		if r.Kind != cut.Copy {
			continue
		}
		a.rec = i
		if total += r.Len; total > maxCopied {
			return nil, fmt.Errorf("copy more than %d bytes in one cut: %w", maxCopied, syscall.EFBIG)
		}
		if !cloned {
			records, cloned = slices.Clone(records), true
		}
		b := make([]byte, r.Len)
		err := a.objs[r.Source].with(func(path int) error {
			fd, err := a.fs.openQuiet(path, unix.O_RDONLY)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			k, err := preadFull(fd, b, int64(r.SourceOff))
			if err == nil && k < len(b) {
				err = fmt.Errorf("beyond the end: %w", syscall.EINVAL)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("copy: %w", err)
		}
		records[i] = cut.Record{Kind: cut.Data, UID: r.UID, Owner: r.Owner, ID: r.ID, Off: r.Off, Bytes: b}
	}
	return records, nil
}

// note tells the log that the cut was applied, and remembers what the host shows of the objects now.
func (a *apply) note() {
	fs := a.fs
	e := &journal.Note{Cut: a.lsn, Ctimes: make([]journal.Ctime, 0, len(a.list))}
	ids := make([]uint64, 0, len(a.list))
	for _, o := range a.list {
		if o.n == nil {
			continue
		}
		host := o.made
		if o.primary == nil || o.isDir() || len(o.gains) > 1 {
			var st unix.Statx_t
			if err := o.with(func(fd int) error { return statFD(fd, &st) }); err != nil {
				continue // gone
			}
			host = nanos(st.Ctime)
		}
		c := journal.Ctime{ID: o.id, Host: host}
		if o.attr.Valid&cut.AttrCtime != 0 {
			c.Shown = o.attr.Ctime
		}
		e.Ctimes = append(e.Ctimes, c)
		ids = append(ids, o.id)
	}
	fs.mu.Lock()
	for _, c := range e.Ctimes {
		n := a.objs[c.ID].n
		n.noted = c.Host
		n.cutLSN.Store(uint64(a.lsn))
		if c.Shown != 0 {
			n.ctHost, n.ctShown = c.Host, c.Shown
		}
	}
	fs.mu.Unlock()
	lsn, err := fs.ledger.log.Append(e)
	if err != nil {
		fs.logf("note that a cut was applied: %v", err)
	}
	if err := fs.ids.show(e.Ctimes); err != nil {
		fs.logf("keep the times of a cut: %v", err)
	}
	fs.ledger.logged(a.token, max(lsn, a.lsn))
	fs.ledger.done(a, ids)
}

// abort tells the log that the cut was undone, before its client is told.
func (a *apply) abort() error {
	l := a.fs.ledger
	if a.lsn == 0 {
		l.end(a.token, nil)
		return nil
	}
	lsn, err := l.log.Append(&journal.Abort{Cut: a.lsn, Time: time.Now().UnixNano()})
	if err == nil {
		err = l.log.Wait(lsn)
	}
	var ids []uint64
	for _, o := range a.list {
		if !o.created() {
			ids = append(ids, o.id)
		}
	}
	for _, o := range a.list {
		if !o.created() {
			o.n.cutLSN.Store(uint64(a.lsn)) // and its ctime is another one: the next cut settles it
		}
	}
	l.logged(a.token, max(lsn, a.lsn))
	l.end(a.token, ids)
	if err != nil {
		return fmt.Errorf("log that a cut is refused: %w", err)
	}
	return nil
}

// done notes that a cut is applied.
func (l *ledger) done(a *apply, ids []uint64) {
	l.mu.Lock()
	if a.c.Client != ([16]byte{}) {
		l.applied[a.c.Client] = max(l.applied[a.c.Client], a.c.Number)
	}
	l.mu.Unlock()
	l.end(a.token, ids)
}
