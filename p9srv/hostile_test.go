package p9srv

import (
	"context"
	"encoding/binary"
	"math/rand"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"echo9/internal/wire"
)

func openFDs(t testing.TB) int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// leakCheck gives a function that checks that all is back to where it was.
func leakCheck(t *testing.T, fs *memFS) func() {
	a, b := socketPair(t) // what the runtime opens with the first socket stays
	a.Close()
	b.Close()
	fds, gs := openFDs(t), runtime.NumGoroutine()
	return func() {
		t.Helper()
		eventually(t, "goroutines, descriptors and objects are back", func() bool {
			refs, files := fs.out()
			return runtime.NumGoroutine() <= gs && openFDs(t) <= fds && refs == 0 && files == 0
		})
	}
}

// serveRaw is a connection without clean-up at the end of the test.
func serveRaw(t *testing.T, s *Server) *rawClient {
	a, b := socketPair(t)
	go s.ServeConn(context.Background(), b, PeerOf(b))
	return &rawClient{t: t, nc: a, rd: wire.NewReader(a, 1<<26)}
}

// 65,535 reads whose replies nobody takes: the server stops reading, holds no
// more than its cap, serves others, and forgets it all when the client goes.
func TestRepliesNobodyTakes(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	fs.put("f", strings.Repeat("x", 1<<20))
	check := leakCheck(t, fs)
	before := heap()
	c := serveRaw(t, s)
	c.version(1<<20, wire.Version9P)
	c.attach(0)
	c.walk(0, 1, "f")
	c.ok(&wire.Tlopen{Fid: 1}, &wire.Rlopen{})
	var b []byte
	for i := range uint16(65535) {
		b = wire.AppendFrame(b, i, &wire.Tread{Fid: 1, Count: 1 << 20})
	}
	go c.nc.Write(b)
	var sc *conn
	eventually(t, "the budget is used up", func() bool {
		for _, sc = range s.snapshot(nil) {
		}
		sc.mu.Lock()
		defer sc.mu.Unlock()
		return sc.waiting > 0 && sc.full()
	})
	const limit = 3 * (8 << 20) // the budget, one reply more, what the pools keep
	if got := int64(heap()) - int64(before) - int64(len(b)); got > limit {
		t.Errorf("%d bytes are held, more than %d", got, limit)
	}
	o := dialRaw(t, s)
	o.ok(&wire.Tgetattr{Fid: 0}, &wire.Rgetattr{})
	o.nc.Close()
	c.nc.Close()
	check()
}

// Large requests that wait are bounded, too.
func TestRequestsThatWait(t *testing.T) {
	s, fs := newTestServer(t, Config{Workers: 4})
	fs.put("f", "")
	check := leakCheck(t, fs)
	before := heap()
	c := serveRaw(t, s)
	c.version(1<<20, wire.Version9P)
	c.attach(0)
	c.walk(0, 1, "f")
	c.ok(&wire.Tlopen{Fid: 1, Flags: wire.ORdwr}, &wire.Rlopen{})
	g := newGateHook(fs, "write")
	frame := wire.AppendFrame(nil, 0, &wire.Twrite{Fid: 1, Data: make([]byte, 1<<20-100)})
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for i := range uint16(1000) {
			binary.LittleEndian.PutUint16(frame[5:], i)
			if _, err := c.nc.Write(frame); err != nil {
				return
			}
		}
	}()
	<-g.started
	var sc *conn
	eventually(t, "the requests' budget is used up", func() bool {
		for _, sc = range s.snapshot(nil) {
		}
		sc.mu.Lock()
		defer sc.mu.Unlock()
		return sc.waiting > 0 && sc.held > s.cfg.Budget
	})
	if got := int64(heap()) - int64(before); got > 5*(8<<20) {
		t.Errorf("%d bytes are held", got)
	}
	c.nc.Close()
	<-stop
	check()
}

