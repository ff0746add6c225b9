package journal

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
)

// disk is what the log's system calls leave behind when power fails: of what was not
// synced, any part, by sectors and by names.
type disk struct {
	files map[int]*diskFile // by a number of ours
	names map[string]int    // durable
	now   map[string]int    // as the kernel has them
	since []hostOp          // changes of names since the last syncdir
	count int
}

type diskFile struct {
	durable []byte
	since   []sectorWrite
}

type sectorWrite struct {
	off  int64
	data []byte
}

const sector = 512

func newDisk() *disk {
	return &disk{files: map[int]*diskFile{}, names: map[string]int{}, now: map[string]int{}}
}

// apply is called with each system call.
func (d *disk) apply(op hostOp) {
	file := func() *diskFile { return d.files[d.now[op.name]] }
	switch op.what {
	case "create":
		d.count++
		d.files[d.count] = &diskFile{}
		d.now[op.name] = d.count
		d.since = append(d.since, op)
	case "write":
		f := file()
		off := op.off
		for _, piece := range op.data {
			for len(piece) > 0 {
				n := min(len(piece), int(sector-off%sector))
				f.since = append(f.since, sectorWrite{off, slices.Clone(piece[:n])})
				piece = piece[n:]
				off += int64(n)
			}
		}
	case "fdatasync", "fsync":
		f := file()
		for _, w := range f.since {
			f.durable = w.put(f.durable)
		}
		f.since = nil
	case "rename", "unlink":
		rename(d.now, op)
		d.since = append(d.since, op)
	case "syncdir":
		d.names = maps.Clone(d.now)
		d.since = nil
	}
}

func (w sectorWrite) put(b []byte) []byte {
	if end := int(w.off) + len(w.data); end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[w.off:], w.data)
	return b
}

func rename(names map[string]int, op hostOp) {
	id, ok := names[op.name]
	if !ok {
		return
	}
	delete(names, op.name)
	if op.what == "rename" {
		names[op.to] = id
	}
}

// fail gives the files after a power failure.
func (d *disk) fail(r *rand.Rand) map[string][]byte {
	names := maps.Clone(d.names)
	part := r.Float64()
	for _, op := range d.since {
		if r.Float64() > part {
			continue
		}
		if op.what == "create" {
			names[op.name] = d.created(op)
			continue
		}
		rename(names, op)
	}
	out := make(map[string][]byte)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := d.files[names[name]]
		b := slices.Clone(f.durable)
		part := []float64{0, 0.2, 0.5, 0.9, 1}[r.IntN(5)]
		kept := map[int64]bool{}
		for _, w := range f.since {
			// What is written later in the same write is no likelier to be there; one
			// sector is as some write left it.
			if kept[w.off/sector] = r.Float64() < part; kept[w.off/sector] {
				b = w.put(b)
			}
		}
		out[name] = b
	}
	return out
}

// created is the file that op made: they are counted.
func (d *disk) created(op hostOp) int {
	for name, id := range d.now {
		if name == op.name {
			return id
		}
	}
	// It was renamed since.
	seq := op.name[len("new-"):]
	return d.now[seq]
}

// boot is the disk of the machine after a failure.
func boot(files map[string][]byte) *disk {
	d := newDisk()
	for name, b := range files {
		d.count++
		d.files[d.count] = &diskFile{durable: slices.Clone(b)}
		d.now[name] = d.count
	}
	d.names = maps.Clone(d.now)
	return d
}

// history is what was asked of a log.
type history struct {
	entries map[LSN]any
	last    LSN
	// promised: Wait returned, and so did a checkpoint; begun may be durable, too.
	promised LSN
	start    LSN
	begun    []LSN
}

func (h *history) clone() history {
	c := *h
	c.entries = maps.Clone(h.entries)
	c.begun = slices.Clone(h.begun)
	return c
}

// check says whether the entries found are a legal outcome.
func (h *history) check(got []Entry) error {
	last := h.promised
	for _, e := range got {
		want, ok := h.entries[e.LSN]
		if !ok {
			return fmt.Errorf("entry %d was never written", e.LSN)
		}
		if !reflect.DeepEqual(want, e.value()) {
			return fmt.Errorf("entry %d is not what was written", e.LSN)
		}
		last = max(last, e.LSN)
	}
	for _, start := range append([]LSN{h.start}, h.begun...) {
		var lsns []LSN
		for lsn := range h.entries {
			if lsn >= start && lsn <= last {
				lsns = append(lsns, lsn)
			}
		}
		slices.Sort(lsns)
		if slices.EqualFunc(lsns, got, func(l LSN, e Entry) bool { return l == e.LSN }) {
			return nil
		}
	}
	var lsns []LSN
	for _, e := range got {
		lsns = append(lsns, e.LSN)
	}
	return fmt.Errorf("entries %d are found; promised was %d, the checkpoints were %d and perhaps %d", lsns, h.promised, h.start, h.begun)
}

