package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
)

func scriptCommand() *cli.Command {
	return &cli.Command{
		Name: "script", ArgsUsage: "FILE", Usage: "run client commands, one a line, in one session (FILE - is stdin)",
		Category: "Client, no mount needed", HideHelpCommand: true,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "keep-going", Aliases: []string{"k"}, Usage: "go on after an error; the exit code tells"},
			&cli.BoolFlag{Name: "plain", Usage: "no cache: every operation goes to the server at once"},
			&cli.BoolFlag{Name: "progress", Usage: "show progress also where stderr is no terminal"},
		}, connectFlags()...),
		Description: `   printf 'mkdir -p /a\nput notes.txt /a\nls -l /a\n' | echo9 -a ADDR script -

A line is a client command as on the command line, without "echo9" and the
address; blanks separate words, '…' and "…" quote, # begins a comment.
A session with an echo9 server caches and writes behind: fast, and all is at
the server when the script ends. Two more commands: "sync" waits until all that
was done so far is durable; "barrier" keeps what comes after it from being done
before what came before it, and "barrier PATH" what was done to PATH; it does not
wait. On other servers everything is done when its line is, and they do nothing. At the first error the script stops and names the line.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			src := c.App.Reader
			if name := c.Args().First(); name != "-" {
				f, err := os.Open(name)
				if err != nil {
					return err
				}
				defer f.Close()
				src = f
			}
			s, err := connectScript(c)
			if err != nil {
				return err
			}
			if name := c.Args().First(); name == "-" {
				s.in = nil // the lines themselves are no data
			}
			err = runScript(c, s, src)
			if serr := s.sync(c.Context); err == nil {
				err = serr
			}
			if cerr := s.close(); err == nil {
				err = cerr
			}
			return err
		},
	}
}

// runScript runs the lines of src.
func runScript(c *cli.Context, s *session, src io.Reader) error {
	ctx := context.WithValue(c.Context, sessionKey{}, s)
	lines := bufio.NewScanner(src)
	lines.Buffer(nil, 1<<20)
	failed := 0
	for n := 1; lines.Scan(); n++ {
		err := runLine(ctx, c, s, lines.Text())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("line %d: %w", n, err)
		if !c.Bool("keep-going") {
			return err
		}
		failed++
		report(s.errw, err)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the script: %w", err)
	}
	if failed > 0 {
		return &codedError{exitFailed, fmt.Errorf("%d lines failed: %w", failed, errReported)}
	}
	return nil
}

func runLine(ctx context.Context, c *cli.Context, s *session, line string) error {
	words, err := splitWords(line)
	if err != nil {
		return usageError("%v", err)
	}
	if len(words) == 0 {
		return nil
	}
	switch {
	case words[0] == "sync" && len(words) == 1:
		return s.sync(ctx)
	case words[0] == "sync":
		return usageError("sync takes no operands")
	case words[0] == "barrier" && len(words) <= 2:
		return s.barrier(ctx, words[1:]...)
	case words[0] == "barrier":
		return usageError("barrier takes one path, or nothing: then it is of all that was done so far")
	}
	app := baseApp(c.App.Reader, s.out, s.errw)
	app.Commands = clientCommands(false)
	args, err := reorder(app.Commands, append([]string{"echo9"}, words...))
	if err != nil {
		var ce *codedError
		if errors.As(err, &ce) {
			return usageError("%w (a script is one session: no address, only client commands, sync and barrier)", err)
		}
		return err
	}
	return app.RunContext(ctx, args)
}
