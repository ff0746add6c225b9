package main

import "github.com/urfave/cli/v2"

func touchCmd() clientCmd {
	return clientCmd{
		name: "touch", operands: "PATH...", usage: "set times to now; make what is not there", min: 1, max: -1,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "no-create", Aliases: []string{"c"}, Usage: "make nothing"},
		},
		examples: "   echo9 -a ADDR touch /stamp",
		run: func(c *cli.Context, s *session) error {
			for _, p := range c.Args().Slice() {
				if err := s.tree.Touch(c.Context, p, !c.Bool("no-create")); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
