package main

import (
	"errors"

	"github.com/urfave/cli/v2"
)

func umountCommand() *cli.Command {
	return &cli.Command{
		Name: "umount", ArgsUsage: "MNT", Usage: "send everything to the server, unmount, wait for the daemon's end",
		Category: "Server and mounts", HideHelpCommand: true,
		Description: `   echo9 umount /mnt/src

When it returns with 0, all that was done is at the server.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			m, err := findMount("umount", c.Args().First())
			if err != nil {
				return err
			}
			var serr error
			if m.mounted {
				// What is lost is lost, mounted or not: report it, and go on.
				if serr = m.sync(c.Context); c.Context.Err() != nil {
					return c.Context.Err()
				}
				if err := m.unmount(); err != nil {
					return errors.Join(serr, err)
				}
			}
			return errors.Join(serr, m.waitExit(c.Context))
		},
	}
}