// What is no frame ends the connection; what is a frame but no message is answered.
func TestBadFrames(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	fs.put("f", "x")
	check := leakCheck(t, fs)
	size := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	for what, b := range map[string][]byte{
		"size 0":            size(0),
		"size 6":            append(size(6), 24, 1),
		"larger than msize": append(size(1<<20), wire.TypeTgetattr, 1, 0),
		"size 4 GiB":        append(size(1<<32-1), wire.TypeTwrite, 1, 0),
		"bad Tversion":      append(size(8), wire.TypeTversion, 0xff, 0xff, 1),
		"bad Tflush":        append(size(8), wire.TypeTflush, 1, 0, 9),
	} {
		c := serveRaw(t, s)
		c.version(65536, wire.Version9P)
		c.sendRaw(b)
		c.hungUp()
		c.nc.Close()
		t.Logf("%s: hung up", what)
	}
	c := serveRaw(t, s)
	c.version(65536, wire.Version9P)
	c.attach(0)
	for typ := range 256 {
		switch uint8(typ) {
		case wire.TypeTversion, wire.TypeTflush:
			continue
		}
		for _, n := range []int{0, 1, 3, 4, 5, 30} {
			b := append(size(uint32(7+n)), uint8(typ), 5, 0)
			b = append(b, make([]byte, n)...)
			binary.LittleEndian.PutUint16(b[5:], uint16(typ))
			c.sendRaw(b)
			if tag, _ := c.next(); tag != uint16(typ) {
				t.Fatalf("type %d: the answer has tag %d", typ, tag)
			}
		}
	}
	c.nc.Close()
	// A frame that breaks off.
	c = serveRaw(t, s)
	c.version(65536, wire.Version9P)
	c.sendRaw(append(size(100), wire.TypeTgetattr))
	c.nc.Close()
	// Nothing at all, and a connection reset at once.
	serveRaw(t, s).nc.Close()
	check()
}

// Random messages, many at a time, on few fids: no panic, all is given back.
func TestRandomMessages(t *testing.T) {
	s, a, fs := newAuthorityServer(t, AuthorityConfig{Lease: 200 * time.Millisecond, Courtesy: time.Millisecond})
	a.cfg.Logf, s.cfg.Logf = func(string, ...any) {}, func(string, ...any) {}
	fs.put("a/b/c", "hello")
	check := leakCheck(t, fs.memFS)
	for seed := range int64(40) {
		rng := rand.New(rand.NewSource(seed))
		c := serveRaw(t, s)
		c.version(8192, []string{wire.Version9P, wire.VersionGoogle + "7", wire.ExtVersion}[seed%3])
		go func() { // takes what comes
			buf := make([]byte, 1<<16)
			for {
				if _, err := c.nc.Read(buf); err != nil {
					return
				}
			}
		}()
		for tag := range uint16(400) {
			m := randomMessage(rng)
			if m.Type() == wire.TypeTsession && rng.Intn(10) > 0 {
				continue
			}
			c.nc.SetWriteDeadline(time.Now().Add(patience))
			if _, err := c.nc.Write(wire.AppendFrame(nil, tag, m)); err != nil {
				break
			}
		}
		c.nc.Close()
	}
	eventually(t, "no session is left", func() bool { return len(a.Status().Sessions) == 0 })
	check()
}

