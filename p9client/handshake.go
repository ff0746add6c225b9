package p9client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"echo9/internal/netaddr"
	"echo9/internal/wire"
)

// DialConn connects to a server at addr, in any notation of netaddr, and agrees
// on a version. With Options.Extension it asks for wire.ExtVersion first; a
// server that answers with another version, with an error, or by hanging up is
// asked for plain 9P2000.L.
func DialConn(ctx context.Context, addr string, o Options) (*Conn, error) {
	a, err := netaddr.Parse(addr)
	if err != nil {
		return nil, err
	}
	nc, err := a.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c, err := handshake(ctx, nc, o, a.Dial)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	return c, nil
}

// NewConn agrees on a version over nc, which then belongs to the Conn; it is
// closed when that fails. It is DialConn over a connection that is there, so it
// cannot ask again when the server hangs up.
func NewConn(ctx context.Context, nc net.Conn, o Options) (*Conn, error) {
	return handshake(ctx, nc, o, nil)
}

func handshake(ctx context.Context, nc net.Conn, o Options, redial func(context.Context) (net.Conn, error)) (*Conn, error) {
	if o.Msize == 0 {
		o.Msize = DefaultMsize
	}
	if o.Msize < wire.MinMsize {
		nc.Close()
		return nil, fmt.Errorf("msize %d is too small: at least %d: %w", o.Msize, wire.MinMsize, syscall.EINVAL)
	}
	return negotiate(ctx, nc, o, redial)
}

// negotiate asks for what the options want. It closes the connections that it does not return.
func negotiate(ctx context.Context, nc net.Conn, o Options, redial func(context.Context) (net.Conn, error)) (*Conn, error) {
	rd := wire.NewReader(nc, o.Msize)
	ask := wire.Version9P
	if o.Extension {
		ask = wire.ExtVersion
	}
	r, err := version(ctx, nc, rd, o, ask)
	if o.Extension && (err == nil && r.Version != ask && !isPlain(r) || isRefusal(err)) {
		ask = wire.Version9P
		r, err = version(ctx, nc, rd, o, ask)
	}
	if o.Extension && hungUp(err) && redial != nil {
		nc.Close()
		if nc, err = redial(ctx); err != nil {
			return nil, err
		}
		ask, rd = wire.Version9P, wire.NewReader(nc, o.Msize)
		r, err = version(ctx, nc, rd, o, ask)
	}
	if err == nil && r.Version != ask && !isPlain(r) {
		err = fmt.Errorf("the server speaks %q, not %s: %w", r.Version, wire.Version9P, syscall.EPROTONOSUPPORT)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return agreed(nc, rd, o, r)
}

// isPlain tells whether a server answered with plain 9P2000.L, to be used as it is.
func isPlain(r *wire.Rversion) bool {
	return r.Version == wire.Version9P && r.Msize >= wire.MinMsize
}

func isRefusal(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// refusal is an Rlerror to Tversion.
type refusal struct{ errno syscall.Errno }

func (r *refusal) Error() string { return "the server refuses the version: " + r.errno.Error() }
func (r *refusal) Unwrap() error { return r.errno }

// hungUp tells whether err is that of a peer which went away.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}

// version asks for one version.
func version(ctx context.Context, nc net.Conn, rd *wire.Reader, o Options, want string) (*wire.Rversion, error) {
	stop := context.AfterFunc(ctx, func() {
		if nc.SetDeadline(time.Unix(1, 0)) != nil { // a file that cannot wait with a deadline
			nc.Close()
		}
	})
	r, err := versionRPC(nc, rd, o, want)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("asking for version %s: %w", want, err)
	}
	return r, nil
}

func versionRPC(nc net.Conn, rd *wire.Reader, o Options, want string) (*wire.Rversion, error) {
	t := &wire.Tversion{Msize: o.Msize, Version: want}
	if o.Trace != nil {
		o.Trace(wire.Trace(wire.NoTag, t))
	}
	if _, err := nc.Write(wire.AppendFrame(nil, wire.NoTag, t)); err != nil {
		return nil, err
	}
	h, body, err := rd.ReadFrame()
	if err != nil {
		return nil, err
	}
	m := wire.Message(&wire.Rversion{})
	if h.Type == wire.TypeRlerror {
		m = &wire.Rlerror{}
	}
	if err := wire.Decode(h.Type, body, m); err != nil {
		return nil, err
	}
	if o.Trace != nil {
		o.Trace(wire.Trace(h.Tag, m))
	}
	if e, ok := m.(*wire.Rlerror); ok {
		return nil, &refusal{syscall.Errno(e.Errno)}
	}
	return m.(*wire.Rversion), nil
}

// agreed makes the Conn after a good Rversion.
func agreed(nc net.Conn, rd *wire.Reader, o Options, r *wire.Rversion) (*Conn, error) {
	switch {
	case r.Msize < wire.MinMsize:
		nc.Close()
		return nil, fmt.Errorf("the server's msize %d is too small: at least %d: %w", r.Msize, wire.MinMsize, syscall.EPROTO)
	case r.Msize > o.Msize:
		nc.Close()
		return nil, fmt.Errorf("bad reply: Rversion with msize %d where %d was asked for: %w", r.Msize, o.Msize, syscall.EPROTO)
	}
	rd.SetMax(r.Msize)
	c := &Conn{
		nc: nc, rd: rd, version: r.Version, msize: r.Msize, trace: o.Trace,
		ext:  r.Version == wire.ExtVersion,
		done: make(chan struct{}), finished: make(chan struct{}), kick: make(chan struct{}, 1),
	}
	c.idle.L = &c.mu
	go c.read()
	go c.write()
	return c, nil
}
