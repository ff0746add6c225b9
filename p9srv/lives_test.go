package p9srv

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv/stable"
)

// lives is a server in memory that dies and comes back. What it has in stable storage when it dies is what it knows then.
type lives struct {
	t   testing.TB
	fs  *memCommitter
	cfg AuthorityConfig
	now *atomic.Int64
	mut mutant

	mu     sync.Mutex
	stable *stable.State // durable
	stall  bool          // nothing becomes durable
	fail   error         // nor is anything accepted
	life   *life
	a      *Authority
	s      *Server
}

// life is the stable storage of one life of the server.
type life struct {
	*memCommitter
	l       *lives
	dead    bool
	waiting []noted // what is not durable yet
}

type noted struct {
	records []stable.Record
	done    func(error)
}

func newLives(t testing.TB, cfg AuthorityConfig) *lives {
	l := &lives{t: t, fs: newMemCommitter(), cfg: cfg, stable: stable.NewState(), now: newClock()}
	l.start()
	t.Cleanup(func() { l.crash() })
	return l
}

// newClock is a clock for leases that goes on only when it is told to.
func newClock() *atomic.Int64 {
	now := new(atomic.Int64)
	now.Store(int64(time.Hour))
	return now
}

// start begins a life.
func (l *lives) start() {
	l.t.Helper()
	l.life = &life{memCommitter: l.fs, l: l}
	cfg := l.cfg
	cfg.Backend, cfg.Clock, cfg.RecallDeadline = l.life, l.now.Load, 20*time.Millisecond
	cfg.Logf = l.t.Logf
	l.a = NewAuthority(cfg)
	l.a.mutant = l.mut
	if err := l.a.Restore(); err != nil {
		l.t.Fatal(err)
	}
	l.s = New(Config{Backend: l.life, Authority: l.a, Logf: l.t.Logf})
}

// crash ends it: what is not durable is gone, and nobody hears from it any more.
func (l *lives) crash() {
	l.mu.Lock()
	l.life.dead, l.life.waiting = true, nil
	l.stall, l.fail = false, nil
	l.mu.Unlock()
	l.s.Close()
	l.a.Close()
	for s := range uint64(100) {
		l.fs.locks.DropSession(s)
	}
}

func (l *lives) restart() {
	l.t.Helper()
	l.crash()
	l.start()
}

// pass lets time go by.
func (l *lives) pass(d time.Duration) { l.now.Add(int64(d)) }

// set changes what the store does, and lets go on what waits if it can.
func (l *lives) set(stall bool, fail error) {
	l.mu.Lock()
	l.stall, l.fail = stall, fail
	l.life.flush()
	l.mu.Unlock()
}

// Sessions implements Durable.
func (l *life) Sessions() Sessions { return l }

// Known implements Sessions.
func (l *life) Known() *stable.State {
	l.l.mu.Lock()
	defer l.l.mu.Unlock()
	return l.l.stable.Clone()
}

// LastCut implements Sessions.
func (l *life) LastCut(client [16]byte) uint64 { return l.lastCut(client) }

// Note implements Sessions.
func (l *life) Note(done func(error), records ...stable.Record) {
	l.l.mu.Lock()
	defer l.l.mu.Unlock()
	switch {
	case l.dead:
	case l.l.fail != nil:
		if err := l.l.fail; done != nil {
			go done(err)
		}
	default:
		l.waiting = append(l.waiting, noted{records, done})
		if done != nil {
			l.flush()
		}
	}
}

// flush makes durable what was noted. lives.mu is held.
func (l *life) flush() {
	if l.dead || l.l.stall || l.l.fail != nil {
		return
	}
	for _, n := range l.waiting {
		for i := range n.records {
			l.l.stable.Apply(&n.records[i])
		}
		if n.done != nil {
			go n.done(nil)
		}
	}
	l.waiting = nil
}

// traveller is a client with a session that goes on in another life.
type traveller struct {
	*extClient
	l    *lives
	name string
}

