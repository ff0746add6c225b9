package cachefs

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/cachefs/order"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// world is a server over a directory of its own.
type world struct {
	t       testing.TB
	dir     string
	backend p9srv.Committer
	auth    *p9srv.Authority
	change  []func(*p9srv.AuthorityConfig)

	mu      sync.Mutex
	srv     *p9srv.Server // nil: it is down
	durable bool          // its sessions outlive it
}

// newWorld starts a server; change may alter its settings.
func newWorld(t testing.TB, change ...func(*p9srv.AuthorityConfig)) *world {
	t.Helper()
	return newWorldIn(t, t.TempDir(), change...)
}

// newWorldIn is newWorld over a directory that is there.
func newWorldIn(t testing.TB, dir string, change ...func(*p9srv.AuthorityConfig)) *world {
	t.Helper()
	w := &world{t: t, dir: dir, change: change}
	ok(t, os.Chmod(w.dir, 0o755))
	w.start()
	t.Cleanup(w.stop)
	return w
}

// start starts the server.
func (w *world) start() {
	w.t.Helper()
	backend, err := dirfs.Open(w.dir, dirfs.Options{Logf: w.t.Logf, Groups: groupsOf})
	ok(w.t, err)
	w.backend = backend
	cfg := p9srv.AuthorityConfig{Backend: backend, Users: p9srv.AsClient(), Lease: 10 * time.Second, Noticef: w.t.Logf, Logf: w.t.Logf}
	for _, c := range w.change {
		c(&cfg)
	}
	w.auth = p9srv.NewAuthority(cfg)
	if w.durable {
		ok(w.t, w.auth.Restore())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.srv = p9srv.New(p9srv.Config{Backend: cfg.Backend, Authority: w.auth, Users: p9srv.AsClient()})
}

// stop stops the server; nobody reaches it until it is started again.
func (w *world) stop() {
	w.mu.Lock()
	srv := w.srv
	w.srv = nil
	w.mu.Unlock()
	srv.Close()
	w.auth.Close()
	ok(w.t, w.backend.(*dirfs.FS).Close())
}

// groupsOf is what the server knows of the users of the tests.
func groupsOf(uid uint32) (uint32, []uint32) {
	if uid == 1002 {
		return 1000, nil
	}
	return uid, []uint32{2000}
}

// pipe gives a connection to the server.
func (w *world) pipe() net.Conn {
	w.t.Helper()
	c, err := w.dial()
	ok(w.t, err)
	return c
}

// dial connects to the server, if it is up.
func (w *world) dial() (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	srv := w.srv
	if srv == nil {
		return nil, syscall.ECONNREFUSED
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socketpair")
		ends[i], err = net.FileConn(file)
		file.Close()
		if err != nil {
			return nil, err
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.ServeConn(bg, ends[1], p9srv.Peer{Addr: "test"})
	}()
	w.t.Cleanup(func() { ends[0].Close(); <-done })
	return ends[0], nil
}

// cache opens a session with the server.
func (w *world) cache(change ...func(*Options)) *FS {
	w.t.Helper()
	conn, err := p9client.NewConn(bg, w.pipe(), p9client.Options{Extension: true})
	ok(w.t, err)
	o := Options{WriteBehind: time.Hour, Logf: w.t.Logf, Cred: processCred()}
	for _, c := range change {
		c(&o)
	}
	f, err := OpenConn(bg, conn, o)
	ok(w.t, err)
	w.t.Cleanup(func() {
		if f.Status().Error == "" {
			f.Close(bg)
		}
	})
	return f
}

// plain gives the conveniences of an FS over a client that knows nothing of tokens.
func (w *world) plain() *FS {
	w.t.Helper()
	conn, err := p9client.NewConn(bg, w.pipe(), p9client.Options{})
	ok(w.t, err)
	tree, err := p9client.Attach(bg, conn, p9client.Options{})
	ok(w.t, err)
	f := &FS{plain: tree, opt: Options{Cred: processCred()}.withDefaults()}
	w.t.Cleanup(func() { f.Close(bg) })
	return f
}

// direct gives the conveniences of an FS over the server's own backend.
func (w *world) direct() *FS {
	return &FS{plain: w.backend, opt: Options{Cred: processCred()}.withDefaults()}
}

// variants are ways to set up a cache that must not be visible either.
var variants = []struct {
	name   string
	change func(*Options)
}{
	{"default", func(*Options) {}},
	{"sync", func(o *Options) { o.Writes = Sync }},
	{"onclose", func(o *Options) { o.Writes = OnClose }},
	{"total", func(o *Options) { o.Order = order.Total }},
	{"causal", func(o *Options) { o.Order = order.Causal }},
	{"tiny", func(o *Options) {
		o.Cache, o.Dirty, o.CutOps, o.CutBytes, o.Inline = 64<<10, 128<<10, 3, 8<<10, 16
		o.WriteBehind = 5 * time.Millisecond
	}},
}

func TestConformance(t *testing.T) {
	for _, c := range conformance {
		t.Run("direct/"+c.name, func(t *testing.T) { c.test(t, newWorld(t).direct()) })
	}
	for _, v := range variants {
		for _, c := range conformance {
			t.Run(v.name+"/"+c.name, func(t *testing.T) {
				f := newWorld(t).cache(v.change)
				c.test(t, f)
				ok(t, f.Close(bg))
				if n := f.Status().Lost; n > 0 {
					t.Fatalf("%d updates were lost: %v", n, f.Events())
				}
			})
		}
	}
}

// commits counts what a cache sends.
type commits struct {
	cuts, ops, messages atomic.Int64
	bytes               atomic.Int64
}

func (c *commits) hook(o *Options) {
	o.Hooks.Commit = func(i CutInfo) {
		c.cuts.Add(1)
		c.ops.Add(int64(len(i.Ops)))
		c.bytes.Add(i.Bytes)
	}
	o.Hooks.Sent = func(n int) { c.messages.Add(int64(n)) }
}
