// Command echo9 serves directories over 9P, mounts and caches them, and works
// on them from scripts.
//
// This package is the command line only: flags, words and exit codes, one
// command a file. What a command does is elsewhere.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) }

// run is main without the process: it gives the exit code.
func run(args []string, in io.Reader, out, errw io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process
	app := newApp(in, out, errw)
	args, err := reorder(app.Commands, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	return report(errw, err)
}

// newApp declares the whole command line.
func newApp(in io.Reader, out, errw io.Writer) *cli.App {
	app := baseApp(in, out, errw)
	app.Commands = append([]*cli.Command{
		upCommand(), serveCommand(), mountCommand(), umountCommand(), cacheCommand(), fsckCommand(),
		syncCommand(), waitCommand(), statusCommand(), pendingCommand(), lostCommand(), barrierCommand(), scriptCommand(),
	}, clientCommands(true)...)
	return app
}

// baseApp is what the command line and the lines of a script have in common.
func baseApp(in io.Reader, out, errw io.Writer) *cli.App {
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version"}
	return &cli.App{
		Name:                      "echo9",
		Usage:                     "9P file server and client whose clients cache everything and write behind",
		UsageText:                 "echo9 COMMAND [flags] [operands]   (flags may stand anywhere; -- ends them)",
		Version:                   version(),
		Description:               appDescription,
		Reader:                    in,
		Writer:                    out,
		ErrWriter:                 errw,
		HideHelpCommand:           false,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return usageError("%v", err)
		},
		CommandNotFound: nil,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError("there is no command %q; `echo9 --help` lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
}

const appDescription = `A directory served and mounted, in one process, no set-up:
   echo9 up DIR MNT

A server, and what to do with the address that it prints:
   echo9 serve DIR
   echo9 mount ADDR MNT          a cached mount (FUSE)
   echo9 -a ADDR ls -l /         no mount at all

A server for the network, and the kernel's own client:
   echo9 serve --listen 'tcp!*!5640' --as self DIR
   mount -t 9p -o trans=tcp,port=5640,version=9p2000.L HOST MNT

Addresses: tcp!HOST!PORT, tcp://HOST:PORT, HOST:PORT (without a port: 564),
unix!PATH, unix:///PATH. ECHO9_ADDR stands for -a.

Exit codes: 0 all went well; 1 an operation failed; 2 wrong usage; 3 the server
cannot be reached.`

// The exit codes.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitNoReach = 3
)

// codedError carries an exit code other than exitFailed.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

func unreachable(err error) error { return &codedError{exitNoReach, err} }

// report prints an error and gives the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	code := exitFailed
	var ce *codedError
	if errors.As(err, &ce) {
		code = ce.code
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintf(w, "echo9: %v\n", withHint(err))
	}
	return code
}

// errReported marks an error that has been printed already.
var errReported = errors.New("reported")
