package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/internal/loopfs"

	"golang.org/x/sys/unix"
)

// openAt opens the log in the private directory path.
func openAt(t testing.TB, path string, opt Options) (*Log, []Entry) {
	t.Helper()
	l, entries, err := tryOpen(t, path, opt)
	if err != nil {
		t.Fatal(err)
	}
	return l, entries
}

func tryOpen(t testing.TB, path string, opt Options) (*Log, []Entry, error) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	return Open(fd, opt)
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func appended(t testing.TB, l *Log, e any) LSN {
	t.Helper()
	lsn, err := l.Append(e)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

func durable(t testing.TB, l *Log, e any) LSN {
	t.Helper()
	lsn := appended(t, l, e)
	if err := l.Wait(lsn); err != nil {
		t.Fatal(err)
	}
	return lsn
}

// aCut is a cut with so many bytes of data, numbered n.
func aCut(n uint64, size int) *Cut {
	r := cut.Record{Kind: cut.Data, ID: n}
	if size > 0 {
		r.Bytes = bytes.Repeat([]byte{byte(n), byte(n >> 8)}, size/2+1)[:size]
	}
	return &Cut{Number: n, Records: []cut.Record{r}}
}

// value is the entry type that e holds.
func (e Entry) value() any {
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			return f.Interface()
		}
	}
	return nil
}

// sameEntries says that got are want, numbered from first on.
func sameEntries(t testing.TB, got []Entry, first LSN, want []any) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i, e := range got {
		if !reflect.DeepEqual(e.value(), want[i]) {
			t.Fatalf("entry %d is %+v, want %+v", e.LSN, e.value(), want[i])
		}
		if i > 0 && e.LSN <= got[i-1].LSN || i == 0 && e.LSN < first {
			t.Fatalf("entry %d comes at %d", e.LSN, i)
		}
	}
}

func TestEntriesAreFoundAgain(t *testing.T) {
	for _, sync := range []bool{true, false} {
		t.Run(fmt.Sprintf("sync=%v", sync), func(t *testing.T) {
			dir := t.TempDir()
			var all []any
			for range 3 {
				l, got := openAt(t, dir, Options{Sync: sync, SegmentSize: 64 << 10})
				sameEntries(t, got, 1, all)
				for i := range 20 {
					c := aCut(uint64(len(all)+1), 3000*i) // the last ones are about as large as a segment
					lsn := durable(t, l, c)
					n := &Note{Cut: lsn, Ctimes: []Ctime{{ID: 7, Host: 1, Shown: 2}}}
					appended(t, l, n)
					all = append(all, c, n)
				}
				big := aCut(99, 200<<10)
				durable(t, l, big)
				all = append(all, big)
				closeLog(t, l)
				if _, err := l.Append(&Abort{}); !errors.Is(err, os.ErrClosed) {
					t.Errorf("Append to a closed log: %v", err)
				}
			}
			l, got := openAt(t, dir, Options{Sync: sync})
			sameEntries(t, got, 1, all)
			closeLog(t, l)
		})
	}
}

func TestCheckpointForgetsAndRecycles(t *testing.T) {
	dir := t.TempDir()
	opt := Options{Sync: true, SegmentSize: 32 << 10}
	l, _ := openAt(t, dir, opt)
	keep := &Applied{Number: 5}
	files := 0
	for round := range 30 {
		var last LSN
		for i := range 10 {
			last = durable(t, l, aCut(uint64(i), 5000))
		}
		after := aCut(1000, 10)
		durable(t, l, after)
		if err := l.Checkpoint(last+1, []any{keep}); err != nil {
			t.Fatal(err)
		}
		s := l.Stats()
		if s.First != last+1 || s.Segments > 2 {
			t.Fatalf("after a checkpoint before %d: %+v", last+1, s)
		}
		if round%7 == 6 {
			closeLog(t, l)
			var got []Entry
			l, got = openAt(t, dir, opt)
			sameEntries(t, got, last+1, []any{after, keep})
		}
		names, err := os.ReadDir(filepath.Join(dir, dirName))
		if err != nil {
			t.Fatal(err)
		}
		files = max(files, len(names))
	}
	// 30 rounds fill 60 segments.
	if files > 12 {
		t.Errorf("there were %d segment files at a time", files)
	}
	closeLog(t, l)
}

