package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/internal/treeops"
	"echo9/p9srv"
)

// session is a connection that client commands work on: one command's, or a
// whole script's.
type session struct {
	tree    *treeops.Tree
	backend p9srv.Backend
	in      io.Reader
	out     *bufio.Writer
	errw    io.Writer
	umask   uint32
	cred    *p9srv.Cred
	// sync and barrier are no-ops where every operation is done when it returns.
	sync    func(context.Context) error
	barrier func(ctx context.Context, path ...string) error
	close   func() error
}

// clientCmd describes one client command: how many operands it takes, and what it does.
type clientCmd struct {
	name, operands, usage string
	min, max              int // operands; max < 0: any number
	flags                 []cli.Flag
	examples              string
	run                   func(c *cli.Context, s *session) error
}

// connectFlags are those of every command that talks to a server by itself.
func connectFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "addr", Aliases: []string{"a"}, EnvVars: []string{"ECHO9_ADDR"}, Usage: "the server's `ADDR`, as `echo9 serve` prints it"},
		&cli.StringFlag{Name: "aname", Usage: "attach to this directory of the export"},
		&cli.IntFlag{Name: "uid", Value: os.Geteuid(), Usage: "ask to act as this user"},
		&cli.IntFlag{Name: "msize", Usage: "largest message, in bytes (0: as large as the server likes)"},
		&cli.DurationFlag{Name: "connect-timeout", Value: 10 * time.Second, Usage: "give up connecting after this long"},
		&cli.BoolFlag{Name: "trace", Usage: "print every message of the wire on stderr"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say what is going on, on stderr"},
	}
}

// commonFlags are those of all client commands, in scripts too.
func commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "print JSON, one value a line"},
		&cli.BoolFlag{Name: "progress", Usage: "show progress also where stderr is no terminal"},
	}
}

// clientCommands are the commands that work on a server's tree without a
// mount. With connect they have the flags to reach it, else they find their
// session in the context.
func clientCommands(connect bool) []*cli.Command {
	var cmds []*cli.Command
	for _, cc := range []clientCmd{
		lsCmd(), treeCmd(), statCmd(), catCmd(), getCmd(), putCmd(), mkdirCmd(), rmCmd(),
		mvCmd(), lnCmd(), touchCmd(), truncateCmd(), chmodCmd(), dfCmd(),
	} {
		cmds = append(cmds, cc.command(connect))
	}
	return cmds
}

func (cc clientCmd) command(connect bool) *cli.Command {
	flags := append(cc.flags, commonFlags()...)
	if connect {
		flags = append(flags, connectFlags()...)
	}
	return &cli.Command{
		Name: cc.name, ArgsUsage: cc.operands, Usage: cc.usage, Flags: flags,
		Category: "Client, no mount needed", Description: cc.examples, HideHelpCommand: true,
		OnUsageError: func(_ *cli.Context, err error, _ bool) error { return usageError("%s: %v", cc.name, err) },
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, cc.min, cc.max); err != nil {
				return err
			}
			s, ok := c.Context.Value(sessionKey{}).(*session)
			if ok {
				return flush(s, cc.run(c, s))
			}
			s, err := connectSession(c)
			if err != nil {
				return err
			}
			err = flush(s, cc.run(c, s))
			if cerr := s.close(); err == nil {
				err = cerr
			}
			return err
		},
	}
}

type sessionKey struct{}

func flush(s *session, err error) error {
	if ferr := s.out.Flush(); err == nil {
		err = ferr
	}
	return err
}

func checkOperands(c *cli.Context, least, most int) error {
	if n := c.NArg(); n < least || most >= 0 && n > most {
		return usageError("%s takes: %s %s; see `echo9 %s --help`", c.Command.Name, c.Command.Name, c.Command.ArgsUsage, c.Command.Name)
	}
	return nil
}

// copying runs an operation that may take long, with progress on stderr.
func (s *session) copying(c *cli.Context, op func(t *treeops.Tree) error) error {
	p := startProgress(s.errw, c.Bool("progress"))
	opt := treeops.Options{
		Workers: c.Int("workers"), Umask: s.umask, Progress: p.add,
		Warn: func(name, why string) { fmt.Fprintf(s.errw, "echo9: %s: %s\n", name, why) },
	}
	err := op(s.tree.With(opt))
	p.end()
	return err
}
