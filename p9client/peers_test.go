package p9client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hugelgupf/p9/fsimpl/localfs"
	"github.com/hugelgupf/p9/p9"

	"echo9/internal/netaddr"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// server is one that somebody else might run: it serves dir at addr.
type server struct {
	name, addr, aname, dir string
	// What it does not do.
	noXattr, noSetattr, noLock, noDotDot, looseUnlink bool
	unlinkat                                          bool // it knows Tunlinkat and Trenameat
}

// eachServer runs the test against every server that there is.
func eachServer(t *testing.T, test func(t *testing.T, s *server)) {
	t.Run("echo9", func(t *testing.T) { test(t, startEcho9(t)) })
	t.Run("p9ufs", func(t *testing.T) { test(t, startP9ufs(t)) })
	t.Run("diod", func(t *testing.T) {
		if _, err := exec.LookPath("diod"); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal("on CI nothing may be missing: ", err)
			}
			t.Skip(err)
		}
		t.Run("unix", func(t *testing.T) { test(t, startDiod(t, socketPath(t))) })
		t.Run("tcp", func(t *testing.T) { test(t, startDiod(t, freePort(t))) })
	})
}

// socketPath is a short path: a test's own directory may be too long for a socket.
func socketPath(t testing.TB) string {
	dir, err := os.MkdirTemp("", "e9")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// freePort is a loopback address where nobody listened a moment ago; not one of those that the kernel gives to who does not ask for
// a certain one, as other tests do all the time.
func freePort(t testing.TB) string {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// exportDir is a directory to serve, which every user may enter.
func exportDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "e9export")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func startEcho9(t testing.TB) *server {
	dir := exportDir(t)
	fs, err := dirfs.Open(dir, dirfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	addr := "unix!" + socketPath(t)
	a, err := netaddr.Parse(addr)
	if err != nil {
		t.Fatal(err)
	}
	l, err := a.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := p9srv.New(p9srv.Config{Backend: fs, Logf: t.Logf})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		s.Close()
		<-ended
		fs.Close()
	})
	return &server{name: "echo9", addr: addr, dir: dir, unlinkat: true}
}

func startP9ufs(t testing.TB) *server {
	dir := exportDir(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := p9.NewServer(localfs.Attacher(dir))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return &server{
		name: "p9ufs", addr: "tcp://" + l.Addr().String(), dir: dir, unlinkat: true,
		noXattr: true, noSetattr: true, noLock: true, noDotDot: true, looseUnlink: true,
	}
}

func startDiod(t testing.TB, addr string) *server {
	dir := exportDir(t)
	cmd := exec.Command("diod", "-f", "-n", "-N", "-L", filepath.Join(t.TempDir(), "log"), "-l", addr, "-e", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	a, err := netaddr.Parse(addr)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for { // diod does not say when it listens
		c, err := a.Dial(t.Context())
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return &server{name: "diod", addr: addr, aname: dir, dir: dir}
}

// dial attaches to the server.
func (s *server) dial(t testing.TB, o Options) *Tree {
	t.Helper()
	o.Aname = s.aname
	tree, err := Dial(t.Context(), s.addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tree.Close()
		<-tree.c.finished
	})
	return tree
}

// root is the root of the server's tree.
func root(t testing.TB, tree *Tree) p9srv.Object {
	t.Helper()
	o, err := tree.Root(t.Context(), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return o
}