func TestWaitersShareSyncs(t *testing.T) {
	dir := loopfs.Ext4(t, 64)
	const waiters, each = 16, 50
	var l *Log
	var active atomic.Int64 // those who append and wait
	// A sync takes until all of them wait, as on a disk that is slow: however they are let run, the next one is for all who came meanwhile.
	opt := Options{Sync: true, lazy: time.Hour, hook: func(op hostOp) error {
		if op.what == "fdatasync" {
			for end := time.Now().Add(time.Minute); int64(l.Last()-l.Durable()) < active.Load() && time.Now().Before(end); {
				time.Sleep(20 * time.Microsecond)
			}
		}
		return nil
	}}
	l, _ = openAt(t, dir, opt)
	durable(t, l, aCut(1, 10))
	before := l.Stats()
	active.Store(waiters)
	var wg sync.WaitGroup
	for w := range waiters {
		wg.Go(func() {
			defer active.Add(-1)
			for i := range each {
				lsn, err := l.Append(aCut(uint64(w*each+i), 100))
				if err == nil {
					err = l.Wait(lsn)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if d := l.Durable(); d < lsn {
					t.Errorf("%d is durable, Wait returned for %d", d, lsn)
				}
			}
		})
	}
	wg.Wait()
	s := l.Stats()
	if cuts, syncs := s.Cuts-before.Cuts, s.Syncs-before.Syncs; cuts != waiters*each || syncs*4 > cuts {
		t.Errorf("%d syncs for %d cuts", syncs, cuts)
	}
	closeLog(t, l)
}

func TestWhatNobodyWaitsForBecomesDurable(t *testing.T) {
	var l *Log
	l, _ = openAt(t, t.TempDir(), Options{Sync: true})
	lsn := durable(t, l, aCut(1, 10))
	note := appended(t, l, &Note{Cut: lsn})
	if l.Stats().Durable >= note {
		t.Log("the note was durable at once") // another's sync: the clock is not ours
	}
	for end := time.Now().Add(time.Minute); l.Durable() < note; {
		if time.Now().After(end) {
			t.Fatalf("entry %d never becomes durable", note)
		}
		time.Sleep(time.Millisecond)
	}
	closeLog(t, l)
}

func TestCutsWaitWhileTheLogIsFull(t *testing.T) {
	l, _ := openAt(t, t.TempDir(), Options{Sync: true, SegmentSize: 32 << 10, Max: 64 << 10})
	last := make(chan LSN)
	done := make(chan error, 1)
	go func() {
		for i := range 40 {
			lsn, err := l.Append(aCut(uint64(i), 10_000))
			if err == nil {
				err = l.Wait(lsn)
			}
			if err != nil {
				done <- err
				return
			}
			last <- lsn
		}
		done <- nil
	}()
	var high LSN
	waited := 0
	for {
		select {
		case high = <-last:
			if b := l.Stats().Bytes; b > 160<<10 {
				t.Fatalf("the log has %d bytes", b)
			}
			continue
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if waited == 0 {
				t.Error("no cut ever waited")
			}
			closeLog(t, l)
			return
		case <-time.After(time.Millisecond):
		}
		full, cuts := isFull(l)
		if !full {
			continue
		}
		waited++
		time.Sleep(20 * time.Millisecond)
		if _, now := isFull(l); now != cuts {
			t.Fatalf("%d cuts came in while the log was full", now-cuts)
		}
		// What makes space does not wait.
		appended(t, l, &Note{Cut: high})
		if err := l.Checkpoint(high+1, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// isFull says whether cuts have to wait, and how many have not had to.
func isFull(l *Log) (full bool, cuts uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full(), uint64(l.stats.Cuts)
}

// prepared waits until nothing goes on in the background.
func prepared(l *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.preparing {
		l.cond.Wait()
	}
}

func TestFullDisk(t *testing.T) {
	full := false
	var mu sync.Mutex
	opt := Options{Sync: true, SegmentSize: 32 << 10, hook: func(op hostOp) error {
		mu.Lock()
		defer mu.Unlock()
		if full && op.what == "allocate" {
			return syscall.ENOSPC
		}
		return nil
	}}
	set := func(v bool) { mu.Lock(); full = v; mu.Unlock() }
	dir := t.TempDir()
	l, _ := openAt(t, dir, opt)
	var all []any
	first := aCut(1, 20_000)
	high := durable(t, l, first)
	prepared(l)
	set(true)
	for i := 0; ; i++ {
		c := aCut(uint64(i+2), 20_000)
		lsn, err := l.Append(c)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil || i > 20 {
			t.Fatalf("cut %d: %v", i, err)
		}
		if err := l.Wait(lsn); err != nil {
			t.Fatal(err)
		}
		high = lsn
	}
	// Small things still find room, and so does the checkpoint that makes space.
	for range 100 {
		n := &Note{Cut: high, Ctimes: make([]Ctime, 10)}
		durable(t, l, n)
	}
	if _, err := l.Append(aCut(3, 20_000)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a cut on a full disk: %v", err)
	}
	if err := l.Checkpoint(l.Last()+1, nil); err != nil {
		t.Fatal(err)
	}
	// The disk is still full, but segments were made free.
	for i := range 20 {
		c := aCut(uint64(i+100), 20_000)
		lsn := durable(t, l, c)
		if err := l.Checkpoint(lsn, nil); err != nil {
			t.Fatal(err)
		}
		all = []any{c}
	}
	set(false)
	big := aCut(1000, 100_000)
	durable(t, l, big)
	closeLog(t, l)
	l, got := openAt(t, dir, opt)
	sameEntries(t, got, high, append(all, big))
	closeLog(t, l)
}

func TestAFailedSyncBreaksTheLog(t *testing.T) {
	for _, what := range []string{"write", "fdatasync", "step"} {
		t.Run(what, func(t *testing.T) {
			broken := false
			var mu sync.Mutex
			errStep := errors.New("stopped by a test")
			want := error(syscall.EIO)
			is := func(name string) bool {
				mu.Lock()
				defer mu.Unlock()
				return broken && name == what
			}
			opt := Options{Sync: true, hook: func(op hostOp) error {
				if is(op.what) {
					return syscall.EIO
				}
				return nil
			}}
			if what == "step" {
				want = errStep
				opt.Step = func(string) error {
					if is("step") {
						return errStep
					}
					return nil
				}
			}
			dir := t.TempDir()
			l, _ := openAt(t, dir, opt)
			ok := aCut(1, 100)
			good := durable(t, l, ok)
			prepared(l)
			mu.Lock()
			broken = true
			mu.Unlock()
			lsn, err := l.Append(aCut(2, 100))
			if err == nil {
				err = l.Wait(lsn)
			}
			if !errors.Is(err, want) || what == "step" && err != want {
				t.Fatalf("Wait: %v", err)
			}
			mu.Lock()
			broken = false
			mu.Unlock()
			if _, err := l.Append(&Note{}); !errors.Is(err, want) {
				t.Errorf("Append: %v", err)
			}
			if err := l.Checkpoint(good+1, nil); !errors.Is(err, want) {
				t.Errorf("Checkpoint: %v", err)
			}
			if err := l.Wait(good); err != nil {
				t.Errorf("Wait for what was durable before: %v", err)
			}
			if err := l.Close(); !errors.Is(err, want) {
				t.Errorf("Close: %v", err)
			}
			l, got := openAt(t, dir, Options{Sync: true})
			if len(got) == 0 || !reflect.DeepEqual(got[0].value(), ok) {
				t.Errorf("found again: %+v", got)
			}
			closeLog(t, l)
		})
	}
}
