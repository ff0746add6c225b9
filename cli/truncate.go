package main

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

func truncateCmd() clientCmd {
	return clientCmd{
		name: "truncate", operands: "PATH...", usage: "set files' size", min: 1, max: -1,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "size", Aliases: []string{"s"}, Usage: "bytes, or with K, M, G, T (powers of 1024)"},
			&cli.BoolFlag{Name: "no-create", Aliases: []string{"c"}, Usage: "make nothing"},
		},
		examples: "   echo9 -a ADDR truncate -s 0 /log\n   echo9 -a ADDR truncate -s 10G /disk.img",
		run: func(c *cli.Context, s *session) error {
			if !c.IsSet("size") {
				return usageError("truncate: say the size: truncate -s SIZE PATH")
			}
			size, err := parseSize(c.String("size"))
			if err != nil {
				return err
			}
			for _, p := range c.Args().Slice() {
				if err := s.tree.Truncate(c.Context, p, size, !c.Bool("no-create")); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// parseSize reads a whole number with or without a unit: 4096, 64K, 10GiB.
func parseSize(s string) (uint64, error) {
	digits := strings.TrimRight(s, "KMGTkmgtiB")
	unit, shift := strings.ToUpper(s[len(digits):]), 0
	if unit != "" {
		shift = 10 * (1 + strings.IndexByte("KMGT", unit[0]))
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	known := unit == "" || shift > 0 && (unit[1:] == "" || unit[1:] == "B" || unit[1:] == "IB")
	if err != nil || !known || n > (1<<63-1)>>shift {
		return 0, usageError("%q is no size; say bytes, or a whole number with K, M, G or T", s)
	}
	return n << shift, nil
}
