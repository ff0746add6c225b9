package main

import "github.com/urfave/cli/v2"

func mkdirCmd() clientCmd {
	return clientCmd{
		name: "mkdir", operands: "PATH...", usage: "make directories", min: 1, max: -1,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "parents", Aliases: []string{"p"}, Usage: "with those above; one that is there is no error"},
			&cli.StringFlag{Name: "mode", Aliases: []string{"m"}, Usage: "permissions, octal (else as the umask says)"},
		},
		examples: "   echo9 -a ADDR mkdir -p /a/b/c",
		run: func(c *cli.Context, s *session) error {
			mode := 0o777 &^ s.umask
			if m := c.String("mode"); m != "" {
				change, err := parseMode(m, 0)
				if err != nil {
					return err
				}
				mode = change(mode)
			}
			for _, p := range c.Args().Slice() {
				if err := s.tree.Mkdir(c.Context, p, mode, c.Bool("parents")); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
