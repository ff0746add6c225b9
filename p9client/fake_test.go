package p9client

import (
	"context"
	"io"
	"net"
	"testing"

	"echo9/internal/wire"
)

// peer is the server's end of a connection, by hand.
type peer struct {
	t  testing.TB
	nc net.Conn
	rd *wire.Reader
}

func newPeer(t testing.TB, nc net.Conn) *peer {
	return &peer{t, nc, wire.NewReader(nc, 1<<24)}
}

// next takes the next request.
func (p *peer) next() (uint16, wire.Message) {
	h, body, err := p.rd.ReadFrame()
	if err != nil {
		if err != io.EOF {
			p.t.Errorf("peer: %v", err)
		}
		return wire.NoTag, nil
	}
	m := wire.New(h.Type)
	if err := wire.Decode(h.Type, append([]byte(nil), body...), m); err != nil {
		p.t.Errorf("peer: %v", err)
	}
	return h.Tag, m
}

func (p *peer) send(tag uint16, m wire.Message) { p.raw(wire.AppendFrame(nil, tag, m)) }

func (p *peer) raw(b []byte) {
	if _, err := p.nc.Write(b); err != nil {
		p.t.Logf("peer: %v", err)
	}
}

// version answers Tversion as asked.
func (p *peer) version() {
	tag, m := p.next()
	if v, ok := m.(*wire.Tversion); ok {
		p.send(tag, &wire.Rversion{Msize: v.Msize, Version: v.Version})
	}
}

// pair is a Conn whose server is by hand.
func pair(t testing.TB, o Options) (*Conn, *peer) {
	t.Helper()
	a, b := net.Pipe()
	p := newPeer(t, b)
	go p.version()
	c, err := NewConn(context.Background(), a, o)
	if err != nil {
		t.Fatal(err)
	}
	return c, p
}

// end closes the Conn and waits for its goroutines' last words.
func end(t testing.TB, c *Conn) {
	t.Helper()
	c.Close()
	<-c.finished
}
