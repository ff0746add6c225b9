package badinput

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
)

// raw speaks frames to a server, true or not.
type raw struct {
	t   *testing.T
	nc  net.Conn
	rd  *wire.Reader
	tag uint16
	got map[uint16]wire.Message // replies that nobody has asked for yet
	s   wire.Rsession           // with a session
}

// connect opens a connection without a word.
func connect(t *testing.T, addr string) *raw {
	t.Helper()
	nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix!"))
	must(t, err)
	t.Cleanup(func() { nc.Close() })
	return &raw{t: t, nc: nc, rd: wire.NewReader(nc, 1<<26), got: map[uint16]wire.Message{}}
}

// dial connects, agrees on a version, and attaches as fid 0.
func dial(t *testing.T, addr string, msize uint32, version string) *raw {
	t.Helper()
	c := connect(t, addr)
	c.send(wire.NoTag, &wire.Tversion{Msize: msize, Version: version})
	if r, ok := c.reply(wire.NoTag).(*wire.Rversion); !ok || r.Version != version {
		t.Fatalf("version: %v", r)
	}
	return c
}

// plain is a client without the extension, attached as fid 0.
func plain(t *testing.T, addr string) *raw {
	t.Helper()
	c := dial(t, addr, 1<<20, wire.Version9P)
	c.ok(&wire.Tattach{Fid: 0, Afid: wire.NoFid, UID: 0})
	return c
}

// session is a client with a session that may act for the users.
func session(t *testing.T, addr, name string, users ...uint32) *raw {
	t.Helper()
	c := dial(t, addr, 1<<20, wire.ExtVersion)
	r, ok := c.ok(opening(name, users...)).(*wire.Rsession)
	if !ok {
		t.Fatalf("session: %v", r)
	}
	c.s = *r
	return c
}

func opening(name string, users ...uint32) *wire.Tsession {
	m := &wire.Tsession{Name: name, Users: users}
	copy(m.Client[:], name)
	copy(m.Secret[:], "secret of "+name)
	return m
}

func (c *raw) bytes(b []byte) error {
	c.t.Helper()
	must(c.t, c.nc.SetWriteDeadline(time.Now().Add(patience)))
	_, err := c.nc.Write(b)
	return err
}

func (c *raw) send(tag uint16, m wire.Message) {
	c.t.Helper()
	if err := c.bytes(wire.AppendFrame(nil, tag, m)); err != nil {
		c.t.Fatalf("sending %v: %v", m, err)
	}
}

// next takes the next frame.
func (c *raw) next() (uint16, wire.Message, error) {
	must(c.t, c.nc.SetReadDeadline(time.Now().Add(patience)))
	h, body, err := c.rd.ReadFrame()
	if err != nil {
		return 0, nil, err
	}
	m := wire.New(h.Type)
	if m == nil {
		c.t.Fatalf("a reply of type %d", h.Type)
	}
	must(c.t, wire.Decode(h.Type, append([]byte(nil), body...), m))
	return h.Tag, m, nil
}

// reply waits for the answer to tag.
func (c *raw) reply(tag uint16) wire.Message {
	c.t.Helper()
	for c.got[tag] == nil {
		got, m, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for the answer to tag %d: %v", tag, err)
		}
		c.got[got] = m
	}
	m := c.got[tag]
	delete(c.got, tag)
	return m
}

func (c *raw) do(m wire.Message) wire.Message {
	c.t.Helper()
	c.tag = (c.tag+1)%1000 + 60_000
	c.send(c.tag, m)
	return c.reply(c.tag)
}

// ok does what must succeed.
func (c *raw) ok(m wire.Message) wire.Message {
	c.t.Helper()
	r := c.do(m)
	if e, bad := r.(*wire.Rlerror); bad {
		c.t.Fatalf("%v: %v", m, syscall.Errno(e.Errno))
	}
	return r
}

// refused does what must be refused, with one of the errors if there are any, and never with EIO.
func (c *raw) refused(m wire.Message, want ...syscall.Errno) {
	c.t.Helper()
	e, bad := c.do(m).(*wire.Rlerror)
	if !bad {
		c.t.Errorf("%v is not refused", m)
		return
	}
	errno := syscall.Errno(e.Errno)
	fits := len(want) == 0 && errno != syscall.EIO && errno != 0
	for _, w := range want {
		fits = fits || errno == w
	}
	if !fits {
		c.t.Errorf("%v: %v; %v is due", m, errno, want)
	}
}

// hungUp checks that the server ends the connection.
func (c *raw) hungUp(what string) {
	c.t.Helper()
	for {
		_, _, err := c.next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Errorf("%s: the server does not hang up", what)
		}
		if err != nil {
			return
		}
	}
}

// drain takes whatever comes and looks at none of it.
func (c *raw) drain() {
	_ = c.nc.SetReadDeadline(time.Now().Add(patience)) // it may be closed already
	_, _ = io.Copy(io.Discard, c.nc)
}

// walk gives newFid the place of the names and tells its object's id.
func (c *raw) walk(fid, newFid uint32, names ...string) uint64 {
	c.t.Helper()
	r := c.ok(&wire.Twalk{Fid: fid, NewFid: newFid, Names: names}).(*wire.Rwalk)
	if len(r.QIDs) != len(names) {
		c.t.Fatalf("walk of %q: %d names are there", names, len(r.QIDs))
	}
	if len(names) == 0 {
		return 0
	}
	return r.QIDs[len(names)-1].Path
}

// grant takes tokens.
func (c *raw) grant(elems ...wire.GrantElem) []wire.Granted {
	c.t.Helper()
	return c.ok(&wire.Tgrant{Elems: elems}).(*wire.Rgrant).Tokens
}

func fence(tokens []wire.Granted) (f []cut.Fence) {
	for _, g := range tokens {
		if g.Mode != 0 {
			f = append(f, cut.Fence{ID: g.ID, Gen: g.Gen, Mode: g.Mode})
		}
	}
	return f
}

// commit sends a cut in one part.
func (c *raw) commit(number uint64, f []cut.Fence, records ...cut.Record) *wire.Rcommit {
	c.t.Helper()
	r, ok := c.do(&wire.Tcommit{Cut: number, Flags: wire.CommitLast, Fence: f, Records: records}).(*wire.Rcommit)
	if !ok {
		c.t.Fatal("a cut is not answered by Rcommit")
	}
	return r
}
