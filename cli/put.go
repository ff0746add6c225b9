package main

import (
	"io/fs"
	"path"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"echo9/internal/treeops"
)

func putCmd() clientCmd {
	return clientCmd{
		name: "put", operands: "LOCAL [PATH]", usage: "copy a file or a tree to the server (LOCAL - is stdin)", min: 1, max: 2,
		flags:    copyFlags(),
		examples: "   echo9 -a ADDR put notes.txt /doc\n   echo9 -a ADDR put -r src /src\n   date | echo9 -a ADDR put - /stamp\n\nA file appears under its name when it is complete.",
		run: func(c *cli.Context, s *session) error {
			local, name := c.Args().Get(0), c.Args().Get(1)
			if local == "-" && name == "" {
				return usageError("put: stdin has no name; say where it is to go: put - PATH")
			}
			if local == "-" && s.in == nil {
				return usageError("put: stdin is the script; put the data into a file")
			}
			base := "-"
			if local != "-" {
				abs, err := filepath.Abs(local)
				if err != nil {
					return err
				}
				base = filepath.Base(abs)
			}
			if name == "" {
				name = base
			}
			// As cp does: into a directory that is there.
			if e, err := s.tree.Stat(c.Context, name, true); err == nil && e.Type == treeops.TypeDir && local != "-" {
				name = path.Join(name, base)
			}
			return cleared(s.copying(c, func(t *treeops.Tree) error {
				if local == "-" {
					return t.PutStream(c.Context, s.in, name, fs.FileMode(0o666&^s.umask))
				}
				return t.Put(c.Context, local, name, copyOptions(c))
			}))
		},
	}
}