// randomMessage is a request that may well make sense.
func randomMessage(rng *rand.Rand) wire.Message {
	fid := func() uint32 { return uint32(rng.Intn(6)) }
	name := func() string { return []string{"a", "b", "c", "d", "..", "", "x/y"}[rng.Intn(7)] }
	id := func() uint64 { return uint64(rng.Intn(8)) }
	switch rng.Intn(32) {
	case 0, 1:
		return &wire.Tattach{Fid: fid(), Afid: wire.NoFid, UID: wire.NoUID}
	case 2, 3, 4:
		return &wire.Twalk{Fid: fid(), NewFid: fid(), Names: []string{name(), name()}[:rng.Intn(3)]}
	case 5:
		return &wire.Tclunk{Fid: fid()}
	case 6, 7:
		return &wire.Tlopen{Fid: fid(), Flags: uint32(rng.Intn(3))}
	case 8:
		return &wire.Tlcreate{Fid: fid(), Name: name(), Flags: wire.ORdwr, Mode: 0o644}
	case 9:
		return &wire.Tread{Fid: fid(), Offset: uint64(rng.Intn(10)), Count: rng.Uint32()}
	case 10:
		return &wire.Twrite{Fid: fid(), Offset: uint64(rng.Intn(10)), Data: []byte("data")}
	case 11:
		return &wire.Treaddir{Fid: fid(), Count: rng.Uint32()}
	case 12:
		return &wire.Tmkdir{Dfid: fid(), Name: name(), Mode: 0o755}
	case 13:
		return &wire.Tunlinkat{Dfid: fid(), Name: name(), Flags: uint32(rng.Intn(2)) * wire.AtRemoveDir}
	case 14:
		return &wire.Trenameat{OldDfid: fid(), OldName: name(), NewDfid: fid(), NewName: name()}
	case 15:
		return &wire.Trename{Fid: fid(), Dfid: fid(), Name: name()}
	case 16:
		return &wire.Tremove{Fid: fid()}
	case 17:
		return &wire.Tflush{OldTag: uint16(rng.Intn(400))}
	case 18:
		return &wire.Txattrwalk{Fid: fid(), NewFid: fid(), Name: ""}
	case 19:
		return &wire.Txattrcreate{Fid: fid(), Name: "user.x", Size: uint64(rng.Intn(8))}
	case 20:
		return &wire.Tfsync{Fid: fid()}
	case 21:
		return &wire.Tlock{Fid: fid(), Lock: wire.Lock{Type: uint8(rng.Intn(4)), Start: uint64(rng.Intn(9)), Length: uint64(rng.Intn(9)), ProcID: uint32(rng.Intn(3)), ClientID: "c"}}
	case 22:
		return &wire.Tsetattr{Fid: fid(), SetAttr: wire.SetAttr{Valid: wire.SetSize, Size: uint64(rng.Intn(100))}}
	case 23:
		return &wire.Tlink{Dfid: fid(), Fid: fid(), Name: name()}
	case 24:
		return &wire.Twalkgetattr{Fid: fid(), NewFid: fid(), Names: []string{name()}}
	case 25:
		m := &wire.Tsession{Flags: uint32(rng.Intn(8))}
		m.Client[0], m.Secret[0] = byte(rng.Intn(3)), byte(rng.Intn(3)/2)
		return m
	case 26, 27:
		return &wire.Tgrant{Flags: uint32(rng.Intn(16)), Inline: 100, Elems: []wire.GrantElem{{ID: id(), Mode: uint8(rng.Intn(3))}, {ID: id(), Mode: 1}, {ID: id(), Mode: 1, Name: name()}}[:rng.Intn(4)]}
	case 28:
		return &wire.Trecall{}
	case 29:
		return &wire.Treturn{Tokens: []wire.ReturnElem{{ID: id(), Gen: uint64(rng.Intn(1000)), Keep: uint8(rng.Intn(2)), Flags: uint8(rng.Intn(2))}}}
	case 30:
		return &wire.Tbind{Fid: fid(), ID: id(), Flags: []uint32{wire.BindNoOpen, 0, 2}[rng.Intn(3)]}
	}
	return &wire.Treaddirplus{Count: 8192, Inline: 10, Dirs: []wire.DirRead{{ID: id()}, {ID: id()}}}
}

