package main

import (
	"errors"
	"fmt"
	"syscall"

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
			freeDead(c.Args().First())
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
				if errors.Is(serr, syscall.ENOTCONN) {
					serr = fmt.Errorf("umount %s: the process that served it had died; the mount is taken away, but whether all that was done is at the server nobody knows here (echo9 status ADDR tells)", m.path)
				}
				if err := m.unmount(); err != nil {
					return errors.Join(serr, err)
				}
			}
			return errors.Join(serr, m.waitExit(c.Context))
		},
	}
}
