package fusefs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// two mounts of one tree, each over a client of its own.
type two struct {
	s      *tokenServer
	ca, cb *tokenClient
	ma, mb *Mounted
	a, b   string
	dir    string // of the host
}

func newTwo(t testing.TB, h hooks) *two {
	t.Helper()
	inner, dir := exportDir(t)
	w := &two{s: newTokenServer(inner), dir: dir}
	w.ca, w.cb = w.s.client(), w.s.client()
	w.ca.ttl, w.cb.ttl = cmp.Or(h.maxTTL, w.ca.ttl), cmp.Or(h.maxTTL, w.cb.ttl)
	w.ma, w.mb = mounted(t, w.ca, Options{hooks: h}), mounted(t, w.cb, Options{hooks: h})
	w.a, w.b = w.ma.Path(), w.mb.Path()
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, data string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(data), 0o644))
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	st, err := os.Lstat(path)
	must(t, err)
	return st.Size()
}

func exists(t testing.TB, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// longTTL is how long things last for a mutant that is to be found out by what lasts, however busy the machine is.
const longTTL = 30 * time.Second

// staleness says what mount A sees of a change made through B while A has the old state in its caches.
var staleness = []struct {
	name   string
	broken hooks // the mutant that this finds
	stale  func(t *testing.T, w *two) bool
}{
	{"attributes", hooks{skipAttr: true}, func(t *testing.T, w *two) bool {
		write(t, w.b+"/f", "old")
		size(t, w.a+"/f")
		quiet(t, w, func() { size(t, w.a+"/f") })
		write(t, w.b+"/f", "newer")
		return size(t, w.a+"/f") != 5
	}},
	{"a name that goes", hooks{skipNames: true}, func(t *testing.T, w *two) bool {
		write(t, w.b+"/f", "x")
		size(t, w.a+"/f")
		quiet(t, w, func() { size(t, w.a+"/f") })
		must(t, os.Remove(w.b+"/f"))
		return exists(t, w.a+"/f")
	}},
	{"a name that comes", hooks{skipNames: true}, func(t *testing.T, w *two) bool {
		if exists(t, w.a+"/f") {
			t.Fatal("f is there")
		}
		quiet(t, w, func() { exists(t, w.a+"/f") })
		write(t, w.b+"/f", "x")
		return !exists(t, w.a+"/f")
	}},
	{"a directory that is renamed", hooks{skipNames: true}, func(t *testing.T, w *two) bool {
		must(t, os.Mkdir(w.b+"/d", 0o755))
		write(t, w.b+"/d/f", "x")
		size(t, w.a+"/d/f")
		quiet(t, w, func() { size(t, w.a+"/d/f") })
		must(t, os.Rename(w.b+"/d", w.b+"/e"))
		return exists(t, w.a+"/d/f") || !exists(t, w.a+"/e/f")
	}},
	{"a name that this mount had renamed", hooks{skipNames: true}, func(t *testing.T, w *two) bool {
		write(t, w.a+"/f", "x")
		size(t, w.a+"/f")
		must(t, os.Rename(w.a+"/f", w.a+"/g"))
		must(t, os.Remove(w.b+"/g"))
		return exists(t, w.a+"/g")
	}},
	{"names listed with their attributes", hooks{skipNames: true}, func(t *testing.T, w *two) bool {
		for _, n := range []string{"1", "2", "3"} {
			write(t, w.b+"/"+n, "x")
		}
		list(t, w.a) // READDIRPLUS
		size(t, w.a+"/2")
		must(t, os.Remove(w.b+"/2"))
		return exists(t, w.a+"/2")
	}},
	{"bytes, the size and the time of change being the same", hooks{skipData: true}, func(t *testing.T, w *two) bool {
		write(t, w.b+"/f", "old")
		when := time.Unix(1e9, 0)
		must(t, os.Chtimes(w.b+"/f", when, when))
		f, err := os.Open(w.a + "/f")
		must(t, err)
		defer f.Close()
		if s := readAt(t, f, 0, 3); s != "old" {
			t.Fatalf("%q", s)
		}
		quiet(t, w, func() { readAt(t, f, 0, 3) })
		overwrite(t, w.b+"/f", "new")
		must(t, os.Chtimes(w.b+"/f", when, when))
		return readAt(t, f, 0, 3) != "new"
	}},
	{"bytes of a mapping", hooks{skipData: true}, func(t *testing.T, w *two) bool {
		write(t, w.b+"/f", "old")
		when := time.Unix(1e9, 0)
		must(t, os.Chtimes(w.b+"/f", when, when))
		f, err := os.Open(w.a + "/f")
		must(t, err)
		defer f.Close()
		m := mapFile(t, f, 3, unix.PROT_READ, unix.MAP_SHARED)
		defer m.close()
		if s := m.at(t, 0, 3); s != "old" {
			t.Fatalf("%q", s)
		}
		overwrite(t, w.b+"/f", "new")
		must(t, os.Chtimes(w.b+"/f", when, when))
		return m.at(t, 0, 3) != "new"
	}},
}

// quiet checks that do asks the mount A nothing: its kernel answers. The kernel's own FORGETs and
// RELEASEs are waited for.
func quiet(t *testing.T, w *two, do func()) {
	t.Helper()
	for range 20 {
		before := w.ma.Stats().Requests
		do()
		if w.ma.Stats().Requests == before {
			return
		}
	}
	t.Fatal("the kernel asks every time: nothing is cached")
}

func list(t testing.TB, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

func readAt(t testing.TB, f *os.File, off int64, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := f.ReadAt(b, off)
	must(t, err)
	return string(b)
}

// overwrite changes bytes in place.
func overwrite(t testing.TB, path, data string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte(data), 0)
	must(t, errors.Join(err, f.Close()))
}

// What one mount did, the other sees at once; and each of these tests notices when the kernel
// is not told.
func TestNothingStale(t *testing.T) {
	for _, tt := range staleness {
		t.Run(tt.name, func(t *testing.T) {
			if tt.stale(t, newTwo(t, hooks{})) {
				t.Error("mount A shows what was before the change")
			}
		})
		t.Run(tt.name+", without epochs", func(t *testing.T) {
			if tt.stale(t, newTwo(t, hooks{noEpoch: true})) {
				t.Error("mount A shows what was before the change")
			}
		})
		t.Run(tt.name+", mutant", func(t *testing.T) {
			tt.broken.maxTTL = longTTL
			if !tt.stale(t, newTwo(t, tt.broken)) {
				t.Error("the kernel was not told, and this test does not notice")
			}
		})
	}
}

// A lease that ends without a word (a stopped machine, a cut cable): the kernel serves what it
// has for no longer than it was told.
func TestLeaseEnds(t *testing.T) {
	stale := func(h hooks) bool {
		w := newTwo(t, h)
		const ttl = 200 * time.Millisecond
		w.ca.set(func(c *tokenClient) { c.ttl = ttl })
		write(t, w.b+"/f", "old")
		write(t, w.b+"/g", "x")
		before := time.Now()
		size(t, w.a+"/f")
		size(t, w.a+"/g")
		told := time.Now()
		w.ca.expire()
		write(t, w.b+"/f", "newer")
		must(t, os.Remove(w.b+"/g"))
		if size(t, w.a+"/f") == 5 && time.Since(before) < ttl/2 {
			t.Error("the kernel asked, though it was told that it need not")
		}
		for time.Since(told) < ttl+slack {
			time.Sleep(time.Millisecond)
		}
		return size(t, w.a+"/f") != 5 || exists(t, w.a+"/g")
	}
	if stale(hooks{}) {
		t.Error("stale after the lease")
	}
	if !stale(hooks{ttl: longTTL}) {
		t.Error("mutant: the kernel was told too long a time, and this test does not notice")
	}
}

// An answer that was got before a revocation and is given after it must not last, though the
// object is held again meanwhile.
func TestAnswerOvertakenByRevocation(t *testing.T) {
	stale := func(h hooks) bool {
		w := newTwo(t, h)
		write(t, w.b+"/f", "old")
		st, err := os.Lstat(w.b + "/f")
		must(t, err)
		id := st.Sys().(*syscall.Stat_t).Ino
		size(t, w.a+"/f") // A's kernel knows the name and the inode
		write(t, w.b+"/f", "olde")
		got, goOn := make(chan struct{}), make(chan struct{})
		first := make(chan struct{}, 1)
		first <- struct{}{}
		w.ca.set(func(c *tokenClient) {
			c.hook = func(what string, i uint64) {
				if what == "getattr" && i == id {
					select {
					case <-first:
						close(got)
						<-goOn
					default:
					}
				}
			}
		})
		done := make(chan int64)
		go func() {
			var st unix.Stat_t
			_ = unix.Lstat(w.a+"/f", &st)
			done <- st.Size
		}()
		<-got
		write(t, w.b+"/f", "newer")
		obj, err := w.ca.Lookup(t.Context(), id) // somebody else at A's client: the token is there again
		must(t, err)
		if _, err := obj.GetAttr(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		obj.Release()
		if !w.ca.holds(id) {
			t.Fatal("the token is not held")
		}
		close(goOn)
		if n := <-done; n != 4 {
			t.Fatalf("the overtaken answer says %d bytes", n)
		}
		return size(t, w.a+"/f") != 5
	}
	if stale(hooks{}) {
		t.Error("an overtaken answer lasted")
	}
	if !stale(hooks{noStamp: true, maxTTL: longTTL}) {
		t.Error("mutant: overtaken answers last, and this test does not notice")
	}
}

// A listing with attributes takes long, since one of its look-ups waits. An entry that was looked up before and is
// recalled meanwhile is no longer told; and the recall does not wait for the listing.
func TestSlowListing(t *testing.T) {
	w := newTwo(t, hooks{})
	must(t, os.Mkdir(w.a+"/d", 0o755))
	for _, n := range []string{"1", "2", "3"} {
		write(t, w.a+"/d/"+n, "x")
		size(t, w.a+"/d/"+n)
	}
	dir := stat(t, w.a+"/d").Ino
	got, goOn := make(chan struct{}), make(chan struct{})
	var walks atomic.Int32
	w.ca.set(func(c *tokenClient) {
		c.hook = func(what string, id uint64) {
			if what != "walk" || id != dir {
				return
			}
			if walks.Add(1) == 6 { // each look-up asks twice
				close(got)
				<-goOn
			}
		}
	})
	listed := make(chan []string)
	go func() { listed <- list(t, w.a+"/d") }()
	<-got
	began, wrote := time.Now(), make(chan error, 1)
	go func() {
		var errs []error
		for _, n := range []string{"1", "2", "3"} {
			errs = append(errs, os.WriteFile(w.b+"/d/"+n, []byte("newer"), 0o644))
		}
		wrote <- errors.Join(errs...)
	}()
	select {
	case err := <-wrote:
		must(t, err)
	case <-time.After(patience):
		close(goOn)
		t.Fatal("the recalls wait for the listing")
	}
	if d := time.Since(began); d > 500*time.Millisecond && exact {
		t.Errorf("the recalls took %v", d)
	}
	close(goOn)
	if names := <-listed; len(names) != 3 {
		t.Errorf("%q", names)
	}
	for _, n := range []string{"1", "2", "3"} {
		wantSize(t, w.a+"/d/"+n, 5)
	}
}

// page is how much a READ brings when the kernel is told not to read ahead.
const page = 4096

// openRandom opens for reading without read-ahead.
func openRandom(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM))
	return f
}

