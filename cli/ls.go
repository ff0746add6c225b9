package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"echo9/internal/treeops"
)

func lsCmd() clientCmd {
	return clientCmd{
		name: "ls", operands: "[PATH...]", usage: "list directories", max: -1,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "l", Usage: "also mode, links, owner, size and time"},
		},
		examples: "   echo9 -a ADDR ls -l /etc\n   echo9 -a ADDR ls --json / | jq .name",
		run: func(c *cli.Context, s *session) error {
			paths := c.Args().Slice()
			if len(paths) == 0 {
				paths = []string{"/"}
			}
			long, asJSON := c.Bool("l"), c.Bool("json")
			for i, p := range paths {
				list, err := s.tree.List(c.Context, p, long || asJSON)
				if err != nil {
					return err
				}
				if len(paths) > 1 && !asJSON {
					if i > 0 {
						fmt.Fprintln(s.out)
					}
					fmt.Fprintf(s.out, "%s:\n", quoteName(p))
				}
				for _, e := range list {
					if err := printEntry(s, e, long, asJSON); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

func printEntry(s *session, e treeops.Entry, long, asJSON bool) error {
	switch {
	case asJSON:
		return printJSON(s.out, toJSON(e))
	case long:
		_, err := fmt.Fprintln(s.out, longLine(e))
		return err
	}
	suffix := ""
	if e.Type == treeops.TypeDir {
		suffix = "/"
	}
	_, err := fmt.Fprintln(s.out, quoteName(e.Name)+suffix)
	return err
}
