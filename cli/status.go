package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", ArgsUsage: "[MNT]", Usage: "say how a mount stands, or list all mounts",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON, one value a line"}},
		Description: "   echo9 status\n   echo9 status /mnt/src\n   echo9 status --json /mnt/src | jq .status.pending",
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 0, 1); err != nil {
				return err
			}
			if c.NArg() == 0 {
				return listMounts(c)
			}
			m, err := findMount("status", c.Args().First())
			if err != nil {
				return err
			}
			return m.print(c)
		},
	}
}

func listMounts(c *cli.Context) error {
	list, err := records("")
	if err != nil {
		return err
	}
	for _, r := range list {
		if c.Bool("json") {
			if err := printJSON(c.App.Writer, r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(c.App.Writer, r.line())
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

func (m *mountCtl) print(c *cli.Context) error {
	if c.Bool("json") {
		_, text, err := m.jsonStatus()
		if err != nil {
			return err
		}
		var last *mountRecord
		if n := len(m.served); n > 0 {
			last = &m.served[n-1]
		}
		return printJSON(c.App.Writer, struct {
			Mounted bool            `json:"mounted"`
			Daemon  *mountRecord    `json:"daemon,omitempty"`
			Status  json.RawMessage `json:"status,omitempty"`
		}{m.mounted, last, text})
	}
	for _, r := range m.served {
		fmt.Fprintln(c.App.Writer, r.line())
	}
	if !m.mounted {
		return nil
	}
	text, err := os.ReadFile(m.file("status"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return m.advise(err)
	}
	_, err = c.App.Writer.Write(text)
	return err
}

func (m *mountCtl) jsonStatus() (*mountStatus, []byte, error) {
	if !m.mounted {
		return nil, nil, nil
	}
	return m.status()
}