// What is written must reach the backend in the order of the system calls, so that it is at the server in that order:
// the kernel's write-back cache stays off. With it, a rename overtakes the write.
func TestWriteBeforeRename(t *testing.T) {
	order := func(h hooks) []string {
		w := newTwo(t, h)
		var mu sync.Mutex
		var ops []string
		w.ca.set(func(c *tokenClient) {
			c.got = func(what string, _ uint64) {
				if what == "write" || what == "rename" || what == "create" {
					mu.Lock()
					defer mu.Unlock()
					ops = append(ops, what)
				}
			}
		})
		f, err := os.OpenFile(w.a+"/tmp", os.O_CREATE|os.O_WRONLY, 0o644)
		must(t, err)
		_, err = f.WriteString("content")
		must(t, err)
		must(t, os.Rename(w.a+"/tmp", w.a+"/final"))
		b, err := os.ReadFile(w.b + "/final") // the other side, while the file is still open here
		must(t, err)
		mu.Lock()
		seen := append(slices.Compact(ops), string(b)) // a rename is tried twice, until its tokens are complete
		mu.Unlock()
		must(t, f.Close())
		return seen
	}
	if ops := order(hooks{}); !slices.Equal(ops, []string{"create", "write", "rename", "content"}) {
		t.Errorf("the backend saw %q", ops)
	}
	if ops := order(hooks{writeback: true}); ops[len(ops)-1] == "content" {
		t.Errorf("mutant: the kernel keeps what is written, and this test does not notice: %q", ops)
	}
}

