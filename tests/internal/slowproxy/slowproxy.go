// Package slowproxy is a TCP proxy on loopback for tests and benchmarks: it
// adds a round-trip time, counts the 9P frames and bytes that pass, and can cut
// all connections. It never changes or reorders what passes.
package slowproxy

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"echo9/internal/wire"
)

// Proxy forwards connections to a target.
type Proxy struct {
	target string
	delay  time.Duration // one way
	rate   int64         // bytes a second in each direction of a connection; 0: any number
	ln     net.Listener

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool

	requests, replies, rounds, sent, received atomic.Int64
	byType                                    [256]atomic.Int64
}

// Counts is what has passed so far. Messages from the client are requests.
type Counts struct {
	Requests, Replies int64
	// Rounds are round trips one after another: the length of the longest chain of requests in which
	// each was sent after the reply to the one before had come. Who waited, waited for no more than these.
	Rounds         int64
	Sent, Received int64 // bytes, as the client sees it
}

// Sub gives what passed since b.
func (a Counts) Sub(b Counts) Counts {
	return Counts{a.Requests - b.Requests, a.Replies - b.Replies, a.Rounds - b.Rounds, a.Sent - b.Sent, a.Received - b.Received}
}

// New listens on loopback and forwards to the TCP address target ("host:port") or, with a leading '/', a unix socket,
// adding rtt to every round trip.
func New(target string, rtt time.Duration) (*Proxy, error) { return NewLink(target, rtt, 0) }

// NewLink is New with a limit to the bytes that pass in a second, in each direction of each connection. What waits
// for its turn is 1 MiB at most.
func NewLink(target string, rtt time.Duration, rate int64) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the proxy: %w", err)
	}
	p := &Proxy{target: target, delay: rtt / 2, rate: rate, ln: ln, conns: map[net.Conn]bool{}}
	go p.accept()
	return p, nil
}

// Addr is where clients dial, "host:port".
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Counts tells what has passed.
func (p *Proxy) Counts() Counts {
	return Counts{p.requests.Load(), p.replies.Load(), p.rounds.Load(), p.sent.Load(), p.received.Load()}
}

// Type tells how many messages of one type have passed, in either direction.
func (p *Proxy) Type(t uint8) int64 { return p.byType[t].Load() }

// Cut breaks all connections; new ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
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
		network := "tcp"
		if p.target[0] == '/' {
			network = "unix"
		}
		s, err := net.Dial(network, p.target)
		if err != nil {
			c.Close()
			continue
		}
		p.mu.Lock()
		p.conns[c], p.conns[s] = true, true
		p.mu.Unlock()
		chain := rounds{total: &p.rounds, depth: make(map[uint16]int64)}
		// A request counts when the client has sent it, a reply before the client has it.
		var requests, replies counter
		go p.pump(c, s, func(b []byte) {
			p.sent.Add(int64(len(b)))
			requests.feed(b, func(t uint8, tag uint16) { p.requests.Add(1); p.byType[t].Add(1); chain.request(t, tag) })
		}, func([]byte) {})
		go p.pump(s, c, func([]byte) {}, func(b []byte) {
			p.received.Add(int64(len(b)))
			replies.feed(b, func(t uint8, tag uint16) { p.replies.Add(1); p.byType[t].Add(1); chain.reply(tag) })
		})
	}
}

const chunkSize = 256 << 10

type chunk struct {
	due  time.Time
	data []byte
}

// pump copies from one side to the other, each piece delay after it came, and shows the pieces.
func (p *Proxy) pump(from, to net.Conn, came, goes func([]byte)) {
	waiting := 4096
	if p.rate > 0 {
		waiting = (1 << 20) / chunkSize
	}
	queue := make(chan chunk, waiting)
	go func() {
		defer close(queue)
		for {
			buf := make([]byte, chunkSize)
			n, err := from.Read(buf)
			if n > 0 {
				came(buf[:n])
				queue <- chunk{time.Now().Add(p.delay), buf[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	var free time.Time // when the link has passed on what came before
	for c := range queue {
		if p.rate > 0 {
			if c.due.Before(free) {
				c.due = free
			}
			c.due = c.due.Add(time.Duration(int64(len(c.data)) * int64(time.Second) / p.rate))
			free = c.due
		}
		if p.delay > 0 || p.rate > 0 {
			time.Sleep(time.Until(c.due))
		}
		goes(c.data)
		if _, err := to.Write(c.data); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	for range queue { // let the reader end
	}
	p.mu.Lock()
	delete(p.conns, from)
	delete(p.conns, to)
	p.mu.Unlock()
}

// rounds follows the requests of one connection: the depth of one is one more than that of the
// deepest that was answered before it was sent.
type rounds struct {
	total *atomic.Int64

	mu       sync.Mutex // guards the rest
	answered int64
	depth    map[uint16]int64 // by tag
}

func (r *rounds) request(t uint8, tag uint16) {
	if t == wire.TypeTrecall {
		return // is left with the server until that wants something: nobody waits
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.depth[tag] = r.answered + 1
}

func (r *rounds) reply(tag uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.depth[tag]; d > r.answered {
		r.total.Add(d - r.answered)
		r.answered = d
	}
	delete(r.depth, tag)
}

// counter finds the frames of a 9P stream: size[4] type[1] tag[2] ….
type counter struct {
	head [7]byte
	have int
	skip int
}

func (c *counter) feed(b []byte, frame func(t uint8, tag uint16)) {
	for len(b) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(b))
			c.skip -= n
			b = b[n:]
			continue
		}
		n := copy(c.head[c.have:], b)
		c.have += n
		b = b[n:]
		if c.have == len(c.head) {
			frame(c.head[4], binary.LittleEndian.Uint16(c.head[5:]))
			c.skip = max(0, int(binary.LittleEndian.Uint32(c.head[:4]))-len(c.head))
			c.have = 0
		}
	}
}
