package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/internal/netaddr"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", ArgsUsage: "DIR", Usage: "export a directory over 9P2000.L",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: append(serverFlags(),
			&cli.StringSliceFlag{Name: "listen", Usage: "listen at `ADDR`; may be given many times (default: a private unix socket)"},
			&cli.StringFlag{Name: "as", Value: "self", Usage: "as whom those act who come by TCP or vsock: self, a uid, or client (as whom they say)"},
		),
		Description: `   echo9 serve DIR
   echo9 serve --listen 'tcp!127.0.0.1!5640' --listen unix!/run/x.sock DIR
   echo9 serve --listen 'tcp!*!564' --as 1000 --ro DIR

Prints the addresses, who can get in, and as whom they act. On a unix socket
the kernel says who somebody is. TCP has no passwords: whoever reaches the
port is let in as --as says.

May be stopped, killed and started again beneath its clients: mount and cache
come back by themselves and go on with what they had. After a start others wait
for them, for --grace at most. (A kernel's own 9P mount cannot come back: let
it use echo9 cache.)`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			return serve(c, c.Args().First())
		},
	}
}

// serverFlags are those of serve and up.
func serverFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "ro", Usage: "refuse every change"},
		&cli.DurationFlag{Name: "lease", Value: 10 * time.Second, Usage: "how long a client that has gone silent keeps its tokens"},
		&cli.DurationFlag{Name: "grace", Usage: "how long the clients of before are awaited after a start, at most (default: the lease)"},
		&cli.DurationFlag{Name: "courtesy", Value: 24 * time.Hour, Usage: "how long a client that has gone silent may come back to what nobody else wanted"},
		&cli.StringFlag{Name: "state", Usage: "the server's private `DIR`ectory, on the same file system (default: .echo9 in the export)"},
		&cli.StringFlag{Name: "durability", Value: "cut", Usage: "what a change that a client was told is durable survives: cut (a power failure) or os (the end of this process only: for scratch trees)"},
		&cli.BoolFlag{Name: "trace", Usage: "print every message of the wire on stderr"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say what is going on, on stderr"},
	}
}

// durability reads the flag of that name.
func durability(c *cli.Context) (dirfs.Durability, error) {
	switch d := c.String("durability"); d {
	case "cut":
		return dirfs.DurableCut, nil
	case "os":
		return dirfs.DurableOS, nil
	default:
		return 0, usageError("%s: --durability %q: say cut or os", c.Command.Name, d)
	}
}

// minLease leaves something of a lease after the client's margin.
const minLease = 500 * time.Millisecond

// export is a directory being served.
type export struct {
	fs        *dirfs.FS
	authority *p9srv.Authority
	server    *p9srv.Server
}

// openExport opens the directory and makes its server, which listens nowhere yet.
func openExport(c *cli.Context, dir string, users p9srv.Users) (*export, error) {
	if c.Duration("lease") < minLease {
		return nil, usageError("%s: a lease of %v is too short; say %v or more", c.Command.Name, c.Duration("lease"), minLease)
	}
	logf := func(string, ...any) {}
	if c.Bool("verbose") {
		logf = logger(c.App.ErrWriter)
	}
	durable, err := durability(c)
	if err != nil {
		return nil, err
	}
	fs, err := dirfs.Open(dir, dirfs.Options{
		State: c.String("state"), ReadOnly: c.Bool("ro"), Durability: durable, Logf: logger(c.App.ErrWriter), Groups: p9srv.GroupsOf,
	})
	if err != nil {
		return nil, exportError(err)
	}
	authority := p9srv.NewAuthority(p9srv.AuthorityConfig{
		Backend: fs, Users: users, Lease: c.Duration("lease"), Grace: c.Duration("grace"), Courtesy: c.Duration("courtesy"), Logf: logf,
		Noticef: logger(c.App.ErrWriter),
	})
	if err := authority.Restore(); err != nil {
		authority.Close()
		return nil, errors.Join(fmt.Errorf("serve %s: %w", fs.Dir(), err), fs.Close())
	}
	cfg := p9srv.Config{Backend: fs, Authority: authority, Users: users, Logf: logf}
	if c.Bool("trace") {
		cfg.Trace = tracer(c.App.ErrWriter)
	}
	return &export{fs, authority, p9srv.New(cfg)}, nil
}

// exportError says what to do about a directory that cannot be served.
func exportError(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w (make the directory first, or check its name)", err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w (only a directory can be served)", err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (serve as a user who may read and write it)", err)
	}
	return err
}

// shutdownTime bounds the wait for requests that are under way at the end.
const shutdownTime = 5 * time.Second

func (e *export) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	err := e.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = e.server.Close()
	}
	e.authority.Close()
	return errors.Join(err, e.fs.Close())
}

func logger(w io.Writer) func(string, ...any) {
	line := tracer(w)
	return func(format string, args ...any) { line("echo9: " + fmt.Sprintf(format, args...)) }
}

