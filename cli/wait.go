package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
)

func waitCommand() *cli.Command {
	return &cli.Command{
		Name: "wait", ArgsUsage: "MNT", Usage: "wait until what was done so far has gone to the server by itself",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "progress", Usage: "show progress also where stderr is no terminal"},
		},
		Description: `   echo9 wait /mnt/src && echo all is at the server

Hurries nothing, unlike sync. Also after an unmount by somebody else: it
returns when the daemon has sent everything and ended.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			m, err := findMount("wait", c.Args().First())
			if err != nil {
				return err
			}
			if m.mounted {
				return m.waitSent(c)
			}
			for _, r := range m.served {
				fmt.Fprintf(c.App.Writer, "%s is unmounted; process %d still sends\n", m.path, r.PID)
			}
			return m.waitEnd(c)
		},
	}
}

// waitLine shows on one line how much is still to be sent.
type waitLine struct {
	w     io.Writer
	show  bool
	shown bool
}

func newWaitLine(c *cli.Context) *waitLine {
	return &waitLine{w: c.App.ErrWriter, show: c.Bool("progress") || isTerminal(c.App.ErrWriter)}
}

func (l *waitLine) update(s *mountStatus) {
	if l.show && s != nil {
		fmt.Fprintf(l.w, "\r%d changes, %sB to be sent, the oldest %v old \x1b[K", s.Pending, byteCount(uint64(s.PendingBytes)), s.Oldest.Round(time.Second))
		l.shown = true
	}
}

func (l *waitLine) end() {
	if l.shown {
		fmt.Fprintln(l.w)
	}
}

// waitEnd waits until the processes that served the mount have ended.
func (m *mountCtl) waitEnd(c *cli.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- m.waitExit(c.Context) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	line := newWaitLine(c)
	defer line.end()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			if s, _, err := m.status(c.Context); err == nil { // else it may just have ended
				line.update(s)
			}
		}
	}
}

// waitSent polls until the updates that are pending now are sent or lost.
func (m *mountCtl) waitSent(c *cli.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	line := newWaitLine(c)
	defer line.end()
	var first *mountStatus
	for {
		s, _, err := m.status(c.Context)
		if err != nil || s == nil {
			return err
		}
		if first == nil {
			first = s
		}
		if s.Pending == 0 || s.FirstSeq > first.LastSeq {
			if n := s.Lost - first.Lost; n > 0 {
				return fmt.Errorf("wait %s: %d changes were lost; %s tells which", m.path, n, m.file("events"))
			}
			return nil
		}
		line.update(s)
		select {
		case <-tick.C:
		case <-c.Context.Done():
			return c.Context.Err()
		}
	}
}
