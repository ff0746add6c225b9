package main

import "github.com/urfave/cli/v2"

func lnCmd() clientCmd {
	return clientCmd{
		name: "ln", operands: "TARGET PATH", usage: "make a link; with -s a symbolic one", min: 2, max: 2,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "symbolic", Aliases: []string{"s"}, Usage: "a symbolic link: TARGET is any text"},
		},
		examples: "   echo9 -a ADDR ln /a /b\n   echo9 -a ADDR ln -s v2 /current",
		run: func(c *cli.Context, s *session) error {
			target, p := c.Args().Get(0), c.Args().Get(1)
			if c.Bool("symbolic") {
				return s.tree.Symlink(c.Context, target, p)
			}
			return s.tree.Link(c.Context, target, p)
		},
	}
}
