package cachefs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"echo9/internal/loopfs"
	"echo9/internal/wire"
)

// filler writes files until the disk is full, a few times over.
type filler struct {
	name string
	fs   *FS
	rng  *rand.Rand
	// acked are files that an fsync has said to be there, with their contents; made all that it made.
	acked map[string][]byte
	made  []string
	full  int // times that it was told so
	wrong error
}

// fill writes until it is told that the disk is full, or until enough.
func (w *filler) fill(round int) {
	for i := range 400 {
		name := fmt.Sprintf("%s-%d-%d", w.name, round, i)
		err := w.file(name)
		if errors.Is(err, syscall.ENOSPC) {
			w.full++
			return
		}
		if err != nil {
			w.wrong = fmt.Errorf("%s: %w", name, err)
			return
		}
	}
	w.wrong = fmt.Errorf("%s was never told that the disk is full", w.name)
}

// file writes a file, of which it waits for the half.
func (w *filler) file(name string) (err error) {
	h, err := w.fs.OpenFile(bg, name, wire.OCreat|wire.OWronly, 0o644)
	if err != nil {
		return err
	}
	w.made = append(w.made, name)
	defer func() {
		if cerr := h.Close(bg); err == nil && cerr != nil {
			err = fmt.Errorf("close: %w", cerr)
		}
	}()
	var all []byte
	for range 1 + w.rng.IntN(6) {
		b := bytes.Repeat([]byte{byte(w.rng.Uint32()) | 1}, 1+w.rng.IntN(200<<10))
		if _, err := h.WriteAt(bg, b, int64(len(all))); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		all = append(all, b...)
	}
	if w.rng.IntN(2) > 0 {
		return nil
	}
	if err := h.Fsync(bg, false); err != nil {
		return fmt.Errorf("fsync: %w", err)
	}
	w.acked[name] = all
	return nil
}

// clear removes what it made, but what was acknowledged last.
func (w *filler) clear() error {
	for _, name := range w.made {
		if err := w.fs.Remove(bg, name); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		delete(w.acked, name)
	}
	w.made = nil
	return w.fs.Sync(bg)
}

// fullDisk has two caching clients and a plain one fill a disk, twice. It is an error when one of them is not told by
// write, open or fsync, when one loses anything, or when what an fsync has acknowledged is not there.
func fullDisk(t *testing.T, seed uint64, change ...func(*Options)) error {
	w := newWorldIn(t, loopfs.Ext4(t, 40))
	var all []*filler
	for i, f := range []*FS{w.cache(change...), w.cache(change...), w.plain()} {
		all = append(all, &filler{name: string(rune('a' + i)), fs: f, rng: rand.New(rand.NewPCG(seed, uint64(i))), acked: map[string][]byte{}})
	}
	for round := range 2 {
		var wg sync.WaitGroup
		for _, f := range all {
			wg.Go(func() { f.fill(round) })
		}
		wg.Wait()
		for _, f := range all {
			if f.wrong != nil {
				return f.wrong
			}
			if err := f.fs.Sync(bg); err != nil {
				return fmt.Errorf("sync of %s: %w", f.name, err)
			}
			if n := f.fs.Status().Lost; n > 0 {
				return fmt.Errorf("%s lost %d updates: %v", f.name, n, f.fs.Events())
			}
			for name, want := range f.acked {
				got, err := os.ReadFile(filepath.Join(w.dir, name))
				if err != nil || !bytes.Equal(got, want) {
					return fmt.Errorf("%s was acknowledged with %d bytes, and has %d, %v", name, len(want), len(got), err)
				}
			}
		}
		for _, f := range all {
			if err := f.clear(); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestFullDisk: whoever writes to a full disk is told so when he writes or waits for it, and nothing that was acknowledged, or taken on, is lost.
// Clients that take on more than is set aside for them lose some of it, and are found out.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	seeds := uint64(1)
	if os.Getenv("ECHO9_FULL") != "" {
		seeds = 20
	}
	for seed := range seeds {
		if err := fullDisk(t, seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for seed := range uint64(5) {
		if err := fullDisk(t, seed, func(o *Options) { o.Mutant = mutantNoSpace; o.Logf = func(string, ...any) {} }); err != nil {
			t.Logf("found out: %.300s", err.Error())
			return
		}
	}
	t.Error("clients that do not ask for space lose nothing")
}