// What a write behind met is told by close(2).
func TestCloseTells(t *testing.T) {
	w := newTwo(t, hooks{})
	f, err := os.Create(w.a + "/f")
	must(t, err)
	_, err = f.WriteString("x")
	must(t, err)
	w.ca.set(func(c *tokenClient) { c.flushErr = fmt.Errorf("lost: %w", syscall.EIO) })
	wantErr(t, f.Close(), syscall.EIO)
}

// Whoever works in a directory below a recalled one keeps his working directory: getcwd(2) goes on to work, and
// what is mounted there stays mounted.
func TestRecallLeavesWorkingDirectory(t *testing.T) {
	for name, h := range map[string]hooks{"one by one": {}, "all at once": {preciseNone: true}} {
		t.Run(name, func(t *testing.T) {
			w := newTwo(t, h)
			must(t, os.MkdirAll(w.a+"/d/sub", 0o755))
			must(t, os.Mkdir(w.a+"/d/mnt", 0o755))
			mounter := os.Geteuid() == 0 // an ordinary user has a working directory only
			if mounter {
				must(t, unix.Mount("tmpfs", w.a+"/d/mnt", "tmpfs", 0, "size=1m"))
				defer func() { must(t, unix.Unmount(w.a+"/d/mnt", 0)) }()
			}
			r := startHelper(t, "getcwd", w.a+"/d/sub")
			if s := r.says(t); s != w.a+"/d/sub" {
				t.Fatal(s)
			}
			for i := range 5 {
				exists(t, w.a+"/d/sub")
				exists(t, w.a+"/d/mnt")
				write(t, fmt.Sprintf("%s/d/%d", w.b, i), "x") // recalls d from A
				must(t, r.ask())
				if s := r.says(t); s != w.a+"/d/sub" {
					t.Errorf("after a recall: %s", s)
				}
				var st unix.Statfs_t
				must(t, unix.Statfs(w.a+"/d/mnt", &st))
				if mounter && st.Type != unix.TMPFS_MAGIC {
					t.Error("what was mounted below is gone")
				}
			}
		})
	}
}

// Objects that get no token for long: their files are read all the same, and nothing stale.
func TestBare(t *testing.T) {
	w := newTwo(t, hooks{})
	write(t, w.b+"/f", "0000")
	size(t, w.a+"/f")
	f := openFile(t, w.a+"/f", os.O_RDONLY)
	readAt(t, f, 0, 4)
	w.ca.bare()
	for i := range 30 {
		s := fmt.Sprintf("%04d", i)
		overwrite(t, w.b+"/f", s)
		if got := readAt(t, f, 0, 4); got != s {
			t.Fatalf("%q, want %q", got, s)
		}
		wantFile(t, w.a+"/f", s)
	}
	if s := w.ma.Stats(); s.Bare == 0 {
		t.Errorf("%+v", s)
	}
}
