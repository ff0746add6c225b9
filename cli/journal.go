package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/cachefs"
	"echo9/cachefs/backlog"
	"echo9/p9client"
)

// journalFlag is that of mount and cache.
func journalFlag() cli.Flag {
	return &cli.StringFlag{Name: "journal", Usage: "keep what is not at the server in `DIR`, on this machine's disk, too: killed and started again in the same way, nothing is lost"}
}

// openJournal takes the journal that --journal names, for a tree offered at o.Place; first it sends what a process that was killed has left
// there. Without --journal it does nothing.
func openJournal(c *cli.Context, addr string, opt p9client.Options, o *cachefs.Options) error {
	dir := c.String("journal")
	if dir == "" {
		return nil
	}
	store, state, err := backlog.Open(dir, addr, o.Aname, o.Place)
	switch {
	case errors.Is(err, backlog.ErrBusy):
		return fmt.Errorf("--journal: %w (is the same tree served already? `echo9 status` lists mounts)", err)
	case err != nil:
		return fmt.Errorf("--journal: %w", err)
	}
	o.Backlog = store
	if state.Session == nil {
		return nil
	}
	if err := sendJournal(c, addr, opt, *o, state); err != nil {
		store.Close()
		return err
	}
	return nil
}

// sendJournal sends what a process that was killed has left.
func sendJournal(c *cli.Context, addr string, opt p9client.Options, o cachefs.Options, state *backlog.State) error {
	say := logger(c.App.ErrWriter)
	dial := func(ctx context.Context) (*p9client.Conn, error) { return p9client.DialConn(ctx, addr, opt) }
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("connect-timeout"))
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return connectError(ctx, c, addr, err)
	}
	o.Dial = dial
	said := time.Now()
	r, err := cachefs.Recover(c.Context, conn, o, state, func(pending int, bytes int64) {
		if time.Since(said) > time.Second {
			said = time.Now()
			say("the journal: %d changes (%sB) are still to be sent", pending, byteCount(uint64(bytes)))
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w (it stays in %s; the same command sends it later)", err, o.Backlog.Path())
	case r.Updates == 0:
	case r.Lost == 0:
		say("%d changes were in the journal of a process that was killed: they are at the server now", r.Updates)
	default:
		say("of %d changes in the journal of a process that was killed, %d were lost: the server let others have what they need meanwhile, or refused them; `echo9 lost list` shows them", r.Updates, r.Lost)
	}
	return nil
}