// instant is a point at which power may fail.
type instant struct {
	ops  int
	hist history
}

// life runs a log on the files and records its system calls, and what was promised when. files become
// what the machine boots with.
func life(t *testing.T, r *rand.Rand, files map[string][]byte, hist history, m mutants) (ops []hostOp, instants []instant, err error) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, dirName), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, dirName, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	opt := Options{Sync: true, SegmentSize: 16 << 10, lazy: time.Hour, mutants: m, hook: func(op hostOp) error {
		mu.Lock()
		defer mu.Unlock()
		data := make([][]byte, len(op.data))
		for i := range op.data {
			data[i] = slices.Clone(op.data[i])
		}
		op.data = data
		ops = append(ops, op)
		return nil
	}}
	l, got, err := tryOpen(t, dir, opt)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if err := hist.check(got); err != nil {
		return nil, nil, err
	}
	for lsn := range hist.entries {
		if lsn > l.Last() {
			delete(hist.entries, lsn)
		}
	}
	hist.last, hist.promised = l.Last(), l.Last()
	hist.start, hist.begun = l.Stats().First, nil
	// From here on what is there is durable.
	mark := func() {
		mu.Lock()
		defer mu.Unlock()
		instants = append(instants, instant{len(ops), hist.clone()})
	}
	mark()
	for range 12 + r.IntN(12) {
		switch r.IntN(10) {
		case 0:
			before := l.Last() + 1 - min(l.Last(), LSN(r.IntN(4)))
			before = max(before, hist.start)
			hist.begun = append(hist.begun, before)
			mark()
			keep := &Applied{Number: r.Uint64()}
			// It gets the next number, whatever else is in the log by then.
			hist.entries[l.Last()+1] = keep
			if err := l.Checkpoint(before, []any{keep}); err != nil {
				return nil, nil, err
			}
			hist.start, hist.begun, hist.promised = before, nil, l.Last()
		case 1, 2, 3:
			n := &Note{Cut: LSN(r.Uint64()), Ctimes: []Ctime{{ID: r.Uint64()}}}
			lsn, err := l.append(n, hist.entries)
			if err != nil {
				return nil, nil, err
			}
			hist.last = lsn
		default:
			c := aCut(r.Uint64(), r.IntN(4000))
			if r.IntN(10) == 0 {
				c = aCut(r.Uint64(), 20_000)
			}
			lsn, err := l.append(c, hist.entries)
			if err != nil {
				return nil, nil, err
			}
			if r.IntN(4) > 0 {
				mark()
				if err := l.Wait(lsn); err != nil {
					return nil, nil, err
				}
				hist.promised = lsn
			}
		}
		mark()
	}
	return ops, instants, nil
}

// append remembers the entry before it can be on the disk.
func (l *Log) append(e any, entries map[LSN]any) (LSN, error) {
	next := l.Last() + 1
	entries[next] = e
	lsn, err := l.Append(e)
	if err == nil && lsn != next {
		return 0, fmt.Errorf("the entry is %d, expected was %d", lsn, next)
	}
	return lsn, err
}

// read gives what Open would find in the files, without a directory.
func read(files map[string][]byte, m mutants) ([]Entry, error) {
	var segments []*scanned
	for _, name := range slices.Sorted(maps.Keys(files)) {
		seq, ok := segmentSeq(name)
		if !ok {
			continue
		}
		s, err := scanSegment(image{name: name, seq: seq, data: files[name]}, m.noCheck)
		if err != nil {
			return nil, err
		}
		segments = append(segments, s)
	}
	c, err := link(segments)
	if err != nil {
		return nil, err
	}
	return c.decodeEntries()
}

