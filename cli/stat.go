package main

import "github.com/urfave/cli/v2"

func statCmd() clientCmd {
	return clientCmd{
		name: "stat", operands: "PATH...", usage: "show all attributes", min: 1, max: -1,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Usage: "of what a symbolic link leads to"},
		},
		examples: "   echo9 -a ADDR stat /etc/hosts\n   echo9 -a ADDR stat --json /etc/hosts | jq .size",
		run: func(c *cli.Context, s *session) error {
			for _, p := range c.Args().Slice() {
				e, err := s.tree.Stat(c.Context, p, c.Bool("follow"))
				if err != nil {
					return err
				}
				if c.Bool("json") {
					if err := printJSON(s.out, toJSON(e)); err != nil {
						return err
					}
					continue
				}
				statText(s.out, e)
			}
			return nil
		},
	}
}