// FuzzServe feeds bytes to a server: whatever they are, it neither panics nor keeps anything.
func FuzzServe(f *testing.F) {
	version := wire.AppendFrame(nil, wire.NoTag, &wire.Tversion{Msize: 8192, Version: wire.Version9P})
	attach := wire.AppendFrame(nil, 1, &wire.Tattach{Fid: 0, Afid: wire.NoFid, UID: wire.NoUID})
	both := append(append([]byte(nil), version...), attach...)
	f.Add([]byte{})
	f.Add(version)
	f.Add(both)
	for seed := range int64(30) {
		rng := rand.New(rand.NewSource(seed))
		b := append([]byte(nil), both...)
		for tag := range uint16(20) {
			b = wire.AppendFrame(b, 10+tag, randomMessage(rng))
		}
		f.Add(b)
		b = append([]byte(nil), b...)
		for range 5 {
			b[len(both)+rng.Intn(len(b)-len(both))] ^= byte(1 << rng.Intn(8))
		}
		f.Add(b)
	}
	s, fs := newTestServer(f, Config{Logf: func(string, ...any) {}})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, srv := net.Pipe()
		done := make(chan struct{})
		go func() {
			s.ServeConn(context.Background(), srv, Peer{Addr: "fuzz"})
			close(done)
		}()
		go func() {
			buf := make([]byte, 1<<16)
			for {
				if _, err := a.Read(buf); err != nil {
					return
				}
			}
		}()
		a.SetWriteDeadline(time.Now().Add(patience))
		a.Write(b) // an error is the server's hanging up
		a.Close()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
		if refs, files := fs.out(); refs != 0 || files != 0 {
			t.Fatalf("%d objects and %d files are left", refs, files)
		}
	})
}

func TestLimits(t *testing.T) {
	s, fs := newTestServer(t, Config{MaxFids: 10})
	fs.put("f", "")
	c := dialRaw(t, s)
	for i := range uint32(9) {
		c.walk(0, i+1)
	}
	c.fails(&wire.Twalk{Fid: 0, NewFid: 50}, errMaxFids)
	c.fails(&wire.Txattrwalk{Fid: 0, NewFid: 50}, errMaxFids)
	c.clunk(3)
	c.walk(0, 50)
}

// Shutdown lets what runs end and be answered, and withdraws what waits.
func TestShutdown(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	check := leakCheck(t, fs)
	c := serveRaw(t, s)
	c.version(8192, wire.Version9P)
	c.attach(0)
	g := newGateHook(fs, "getattr")
	c.sendTag(5, &wire.Tgetattr{Fid: 0})
	<-g.started
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	eventually(t, "it drains", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.closing })
	close(g.goOn)
	c.recv(5, &wire.Rgetattr{})
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.hungUp()
	c.nc.Close()
	a, b := socketPair(t)
	if err := s.ServeConn(context.Background(), b, Peer{}); err != ErrClosed {
		t.Errorf("a connection after Shutdown: %v", err)
	}
	a.Close()
	check()

	// One that does not end is hung up on when the context does.
	s, fs = newTestServer(t, Config{})
	c = serveRaw(t, s)
	c.version(8192, wire.Version9P)
	c.attach(0)
	g = newGateHook(fs, "getattr")
	g.deaf = true
	c.sendTag(5, &wire.Tgetattr{Fid: 0})
	<-g.started
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err == nil {
		t.Error("Shutdown of a connection that does not end succeeds")
	}
	close(g.goOn)
	c.hungUp()
	c.nc.Close()
	eventually(t, "nothing is left", func() bool { refs, _ := fs.out(); return refs == 0 })
}

// Serve accepts on a listener until Shutdown.
func TestServe(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	check := leakCheck(t, fs)
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	nc, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := &rawClient{t: t, nc: nc, rd: wire.NewReader(nc, 1<<20)}
	c.version(8192, wire.Version9P)
	c.attach(0)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != ErrClosed {
		t.Errorf("Serve: %v", err)
	}
	c.hungUp()
	nc.Close()
	check()
}
