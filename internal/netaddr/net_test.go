package netaddr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func parseT(t testing.TB, s string) Addr {
	t.Helper()
	a, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "e9n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listenT(t testing.TB, a Addr) net.Listener {
	t.Helper()
	l, err := a.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// talk sends bytes both ways over a connection that goes through l.
func talk(t testing.TB, l net.Listener, a Addr) (dialed, accepted net.Conn) {
	t.Helper()
	type result struct {
		c   net.Conn
		err error
	}
	got := make(chan result, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err == nil { // those who looked whether we live say nothing and leave
				if _, rerr := c.Read(make([]byte, 1)); rerr == io.EOF {
					c.Close()
					continue
				}
			}
			got <- result{c, err}
			return
		}
	}()
	dialed, err := a.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close() })
	if _, err := dialed.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.c.Close() })
	exchange(t, dialed, r.c)
	exchange(t, r.c, dialed)
	return dialed, r.c
}

func exchange(t testing.TB, from, to io.ReadWriter) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write([]byte("hello"))
		sent <- err
	}()
	p := make([]byte, 5)
	if _, err := io.ReadFull(to, p); err != nil || string(p) != "hello" {
		t.Errorf("%q came, %v", p, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestTCP(t *testing.T) {
	l := listenT(t, parseT(t, "tcp!127.0.0.1!0"))
	a := Of(l.Addr())
	if a.Port == 0 || !a.IsLocal() {
		t.Errorf("listens at %s", a)
	}
	d, _ := talk(t, l, a)
	if _, err := PeerCred(d); !errors.Is(err, syscall.ENOTSUP) {
		t.Errorf("credentials over TCP: %v", err)
	}
	if _, err := a.Listen(t.Context()); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "somebody else listens there") {
		t.Error(err)
	}
	l.Close()
	if _, err := a.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "start the server") {
		t.Error(err)
	}
}

func TestUnix(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	a := parseT(t, path)
	if _, err := a.Dial(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "there is no such socket") {
		t.Error(err)
	}
	l := listenT(t, a)
	if fi, err := os.Stat(path); err != nil || fi.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	_, c := talk(t, l, a)
	cred, err := PeerCred(c)
	if want := (Cred{int32(os.Getpid()), uint32(os.Geteuid()), uint32(os.Getegid())}); err != nil || cred != want {
		t.Errorf("the peer is %+v, %v", cred, err)
	}
	if _, err := a.Listen(t.Context()); !errors.Is(err, ErrLive) {
		t.Errorf("a second server: %v", err)
	}
	talk(t, l, a) // the first one is not disturbed
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

// The mode is right from the first moment: sockets are looked at while they come and go.
func TestUnixSocketIsNeverOpenToOthers(t *testing.T) {
	if open := socketsOpenToOthers(t); open != "" {
		t.Error(open)
	}
	breakMode = true
	defer func() { breakMode = false }()
	if socketsOpenToOthers(t) == "" {
		t.Error("sockets with the umask's mode went unseen")
	}
}

func socketsOpenToOthers(t *testing.T) (open string) {
	dir := shortDir(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for last := false; ; {
			names, _ := os.ReadDir(dir)
			for _, n := range names {
				if fi, err := os.Lstat(filepath.Join(dir, n.Name())); err == nil && fi.Mode().Perm()&0o077 != 0 {
					open = fmt.Sprintf("%s has mode %v", n.Name(), fi.Mode())
					return
				}
			}
			if last {
				return
			}
			select {
			case <-stop:
				last = true // all are there, however little was seen of how they came
			default:
			}
		}
	})
	var ls []net.Listener
	for i := range 100 {
		l, err := parseT(t, fmt.Sprintf("%s/s%d", dir, i)).Listen(t.Context())
		if err != nil {
			t.Error(err)
			break
		}
		ls = append(ls, l)
	}
	close(stop)
	wg.Wait()
	for _, l := range ls {
		l.Close()
	}
	return open
}

// stale leaves a socket file without a server.
func stale(t testing.TB, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	stale(t, path)
	a := parseT(t, path)
	if _, err := a.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "nobody serves there") {
		t.Error(err)
	}
	talk(t, listenT(t, a), a)
}

// Of many servers that find a stale socket at once, exactly one gets it, and keeps it.
func TestOneOfManyServersGetsTheSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	a := parseT(t, path)
	for range 20 {
		stale(t, path)
		var mu sync.Mutex
		var won []net.Listener
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				l, err := a.Listen(t.Context())
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, l)
				} else if !errors.Is(err, ErrLive) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d servers listen", len(won))
		}
		talk(t, won[0], a)
		won[0].Close()
	}
}

// Two servers have found the same stale socket: the second must not remove the
// first one's new one.
func TestNobodyRemovesALiveSocket(t *testing.T) {
	if n := listenTwice(t); n != 1 {
		t.Errorf("%d servers listen", n)
	}
	breakLock = true
	defer func() { breakLock = false }()
	if n := listenTwice(t); n != 2 {
		t.Errorf("without the lock, %d servers listen", n)
	}
}

// listenTwice lets a second server come when the first one has found a stale
// socket, and tells how many have got it.
func listenTwice(t *testing.T) int {
	keptBack := 200 * time.Millisecond
	if breakLock {
		keptBack = time.Minute // it is not, however late it is let run
	}
	a := parseT(t, filepath.Join(shortDir(t), "s"))
	stale(t, a.Path)
	second := make(chan error, 1)
	foundStale = func() {
		foundStale = func() {}
		done := make(chan struct{})
		go func() {
			l, err := a.Listen(context.Background())
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			second <- err
			close(done)
		}()
		select {
		case <-done: // nothing kept it back
		case <-time.After(keptBack):
		}
	}
	n := 0
	l, err := a.Listen(t.Context())
	if err == nil {
		defer l.Close()
		n++
	}
	if <-second == nil {
		n++
	}
	return n
}

