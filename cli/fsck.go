package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"echo9/p9srv/dirfs"
)

func fsckCommand() *cli.Command {
	return &cli.Command{
		Name: "fsck", ArgsUsage: "DIR", Usage: "explain what a server left behind for an export, and repair it",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "state", Usage: "the server's private `DIR`ectory, if it is not .echo9 in the export"},
			&cli.BoolFlag{Name: "repair", Usage: "do what can be done"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Description: `   echo9 fsck DIR
   echo9 fsck --repair DIR
   echo9 fsck --json DIR | jq .cuts

Looks at the private directory of an export that nobody serves: the log of
cuts, which of them the tree may not have yet, damage, and what is of no use
any more. Nothing is changed without --repair. A server's start does the same
as --repair, but for damage of the log: it refuses to start then. --repair
ends the log before the damage, keeps its files, and says which cuts are given
up: what they had changed may be in the tree wholly, in part, or not at all.

Exit codes: 0 nothing is to be done, or all was; 1 something is to be done, or
failed; 2 wrong usage.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			return fsck(c, c.Args().First())
		},
	}
}

// fsckResult is what --json prints.
type fsckResult struct {
	*dirfs.Inspection
	Clean    bool   `json:"clean"`
	Repaired bool   `json:"repaired"`
	Kept     string `json:"kept,omitempty"` // the damaged log
}

func fsck(c *cli.Context, dir string) error {
	opt := dirfs.Options{State: c.String("state"), Logf: logger(c.App.ErrWriter)}
	found, err := dirfs.Inspect(dir, opt)
	if errors.Is(err, dirfs.ErrNeverServed) {
		fmt.Fprintf(c.App.ErrWriter, "echo9: %v; nothing is to be done\n", err)
		return nil
	}
	if err != nil {
		return exportError(err)
	}
	res := fsckResult{Inspection: found, Clean: found.Clean()}
	if !c.Bool("json") {
		explain(c.App.Writer, found)
	}
	if c.Bool("repair") && (!res.Clean || len(found.Dead) > 0) {
		if res.Kept, err = dirfs.Repair(dir, opt, found); err != nil {
			return fmt.Errorf("repair: %w", err)
		}
		res.Repaired = true
	}
	switch {
	case c.Bool("json"):
		if err := printJSON(c.App.Writer, res); err != nil {
			return err
		}
	case res.Repaired:
		fmt.Fprintln(c.App.Writer, "repaired")
		if res.Kept != "" {
			fmt.Fprintln(c.App.Writer, "the damaged log is kept in "+res.Kept)
		}
	case res.Clean:
		fmt.Fprintln(c.App.Writer, "clean: nothing is to be done")
	case found.Log != nil && found.Log.Damage != nil:
		fmt.Fprintf(c.App.Writer, "to be done: `echo9 fsck --repair %s`; no server starts before that\n", dir)
	default:
		fmt.Fprintf(c.App.Writer, "to be done: by the next start of a server, or by `echo9 fsck --repair %s`\n", dir)
	}
	if !res.Clean && !res.Repaired {
		return errReported
	}
	return nil
}

// explain tells in words what was found.
func explain(w io.Writer, i *dirfs.Inspection) {
	fmt.Fprintf(w, "%s, private directory %s\n", i.Dir, i.State)
	if i.Log == nil {
		fmt.Fprintln(w, "log: none")
	} else {
		for _, s := range i.Log.Segments {
			fmt.Fprintf(w, "log segment %s: %s, %d bytes, %d entries\n", s.Name, s.State, s.Size, s.Entries)
		}
		if d := i.Log.Damage; d != nil {
			fmt.Fprintf(w, "DAMAGE in segment %s at offset %d: %s\n", d.Segment, d.Offset, d.Why)
		}
	}
	if len(i.Cuts) > 0 {
		fmt.Fprintf(w, "%s in the log: the tree needs %s bound, %s brought to what they are to be, %d made anew\n",
			count(len(i.Cuts), "cut"), count(i.ToBind, "name"), count(i.ToSet, "object"), i.ToMake)
		explainCuts(w, i.Cuts)
	}
	if i.Log != nil && i.Log.Damage != nil && i.Log.Damage.LSN != 0 {
		fmt.Fprintf(w, "entry %d itself cannot be read: if it is a cut, it is given up by a repair\n", i.Log.Damage.LSN)
	}
	if len(i.Lost) > 0 {
		fmt.Fprintf(w, "%s behind the damage, given up by a repair:\n", count(len(i.Lost), "cut"))
		explainCuts(w, i.Lost)
	}
	for _, l := range i.Left {
		fmt.Fprintln(w, "left alone: "+l)
	}
	if len(i.Garbage) > 0 {
		fmt.Fprintf(w, "%s in tmp and orphans, of no use once the log is empty\n", count(len(i.Garbage), "object"))
	}
	for _, f := range i.Found {
		fmt.Fprintln(w, "kept by a recovery, for you to look at: "+f)
	}
	if i.Sessions > 0 {
		fmt.Fprintf(w, "%s may be resumed by their clients, once a server is there; %s without a name live on for them\n", count(i.Sessions, "session"), count(i.Kept, "object"))
	}
	fmt.Fprintf(w, "table of ids: %s\n", count(i.Rows, "row"))
	if len(i.Dead) > 0 {
		fmt.Fprintf(w, "%s of objects that are gone\n", count(len(i.Dead), "row"))
	}
}

// shownNames is how many names of a cut are told.
const shownNames = 5

func explainCuts(w io.Writer, cuts []dirfs.CutInfo) {
	for _, c := range cuts {
		names := strings.Join(c.Names[:min(len(c.Names), shownNames)], ", ")
		if more := len(c.Names) - shownNames; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		if names == "" {
			names = "no names"
		}
		fmt.Fprintf(w, "   %s: cut %d of client %s, %s: %s\n", c.Time.Format("2006-01-02 15:04:05"), c.Number, c.Client[:8], c.State, names)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
