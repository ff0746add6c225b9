package fusefs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hammerFor is how long each of the tests below goes on.
const hammerFor = time.Second

// hammerMost is how long they go on at most when the machine is busy and too little has happened.
const hammerMost = 2 * time.Minute

// end says when a test has hammered enough.
type end struct {
	began  time.Time
	enough func() bool
}

func newEnd(enough func() bool) end { return end{time.Now(), enough} }

func (e end) notYet() bool {
	d := time.Since(e.began)
	return d < hammerFor || d < hammerMost && !e.enough()
}

// exact says that times are measured, too: a full run has the machine for itself.
var exact = os.Getenv("ECHO9_FULL") != ""

// unhurried gives hooks with which a revocation does not give up because the machine is busy.
func unhurried(h hooks) hooks {
	if !exact {
		h.limit = time.Minute
	}
	return h
}

// longestRecall is how long a recall may take: the timeout of names, two round trips, and half a second. On a machine that is busy
// with other things it is what only those take who wait for each other until one gives up.
func longestRecall() time.Duration {
	if !exact {
		return 45 * time.Second
	}
	return time.Second + 500*time.Millisecond
}

// Readers of both mounts read pages at random through their kernels' caches while writers change the file in
// place and put size and time of change back: a page through the mounts, or all pages elsewhere, in one operation, so that no
// kernel sees another time and drops its pages by itself. Nobody may read what is older than the last write that was
// finished when he began.
func TestHammerPages(t *testing.T) {
	stale := func(t *testing.T, h hooks, elsewhere bool) int64 {
		w := newTwo(t, unhurried(h))
		const pages = 64
		must(t, os.WriteFile(w.b+"/f", make([]byte, pages*page), 0o644))
		when := time.Unix(1e9, 0)
		var done [pages]atomic.Uint64 // the version that page has at least
		var version atomic.Uint64
		var reads, bad atomic.Int64
		var wg sync.WaitGroup
		end := newEnd(func() bool {
			return version.Load() >= 60 && (bad.Load() > 0 || !h.skipData) && w.ma.Stats().Revocations >= 20 && w.mb.Stats().Revocations >= 20
		})
		reader := func(dir string, random bool) {
			f, err := os.Open(dir + "/f")
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if random {
				_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)
			}
			buf := make([]byte, 8)
			for i := 0; end.notYet(); i++ {
				p := i % pages
				if random {
					p = rand.IntN(pages)
				}
				before := done[p].Load()
				if _, err := f.ReadAt(buf, int64(p)*page); err != nil {
					t.Errorf("read: %v", err)
					return
				}
				reads.Add(1)
				if v := binary.LittleEndian.Uint64(buf); v < before {
					bad.Add(1)
				}
			}
		}
		for _, dir := range []string{w.a, w.b} {
			wg.Go(func() { reader(dir, true) })
			wg.Go(func() { reader(dir, false) })
			wg.Go(func() {
				for end.notYet() { // opens come and go, too
					f, err := os.Open(dir + "/f")
					if err != nil {
						t.Error(err)
						return
					}
					buf := make([]byte, 8)
					p := rand.IntN(pages)
					before := done[p].Load()
					if _, err := f.ReadAt(buf, int64(p)*page); err != nil {
						t.Error(err)
					}
					if binary.LittleEndian.Uint64(buf) < before {
						bad.Add(1)
					}
					_ = f.Close()
				}
			})
		}
		type writer struct {
			dir string
			one func(func() error) error // makes what it is given one operation
		}
		each := func(do func() error) error { return do() }
		writers := []writer{{w.a, each}, {w.b, each}}
		if elsewhere {
			c, id := w.s.client(), stat(t, w.b+"/f").Ino
			writers = []writer{{w.dir, func(do func() error) error {
				return c.do(context.Background(), "write", id, want{id: wr}, do)
			}}}
		}
		var turn sync.Mutex // one writer at a time, now here, now there
		for _, w := range writers {
			wg.Go(func() {
				f, err := os.OpenFile(w.dir+"/f", os.O_WRONLY, 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				buf := make([]byte, 8)
				for end.notYet() {
					turn.Lock()
					v := version.Add(1)
					binary.LittleEndian.PutUint64(buf, v)
					from := rand.IntN(pages)
					to := from + 1
					if elsewhere {
						from, to = 0, pages
					}
					if err := w.one(func() error {
						for p := from; p < to; p++ {
							if _, err := f.WriteAt(buf, int64(p)*page); err != nil {
								return err
							}
						}
						return os.Chtimes(w.dir+"/f", when, when)
					}); err != nil {
						t.Errorf("write: %v", err)
					}
					for p := from; p < to; p++ {
						done[p].Store(v)
					}
					turn.Unlock()
					time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // so that something is cached
				}
			})
		}
		wg.Wait()
		for _, m := range []*Mounted{w.ma, w.mb} {
			s := m.Stats()
			t.Logf("%+v", s)
			if s.Slowest > longestRecall() || s.GaveUp > 0 {
				t.Errorf("a revocation took %v, %d gave up", s.Slowest, s.GaveUp)
			}
			if s.Revocations < 20 {
				t.Errorf("only %d revocations", s.Revocations)
			}
		}
		t.Logf("%d writes, %d reads, %d of them stale", version.Load(), reads.Load(), bad.Load())
		return bad.Load()
	}
	for name, elsewhere := range map[string]bool{"written through the mounts": false, "written elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			if n := stale(t, hooks{}, elsewhere); n > 0 {
				t.Errorf("%d stale reads", n)
			}
			if n := stale(t, hooks{skipData: true}, elsewhere); n == 0 {
				t.Error("mutant: pages are not dropped, and this test does not notice")
			}
		})
	}
}

