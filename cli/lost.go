package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/cachefs/spool"
)

func lostCommand() *cli.Command {
	return &cli.Command{
		Name: "lost", ArgsUsage: "list, show ID, restore ID [DIR] or drop ID...", Usage: "show and give back what was written and did not reach the server",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.StringFlag{Name: "cat", Usage: "with show: print the content of the file that was at `PATH`"},
			&cli.BoolFlag{Name: "force", Usage: "with restore: overwrite what has become different since"},
			&cli.StringFlag{Name: "spool", Usage: "the `DIR`ectory that the daemon was told by --spool"},
		},
		Description: `   echo9 lost list
   echo9 lost show k7fq3x
   echo9 lost show --cat /notes.txt k7fq3x > notes.txt
   echo9 lost restore k7fq3x           back to the mount where it was written
   echo9 lost restore k7fq3x ~/found   or to any directory
   echo9 lost drop k7fq3x

A mount writes behind. What the server refuses then (a full quota, a right that
was taken away), or what somebody else was given the right to change because the
mount was cut off for too long, is lost; the programs that wrote it get EIO, and
the changes and their bytes are kept here, under an ID. "In doubt" are those of
which nobody knows whether the server did them before it was gone.

restore never overwrites what has changed since without --force: it puts the
file beside it, as NAME.echo9-lost-ID, and says so. Of a file of which only a
part was changed, and the rest is not known, it puts that part there; the rest
is zeros. Removals, renames and changed attributes of what is at the server are
not done again: it lists them. The entry stays until it is dropped.

Kept in $XDG_STATE_HOME/echo9/lost (~/.local/state without it; of root's daemons
in /var/lib/echo9/lost), each user's in a directory of his own, up to the
daemon's --spool-size.

Exit codes: 0 done; 1 not, or not all; 2 wrong usage.`,
		Action: lost,
	}
}

func lost(c *cli.Context) error {
	verb := c.Args().First()
	if verb == "" {
		verb = "list"
	}
	rest := c.Args().Slice()
	if len(rest) > 0 {
		rest = rest[1:]
	}
	switch n := len(rest); {
	case verb == "list" && n == 0:
		return lostList(c)
	case verb == "show" && n == 1:
		return lostShow(c, rest[0])
	case verb == "restore" && (n == 1 || n == 2):
		return lostRestore(c, rest[0], rest[1:])
	case verb == "drop" && n > 0:
		return lostDrop(c, rest)
	case verb == "list" || verb == "show" || verb == "restore" || verb == "drop":
		return usageError("lost %s: %d operands do not fit; say %s (`echo9 lost --help` tells more)", verb, n, c.Command.ArgsUsage)
	}
	return usageError("lost: there is no %q; say %s", verb, c.Command.ArgsUsage)
}

// lostStores are where what this user lost may be.
func lostStores(c *cli.Context) ([]*spool.Store, error) {
	if dir := c.String("spool"); dir != "" {
		return []*spool.Store{spool.Open(dir, 0)}, nil
	}
	dir, err := spool.DefaultDir()
	if err != nil {
		return nil, err
	}
	stores := []*spool.Store{spool.Open(dir, 0)}
	if dir != spool.SystemDir {
		stores = append(stores, spool.Open(spool.SystemDir, 0))
	}
	return stores, nil
}

func lostAll(c *cli.Context) ([]*spool.Kept, error) {
	stores, err := lostStores(c)
	if err != nil {
		return nil, err
	}
	var all []*spool.Kept
	for _, s := range stores {
		list, e := s.List()
		all, err = append(all, list...), errors.Join(err, e)
	}
	return all, err
}

func lostGet(c *cli.Context, id string) (*spool.Kept, error) {
	stores, err := lostStores(c)
	if err != nil {
		return nil, err
	}
	for _, s := range stores {
		k, err := s.Get(id)
		if err == nil || !errors.Is(err, spool.ErrNone) {
			return k, err
		}
	}
	return nil, fmt.Errorf("lost: %s: %w (`echo9 lost list` shows what there is)", id, spool.ErrNone)
}

// lostLine is an entry in a list.
type lostLine struct {
	ID      string      `json:"id"`
	When    time.Time   `json:"when"`
	UID     uint32      `json:"uid"`
	Cause   spool.Cause `json:"cause"`
	Reason  string      `json:"reason"`
	Server  string      `json:"server"`
	Mount   string      `json:"mount,omitempty"`
	Changes int         `json:"changes"`
	Objects int         `json:"objects"`
	Bytes   int64       `json:"bytes"` // of the disk
}

