package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"echo9/internal/treeops"
)

func treeCmd() clientCmd {
	return clientCmd{
		name: "tree", operands: "[PATH]", usage: "show a directory with all that is below it", max: 1,
		flags: []cli.Flag{
			&cli.IntFlag{Name: "L", Usage: "go down only `N` levels"},
			&cli.BoolFlag{Name: "l", Usage: "also mode, links, owner, size and time"},
		},
		examples: "   echo9 -a ADDR tree -L 2 /\n   echo9 -a ADDR tree --json /src",
		run: func(c *cli.Context, s *session) error {
			p := "/"
			if c.Args().Present() {
				p = c.Args().First()
			}
			if c.Int("L") < 0 {
				return usageError("tree: -L wants a number of levels, 1 or more")
			}
			list, err := s.tree.ReadTree(c.Context, p, c.Int("L"), c.Bool("l") || c.Bool("json"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return treeJSON(s, list)
			}
			fmt.Fprintln(s.out, quoteName(p))
			return treeText(s, list, "", c.Bool("l"))
		},
	}
}

func treeJSON(s *session, list []treeops.Entry) error {
	for _, e := range list {
		if err := printJSON(s.out, toJSON(e)); err != nil {
			return err
		}
		if err := treeJSON(s, e.Sub); err != nil {
			return err
		}
	}
	return nil
}

func treeText(s *session, list []treeops.Entry, indent string, long bool) error {
	for i, e := range list {
		branch, below := "├── ", "│   "
		if i == len(list)-1 {
			branch, below = "└── ", "    "
		}
		name := quoteName(e.Name)
		if long {
			name = longLine(e)
		}
		if _, err := fmt.Fprintln(s.out, indent+branch+name); err != nil {
			return err
		}
		if err := treeText(s, e.Sub, indent+below, long); err != nil {
			return err
		}
	}
	return nil
}