func TestSomethingElseIsNotReplaced(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := parseT(t, path).Listen(t.Context()); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "not a socket") {
		t.Error(err)
	}
	if p, err := os.ReadFile(path); err != nil || string(p) != "precious" {
		t.Errorf("%q, %v", p, err)
	}
	if _, err := parseT(t, filepath.Join(dir, "no", "s")).Listen(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "make it first") {
		t.Error(err)
	}
}

func TestAbstract(t *testing.T) {
	a := parseT(t, fmt.Sprintf("unix!@echo9-test-%d", os.Getpid()))
	talk(t, listenT(t, a), a)
}

func TestPrivate(t *testing.T) {
	dir := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	a, err := Private("tree")
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, "echo9", "tree.sock")
	if os.Geteuid() == 0 {
		want = "/run/echo9/tree.sock"
	}
	if a.Path != want {
		t.Errorf("%s, not %s", a.Path, want)
	}
	for _, name := range []string{"", ".", "..", "a/b", ".x"} {
		if _, err := Private(name); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
	a.Path = filepath.Join(dir, "echo9", "tree.sock") // root's too, in the test
	talk(t, listenT(t, a), a)
	if fi, err := os.Stat(filepath.Dir(a.Path)); err != nil || fi.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if err := os.Chmod(filepath.Dir(a.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Listen(t.Context()); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "mode 0700") {
		t.Error(err)
	}
}

// socketPair is two ends of a unix stream, as descriptors that somebody passed on.
func socketPair(t testing.TB) (int, net.Conn) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(p[1]), "pair")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return p[0], c
}

func TestInheritedSocket(t *testing.T) {
	fd, far := socketPair(t)
	c, err := Addr{Net: FD, FD: fd}.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange(t, c, far)
	exchange(t, far, c)
}

// A listener over one connection gives it once, and ends with it.
func TestInheritedConnectionListens(t *testing.T) {
	fd, far := socketPair(t)
	l := listenT(t, Addr{Net: FD, FD: fd})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, far)
	if cred, err := PeerCred(c); err != nil || cred.PID != int32(os.Getpid()) {
		t.Errorf("%+v, %v", cred, err)
	}
	next := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		next <- err
	}()
	c.Close()
	if err := <-next; err != io.EOF {
		t.Errorf("after the connection: %v", err)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestUnusedConnectionIsClosedWithItsListener(t *testing.T) {
	fd, far := socketPair(t)
	listenT(t, Addr{Net: FD, FD: fd}).Close()
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

func TestInheritedListener(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	outer, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	f, err := outer.File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd()))
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	talk(t, listenT(t, Addr{Net: FD, FD: fd}), parseT(t, path))
}

func TestInheritedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fd, err := unix.Dup(int(r.Fd()))
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Addr{Net: FD, FD: fd}.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go w.Write([]byte("hello"))
	p := make([]byte, 5)
	if _, err := io.ReadFull(c, p); err != nil || string(p) != "hello" {
		t.Errorf("%q, %v", p, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(p)
		ended <- err
	}()
	c.Close() // ends the read, or comes before it
	if err := <-ended; err == nil {
		t.Error("a read of a closed pipe succeeded")
	}
	if _, err := (Addr{Net: FD, FD: 60_000}).Dial(t.Context()); !errors.Is(err, syscall.EBADF) || !strings.Contains(err.Error(), "is not open") {
		t.Error(err)
	}
}

func TestFileConn(t *testing.T) {
	r1, w1, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r2, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	near, far := newFileConn(r1, w2, Addr{Net: Stdio}), newFileConn(r2, w1, Addr{Net: Stdio})
	exchange(t, near, far)
	exchange(t, far, near)
	if near.LocalAddr().String() != "stdio" || near.RemoteAddr().Network() != "stdio" {
		t.Errorf("%v %v", near.LocalAddr(), near.RemoteAddr())
	}
	if err := near.Close(); err != nil {
		t.Error(err)
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	far.Close()
}

// Vsock is there or the error says what to do.
func TestVsock(t *testing.T) {
	a := parseT(t, fmt.Sprintf("vsock!local!%d", 20_000+os.Getpid()%20_000))
	l, err := a.Listen(t.Context())
	switch {
	case err == nil:
		t.Cleanup(func() { l.Close() })
		talk(t, l, a)
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case errors.Is(err, syscall.EAFNOSUPPORT):
		if !strings.Contains(err.Error(), "load the module vsock") {
			t.Error(err)
		}
		if _, err := a.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "load the module vsock") {
			t.Error(err)
		}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		// vsock without its loopback transport: nothing can be dialed either
		if _, err := a.Dial(t.Context()); err == nil {
			t.Error("dialed what nobody could listen at")
		}
	default:
		t.Error(err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, s := range []string{"tcp!127.0.0.1!1", "/nonexistent/s"} {
		if _, err := parseT(t, s).Dial(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", s, err)
		}
	}
	if _, err := (Addr{}).Dial(t.Context()); err == nil {
		t.Error("the zero address was dialed")
	}
	if _, err := (Addr{}).Listen(t.Context()); err == nil {
		t.Error("somebody listens at the zero address")
	}
}
