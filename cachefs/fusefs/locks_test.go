package fusefs

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tryLock has another process try to lock, and end.
func tryLock(t testing.TB, path string) string {
	t.Helper()
	return strings.TrimSpace(output(t, helperCmd(t, "trylock", path)))
}

// POSIX locks between processes, on one mount and on two.
func TestLocks(t *testing.T) {
	w := newTwo(t, hooks{})
	write(t, w.a+"/f", "x")
	for name, other := range map[string]string{"one mount": w.a, "two mounts": w.b} {
		t.Run(name, func(t *testing.T) {
			holder := startHelper(t, "lock", w.a+"/f")
			if s := holder.says(t); s != "locked" {
				t.Fatal(s)
			}
			if s := tryLock(t, other+"/f"); !strings.HasPrefix(s, "false") {
				t.Errorf("a second lock: %s", s)
			}
			f := openFile(t, other+"/f", os.O_RDWR)
			lk := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
			must(t, unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lk))
			if lk.Type != unix.F_WRLCK || lk.Start != 0 || lk.Len != 1 || other == w.a && lk.Pid != int32(holder.cmd.Process.Pid) {
				t.Errorf("F_GETLK: %+v", lk)
			}
			lk = unix.Flock_t{Type: unix.F_WRLCK, Start: 1, Len: 1}
			must(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lk)) // another byte
			lk = unix.Flock_t{Type: unix.F_WRLCK, Start: 5}
			must(t, unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lk))
			if lk.Type != unix.F_UNLCK {
				t.Errorf("F_GETLK of a free range: %+v", lk)
			}
			waiter := startHelper(t, "waitlock", other+"/f")
			if s := waiter.says(t); s != "waiting" {
				t.Fatal(s)
			}
			select {
			case l := <-waiter.lines:
				t.Fatalf("it did not wait: %q", l)
			case <-time.After(100 * time.Millisecond):
			}
			holder.stop() // its lock goes with it
			if s := waiter.says(t); s != "locked" {
				t.Error(s)
			}
		})
	}
}

// A close of any descriptor of the file ends the process's locks on it; so does the death of the process.
func TestLocksEnd(t *testing.T) {
	b, _ := exportDir(t)
	m := mounted(t, b, Options{})
	p := m.Path() + "/f"
	write(t, p, "x")
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	must(t, setLock(f, unix.F_SETLK, unix.F_WRLCK))
	if s := tryLock(t, p); !strings.HasPrefix(s, "false") {
		t.Error(s)
	}
	g, err := os.Open(p)
	must(t, err)
	must(t, g.Close())
	if s := tryLock(t, p); !strings.HasPrefix(s, "true") {
		t.Errorf("after a close: %s", s)
	}
	must(t, setLock(f, unix.F_SETLK, unix.F_WRLCK))
	must(t, setLock(f, unix.F_SETLK, unix.F_UNLCK))
	if s := tryLock(t, p); !strings.HasPrefix(s, "true") {
		t.Errorf("after an unlock: %s", s)
	}
	must(t, f.Close())
	holder := startHelper(t, "lock", p)
	holder.says(t)
	waiter := startHelper(t, "waitlock", p)
	waiter.says(t)
	must(t, holder.cmd.Process.Kill())
	if s := waiter.says(t); s != "locked" {
		t.Error(s)
	}
}

// A process that waits for a lock can be interrupted.
func TestLockWaitInterrupted(t *testing.T) {
	b, _ := exportDir(t)
	m := mounted(t, b, Options{})
	p := m.Path() + "/f"
	write(t, p, "x")
	f := openFile(t, p, os.O_RDWR)
	must(t, setLock(f, unix.F_SETLK, unix.F_WRLCK))
	waiter := startHelper(t, "waitlock", p)
	waiter.says(t)
	must(t, waiter.cmd.Process.Signal(unix.SIGTERM))
	select {
	case l, ok := <-waiter.lines:
		if ok {
			t.Errorf("it says %q", l)
		}
	case <-time.After(patience):
		t.Error("SIGTERM does not end it")
	}
}

// flock(2): between descriptors, and it ends with the last close.
func TestFlock(t *testing.T) {
	w := newTwo(t, hooks{})
	write(t, w.a+"/f", "x")
	f, g := openFile(t, w.a+"/f", os.O_RDONLY), openFile(t, w.a+"/f", os.O_RDONLY)
	h := openFile(t, w.b+"/f", os.O_RDONLY)
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	for _, other := range []*os.File{g, h} {
		if err := unix.Flock(int(other.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("%v", err)
		}
	}
	must(t, f.Close())
	deadline := time.Now().Add(patience) // the release is not waited for by close(2)
	for _, other := range []*os.File{g, h} {
		for {
			err := unix.Flock(int(other.Fd()), unix.LOCK_SH|unix.LOCK_NB)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
}
