package main

import "github.com/urfave/cli/v2"

func catCmd() clientCmd {
	return clientCmd{
		name: "cat", operands: "PATH...", usage: "print files", min: 1, max: -1,
		examples: "   echo9 -a ADDR cat /etc/hosts",
		run: func(c *cli.Context, s *session) error {
			for _, p := range c.Args().Slice() {
				if err := s.tree.Cat(c.Context, p, s.out); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
