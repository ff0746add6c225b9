package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/cachefs"
)

func pendingCommand() *cli.Command {
	return &cli.Command{
		Name: "pending", ArgsUsage: "MNT", Usage: "list what was done in a mount and is not at the server yet",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON, one change a line"}},
		Description: `   echo9 pending /mnt/src
   echo9 pending --json /mnt/src | jq -r 'select(.age_ns > 1e10) | .names[]'

A line a change, in the order in which they were made: its number, how old it
is, what it is, and what it waits for: the numbers of changes that must be at
the server before it, "in cut 7" when it is on its way, or "may go" when nothing
is in its way but its age (--write-behind). "echo9 sync MNT" sends them all.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			m, err := findMount("pending", c.Args().First())
			if err != nil {
				return err
			}
			return m.pending(c)
		},
	}
}

// pending prints what the mount's file says. A mount that is not cached has nothing pending.
func (m *mountCtl) pending(c *cli.Context) error {
	text, err := m.read(c.Context, "pending.json")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w (only who mounted it may see the names)", err)
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		_, err := c.App.Writer.Write(text)
		return err
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var p cachefs.Pending
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return w.Flush()
		} else if err != nil {
			return fmt.Errorf("%s: %w", m.file("pending.json"), err)
		}
		p.Age = p.Age.Round(100 * time.Millisecond)
		fmt.Fprintln(w, p)
	}
}
