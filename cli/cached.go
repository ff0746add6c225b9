package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/cachefs"
	"echo9/p9client"
	"echo9/p9srv"
)

// cacheFlags are those of everything that caches.
func cacheFlags() []cli.Flag {
	return append(spoolFlags(),
		&cli.StringFlag{Name: "order", Value: "object", Usage: "the order that changes keep: object (those to one file or directory), causal (and what comes after reading them), total (all)"},
		&cli.StringFlag{Name: "writes", Value: "behind", Usage: "when changes go to the server: behind (later), close (a file's when it is closed, others at once), sync (each at once)"},
		&cli.DurationFlag{Name: "write-behind", Value: 5 * time.Second, Usage: "with --writes behind, send changes that are older"},
		&cli.StringFlag{Name: "dirty", Value: "256MiB", Usage: "with `SIZE` of data that is not at the server, writers wait"},
		&cli.StringFlag{Name: "cache", Value: "1GiB", Usage: "keep at most `SIZE` of file data in memory besides"},
		&cli.BoolFlag{Name: "hard", Usage: "while the server is away, wait for it, however long it takes; that is so without --soft"},
		&cli.DurationFlag{Name: "soft", Usage: "while the server is away and what is cached cannot be vouched for any more, fail with an I/O error after `TIME` (30s, say); changes that are made already are kept and sent all the same"},
	)
}

// cached is a Backend over a connection: a cache, or with a server that lacks
// the extension a plain tree.
type cached struct {
	p9srv.Backend
	cache *cachefs.FS    // nil: uncached
	tree  *p9client.Tree // nil: cached
	kept  string         // where what is given up is
}

// cacheMutant is set by the linker only, for tests which have to notice that a mechanism is broken.
var cacheMutant string

// cacheOptions reads cacheFlags.
func cacheOptions(c *cli.Context) (cachefs.Options, error) {
	o := cachefs.Options{Aname: c.String("aname"), WriteBehind: c.Duration("write-behind"), Logf: logger(c.App.ErrWriter), Mutant: cacheMutant}
	if o.WriteBehind <= 0 {
		return o, usageError("%s: --write-behind %v: say how old changes may become, or --writes sync", c.Command.Name, o.WriteBehind)
	}
	if o.Soft = c.Duration("soft"); c.IsSet("soft") && (o.Soft <= 0 || c.Bool("hard")) {
		return o, usageError("%s: --soft %v: say how long to wait for a server that is away, or --hard for ever, and not both", c.Command.Name, o.Soft)
	}
	var err error
	if o.Spool, err = openSpool(c); err != nil {
		return o, err
	}
	if o.Writes, err = cachefs.ParseWrites(c.String("writes")); err != nil {
		return o, usageError("%s: --writes: %v", c.Command.Name, err)
	}
	if o.Order, err = cachefs.ParseOrder(c.String("order")); err != nil {
		return o, usageError("%s: --order: %v", c.Command.Name, err)
	}
	for name, to := range map[string]*int64{"cache": &o.Cache, "dirty": &o.Dirty} {
		n, err := parseSize(c.String(name))
		if err != nil || n == 0 {
			return o, usageError("%s: --%s: %q is no size; say 64MiB, 1GiB", c.Command.Name, name, c.String(name))
		}
		*to = int64(n)
	}
	return o, nil
}

// openCached connects to a server and caches it, if the server can.
func openCached(c *cli.Context, addr string, o cachefs.Options) (*cached, error) {
	opt, err := clientOptions(c)
	if err != nil {
		return nil, err
	}
	opt.Extension = true
	o.Server = addr
	if err := openJournal(c, addr, opt, &o); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("connect-timeout"))
	defer cancel()
	conn, err := p9client.DialConn(ctx, addr, opt)
	if err != nil {
		return nil, connectError(ctx, c, addr, err)
	}
	o.Dial = func(ctx context.Context) (*p9client.Conn, error) { return p9client.DialConn(ctx, addr, opt) }
	b, err := cacheConn(ctx, conn, opt, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return b, nil
}

// cacheOver is openCached over a connection that is there.
func cacheOver(ctx context.Context, nc net.Conn, opt p9client.Options, o cachefs.Options) (*cached, error) {
	opt.Extension = true
	conn, err := p9client.NewConn(ctx, nc, opt)
	if err != nil {
		return nil, err
	}
	return cacheConn(ctx, conn, opt, o)
}

func cacheConn(ctx context.Context, conn *p9client.Conn, opt p9client.Options, o cachefs.Options) (*cached, error) {
	if conn.Ext() {
		fs, err := cachefs.OpenConn(ctx, conn, o)
		if err != nil {
			return nil, err
		}
		return &cached{Backend: fs, cache: fs, kept: keptWhere(&o)}, nil
	}
	tree, err := p9client.Attach(ctx, conn, opt)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &cached{Backend: tree, tree: tree}, nil
}

// sync waits until all changes are at the server.
func (b *cached) sync(ctx context.Context) error {
	if b.cache == nil {
		return nil
	}
	return b.cache.Sync(ctx)
}

// barrier orders what was done to paths, or without any all that was done so far, before all that is done later.
func (b *cached) barrier(ctx context.Context, paths ...string) error {
	if b.cache == nil {
		return nil
	}
	if len(paths) == 0 {
		return b.cache.BarrierAll()
	}
	for _, p := range paths {
		if err := b.cache.BarrierAt(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// pending tells how much is not at the server.
func (b *cached) pending() (updates int, bytes int64) {
	if b.cache == nil {
		return 0, 0
	}
	s := b.cache.Status()
	return s.Pending, s.PendingBytes
}

// drain sends what is left and closes, and says how it goes when that takes
// time. When ctx ends first the rest is given up, and kept.
func (b *cached) drain(ctx context.Context, say func(string, ...any)) error {
	if b.cache == nil {
		return b.tree.Close()
	}
	said := time.Now()
	err := b.cache.Wait(ctx, func(updates int, bytes int64) {
		if updates > 0 && time.Since(said) > time.Second {
			said = time.Now()
			say("%d changes (%sB) are still to be sent", updates, byteCount(uint64(bytes)))
		}
	})
	cerr := b.cache.Close(ctx)
	if err == nil {
		err = cerr
	}
	if left, _ := b.pending(); err != nil && left > 0 {
		err = errors.Join(err, fmt.Errorf("%d changes did not reach the server (%s)", left, b.kept))
	}
	return err
}

// kind says what sort of access this is, for people.
func (b *cached) kind() string {
	if b.cache == nil {
		return "uncached (the server does not speak echo9's extension: every operation goes to it)"
	}
	return "cached"
}