func serve(c *cli.Context, dir string) error {
	users, err := p9srv.ParseUsers(c.String("as"))
	if err != nil {
		return usageError("serve: --as: %v", err)
	}
	addrs, err := listenAddrs(c, dir)
	if err != nil {
		return err
	}
	e, err := openExport(c, dir, users)
	if err != nil {
		return err
	}
	mode := "read-write"
	if c.Bool("ro") {
		mode = "read-only"
	}
	var notes []string
	for _, note := range e.fs.Capabilities() {
		notes = append(notes, "host: "+note)
	}
	l := &listenersOf{addrs: addrs, users: users}
	err = l.serve(c, e.server, fmt.Sprintf("serving %s, %s\n", e.fs.Dir(), mode), notes)
	return errors.Join(err, e.close())
}

// listenAddrs reads --listen.
func listenAddrs(c *cli.Context, dir string) ([]netaddr.Addr, error) {
	var addrs []netaddr.Addr
	for _, s := range c.StringSlice("listen") {
		a, err := netaddr.Parse(s)
		if err != nil {
			return nil, usageError("%s: --listen: %v", c.Command.Name, err)
		}
		addrs = append(addrs, a)
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	a, err := netaddr.Private(socketName(dir))
	return []netaddr.Addr{a}, err
}

// socketName is the same for the same directory, so that the address of a
// server stays what it was.
func socketName(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	base := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, filepath.Base(abs))
	base = strings.TrimLeft(base, "-")
	if len(base) > 32 {
		base = base[:32]
	}
	sum := sha256.Sum256([]byte(abs))
	return strings.TrimLeft(fmt.Sprintf("%s-%x", base, sum[:4]), "-")
}

// listenersOf are the listeners of one server.
type listenersOf struct {
	addrs     []netaddr.Addr
	users     p9srv.Users
	listeners []net.Listener
	stdio     bool // stdout is a connection
}

// listen listens everywhere, or nowhere.
func (l *listenersOf) listen(c *cli.Context) error {
	for _, a := range l.addrs {
		nl, err := a.Listen(c.Context)
		if err != nil {
			l.close()
			return err
		}
		l.listeners = append(l.listeners, nl)
		l.stdio = l.stdio || a.Net == netaddr.Stdio
	}
	return nil
}

func (l *listenersOf) close() {
	for _, nl := range l.listeners {
		nl.Close()
	}
}

// describe says where the server is, who gets in, and as whom.
func (l *listenersOf) describe() string {
	var b strings.Builder
	for i, nl := range l.listeners {
		at := listening(l.addrs[i], nl)
		fmt.Fprintf(&b, "at %s\n   %s\n", at, whoGetsIn(at, l.users))
	}
	return b.String()
}

// accept serves until ctx ends, or a listener fails.
func (l *listenersOf) accept(ctx context.Context, server *p9srv.Server) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, nl := range l.listeners {
		wg.Go(func() {
			err := server.Serve(ctx, nl)
			if ctx.Err() == nil && err != nil && !errors.Is(err, io.EOF) {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// serve listens everywhere, says so, and serves until c's context ends.
func (l *listenersOf) serve(c *cli.Context, server *p9srv.Server, head string, notes []string) error {
	if err := l.listen(c); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(head + l.describe())
	for _, n := range notes {
		b.WriteString(n + "\n")
	}
	fmt.Fprintf(&b, "try: echo9 -a %s ls -l /\n", listening(l.addrs[0], l.listeners[0]))
	if l.stdio {
		fmt.Fprint(c.App.ErrWriter, b.String())
	} else {
		ready(c, b.String())
	}
	return l.accept(c.Context, server)
}

// listening is the address to paste: with the port that the system chose, and
// this machine's name where it listens at all addresses.
func listening(a netaddr.Addr, l net.Listener) netaddr.Addr {
	if a.Net != netaddr.TCP {
		return a
	}
	a = netaddr.Of(l.Addr())
	if a.Host == "" {
		if host, err := os.Hostname(); err == nil {
			a.Host = host
		}
	}
	return a
}

// whoGetsIn says who can connect, and as whom they act.
func whoGetsIn(a netaddr.Addr, users p9srv.Users) string {
	self := userName(uint32(os.Geteuid()))
	if a.Net == netaddr.Unix {
		if os.Geteuid() != 0 {
			return "who can open the socket: " + self + " and root; everybody acts as " + self
		}
		return "who can open the socket: root; acts as whom it names"
	}
	who := "anybody who reaches this port, over the network too"
	if a.IsLocal() {
		who = "any process of this machine"
	}
	if a.Net == netaddr.FD || a.Net == netaddr.Stdio {
		who = "who has the other end"
	}
	as := "acts as " + self + ", the server's own user"
	if os.Geteuid() == 0 {
		switch u := users.String(); u {
		case "client":
			as = "acts as whoever it says it is, root too (--as client)"
		case "self":
		default:
			uid, _ := strconv.ParseUint(u, 10, 32)
			as = "acts as " + userName(uint32(uid))
		}
	}
	return who + "; " + as
}

func userName(uid uint32) string {
	n := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(n); err == nil {
		return u.Username + " (uid " + n + ")"
	}
	return "uid " + n
}
