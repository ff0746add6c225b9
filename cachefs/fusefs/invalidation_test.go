package fusefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A READ that is answered while the kernel is dropping pages brings one back behind its back:
// so it is made to drop them again. The invalidation is held up at page 8 by a READ that the backend has not
// answered; meanwhile page 0, dropped already, is read.
func TestReadDuringInvalidation(t *testing.T) {
	stale := func(h hooks) bool {
		h.limit = time.Minute // it must not give up, however busy the machine is
		w := newTwo(t, h)
		old := make([]byte, 16*page)
		must(t, os.WriteFile(w.b+"/f", old, 0o644))
		when := time.Unix(1e9, 0)
		must(t, os.Chtimes(w.b+"/f", when, when))
		f := openRandom(t, w.a+"/f")
		readAt(t, f, 0, 1)
		got, goOn := make(chan struct{}), make(chan struct{})
		w.ca.set(func(c *tokenClient) {
			c.got = func(what string, _ uint64) {
				if what == "read 32768" {
					select {
					case <-goOn:
					default:
						close(got)
						<-goOn
					}
				}
			}
		})
		held := make(chan string)
		go func() { held <- readAt(t, f, 8*page, 1) }()
		<-got
		changed := make(chan error)
		id := stat(t, w.b+"/f").Ino
		go func() { // B's client, in one operation, so that there is one revocation
			changed <- w.cb.do(context.Background(), "write", id, want{id: wr}, func() error {
				f, err := os.OpenFile(w.dir+"/f", os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.WriteAt([]byte("new"), 0)
				return errors.Join(err, f.Close(), os.Chtimes(w.dir+"/f", when, when))
			})
		}()
		// The invalidation has begun when page 0 is no longer there.
		for resident(t, f, 0) {
			time.Sleep(100 * time.Microsecond)
		}
		if s := readAt(t, f, 0, 1); s != "\x00" {
			t.Fatalf("page 0: %q, before the change can have been made", s)
		}
		close(goOn)
		<-held
		must(t, <-changed)
		return readAt(t, f, 0, 3) != "new"
	}
	if stale(hooks{}) {
		t.Error("a page that was read during the invalidation is stale")
	}
	for try := 0; !stale(hooks{onePass: true}); try++ { // the kernel may happen to drop the page for another reason
		if try == 5 {
			t.Fatal("mutant: pages are dropped only once, and this test does not notice")
		}
	}
}

// A READ that comes while the kernel is dropping pages, and has passed its page already, need not be answered before the kernel
// is through: it may be answered while the pages of other such READs are dropped again. So its page must be dropped again, too.
// The first invalidation is held up at page 8, and page 0 is read behind it; the second is held up at page 0. Page 4 is
// asked for during the first, and answered during the second.
func TestReadOutlivesInvalidation(t *testing.T) {
	stale := func(h hooks) bool {
		h.limit = time.Minute // it must not give up, however busy the machine is
		w := newTwo(t, h)
		must(t, os.WriteFile(w.b+"/f", make([]byte, 16*page), 0o644))
		when := time.Unix(1e9, 0)
		must(t, os.Chtimes(w.b+"/f", when, when))
		f := openRandom(t, w.a+"/f")
		readAt(t, f, 0, 1)
		gates := newGates(w.ca)
		ask := func(index int64) (answer <-chan string, let func()) {
			g := gates.hold(fmt.Sprintf("read %d", index*page))
			s := make(chan string, 1)
			go func() { s <- readAt(t, f, index*page, 3) }()
			<-g.reached
			return s, func() { close(g.open) }
		}
		answer8, let8 := ask(8)
		passes := w.ma.Stats().Passes
		changed := make(chan error)
		id := stat(t, w.b+"/f").Ino
		go func() { // B's client, in one operation, so that there is one revocation
			changed <- w.cb.do(context.Background(), "write", id, want{id: wr}, func() error {
				f, err := os.OpenFile(w.dir+"/f", os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.WriteAt([]byte("new"), 4*page)
				return errors.Join(err, f.Close(), os.Chtimes(w.dir+"/f", when, when))
			})
		}()
		for resident(t, f, 0) { // then the first invalidation has begun
			time.Sleep(100 * time.Microsecond)
		}
		readAt(t, f, 0, 1)
		must(t, unix.Fadvise(int(f.Fd()), 0, page, unix.FADV_DONTNEED))
		answer0, let0 := ask(0)
		answer4, let4 := ask(4)
		let8()
		<-answer8
		for w.ma.Stats().Passes < passes+2 {
			time.Sleep(100 * time.Microsecond)
		}
		let4()
		if s := <-answer4; s != "\x00\x00\x00" {
			t.Fatalf("page 4: %q, before the change can have been made", s)
		}
		let0()
		<-answer0
		must(t, <-changed)
		return readAt(t, f, 4*page, 3) != "new"
	}
	if stale(hooks{}) {
		t.Error("a page is stale whose READ came during an invalidation and was answered after it")
	}
	for try := 0; !stale(hooks{onlyAnswered: true}); try++ { // the kernel may happen to drop the page for another reason
		if try == 5 {
			t.Fatal("mutant: READs that are not answered yet are forgotten, and this test does not notice")
		}
	}
}

// A page that is read while a WRITE of the same mount waits for its token has what was there before: when the WRITE is answered
// it must be gone. (Recent kernels drop it when they have the answer, too; so we look before.)
func TestReadDuringOwnWrite(t *testing.T) {
	cached := func(h hooks) bool {
		wrote, answer := make(chan struct{}), make(chan struct{})
		var armed atomic.Bool
		h.wrote = func() {
			if armed.CompareAndSwap(true, false) {
				close(wrote)
				<-answer
			}
		}
		w := newTwo(t, h)
		must(t, os.WriteFile(w.b+"/f", make([]byte, 2*page), 0o644))
		f, g := openRandom(t, w.a+"/f"), openFile(t, w.a+"/f", os.O_WRONLY)
		readAt(t, f, 0, 1)
		held, release, released := make(chan struct{}), make(chan struct{}), make(chan error)
		id := stat(t, w.b+"/f").Ino
		go func() {
			released <- w.cb.do(context.Background(), "look", id, want{id: rd}, func() error {
				close(held)
				<-release
				return nil
			})
		}()
		<-held
		readAt(t, f, page, 1) // A has a token to read, too
		armed.Store(true)
		done := make(chan error)
		go func() {
			_, err := g.WriteAt([]byte("new"), 0)
			done <- err
		}()
		for w.cb.TTL(id) > 0 { // then A's WRITE waits for B's token
			time.Sleep(100 * time.Microsecond)
		}
		if s := readAt(t, f, 0, 3); s != "\x00\x00\x00" {
			t.Fatalf("%q, before it can have been written", s)
		}
		if !resident(t, f, 0) {
			t.Fatal("what was read is not in the cache")
		}
		close(release)
		must(t, <-released)
		<-wrote
		there := resident(t, f, 0)
		close(answer)
		must(t, <-done)
		if s := readAt(t, f, 0, 3); s != "new" && !h.keepWritten {
			t.Errorf("%q, after it was written", s)
		}
		return there
	}
	if cached(hooks{}) {
		t.Error("a page is still there that was read before it was written")
	}
	if !cached(hooks{keepWritten: true}) {
		t.Error("mutant: pages of what was written are not dropped, and this test does not notice")
	}
}

// resident says whether the kernel has the page of f in its cache.
func resident(t testing.TB, f *os.File, index int64) bool {
	t.Helper()
	m, err := unix.Mmap(int(f.Fd()), index*page, page, unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	defer func() { must(t, unix.Munmap(m)) }()
	var vec [1]byte
	_, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafePointer(m)), uintptr(page), uintptr(unsafePointer(vec[:])))
	if e != 0 {
		t.Fatal(e)
	}
	return vec[0]&1 != 0
}