// Processes of both mounts create, rename and unlink in one directory, and pass what they did to
// a process of the other mount, which looks at once. Everybody holds the kernel's lock of the directory for requests
// that wait for the other side, and everybody's kernel must be made to forget names of it.
func TestHammerNames(t *testing.T) {
	for name, h := range map[string]hooks{"epochs": {}, "without epochs": {noEpoch: true}} {
		t.Run(name, func(t *testing.T) {
			w := newTwo(t, unhurried(h))
			must(t, os.Mkdir(w.a+"/d", 0o755))
			var steps atomic.Int64
			end := newEnd(func() bool {
				return steps.Load() >= 16 && w.ma.Stats().Revocations >= 10 && w.mb.Stats().Revocations >= 10
			})
			var wg sync.WaitGroup
			is := func(path string, want bool) {
				_, err := os.Lstat(path)
				if (err == nil) != want || err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: should be there: %v, but %v", path, want, err)
				}
			}
			ok := func(err error) {
				if err != nil {
					t.Error(err)
				}
			}
			for i := range 8 {
				here, there := w.a+"/d/", w.b+"/d/"
				if i%2 == 1 {
					here, there = there, here
				}
				wg.Go(func() {
					for k := 0; end.notYet(); k++ {
						f, g := fmt.Sprintf("f%d", i), fmt.Sprintf("g%d", i)
						if k == 0 {
							is(here+f, false)
						}
						is(there+f, false)
						ok(os.WriteFile(here+f, []byte{byte(k)}, 0o644))
						is(there+f, true)
						if b, err := os.ReadFile(there + f); err != nil || len(b) != 1 || b[0] != byte(k) {
							t.Errorf("%s%s: %v, %v", there, f, b, err)
						}
						is(there+g, false)
						ok(os.Rename(there+f, there+g))
						is(here+f, false)
						is(here+g, true)
						ok(os.Remove(here + g))
						is(there+g, false)
						steps.Add(1)
					}
				})
			}
			wg.Wait()
			for _, m := range []*Mounted{w.ma, w.mb} {
				s := m.Stats()
				t.Logf("%d steps; %+v", steps.Load(), s)
				if s.Slowest > longestRecall() {
					t.Errorf("a revocation took %v", s.Slowest)
				}
				if s.Revocations < 10 {
					t.Errorf("only %d revocations", s.Revocations)
				}
			}
		})
	}
}

// An update of A waits for a revocation at B, whose kernel holds the lock that the revocation wants for
// an update of B, which waits for A; in both orders.
func TestUpdatesWaitForEachOther(t *testing.T) {
	for name, h := range map[string]hooks{"epochs": {}, "without epochs": {noEpoch: true}} {
		t.Run(name, func(t *testing.T) {
			w := newTwo(t, h)
			for round := range 20 {
				for _, dir := range []string{w.a, w.b} { // both kernels have names
					exists(t, fmt.Sprintf("%s/a%d", dir, round))
					exists(t, fmt.Sprintf("%s/b%d", dir, round))
				}
				began := time.Now()
				var wg sync.WaitGroup
				first, second := w.a+"/a", w.b+"/b"
				if round%2 == 1 {
					first, second = second, first
				}
				for _, p := range []string{first, second} {
					wg.Go(func() {
						if err := os.WriteFile(fmt.Sprintf("%s%d", p, round), nil, 0o644); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if d := time.Since(began); d > 2*longestRecall() { // one recall after the other
					t.Fatalf("round %d took %v", round, d)
				}
				for _, dir := range []string{w.a, w.b} {
					if !exists(t, fmt.Sprintf("%s/a%d", dir, round)) || !exists(t, fmt.Sprintf("%s/b%d", dir, round)) {
						t.Fatalf("round %d: %s misses a file", round, dir)
					}
				}
			}
		})
	}
}

// Mount A has dirty pages of a shared mapping, and only a read token. B wants to write: A's kernel
// must drop its pages, and to do so sends a WRITE that needs the write token that B waits for.
func TestDirtyMapping(t *testing.T) {
	try := func(h hooks) (Stats, time.Duration) {
		w := newTwo(t, h)
		must(t, os.WriteFile(w.b+"/f", make([]byte, 2*page), 0o644))
		f, err := os.OpenFile(w.a+"/f", os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		m := mapFile(t, f, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		defer m.close()
		m.put(t, page, "m")
		size(t, w.b+"/f") // B reads, too: A has a read token at most
		began := time.Now()
		overwrite(t, w.b+"/f", "new")
		took := time.Since(began)
		m.sync(t)
		must(t, f.Sync())
		b, err := os.ReadFile(w.b + "/f")
		must(t, err)
		if string(b[:3]) != "new" || b[page] != 'm' {
			t.Errorf("B sees %q and %q", b[:3], b[page])
		}
		if s := m.at(t, 0, 3) + m.at(t, page, 1); s != "newm" {
			t.Errorf("A's mapping has %q", s)
		}
		return w.ma.Stats(), took
	}
	s, took := try(unhurried(hooks{}))
	if took > longestRecall() || s.GaveUp > 0 || s.Laundered == 0 {
		t.Errorf("B's write took %v: %+v", took, s)
	}
	if s, took := try(hooks{serialLaunder: true}); s.GaveUp == 0 {
		t.Errorf("mutant: writes from mappings wait for their token, and this test does not notice: %v, %+v", took, s)
	}
}
