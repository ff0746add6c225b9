package p9srv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"echo9/internal/wire"
)

// Config says what a Server serves, to whom, and within which bounds. Zero values mean the defaults.
type Config struct {
	Backend   Backend
	Admission Admission // nil admits everything at once
	// Authority makes the server speak the extension; it is the Admission, too.
	Authority *Authority
	// Control, if any, is the tree with the aname StatusAname, in place of the Authority's.
	Control Backend
	Users   Users
	// MaxMsize is the largest msize that is agreed to (default 1 MiB).
	MaxMsize uint32
	// MaxFids bounds the fids of one connection (default 262,144).
	MaxFids int
	// MaxRequests bounds the requests of one connection that are not yet answered (default 16,384).
	MaxRequests int
	// Budget bounds, for each connection, the bytes of replies that the client has not taken
	// yet, and again the bytes of requests that wait (default 8 MiB, at least 4 MaxMsize).
	// A connection holds at most about twice that, one msize, and its fids.
	Budget int
	// Workers bounds the goroutines that work for one connection beside its leader (default 64).
	Workers int
	// HandOff is how long a leader may be in one operation before another goroutine
	// takes the lead (default 1 ms).
	HandOff time.Duration
	// Logf gets what an administrator wants to know; nil: nothing is logged.
	Logf func(format string, args ...any)
	// Trace gets every frame, as in "5 -> Tclunk tag 1 fid 2" (connection 5, from the client).
	// It is called with a lock of the connection held: it must be quick.
	Trace func(line string)
}

// Server serves a Backend. Make one with New.
type Server struct {
	cfg       Config
	admission Admission
	groups    groupCache
	mon       monitor
	noTurns   bool             // tests: a broken server, that does ordered requests in any order
	atTurn    func(tag uint16) // tests: runs when an ordered request is about to take its turn

	mu        sync.Mutex
	listeners map[Listener]struct{}
	conns     map[*conn]struct{}
	closing   bool
	gone      sync.Cond // a connection has ended
}

// Listener is where connections come from: a net.Listener, or less.
type Listener interface {
	Accept() (net.Conn, error)
	Close() error
}

// ErrClosed is what Serve returns after Shutdown.
var ErrClosed = errors.New("p9srv: server closed")

// New makes a Server. It has goroutines only while it has connections.
func New(cfg Config) *Server {
	if cfg.Backend == nil {
		panic("p9srv: no Backend")
	}
	if cfg.MaxMsize == 0 {
		cfg.MaxMsize = 1 << 20
	}
	cfg.MaxMsize = max(cfg.MaxMsize, wire.MinMsize)
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&cfg.MaxFids, 1<<18)
	def(&cfg.MaxRequests, 1<<14)
	def(&cfg.Budget, 8<<20)
	cfg.Budget = max(cfg.Budget, 4*int(cfg.MaxMsize))
	def(&cfg.Workers, 64)
	if cfg.HandOff <= 0 {
		cfg.HandOff = time.Millisecond
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	s := &Server{cfg: cfg, admission: cfg.Admission, listeners: map[Listener]struct{}{}, conns: map[*conn]struct{}{}}
	if cfg.Authority != nil {
		s.admission = cfg.Authority
	}
	s.gone.L = &s.mu
	s.mon.server, s.mon.wake = s, make(chan struct{}, 1)
	return s
}

// Serve accepts connections until the listener fails, ctx ends, or Shutdown
// (then the error is ErrClosed). It closes the listener.
func (s *Server) Serve(ctx context.Context, l Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		l.Close()
		return ErrClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer func() {
		stop()
		l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	var delay time.Duration
	for {
		nc, err := l.Accept()
		if err != nil {
			s.mu.Lock()
			closing := s.closing
			s.mu.Unlock()
			var ne net.Error
			switch {
			case closing:
				return ErrClosed
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &ne) && ne.Timeout(), isShortage(err):
				// Out of descriptors, most likely: connections that end give some back.
				delay = min(max(2*delay, 5*time.Millisecond), time.Second)
				s.cfg.Logf("accept: %v; again in %v", err, delay)
				select {
				case <-time.After(delay):
				case <-ctx.Done():
				}
				continue
			}
			return fmt.Errorf("accept: %w", err)
		}
		delay = 0
		go s.ServeConn(ctx, nc, PeerOf(nc))
	}
}

// ServeConn serves one connection until it ends, ctx ends or Shutdown, and closes it.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, peer Peer) error {
	c := newConn(s, nc, peer)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		nc.Close()
		return ErrClosed
	}
	s.conns[c] = struct{}{}
	s.mon.start()
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { c.hangUp(ctx.Err()) })
	defer stop()
	go c.lead()
	err := c.wait()
	s.mu.Lock()
	delete(s.conns, c)
	s.mon.poke()
	s.gone.Broadcast()
	s.mu.Unlock()
	return err
}

// Shutdown stops accepting, lets requests that run end and their replies go
// out, cancels those that wait, and closes the connections. When ctx ends
// first it hangs up. It returns when no connection is left, or with ctx's error: then nobody gets an answer any more, and
// what still runs has had hangUpTime to end.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	wake := func() {
		s.mu.Lock()
		s.gone.Broadcast()
		s.mu.Unlock()
	}
	defer context.AfterFunc(ctx, wake)()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 && ctx.Err() == nil {
		s.gone.Wait()
	}
	if len(s.conns) == 0 {
		return nil
	}
	s.mu.Unlock()
	for _, c := range s.snapshot(nil) {
		c.hangUp(ctx.Err())
	}
	late := time.Now().Add(hangUpTime)
	defer time.AfterFunc(hangUpTime, wake).Stop()
	s.mu.Lock()
	left := len(s.conns)
	for len(s.conns) > 0 && time.Now().Before(late) {
		s.gone.Wait()
	}
	return fmt.Errorf("shutdown with %d connections left: %w", left, ctx.Err())
}

// hangUpTime is how long requests that run may go on after their connections were hung up.
const hangUpTime = 2 * time.Second

// Close hangs up on everybody at once.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// snapshot is the connections there are now.
func (s *Server) snapshot(into []*conn) []*conn {
	into = into[:0]
	s.mu.Lock()
	for c := range s.conns {
		into = append(into, c)
	}
	s.mu.Unlock()
	return into
}