func lostList(c *cli.Context) error {
	all, err := lostAll(c)
	if c.Bool("json") {
		enc := json.NewEncoder(c.App.Writer)
		enc.SetEscapeHTML(false)
		for _, k := range all {
			if e := enc.Encode(lostLine{k.ID, k.When, k.UID, k.Cause, k.Reason, k.Server, k.Mount, len(k.Ops), len(k.Objects), k.Bytes()}); e != nil {
				return e
			}
		}
		return err
	}
	if len(all) == 0 {
		if err == nil {
			fmt.Fprintln(c.App.ErrWriter, "nothing is lost")
		}
		return err
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tWHEN\tUSER\tCHANGES\tBYTES\tWHERE\tWHAT\tWHY")
	for _, k := range all {
		where, what := k.Mount, ""
		if where == "" {
			where = k.Server
		}
		for i := range k.Objects {
			if i == 0 {
				what = k.Objects[i].Path.Quoted()
			} else if i == len(k.Objects)-1 {
				what += fmt.Sprintf(" and %d more", i)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", k.ID, k.When.Local().Format(time.DateTime), k.UID, len(k.Ops), byteCount(uint64(k.Bytes())), where, what, k.Why())
	}
	return errors.Join(w.Flush(), err)
}

func lostShow(c *cli.Context, id string) error {
	k, err := lostGet(c, id)
	if err != nil {
		return err
	}
	if c.IsSet("cat") {
		return lostCat(c, k, c.String("cat"))
	}
	w := c.App.Writer
	if c.Bool("json") {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(k.Entry)
	}
	fmt.Fprintf(w, "%s, %s, by user %d on %s", k.ID, k.When.Local().Format(time.DateTime), k.UID, k.Server)
	if k.Mount != "" {
		fmt.Fprintf(w, ", mounted on %s", k.Mount)
	}
	fmt.Fprintf(w, "\n%s\n\nchanges, in the order in which they were made:\n", k.Why())
	for i := range k.Ops {
		fmt.Fprintf(w, "  %s\n", k.Ops[i].String())
	}
	fmt.Fprintln(w, "\nwhat they were made to, as it was at last:")
	for i := range k.Objects {
		fmt.Fprintf(w, "  %s\n", describeObject(&k.Entry, &k.Objects[i]))
	}
	return nil
}

func describeObject(e *spool.Entry, o *spool.Object) string {
	s := fmt.Sprintf("%s %s", o.Type, o.Path.Quoted())
	if o.Type == "file" {
		c := spool.Compose(e, o.ID)
		kept := int64(0)
		for _, p := range c.Parts {
			kept += p.Len
		}
		switch {
		case o.Content != "" || c.Whole && c.Missing == 0:
			s += fmt.Sprintf(", %d bytes, all of them kept", o.Size)
		case kept == 0 && !c.Sized:
			s += ", only its names and attributes"
		default:
			s += fmt.Sprintf(", %d bytes, %d of them kept", o.Size, kept)
		}
	}
	if o.Created {
		s += ", new"
	}
	if o.Gone {
		s += ", had no name any more"
	}
	return s
}

func lostCat(c *cli.Context, k *spool.Kept, path string) error {
	for i := len(k.Objects) - 1; i >= 0; i-- {
		o := &k.Objects[i]
		if o.Type != "file" || string(o.Path) != path && string(o.Path) != "/"+path {
			continue
		}
		whole, err := k.Cat(c.App.Writer, o)
		if err == nil && !whole {
			fmt.Fprintf(c.App.ErrWriter, "echo9: only a part of %s was changed, and the rest is not known: zeros stand for it\n", path)
		}
		return err
	}
	return fmt.Errorf("lost: %s has no file %s (`echo9 lost show %s` lists them)", k.ID, path, k.ID)
}

func lostRestore(c *cli.Context, id string, to []string) error {
	k, err := lostGet(c, id)
	if err != nil {
		return err
	}
	opt := spool.RestoreOptions{Force: c.Bool("force")}
	dir := k.Mount
	switch {
	case len(to) > 0:
		dir, opt.Elsewhere = to[0], true
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	case dir == "":
		return fmt.Errorf("lost: it is not known where %s was mounted: say into which directory, lost restore %s DIR", k.Server, k.ID)
	default:
		m, err := findMount("lost", dir)
		if err != nil || !m.mounted {
			return fmt.Errorf("lost: %s is not mounted on %s now: mount it there, or say into which directory, lost restore %s DIR", k.Server, dir, k.ID)
		}
	}
	results, err := k.Restore(dir, opt)
	left := k.Left()
	if c.Bool("json") {
		enc := json.NewEncoder(c.App.Writer)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return errors.Join(err, enc.Encode(struct {
			Results []spool.Result `json:"results"`
			Left    []*spool.Op    `json:"not_done_again"`
		}{results, left}))
	}
	skipped := 0
	for _, r := range results {
		fmt.Fprintln(c.App.Writer, r)
		if r.How == spool.Skipped {
			skipped++
		}
	}
	for _, op := range left {
		fmt.Fprintf(c.App.Writer, "not done again: %s\n", op)
	}
	if err != nil {
		return err
	}
	if skipped > 0 {
		return fmt.Errorf("lost: %d of %d were left out", skipped, len(results))
	}
	fmt.Fprintf(c.App.ErrWriter, "when all is as it should be: echo9 lost drop %s\n", k.ID)
	return nil
}

func lostDrop(c *cli.Context, ids []string) error {
	for _, id := range ids {
		k, err := lostGet(c, id)
		if err != nil {
			return err
		}
		if err := k.Drop(); err != nil {
			return err
		}
	}
	return nil
}

// spoolFlags are those of what loses things.
func spoolFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "spool", Usage: "keep what is lost in `DIR` (default $XDG_STATE_HOME/echo9/lost; root: /var/lib/echo9/lost)"},
		&cli.StringFlag{Name: "spool-size", Value: "1GiB", Usage: "for each user keep at most `SIZE` there, the latest; 0 keeps nothing"},
	}
}

// openSpool reads spoolFlags.
func openSpool(c *cli.Context) (*spool.Store, error) {
	limit, err := parseSize(c.String("spool-size"))
	if err != nil {
		return nil, usageError("%s: --spool-size: %q is no size; say 64MiB, 1GiB", c.Command.Name, c.String("spool-size"))
	}
	if limit == 0 {
		return nil, nil
	}
	dir := c.String("spool")
	if dir == "" {
		dir, err = spool.DefaultDir()
	} else {
		dir, err = filepath.Abs(dir) // a detached daemon is elsewhere
	}
	if err != nil {
		return nil, err
	}
	return spool.Open(dir, int64(limit)), nil
}
