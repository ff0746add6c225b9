package journal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Remains is what is left of a log.
type Remains struct {
	Entries []Entry // up to the damage: a log that ends there would have these
	Beyond  []Entry // whole ones that lie behind the damage, as far as they can be found
	Damage  *Damage // nil: the log is as it should be
}

// Salvage reads the log in the private directory at path, past damage too, and changes nothing.
func Salvage(path string) (*Remains, error) {
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(dir)
	fd, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	found, err := readDir(fd)
	if err != nil {
		return nil, err
	}
	r := &Remains{}
	var segments []*scanned
	for _, im := range found.images {
		s, err := scanSegment(im, false)
		var d *Damage
		if errors.As(err, &d) {
			r.Damage = cmp.Or(r.Damage, d)
			continue
		}
		if err != nil {
			return nil, err
		}
		segments = append(segments, s)
	}
	c, err := link(segments)
	var d *Damage
	if errors.As(err, &d) {
		r.Damage = cmp.Or(r.Damage, d)
	} else if err != nil {
		return nil, err
	}
	if r.Entries, err = c.decodeEntries(); err != nil {
		return nil, err
	}
	if r.Damage == nil {
		return r, nil
	}
	beyond := &chain{}
	for _, s := range segments {
		for _, e := range s.all() {
			if e.lsn >= c.next {
				beyond.entries = append(beyond.entries, e)
			}
		}
	}
	slices.SortFunc(beyond.entries, func(a, b rawEntry) int { return cmp.Compare(a.lsn, b.lsn) })
	r.Beyond, err = beyond.decodeEntries()
	return r, err
}

// all gives the whole entries of a segment, those behind a gap too.
func (s *scanned) all() []rawEntry {
	if s.recycled {
		return nil
	}
	out := slices.Clone(s.entries)
	for off := s.end; off+headerSize <= s.head.size; {
		i := bytes.Index(s.data[off:s.head.size], []byte(entryMagic))
		if i < 0 {
			break
		}
		off += int64(i)
		if e, ok := s.entryAt(off, false); ok && off%8 == 0 {
			out = append(out, e)
			off += entrySpace(int64(e.length))
			continue
		}
		off++
	}
	return out
}

// Rewrite puts a log with the given entries in the place of the one in the private directory dir. The old one's files are
// kept in the private directory under the name aside. Until that is done, the old one stays.
func Rewrite(dir int, entries []Entry, aside string) error {
	const work = "repair"
	if err := unix.Mkdirat(dir, work, 0o700); err != nil && err != unix.EEXIST {
		return fmt.Errorf("make a place for the new log: %w", err)
	}
	fd, err := unix.Openat(dir, work, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open the place for the new log: %w", err)
	}
	defer unix.Close(fd)
	if err := removeLog(fd); err != nil { // of an earlier try
		return err
	}
	l, _, err := Open(fd, Options{Sync: true})
	if err != nil {
		return err
	}
	err = refill(l, entries)
	if err = errors.Join(err, l.Close()); err != nil {
		return fmt.Errorf("write the new log: %w", err)
	}
	if err := unix.Renameat2(fd, dirName, dir, dirName, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("put the new log in place: %w", err)
	}
	if err := unix.Renameat2(fd, dirName, dir, aside, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("keep the damaged log: %w", err)
	}
	if err := unix.Unlinkat(dir, work, unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("remove the place for the new log: %w", err)
	}
	return unix.Fsync(dir)
}

// refill appends entries, whose numbers begin anew.
func refill(l *Log, entries []Entry) error {
	numbers := map[LSN]LSN{}
	last := LSN(0)
	for _, e := range entries {
		var x any
		switch {
		case e.Cut != nil:
			x = e.Cut
		case e.Note != nil:
			x = &Note{Cut: numbers[e.Note.Cut], Ctimes: e.Note.Ctimes}
		case e.Abort != nil:
			x = &Abort{Cut: numbers[e.Abort.Cut], Time: e.Abort.Time}
		case e.Applied != nil:
			x = e.Applied
		case e.Settled != nil:
			x = e.Settled
		case e.Redo != nil:
			x = e.Redo
		}
		lsn, err := l.Append(x)
		if err != nil {
			return err
		}
		numbers[e.LSN], last = lsn, lsn
	}
	if last == 0 {
		return nil
	}
	return l.Wait(last)
}

// removeLog removes a log that was never used.
func removeLog(dir int) error {
	fd, err := openDir(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	found, err := readDir(fd)
	if err != nil {
		return err
	}
	names := slices.Concat(found.spare, found.unmade, found.other)
	for _, im := range found.images {
		names = append(names, im.name)
	}
	for _, name := range names {
		if err := unix.Unlinkat(fd, name, 0); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return unix.Unlinkat(dir, dirName, unix.AT_REMOVEDIR)
}
