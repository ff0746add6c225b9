package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/cachefs"
	"echo9/cachefs/spool"
	"echo9/internal/netaddr"
	"echo9/internal/treeops"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// connectSession connects as the flags say, uncached: for one command.
func connectSession(c *cli.Context) (*session, error) {
	addr, err := serverAddr(c, c.String("addr"))
	if err != nil {
		return nil, err
	}
	opt, err := clientOptions(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("connect-timeout"))
	defer cancel()
	backend, err := p9client.Dial(ctx, addr, opt)
	if err != nil {
		return nil, connectError(ctx, c, addr, err)
	}
	s := newSession(c, backend)
	s.sync = func(context.Context) error { return nil } // all is done when it returns
	s.barrier = func(context.Context, ...string) error { return nil }
	s.close = func() error {
		s.tree.Close()
		return backend.Close()
	}
	if c.Bool("verbose") {
		conn := backend.Conn()
		fmt.Fprintf(s.errw, "echo9: connected to %s: %s, msize %d\n", addr, conn.Version(), conn.Msize())
	}
	if s.tree, err = treeops.New(ctx, backend, s.cred, "", treeops.Options{Umask: s.umask}); err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	return s, nil
}

// scriptPatience is how long a command waits for a server that went away.
const scriptPatience = 30 * time.Second

// scriptSpool bounds what a script keeps of what it lost.
const scriptSpool = 1 << 30

// connectScript connects for many commands: with a cache that writes behind,
// if the server can and the flags do not say no.
func connectScript(c *cli.Context) (*session, error) {
	if c.Bool("plain") {
		return connectSession(c)
	}
	addr, err := serverAddr(c, c.String("addr"))
	if err != nil {
		return nil, err
	}
	o := cachefs.Options{Aname: c.String("aname"), Soft: scriptPatience, Logf: logger(c.App.ErrWriter)}
	if dir, err := spool.DefaultDir(); err == nil {
		o.Spool = spool.Open(dir, scriptSpool)
	}
	b, err := openCached(c, addr, o)
	if err != nil {
		return nil, err
	}
	s := newSession(c, b.Backend)
	s.sync = b.sync
	s.barrier = b.barrier
	if c.Bool("verbose") {
		fmt.Fprintf(s.errw, "echo9: connected to %s, %s\n", addr, b.kind())
	}
	if s.tree, err = treeops.New(c.Context, b.Backend, s.cred, "", treeops.Options{Umask: s.umask}); err != nil {
		return nil, errors.Join(err, b.drain(c.Context, logger(s.errw)))
	}
	s.close = func() error {
		s.tree.Close()
		return b.drain(c.Context, logger(s.errw))
	}
	return s, nil
}

func newSession(c *cli.Context, b p9srv.Backend) *session {
	return &session{
		backend: b, in: c.App.Reader, out: bufio.NewWriterSize(c.App.Writer, 64<<10), errw: c.App.ErrWriter,
		umask: umask(), cred: &p9srv.Cred{UID: uint32(c.Int("uid")), GID: uint32(os.Getegid())},
	}
}

// umask is this process's, which can only be read by setting it.
var umask = sync.OnceValue(func() uint32 {
	m := syscall.Umask(0o022)
	syscall.Umask(m)
	return uint32(m)
})

// serverAddr checks an address before it is tried: a wrong one is wrong usage.
func serverAddr(c *cli.Context, addr string) (string, error) {
	if addr == "" {
		return "", usageError("%s: which server? Say -a ADDR or set ECHO9_ADDR; `echo9 serve DIR` prints the address", c.Command.Name)
	}
	if _, err := netaddr.Parse(addr); err != nil {
		return "", usageError("%s: %v", c.Command.Name, err)
	}
	return addr, nil
}

// clientOptions are those of connectFlags.
func clientOptions(c *cli.Context) (p9client.Options, error) {
	opt := p9client.Options{Aname: c.String("aname")}
	if m := c.Int("msize"); m != 0 {
		if m < 4096 || m > 1<<30 {
			return opt, usageError("%s: --msize is %d; say between 4096 and 1073741824", c.Command.Name, m)
		}
		opt.Msize = uint32(m)
	}
	if uid := c.Int("uid"); uid < 0 || uid >= 1<<32-1 {
		return opt, usageError("%s: %d is no uid", c.Command.Name, uid)
	}
	uid := uint32(c.Int("uid"))
	opt.UID = &uid
	if c.Bool("trace") {
		opt.Trace = tracer(c.App.ErrWriter)
	}
	return opt, nil
}

// tracer prints lines, from many goroutines.
func tracer(w io.Writer) func(string) {
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(w, line)
	}
}

// connectError says what a failed connection means and what to do.
func connectError(ctx context.Context, c *cli.Context, addr string, err error) error {
	if c.Context.Err() != nil {
		return c.Context.Err()
	}
	advice := ""
	var frame *wire.FrameError
	var protocol *wire.ProtocolError
	switch {
	case ctx.Err() != nil:
		advice = fmt.Sprintf("\nno answer within %v; is something else listening there, or a firewall between? (--connect-timeout waits longer)", c.Duration("connect-timeout"))
	case errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.EPROTO), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.As(err, &frame), errors.As(err, &protocol):
		advice = "\nwhat listens there does not speak 9P2000.L"
	}
	return unreachable(fmt.Errorf("cannot reach the server at %s: %w%s", addr, err, advice))
}
