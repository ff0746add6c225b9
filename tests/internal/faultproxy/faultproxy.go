// Package faultproxy is a TCP proxy on loopback that does to 9P connections what
// networks do: it delays them, stops them in one direction or both, cuts them, leaves
// one side believing in a connection that the other has given up; and it can have something
// happen just before or after the n-th message of a kind. It never changes or reorders what passes.
//
// # Concurrency
//
// All methods may be called at any time, also from what a Trap does.
package faultproxy

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// maxFrame bounds a message; what is longer ends its connection.
const maxFrame = 64 << 20

// Trap is something that happens once, at a message.
type Trap struct {
	Type  uint8  // of the message
	N     int    // the how-manyth from now on
	After bool   // when it was passed on; else it is passed on after Do, if there is still a connection
	Do    func() // runs in the way of the message
}

// Proxy forwards connections to a target.
type Proxy struct {
	target string
	ln     net.Listener
	byType [256]atomic.Int64

	mu      sync.Mutex // guards what follows
	changed *sync.Cond // blocked or links has changed
	links   map[*link]bool
	blocked [2]bool // towards the server, towards the client
	refuse  bool
	delay   time.Duration
	trap    *Trap
}

// link is a connection of a client and the one that continues it.
type link struct {
	client, server net.Conn
	half, over     bool // guarded by the Proxy's mu
}

// New listens on loopback and forwards to the TCP address target ("host:port").
func New(target string) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the proxy: %w", err)
	}
	return On(ln, target), nil
}

// On is New with a listener that is there: in another network, perhaps.
func On(ln net.Listener, target string) *Proxy {
	p := &Proxy{target: target, ln: ln, links: map[*link]bool{}}
	p.changed = sync.NewCond(&p.mu)
	go p.accept()
	return p
}

// Addr is where clients dial, "host:port".
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Type tells how many messages of one type have passed.
func (p *Proxy) Type(t uint8) int64 { return p.byType[t].Load() }

// Cut breaks all connections for both sides; new ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.over = true
		l.client.Close()
		l.server.Close()
	}
	p.changed.Broadcast()
}

// HalfOpen breaks all connections for the server, while the clients see nothing but silence until they are Cut.
func (p *Proxy) HalfOpen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.half = true
		l.server.Close()
	}
	p.changed.Broadcast()
}

// Block holds back what goes to the server, and to the client: until it is called again, or the connection is cut.
func (p *Proxy) Block(toServer, toClient bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = [2]bool{toServer, toClient}
	p.changed.Broadcast()
}

// Refuse ends new connections at once, or takes them again.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Delay holds each message back for so long.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Arm sets a trap, in place of one that has not sprung; nil takes it away.
func (p *Proxy) Arm(t *Trap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = t
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.ln.Close()
	p.Cut()
}

func (p *Proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse
		p.mu.Unlock()
		if refuse {
			c.Close()
			continue
		}
		s, err := net.Dial("tcp", p.target)
		if err != nil {
			c.Close()
			continue
		}
		l := &link{client: c, server: s}
		p.mu.Lock()
		p.links[l] = true
		p.mu.Unlock()
		go p.pump(l, c, s, 0)
		go p.pump(l, s, c, 1)
	}
}

// pump passes messages on in one direction.
func (p *Proxy) pump(l *link, from, to net.Conn, dir int) {
	defer p.end(l)
	r := bufio.NewReaderSize(from, 64<<10)
	for {
		frame, err := read(r)
		if err != nil {
			return
		}
		trap := p.springs(frame[4])
		if trap != nil && !trap.After {
			trap.Do()
		}
		if !p.wait(l, dir) {
			return
		}
		if _, err := to.Write(frame); err != nil {
			return
		}
		p.byType[frame[4]].Add(1)
		if trap != nil && trap.After {
			trap.Do()
		}
	}
}

func read(r *bufio.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 7 || n > maxFrame {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	frame := make([]byte, n)
	copy(frame, head[:])
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// springs counts a message, and gives the trap that it springs.
func (p *Proxy) springs(typ uint8) *Trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trap
	if t == nil || t.Type != typ {
		return nil
	}
	if t.N--; t.N > 0 {
		return nil
	}
	p.trap = nil
	return t
}

// wait waits until a message may be passed on; false: there is no connection any more.
func (p *Proxy) wait(l *link, dir int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.delay; d > 0 {
		p.mu.Unlock()
		time.Sleep(d)
		p.mu.Lock()
	}
	for p.blocked[dir] && !l.over && !l.half {
		p.changed.Wait()
	}
	return !l.over && !l.half
}

// end ends a link, for the client only when it is cut if it is half open.
func (p *Proxy) end(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l.half && !l.over {
		p.changed.Wait()
	}
	l.over = true
	l.client.Close()
	l.server.Close()
	delete(p.links, l)
	p.changed.Broadcast()
}
