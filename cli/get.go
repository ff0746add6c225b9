package main

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"echo9/internal/treeops"
)

func getCmd() clientCmd {
	return clientCmd{
		name: "get", operands: "PATH [LOCAL]", usage: "copy a file or a tree from the server (LOCAL - is stdout)", min: 1, max: 2,
		flags:    copyFlags(),
		examples: "   echo9 -a ADDR get /etc/hosts\n   echo9 -a ADDR get -r /src src\n   echo9 -a ADDR get /backup.tar - | tar t\n\nA file appears under its name when it is complete.",
		run: func(c *cli.Context, s *session) error {
			name := c.Args().Get(0)
			local := c.Args().Get(1)
			if local == "-" {
				return s.tree.Cat(c.Context, name, s.out)
			}
			base := path.Base(path.Clean("/" + name))
			if local == "" {
				local = base
			}
			if base == "/" && local == base {
				return usageError("get: say where the whole tree is to go: get -r / LOCAL")
			}
			// As cp does: into a directory that is there.
			if fi, err := os.Stat(local); err == nil && fi.IsDir() && base != "/" {
				local = filepath.Join(local, base)
			}
			return cleared(s.copying(c, func(t *treeops.Tree) error {
				return t.Get(c.Context, name, local, copyOptions(c))
			}))
		},
	}
}

// cleared says of a copy that was interrupted what became of it.
func cleared(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; what was being copied has been removed again")
	}
	return err
}

func copyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "copy directories with all that is in them"},
		&cli.BoolFlag{Name: "preserve", Aliases: []string{"p"}, Usage: "keep times (permissions are always kept)"},
		&cli.IntFlag{Name: "workers", Value: 32, Usage: "files under way at the same time"},
	}
}

func copyOptions(c *cli.Context) treeops.CopyOptions {
	return treeops.CopyOptions{Recursive: c.Bool("recursive"), Times: c.Bool("preserve")}
}
