package main

import (
	"io/fs"
	"syscall"

	"github.com/urfave/cli/v2"

	"echo9/internal/treeops"
)

func mvCmd() clientCmd {
	return clientCmd{
		name: "mv", operands: "PATH... NEWPATH", usage: "rename, or move into a directory", min: 2, max: -1,
		examples: "   echo9 -a ADDR mv /a.tmp /a\n   echo9 -a ADDR mv /x /y /dir",
		run: func(c *cli.Context, s *session) error {
			paths := c.Args().Slice()
			from, to := paths[:len(paths)-1], paths[len(paths)-1]
			if len(from) > 1 {
				if err := s.needDir(c, to); err != nil {
					return err
				}
			}
			for _, p := range from {
				if err := s.tree.Rename(c.Context, p, to); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// needDir fails unless p is a directory.
func (s *session) needDir(c *cli.Context, p string) error {
	e, err := s.tree.Stat(c.Context, p, true)
	if err != nil {
		return err
	}
	if e.Type != treeops.TypeDir {
		return &fs.PathError{Op: c.Command.Name, Path: p, Err: syscall.ENOTDIR}
	}
	return nil
}
