package main

import (
	"fmt"
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
			return m.waitExit(c.Context)
		},
	}
}

// waitSent polls until the updates that are pending now are sent or lost.
func (m *mountCtl) waitSent(c *cli.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	show := c.Bool("progress") || isTerminal(c.App.ErrWriter)
	var first *mountStatus
	for shown := false; ; {
		s, _, err := m.status()
		if err != nil || s == nil {
			return err
		}
		if first == nil {
			first = s
		}
		if s.Pending == 0 || s.Updates+s.Lost >= first.Updates+first.Lost+first.Pending {
			if shown {
				fmt.Fprintln(c.App.ErrWriter)
			}
			if n := s.Lost - first.Lost; n > 0 {
				return fmt.Errorf("wait %s: %d changes were lost; %s tells which", m.path, n, m.file("events"))
			}
			return nil
		}
		if show {
			fmt.Fprintf(c.App.ErrWriter, "\r%d changes, %sB to be sent ", s.Pending, byteCount(uint64(s.PendingBytes)))
			shown = true
		}
		select {
		case <-tick.C:
		case <-c.Context.Done():
			return c.Context.Err()
		}
	}
}