func (l *lives) client(name string) *traveller {
	l.t.Helper()
	return &traveller{dialExt(l.t, l.s, name), l, name}
}

func (c *traveller) tsession(flags uint32) *wire.Tsession {
	m := &wire.Tsession{Flags: flags, Name: c.name, Users: []uint32{0}}
	copy(m.Client[:], c.name)
	copy(m.Secret[:], "secret of "+c.name)
	return m
}

// comeBack resumes on a new connection.
func (c *traveller) comeBack() *wire.Rsession {
	c.t.Helper()
	c.extClient = &extClient{rawClient: dialServer(c.t, c.l.s), got: map[uint16]wire.Message{}}
	c.version(1<<20, wire.ExtVersion)
	r, ok := c.do(c.tsession(wire.SessionResume)).(*wire.Rsession)
	if !ok {
		c.t.Fatalf("%s does not come back: %v", c.name, r)
	}
	c.s = *r
	return r
}

// reclaim asks for objects, writes to be told by a negative id, with the version that they have, and gives what came.
func (c *traveller) reclaim(ids ...int) []wire.Granted {
	c.t.Helper()
	m := &wire.Tgrant{Flags: wire.GrantReclaim}
	for _, id := range ids {
		e := readElem(uint64(max(id, -id)))
		if id < 0 {
			e.Mode = 2
		}
		c.l.fs.mu.Lock()
		if n := c.l.fs.nodes[e.ID]; n != nil {
			e.Version = n.version
		}
		c.l.fs.mu.Unlock()
		m.Elems = append(m.Elems, e)
	}
	r, ok := c.do(m).(*wire.Rgrant)
	if !ok || len(r.Tokens) != len(ids) {
		c.t.Fatalf("reclaim: %v", r)
	}
	return r.Tokens
}

func (c *traveller) complete() {
	c.t.Helper()
	if r, ok := c.do(&wire.Tgrant{Flags: wire.GrantReclaimComplete}).(*wire.Rgrant); !ok {
		c.t.Fatalf("reclaim complete: %v", r)
	}
}

// modes gives what a reclaim brought.
func modes(tokens []wire.Granted) (m []uint8) {
	for _, t := range tokens {
		m = append(m, t.Mode)
	}
	return m
}

func wantModes(t testing.TB, what string, got []wire.Granted, want ...uint8) {
	t.Helper()
	if !slices.Equal(modes(got), want) {
		t.Errorf("%s: reclaimed %v, want %v", what, modes(got), want)
	}
}

func fenceFor(g wire.Granted) []cut.Fence { return []cut.Fence{{ID: g.ID, Gen: g.Gen, Mode: g.Mode}} }

func dataOf(id uint64, s string) cut.Record {
	return cut.Record{Kind: cut.Data, ID: id, Bytes: []byte(s)}
}

// asked is closed when a plain client has its answer.
type asked chan struct{}

// asks has a plain client ask for the attributes of a file.
func (l *lives) asks(name string) asked {
	l.t.Helper()
	p, done := dialRaw(l.t, l.s), make(asked)
	go func() {
		for i, m := range []wire.Message{&wire.Twalk{Fid: 0, NewFid: 1, Names: []string{name}}, &wire.Tgetattr{Fid: 1}} {
			if _, err := p.nc.Write(wire.AppendFrame(nil, uint16(5+i), m)); err != nil {
				return
			}
			p.nc.SetReadDeadline(time.Time{})
			if _, _, err := p.rd.ReadFrame(); err != nil {
				return
			}
		}
		close(done)
	}()
	return done
}

// answered tells whether it is answered within a short while.
func (a asked) answered() bool { return a.within(shortWhile) }

func (a asked) within(d time.Duration) bool {
	select {
	case <-a:
		return true
	case <-time.After(d):
		return false
	}
}

var errDisk = errors.New("the disk has failed")
