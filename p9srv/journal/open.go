package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const dirName = "log"

// Open opens the log in the private directory dir, and makes it where there is none. It gives the entries since the
// last checkpoint. A *Damage is the error of a log that has lost what it promised.
func Open(dir int, opt Options) (*Log, []Entry, error) {
	if err := opt.complete(dir); err != nil {
		return nil, nil, err
	}
	h := &files{dir: -1, step: opt.Step, hook: opt.hook}
	l, entries, err := open(h, dir, opt)
	if err != nil {
		if h.dir >= 0 {
			unix.Close(h.dir)
		}
		var s stopped
		if errors.As(err, &s) {
			err = s.error
		}
		return nil, nil, err
	}
	return l, entries, nil
}

func open(h *files, dir int, opt Options) (*Log, []Entry, error) {
	var err error
	if h.dir, err = openDir(dir); errors.Is(err, os.ErrNotExist) {
		if err = makeDir(h, dir); err == nil {
			h.dir, err = openDir(dir)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	found, err := readDir(h.dir)
	if err != nil {
		return nil, nil, err
	}
	var segments []*scanned
	for _, im := range found.images {
		s, err := scanSegment(im, opt.mutants.noCheck)
		if err != nil {
			return nil, nil, err
		}
		segments = append(segments, s)
	}
	c, err := link(segments)
	if err != nil {
		return nil, nil, err
	}
	entries, err := c.decodeEntries()
	if err != nil {
		return nil, nil, err
	}
	l := &Log{
		h: h, opt: opt,
		next: c.next, start: c.start, forgotten: c.start,
		written: c.next - 1, synced: c.next - 1, waited: c.next - 1, claim: c.durable, proven: c.durable,
		seq: found.seq,
	}
	l.cond = sync.NewCond(&l.mu)
	if err := l.adopt(c, segments, found); err != nil {
		for _, s := range slices.Concat(l.live, l.spare) {
			unix.Close(s.fd)
		}
		return nil, nil, err
	}
	l.mu.Lock()
	l.retire()
	if len(l.live)+len(l.spare) > 0 {
		l.prepare() // whoever had a use for the log will have one again
	}
	l.mu.Unlock()
	return l, entries, nil
}

// complete puts what was left open.
func (o *Options) complete(dir int) error {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(dir, &st); err != nil {
		return fmt.Errorf("statfs the private directory: %w", err)
	}
	all := int64(st.Blocks) * st.Bsize
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegment
		if all > 0 {
			o.SegmentSize = min(defaultSegment, max(leastSegment, all/64))
		}
	}
	o.SegmentSize = align(max(o.SegmentSize, 2*blockSize), blockSize)
	if o.Max == 0 {
		o.Max = defaultMax
		if all > 0 {
			o.Max = min(defaultMax, max(leastSegment, all/8))
		}
	}
	return nil
}

func openDir(dir int) (int, error) {
	fd, err := unix.Openat(dir, dirName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, fmt.Errorf("open the log of cuts: %w", err)
	}
	return fd, nil
}

func makeDir(h *files, dir int) error {
	if err := h.ask(hostOp{what: "mkdir", name: dirName}); err != nil {
		return err
	}
	if err := unix.Mkdirat(dir, dirName, 0o700); err != nil {
		return fmt.Errorf("make the directory of the log of cuts: %w", err)
	}
	if err := h.ask(hostOp{what: "syncdir", fd: dir}); err != nil {
		return err
	}
	if err := unix.Fsync(dir); err != nil {
		return fmt.Errorf("fsync the private directory: %w", err)
	}
	return nil
}

// found is what the log's directory has.
type found struct {
	images []image  // by their numbers
	spare  []string // held back to be recycled
	unmade []string // segments whose making was cut short
	other  []string
	seq    uint64 // the highest number
}

// readDir reads the log's directory, changing nothing.
func readDir(dir int) (*found, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the log of cuts: %w", err)
	}
	d := os.NewFile(uintptr(fd), dirName)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("read the directory of the log of cuts: %w", err)
	}
	slices.Sort(names)
	f := new(found)
	for _, name := range names {
		rest, isSpare := strings.CutPrefix(name, "spare-")
		rest, isNew := strings.CutPrefix(rest, "new-")
		seq, numbered := segmentSeq(rest)
		switch {
		case !numbered:
			f.other = append(f.other, name)
			continue
		case isNew:
			f.unmade = append(f.unmade, name)
		case isSpare:
			f.spare = append(f.spare, name)
		default:
			data, err := readFile(dir, name)
			if err != nil {
				return nil, err
			}
			f.images = append(f.images, image{name: name, seq: seq, data: data})
		}
		f.seq = max(f.seq, seq)
	}
	slices.SortFunc(f.images, func(a, b image) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	return f, nil
}

func readFile(dir int, name string) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open segment %s of the log of cuts: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat segment %s of the log of cuts: %w", name, err)
	}
	data := make([]byte, st.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read segment %s of the log of cuts: %w", name, err)
	}
	return data, nil
}

// adopt takes over the files that were found. What was read from the kernel's memory becomes durable, and nothing is left that could be
// taken for what follows the last entry: the next one goes to a segment of its own.
func (l *Log) adopt(c *chain, segments []*scanned, f *found) error {
	moved := false
	for _, s := range segments {
		seg, err := l.openSegment(s.name)
		if err != nil {
			return err
		}
		seg.segmentHead = s.head
		seg.size = min(seg.size, int64(len(s.data)))
		seg.end = seg.size
		l.seq = max(l.seq, s.head.seq)
		if slices.Contains(c.segments, s) {
			seg.last = s.last()
			l.live = append(l.live, seg)
			if !l.opt.Sync {
				continue
			}
			if err := l.h.fdatasync(seg.fd, seg.name); err != nil {
				return err
			}
			continue
		}
		l.spare = append(l.spare, seg)
		if len(s.entries) > 0 && s.last() >= c.next {
			if err := l.h.rename(s.name, "spare-"+s.name); err != nil {
				return err
			}
			seg.name = "spare-" + s.name
			moved = true
		}
	}
	if moved {
		if err := l.h.syncDir(); err != nil {
			return err
		}
	}
	for _, name := range f.spare {
		seg, err := l.openSegment(name)
		if err != nil {
			return err
		}
		l.spare = append(l.spare, seg)
	}
	for _, name := range f.unmade {
		if err := l.h.unlink(name); err != nil {
			return err
		}
	}
	// A file that is too short for anything is of no use.
	l.spare = slices.DeleteFunc(l.spare, func(s *segment) bool {
		if s.size >= 2*blockSize {
			return false
		}
		unix.Close(s.fd)
		return true
	})
	return nil
}

// openSegment opens a file for writing; its size is the file's.
func (l *Log) openSegment(name string) (*segment, error) {
	fd, err := unix.Openat(l.h.dir, name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open segment %s of the log of cuts: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("stat segment %s of the log of cuts: %w", name, err)
	}
	size := st.Size &^ (blockSize - 1)
	return &segment{segmentHead: segmentHead{size: size}, name: name, fd: fd, end: size}, nil
}
