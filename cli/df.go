package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func dfCmd() clientCmd {
	return clientCmd{
		name: "df", operands: " ", usage: "show the space of the exported file system",
		examples: "   echo9 -a ADDR df\n   echo9 -a ADDR df --json | jq .available",
		run: func(c *cli.Context, s *session) error {
			st, err := s.tree.StatFS(c.Context)
			if err != nil {
				return err
			}
			j := statfsToJSON(st)
			if c.Bool("json") {
				return printJSON(s.out, j)
			}
			fmt.Fprintf(s.out, "%10s %10s %10s %12s %12s\n", "size", "used", "available", "files", "free files")
			fmt.Fprintf(s.out, "%10s %10s %10s %12d %12d\n", byteCount(j.Bytes), byteCount(j.Bytes-j.Free), byteCount(j.Available), j.Files, j.FreeFiles)
			return nil
		},
	}
}
