package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"echo9/p9srv"
)

func cacheCommand() *cli.Command {
	return &cli.Command{
		Name: "cache", ArgsUsage: "[--listen ADDR2] ADDR", Usage: "cache a server, and offer that as plain 9P2000.L (for v9fs, sandboxes)",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: append(append(append(daemonFlags(),
			&cli.StringSliceFlag{Name: "listen", Usage: "listen at `ADDR2`; may be given many times (default: a private unix socket)"},
			&cli.StringFlag{Name: "as", Value: "self", Usage: "as whom those act who come by TCP or vsock: self, a uid, or client (as whom they say)"},
		), append(cacheFlags(), journalFlag())...), withoutAddr(connectFlags())...),
		Description: `   echo9 cache --listen unix!/run/near.sock tcp!server!5640
   mount -t 9p -o trans=unix,version=9p2000.L /run/near.sock /mnt

Runs beside the application. Ctrl-C sends what is not at the server, and ends;
a second one gives that up, and keeps it (echo9 lost, or the journal).`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			return cacheServe(c, c.Args().First())
		},
	}
}

func cacheServe(c *cli.Context, addr string) error {
	addr, err := serverAddr(c, addr)
	if err != nil {
		return err
	}
	users, err := p9srv.ParseUsers(c.String("as"))
	if err != nil {
		return usageError("cache: --as: %v", err)
	}
	o, err := cacheOptions(c)
	if err != nil {
		return err
	}
	o.KernelAbove = true
	addrs, err := listenAddrs(c, addr)
	if err != nil {
		return err
	}
	o.Place = "cache at " + addrs[0].String()
	if done, err := detached(c); done {
		return err
	}
	b, err := openCached(c, addr, o)
	if err != nil {
		return err
	}
	say := logger(c.App.ErrWriter)
	tellDeaths(c, addr, say)
	cfg := p9srv.Config{Backend: b.Backend, Users: users}
	if b.cache != nil {
		cfg.Control = b.cache.Control()
	}
	if c.Bool("verbose") {
		cfg.Logf = say
	}
	server := p9srv.New(cfg)
	late, done := b.givingUp()
	defer done()
	l := &listenersOf{addrs: addrs, users: users}
	head := fmt.Sprintf("%s, %s\n", addr, b.kind())
	err = l.serve(c, server, head, nil)
	if n, _ := b.pending(); n > 0 {
		say("stopping; a second Ctrl-C gives up what is not at the server")
	}
	ctx, cancel := context.WithTimeout(late, shutdownTime)
	defer cancel()
	serr := server.Shutdown(ctx)
	if errors.Is(serr, context.DeadlineExceeded) {
		serr = server.Close()
	}
	return errors.Join(err, serr, b.drain(late, say))
}
