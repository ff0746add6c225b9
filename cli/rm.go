package main

import (
	"errors"
	"syscall"

	"github.com/urfave/cli/v2"

	"echo9/internal/treeops"
)

func rmCmd() clientCmd {
	return clientCmd{
		name: "rm", operands: "PATH...", usage: "remove files, and trees with -r", min: 1, max: -1,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "directories with all that is in them"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "what is not there is no error"},
		},
		examples: "   echo9 -a ADDR rm /tmp/x\n   echo9 -a ADDR rm -rf /build",
		run: func(c *cli.Context, s *session) error {
			return s.copying(c, func(t *treeops.Tree) error {
				for _, p := range c.Args().Slice() {
					err := t.Remove(c.Context, p, c.Bool("recursive"))
					if err != nil && (!c.Bool("force") || !errors.Is(err, syscall.ENOENT)) {
						return err
					}
				}
				return nil
			})
		},
	}
}
