package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// tellDeaths prints, once, which mounts of the user died with work that had not reached the server. It is no error when the server cannot say.
func tellDeaths(c *cli.Context, addr string, say func(string, ...any)) {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("connect-timeout"))
	defer cancel()
	opt, err := clientOptions(c)
	if err != nil {
		return
	}
	opt.Aname = p9srv.StatusAname
	tree, err := p9client.Dial(ctx, addr, opt)
	if err != nil {
		return
	}
	defer tree.Close()
	text, err := readWhole(ctx, tree, "deaths")
	if err != nil {
		return // a plain server, or an older one
	}
	var told bytes.Buffer
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var d p9srv.Death
		if err := dec.Decode(&d); err != nil {
			break
		}
		sayDeath(d, say)
		fmt.Fprintln(&told, d.Session)
	}
	if told.Len() > 0 {
		// If this is lost it is told once more.
		_ = writeWhole(ctx, tree, "deaths", told.Bytes())
	}
}

// sayDeath tells what it means for the user.
func sayDeath(d p9srv.Death, say func(string, ...any)) {
	when := d.At.Local().Format(time.DateTime)
	if d.Away {
		say("a mount of yours (%s) has been away since %s with work that has not reached the server; if it was started with --journal, start it again in the same way", d.Name, when)
		return
	}
	say("a mount of yours (%s) died at %s with work that had not reached the server: that is lost", d.Name, when)
}

// writeWhole writes to a file in the root of a tree.
func writeWhole(ctx context.Context, tree p9srv.Backend, name string, text []byte) error {
	cred := new(p9srv.Cred)
	root, err := tree.Root(ctx, cred, "")
	if err != nil {
		return err
	}
	defer root.Release()
	o, _, err := root.Walk(ctx, cred, name)
	if err != nil {
		return err
	}
	defer o.Release()
	f, err := o.Open(ctx, cred, wire.OWronly)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(ctx, text, 0)
	if cerr := f.Close(ctx); err == nil {
		err = cerr
	}
	return err
}