// powerFailures lets power fail at many points of a few lives, and gives the first illegal outcome.
func powerFailures(t *testing.T, seed uint64, m mutants) error {
	r := rand.New(rand.NewPCG(seed, 1))
	files := map[string][]byte{}
	hist := history{entries: map[LSN]any{}, start: 1}
	for range 3 {
		ops, instants, err := life(t, r, files, hist, m)
		if err != nil {
			return err
		}
		d := boot(files)
		at := instants[0]
		choice := r.IntN(len(ops) + 1)
		var next map[string][]byte
		var nextHist history
		for i := 0; i <= len(ops); i++ {
			for len(instants) > 0 && instants[0].ops <= i {
				at, instants = instants[0], instants[1:]
			}
			// An entry that is being written is one that the next instant knows.
			hist := at.hist.clone()
			for _, m := range instants {
				for lsn, e := range m.hist.entries {
					if lsn > hist.last {
						hist.entries[lsn] = e
					}
				}
				hist.begun = append(hist.begun, m.hist.begun...)
				hist.begun = append(hist.begun, m.hist.start)
			}
			for range 4 {
				after := d.fail(r)
				got, err := read(after, m)
				if err == nil {
					err = hist.check(got)
				}
				if err != nil {
					return fmt.Errorf("after %d of %d system calls: %w", i, len(ops), err)
				}
				if i == choice {
					next, nextHist = after, hist
				}
			}
			if i < len(ops) {
				d.apply(ops[i])
			}
		}
		files, hist = next, nextHist
	}
	return nil
}

func TestPowerFailures(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 3
	}
	if os.Getenv("ECHO9_FULL") != "" {
		seeds = 150
	}
	for seed := range seeds {
		if err := powerFailures(t, seed, mutants{}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for _, m := range []mutants{{noSync: true}, {noCheck: true}, {noSalt: true}} {
		caught := error(nil)
		for seed := uint64(0); seed < 40 && caught == nil; seed++ {
			caught = powerFailures(t, seed, m)
		}
		if caught == nil {
			t.Errorf("the mutant %+v is not noticed", m)
		}
		t.Logf("%+v: %v", m, caught)
	}
}

// closedLog is a log that was closed in good order: what it holds, and its files.
func closedLog(t *testing.T) (entries []Entry, files map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	opt := Options{Sync: true, SegmentSize: 8 << 10}
	l, _ := openAt(t, dir, opt)
	for i := range 12 {
		lsn := durable(t, l, aCut(uint64(i), 700))
		appended(t, l, &Note{Cut: lsn})
		if i == 6 {
			if err := l.Checkpoint(lsn-2, []any{&Applied{Number: 7}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeLog(t, l)
	files = map[string][]byte{}
	names, err := os.ReadDir(filepath.Join(dir, dirName))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if files[n.Name()], err = os.ReadFile(filepath.Join(dir, dirName, n.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err = read(files, mutants{}); err != nil || len(entries) < 12 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	return entries, files
}

// stride is 1, and more for the race detector, which has nothing to see where nothing runs at a time.
func stride() int {
	if testing.Short() {
		return 37
	}
	return 1
}

// harmed says what is found in files that were harmed: nothing, or all that was promised.
func harmed(files map[string][]byte, want []Entry, m mutants) error {
	got, err := read(files, m)
	var d *Damage
	if errors.As(err, &d) {
		return nil
	}
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%d entries of %d are found, or others", len(got), len(want))
	}
	return nil
}

func TestEveryFlippedByteIsSeen(t *testing.T) {
	want, files := closedLog(t)
	flip := func(m mutants) error {
		for name, b := range files {
			if _, ok := segmentSeq(name); !ok {
				continue
			}
			for i := 0; i < len(b); i += stride() {
				if i > 64 && i < blockSize-8 {
					continue // zeros that nobody looks at
				}
				b[i] ^= 1 << (i % 8)
				err := harmed(files, want, m)
				b[i] ^= 1 << (i % 8)
				if err != nil {
					return fmt.Errorf("%s, byte %d flipped: %w", name, i, err)
				}
			}
		}
		return nil
	}
	if err := flip(mutants{}); err != nil {
		t.Error(err)
	}
	if flip(mutants{noCheck: true}) == nil {
		t.Error("a log whose checksums nobody looks at passes")
	}
}

func TestEveryTruncationIsSeen(t *testing.T) {
	want, files := closedLog(t)
	last := "" // with entries
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if seq, ok := segmentSeq(name); ok {
			s, err := scanSegment(image{name: name, seq: seq, data: files[name]}, false)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.entries) > 0 {
				last = name
			}
		}
	}
	for name, b := range files {
		for n := 0; n < len(b); n += stride() {
			files[name] = b[:n]
			if err := harmed(files, want, mutants{}); err != nil {
				t.Fatalf("%s cut down to %d bytes: %v", name, n, err)
			}
		}
		// Nothing tells of a last segment that is gone.
		if _, ok := segmentSeq(name); ok && name != last {
			delete(files, name)
			if err := harmed(files, want, mutants{}); err != nil {
				t.Fatalf("%s removed: %v", name, err)
			}
		}
		files[name] = b
	}
}
