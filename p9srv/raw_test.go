package p9srv

import (
	"context"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
)

// patience is how long is waited for what must happen, however little the machine lets run; shortWhile for what must not.
const (
	patience   = time.Minute
	shortWhile = 100 * time.Millisecond
)

// during is how long is waited for what only a broken server does.
func (m mutant) during() time.Duration {
	if m == mutantNone {
		return shortWhile
	}
	return patience
}

// breaks breaks a rule of an Authority that is at work.
func (a *Authority) breaks(m mutant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mutant = m
}

// rawClient speaks frames to a server, one request after the other unless a test sends them itself.
type rawClient struct {
	t   testing.TB
	nc  net.Conn
	rd  *wire.Reader
	tag uint16
}

// socketPair is two ends of a unix socket.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var cs [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if cs[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return cs[0], cs[1]
}

// dialServer connects a raw client to s; the connection ends with the test.
func dialServer(t testing.TB, s *Server) *rawClient {
	t.Helper()
	a, b := socketPair(t)
	done := make(chan struct{})
	go func() {
		s.ServeConn(context.Background(), b, PeerOf(b))
		close(done)
	}()
	t.Cleanup(func() {
		a.Close()
		select {
		case <-done:
		case <-time.After(patience):
			buf := make([]byte, 1<<20)
			t.Errorf("the connection did not end:\n%s", buf[:runtime.Stack(buf, true)])
		}
	})
	return &rawClient{t: t, nc: a, rd: wire.NewReader(a, 1<<26)}
}

// dialRaw is dialServer, version and attach as fid 0.
func dialRaw(t testing.TB, s *Server) *rawClient {
	t.Helper()
	c := dialServer(t, s)
	c.version(65536, wire.Version9P)
	c.attach(0)
	return c
}

func (c *rawClient) version(msize uint32, v string) *wire.Rversion {
	c.t.Helper()
	r := &wire.Rversion{}
	c.sendTag(wire.NoTag, &wire.Tversion{Msize: msize, Version: v})
	c.recv(wire.NoTag, r)
	return r
}

func (c *rawClient) attach(fid uint32) {
	c.t.Helper()
	c.ok(&wire.Tattach{Fid: fid, Afid: wire.NoFid, UID: wire.NoUID}, &wire.Rattach{})
}

func (c *rawClient) sendTag(tag uint16, m wire.Message) {
	c.t.Helper()
	c.sendRaw(wire.AppendFrame(nil, tag, m))
}

func (c *rawClient) sendRaw(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// next is the next frame, decoded.
func (c *rawClient) next() (uint16, wire.Message) {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(patience))
	h, body, err := c.rd.ReadFrame()
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	m := wire.New(h.Type)
	if err := wire.Decode(h.Type, append([]byte(nil), body...), m); err != nil {
		c.t.Fatalf("reply: %v", err)
	}
	return h.Tag, m
}

// recv takes the reply with that tag, which must be the next frame, into m.
func (c *rawClient) recv(tag uint16, m wire.Message) {
	c.t.Helper()
	got, r := c.next()
	if got != tag {
		c.t.Fatalf("tag %d, want %d: %v", got, tag, r)
	}
	if e, ok := r.(*wire.Rlerror); ok {
		if me, ok := m.(*wire.Rlerror); ok {
			*me = *e
			return
		}
		c.t.Fatalf("%T: %v", m, syscall.Errno(e.Errno))
	}
	if r.Type() != m.Type() {
		c.t.Fatalf("%v, want %s", r, wire.TypeName(m.Type()))
	}
	frame := wire.AppendFrame(nil, tag, r)
	if err := wire.Decode(r.Type(), frame[wire.HeaderSize:], m); err != nil {
		c.t.Fatal(err)
	}
}

// ok does a request that must succeed.
func (c *rawClient) ok(t, r wire.Message) {
	c.t.Helper()
	c.tag = (c.tag + 1) % 1000
	c.sendTag(c.tag, t)
	c.recv(c.tag, r)
}

// fails does a request that must fail so.
func (c *rawClient) fails(t wire.Message, want syscall.Errno) {
	c.t.Helper()
	c.tag = (c.tag + 1) % 1000
	c.sendTag(c.tag, t)
	tag, m := c.next()
	e, ok := m.(*wire.Rlerror)
	if !ok || tag != c.tag || syscall.Errno(e.Errno) != want {
		c.t.Fatalf("%v\n gives %v %v, want %v", t, m, syscall.Errno(rlerrno(m)), want)
	}
}

func rlerrno(m wire.Message) uint32 {
	if e, ok := m.(*wire.Rlerror); ok {
		return e.Errno
	}
	return 0
}

// walk makes newFid.
func (c *rawClient) walk(fid, newFid uint32, names ...string) []wire.QID {
	c.t.Helper()
	var r wire.Rwalk
	c.ok(&wire.Twalk{Fid: fid, NewFid: newFid, Names: names}, &r)
	if len(r.QIDs) != len(names) {
		c.t.Fatalf("walk of %q: %d names found", names, len(r.QIDs))
	}
	return r.QIDs
}

func (c *rawClient) clunk(fid uint32) {
	c.t.Helper()
	c.ok(&wire.Tclunk{Fid: fid}, &wire.Rclunk{})
}

// hungUp checks that the server ends the connection.
func (c *rawClient) hungUp() {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(patience))
	for {
		if _, _, err := c.rd.ReadFrame(); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				c.t.Fatal("the server did not hang up")
			}
			return
		}
	}
}

// comes tells whether a frame comes within a short while.
func (c *rawClient) comes() bool {
	c.nc.SetReadDeadline(time.Now().Add(shortWhile))
	_, _, err := c.rd.ReadFrame()
	return err == nil
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		if cond() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}
