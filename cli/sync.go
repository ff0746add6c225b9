package main

import "github.com/urfave/cli/v2"

func syncCommand() *cli.Command {
	return &cli.Command{
		Name: "sync", ArgsUsage: "MNT", Usage: "send everything that was done in a mount, and wait until it is durable",
		Category: "Server and mounts", HideHelpCommand: true,
		Description: `   make && echo9 sync /mnt/src

sync(1) does not reach the daemon; this does. Fails if changes were lost.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			m, err := findMount("sync", c.Args().First())
			if err != nil {
				return err
			}
			if !m.mounted { // unmounted by somebody else: the daemon is sending
				return m.waitExit(c.Context)
			}
			return m.sync(c.Context)
		},
	}
}
