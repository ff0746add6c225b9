package slowproxy

import (
	"io"
	"net"
	"testing"

	"echo9/internal/wire"
)

// frame is a message without a body.
func frame(t uint8, tag uint16) []byte {
	return []byte{7, 0, 0, 0, t, byte(tag), byte(tag >> 8)}
}

// A chain of requests is as many rounds as it is long; requests at once are one; what is posted is none.
func TestRounds(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	server := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			server <- c
		}
		close(server)
	}()
	p, err := New(ln.Addr().String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := <-server
	if s == nil {
		t.Fatal("the proxy does not dial")
	}
	defer s.Close()
	pass := func(from, to net.Conn, typ uint8, tags ...uint16) {
		t.Helper()
		for _, tag := range tags {
			if _, err := from.Write(frame(typ, tag)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.ReadFull(to, make([]byte, 7*len(tags))); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(tags ...uint16) { pass(c, s, wire.TypeTgetattr, tags...) }
	answer := func(tags ...uint16) { pass(s, c, wire.TypeRgetattr, tags...) }
	want := func(what string, rounds, requests, replies int64) {
		t.Helper()
		n := p.Counts()
		if n.Rounds != rounds || n.Requests != requests || n.Replies != replies {
			t.Errorf("%s: %d rounds, %d requests, %d replies; want %d, %d, %d", what, n.Rounds, n.Requests, n.Replies, rounds, requests, replies)
		}
	}
	pass(c, s, wire.TypeTrecall, 9)
	for range 3 {
		ask(1)
		answer(1)
	}
	want("one after another", 3, 4, 3)
	ask(1, 2, 3)
	answer(3, 1, 2)
	want("three at once", 4, 7, 6)
	ask(1)
	ask(2)
	answer(2)
	ask(2)
	answer(1)
	answer(2)
	want("one that overlaps two", 6, 10, 9)
	pass(s, c, wire.TypeRrecall, 9)
	want("what is posted", 6, 10, 10)
}
