package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", ArgsUsage: "[MNT or ADDR]", Usage: "say how a mount or a server stands, or list all mounts",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print JSON, one value a line"},
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "look again and again, until interrupted"},
			&cli.DurationFlag{Name: "every", Value: time.Second, Usage: "with --watch, look so often"},
		}, withoutAname(connectFlags())...),
		Description: `   echo9 status
   echo9 status /mnt/src
   echo9 status --json /mnt/src | jq .status.pending
   echo9 status --watch tcp!server!5640
   echo9 status --json tcp!server!5640 | jq '.waiting[] | [.who, .since_ns, .for]'

Of a mount: what is not at the server yet, what is cached, what has happened.
Of a server: its sessions, who holds how many tokens, and who waits for whom:
the slowest first. Root and the server's own user see all of it, others what
is theirs. The same is in the tree that the server has as .echo9, for any
client: mount -t 9p -o aname=.echo9,version=9p2000.L,…`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 0, 1); err != nil {
				return err
			}
			look, err := statusOf(c)
			if err != nil {
				return err
			}
			if c.Bool("watch") {
				return watch(c, look)
			}
			return look(c.Context, c.App.Writer)
		},
	}
}

// withoutAname leaves -a and --aname out, for commands that know where to look.
func withoutAname(flags []cli.Flag) []cli.Flag { return flags[2:] }

// statusOf decides of what the status is asked, and gives what prints it, as often as it is called.
func statusOf(c *cli.Context) (func(context.Context, io.Writer) error, error) {
	what := c.Args().First()
	switch {
	case c.NArg() == 0:
		return func(_ context.Context, w io.Writer) error { return listMounts(c, w) }, nil
	case isServer(what):
		addr, err := serverAddr(c, what)
		if err != nil {
			return nil, err
		}
		if _, err := clientOptions(c); err != nil {
			return nil, err
		}
		return func(ctx context.Context, w io.Writer) error { return serverStatus(ctx, c, addr, w) }, nil
	}
	if _, err := findMount("status", what); err != nil {
		return nil, err
	}
	return func(ctx context.Context, w io.Writer) error {
		m, err := findMount("status", what)
		if err != nil {
			return err
		}
		return m.print(ctx, w, c.Bool("json"))
	}, nil
}

// isServer tells addresses from mount points: by what they look like, unless there is something of that name. A mount point itself is
// not looked at: its server may be gone.
func isServer(what string) bool {
	if path, err := mountpoint(what); err == nil {
		if mounted, _, _ := mountAt(path); mounted {
			return false
		}
	}
	st, err := os.Lstat(what)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return err == nil && st.Mode()&os.ModeSocket != 0
	}
	return strings.ContainsAny(what, "!:")
}

// watch looks until c's context ends: on a terminal each picture takes the place of the one before.
func watch(c *cli.Context, look func(context.Context, io.Writer) error) error {
	every := c.Duration("every")
	if every < 10*time.Millisecond {
		return usageError("status: --every %v: say 10ms or more", every)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	terminal := isTerminal(c.App.Writer) && !c.Bool("json")
	for first := true; ; first = false {
		var text strings.Builder
		err := look(c.Context, &text)
		if c.Context.Err() != nil {
			return nil
		}
		if err != nil && first {
			return err
		}
		switch {
		case terminal:
			if err != nil {
				fmt.Fprintf(&text, "echo9: %v\n", err)
			}
			fmt.Fprintf(c.App.Writer, "\x1b[H%s\x1b[J", strings.ReplaceAll(text.String(), "\n", "\x1b[K\n"))
		case err != nil:
			// It may come back: a server that is started again, say.
			fmt.Fprintf(c.App.ErrWriter, "echo9: %v\n", err)
		case c.Bool("json"):
			fmt.Fprint(c.App.Writer, text.String())
		default:
			fmt.Fprintf(c.App.Writer, "-- %s\n%s", time.Now().Format(time.RFC3339), text.String())
		}
		select {
		case <-tick.C:
		case <-c.Context.Done():
			return nil
		}
	}
}

func listMounts(c *cli.Context, w io.Writer) error {
	list, err := records("")
	if err != nil {
		return err
	}
	for _, r := range list {
		if c.Bool("json") {
			if err := printJSON(w, r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(w, r.line())
	}
	return nil
}

func (r mountRecord) line() string {
	mounted, _, err := mountAt(r.Mountpoint)
	state := "mounted"
	switch {
	case err != nil || !mounted:
		state = "unmounted, still sending"
	case !r.Cached:
		state = "mounted, uncached"
	}
	return fmt.Sprintf("%s on %s: %s, process %d since %s", r.Server, r.Mountpoint, state, r.PID, r.Started.Format("2006-01-02 15:04:05"))
}

func (m *mountCtl) print(ctx context.Context, w io.Writer, asJSON bool) error {
	if asJSON {
		_, text, err := m.status(ctx)
		if err != nil {
			return err
		}
		var last *mountRecord
		if n := len(m.served); n > 0 {
			last = &m.served[n-1]
		}
		return printJSON(w, struct {
			Mounted bool            `json:"mounted"`
			Daemon  *mountRecord    `json:"daemon,omitempty"`
			Status  json.RawMessage `json:"status,omitempty"`
		}{m.mounted, last, text})
	}
	for _, r := range m.served {
		fmt.Fprintln(w, r.line())
	}
	text, err := m.read(ctx, "status")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// serverStatus prints what a server says of itself.
func serverStatus(ctx context.Context, c *cli.Context, addr string, w io.Writer) error {
	name := "status"
	if c.Bool("json") {
		name = "status.json"
	}
	text, err := statusFile(ctx, c, addr, name)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// noStatus says that a server has no status tree.
func noStatus(addr string, err error) error {
	for _, e := range []error{syscall.EPERM, syscall.EACCES, syscall.ENOENT, syscall.EINVAL} {
		if errors.Is(err, e) {
			return fmt.Errorf("%s does not tell its status: it is no server of echo9, an older one, or the cache of one: %w", addr, err)
		}
	}
	return err
}
