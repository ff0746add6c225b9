package dirfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

const (
	// firstTableID is the first id that is no inode number.
	firstTableID = 1 << 48
	// firstVolatileID starts the ids of exports without a private directory.
	firstVolatileID = 1 << 52
	endIDs          = 1 << 53
	// idChunk is how far the durable mark is ahead of the ids given out.
	idChunk = 1 << 20
)

// idTable is the durable table of the ids that are not inode numbers, and the
// mark below which ids have been given out. A row goes to the end of a log, which is
// written anew when it is opened, and when most of it is history.
type idTable struct {
	mu   sync.Mutex
	step func(string) error // asked before each write
	log  *os.File           // nil: nothing is durable
	size int64              // of the log, up to its last whole row
	anew int64              // its size when it was written anew last
	path string
	mark *os.File
	next uint64 // the next id to give out
	safe uint64 // ids below are covered by the mark on disk
	slot int

	rows map[uint64]idRow
	ids  map[inoTag]uint64
	inos map[uint64]int // rows of an inode number, for a quick no

	// times has the ctimes that clients are shown instead of the host's.
	times map[uint64]times
}

// times is a ctime of the host, and the one that is shown while the host's is that.
type times struct{ host, shown int64 }

type inoTag struct{ ino, tag uint64 }

type idRow struct {
	inoTag
	handle string
}

// The operations of the log.
const (
	rowAdd byte = 1
	rowDel byte = 2
	// rowTimes has the times of an object, where the others have inode and tag.
	rowTimes byte = 3
)

const rowHeader = 4 + 1 + 1 + 3*8

func newIDTable(step func(string) error) *idTable {
	return &idTable{
		step: step,
		next: firstVolatileID, safe: endIDs,
		rows: map[uint64]idRow{}, ids: map[inoTag]uint64{}, inos: map[uint64]int{}, times: map[uint64]times{},
	}
}

// openIDTable reads the table in directory dir, or begins one.
func openIDTable(dir string, step func(string) error) (*idTable, error) {
	t := newIDTable(step)
	t.next, t.safe = firstTableID, 0
	t.path = filepath.Join(dir, "ids")
	old, err := os.ReadFile(t.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	t.replay(old)
	if err := t.rewrite(); err != nil {
		t.close()
		return nil, fmt.Errorf("write the table of ids: %w", err)
	}
	if t.mark, err = os.OpenFile(filepath.Join(dir, "next"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		t.close()
		return nil, err
	}
	if err := t.readMark(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// replay reads a log up to its end, or to the first row that is not whole.
func (t *idTable) replay(b []byte) {
	for len(b) >= rowHeader {
		n := rowHeader + int(b[5])
		if n > len(b) || crc32.ChecksumIEEE(b[4:n]) != binary.LittleEndian.Uint32(b) {
			return
		}
		id := binary.LittleEndian.Uint64(b[6:])
		x, y := binary.LittleEndian.Uint64(b[14:]), binary.LittleEndian.Uint64(b[22:])
		switch b[4] {
		case rowAdd:
			t.set(id, idRow{inoTag{x, y}, string(b[rowHeader:n])})
		case rowDel:
			t.unset(id)
			delete(t.times, id)
		case rowTimes:
			t.times[id] = times{int64(x), int64(y)}
		}
		if id >= firstTableID && id >= t.next {
			t.next = id + 1
		}
		b = b[n:]
	}
}

func appendRow(b []byte, op byte, id uint64, r idRow) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, op, byte(len(r.handle)))
	b = binary.LittleEndian.AppendUint64(b, id)
	b = binary.LittleEndian.AppendUint64(b, r.ino)
	b = binary.LittleEndian.AppendUint64(b, r.tag)
	b = append(b, r.handle...)
	binary.LittleEndian.PutUint32(b[at:], crc32.ChecksumIEEE(b[at+4:]))
	return b
}

func appendTimes(b []byte, id uint64, tm times) []byte {
	return appendRow(b, rowTimes, id, idRow{inoTag{uint64(tm.host), uint64(tm.shown)}, ""})
}

// rewrite writes the rows that count to a new log and puts it in place. After an error the old one is still in use, unless only
// that the new one's name is durable is not known.
func (t *idTable) rewrite() error {
	var b []byte
	for id, r := range t.rows {
		b = appendRow(b, rowAdd, id, r)
	}
	for id, tm := range t.times {
		b = appendTimes(b, id, tm)
	}
	tmp := t.path + ".new"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		if err = f.Sync(); err == nil {
			err = os.Rename(tmp, t.path)
		}
	}
	if err != nil {
		f.Close()
		return errors.Join(err, os.Remove(tmp))
	}
	if t.log != nil {
		t.log.Close()
	}
	t.log, t.size, t.anew = f, int64(len(b)), int64(len(b))
	dir, err := os.Open(filepath.Dir(t.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// minHistory is how large the log is at least before it is written anew while it is in use.
const minHistory = 1 << 20

// compact writes the log anew when most of it is history. For want of room it stays as it is.
func (t *idTable) compact() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.log == nil || t.size < minHistory || t.size < 4*t.anew {
		return nil
	}
	if err := t.step("rewrite ids"); err != nil {
		return err
	}
	log := t.log
	err := t.rewrite()
	if err != nil && t.log == log {
		t.anew = t.size // it is not tried again at once
		return nil
	}
	return err
}

// readMark reads the two slots of the mark: the higher one that is whole counts.
func (t *idTable) readMark() error {
	var b [1024]byte
	if _, err := io.ReadFull(io.NewSectionReader(t.mark, 0, 1024), b[:]); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	for slot := range 2 {
		s := b[slot*512:]
		v := binary.LittleEndian.Uint64(s)
		if v != 0 && binary.LittleEndian.Uint32(s[8:]) == crc32.ChecksumIEEE(s[:8]) && v > t.next {
			t.next, t.slot = v, slot
		}
	}
	return nil
}

func (t *idTable) close() {
	for _, f := range []*os.File{t.log, t.mark} {
		if f != nil {
			f.Close()
		}
	}
}

func (t *idTable) set(id uint64, r idRow) {
	if old, ok := t.ids[r.inoTag]; ok {
		t.unset(old)
	}
	t.unset(id)
	t.rows[id] = r
	t.ids[r.inoTag] = id
	t.inos[r.ino]++
}

func (t *idTable) unset(id uint64) {
	r, ok := t.rows[id]
	if !ok {
		return
	}
	delete(t.rows, id)
	delete(t.times, id)
	delete(t.ids, r.inoTag)
	if t.inos[r.ino]--; t.inos[r.ino] == 0 {
		delete(t.inos, r.ino)
	}
}

// alloc gives out n ids that were never given out before.
func (t *idTable) alloc(n uint64) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.allocLocked(n)
}

func (t *idTable) allocLocked(n uint64) (uint64, error) {
	if n == 0 || n > endIDs-t.next {
		return 0, syscall.ENOSPC
	}
	if t.next+n > t.safe {
		safe := min(t.next+n+idChunk, endIDs)
		var b [12]byte
		binary.LittleEndian.PutUint64(b[:], safe)
		binary.LittleEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[:8]))
		if err := t.step("note ids"); err != nil {
			return 0, err
		}
		slot := 1 - t.slot
		if _, err := t.mark.WriteAt(b[:], int64(slot)*512); err != nil {
			return 0, fmt.Errorf("note which ids are given out: %w", err)
		}
		if err := unix.Fdatasync(int(t.mark.Fd())); err != nil {
			return 0, fmt.Errorf("note which ids are given out: %w", err)
		}
		t.safe, t.slot = safe, slot
	}
	first := t.next
	t.next += n
	return first, nil
}

// given says whether id was given out.
func (t *idTable) given(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return id >= firstTableID && id < t.next
}

// give gives a fresh id to an inode.
func (t *idTable) give(ino uint64, ident identity) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, err := t.allocLocked(1)
	if err != nil {
		return 0, err
	}
	return id, t.addLocked([]uint64{id}, []idRow{{inoTag{ino, ident.tag}, ident.handle}})
}

// add enters rows.
func (t *idTable) add(ids []uint64, rows []idRow) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addLocked(ids, rows)
}

func (t *idTable) addLocked(ids []uint64, rows []idRow) error {
	if t.log != nil {
		var b []byte
		for i, id := range ids {
			b = appendRow(b, rowAdd, id, rows[i])
		}
		if err := t.appendLocked(b); err != nil {
			return err
		}
	}
	for i, id := range ids {
		t.set(id, rows[i])
	}
	return nil
}

// remove takes a row out; it matters little when that does not reach the disk,
// since a row names an inode by its generation.
func (t *idTable) remove(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.rows[id]
	if _, shown := t.times[id]; !ok && !shown {
		return
	}
	t.unset(id)
	delete(t.times, id)
	if t.log != nil {
		_ = t.appendLocked(appendRow(nil, rowDel, id, r))
	}
}

// show keeps the ctimes that objects are shown with.
func (t *idTable) show(ctimes []journal.Ctime) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b []byte
	for _, c := range ctimes {
		tm := times{c.Host, c.Shown}
		if c.Shown == 0 {
			delete(t.times, c.ID)
			continue
		}
		t.times[c.ID] = tm
		b = appendTimes(b, c.ID, tm)
	}
	if t.log == nil || len(b) == 0 {
		return nil
	}
	return t.appendLocked(b)
}

// timesOf gives the times of an object, if some are kept.
func (t *idTable) timesOf(id uint64) times {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.times[id]
}

// sync makes the table durable.
func (t *idTable) sync() error {
	if t.log == nil {
		return nil
	}
	if err := t.step("sync ids"); err != nil {
		return err
	}
	if err := eintr(func() error { return unix.Fdatasync(int(t.log.Fd())) }); err != nil {
		return fmt.Errorf("make the table of ids durable: %w", err)
	}
	return nil
}

// appendLocked writes rows wholly or, as far as a later reader can see, not at all.
func (t *idTable) appendLocked(b []byte) error {
	if err := t.step("write ids"); err != nil {
		return err
	}
	if _, err := t.log.Write(b); err != nil {
		_ = t.log.Truncate(t.size)
		return fmt.Errorf("write the table of ids: %w", err)
	}
	t.size += int64(len(b))
	return nil
}

// find gives the id of an inode, 0 if it has no row.
func (t *idTable) find(ino, tag uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ids[inoTag{ino, tag}]
}

// row gives the row of an id.
func (t *idTable) row(id uint64) (idRow, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.rows[id]
	return r, ok
}
