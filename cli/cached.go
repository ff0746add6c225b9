package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/cachefs"
	"echo9/cachefs/order"
	"echo9/p9client"
	"echo9/p9srv"
)

// cacheFlags are those of everything that caches.
func cacheFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "write-behind", Value: 5 * time.Second, Usage: "send changes that are older"},
		&cli.StringFlag{Name: "write", Value: "behind", Usage: "when changes go: behind, close (a file's, when it is closed) or through (at once)"},
		&cli.StringFlag{Name: "order", Value: "object", Usage: "the order that changes keep: object, causal or total"},
		&cli.StringFlag{Name: "cache", Value: "1G", Usage: "keep at most this much file data in memory"},
		&cli.StringFlag{Name: "dirty", Value: "256M", Usage: "with this much unsent, writers wait"},
	}
}

// cached is a Backend over a connection: a cache, or with a server that lacks
// the extension a plain tree.
type cached struct {
	p9srv.Backend
	cache *cachefs.FS    // nil: uncached
	tree  *p9client.Tree // nil: cached
}

// cacheOptions reads cacheFlags.
func cacheOptions(c *cli.Context) (cachefs.Options, error) {
	o := cachefs.Options{Aname: c.String("aname"), WriteBehind: c.Duration("write-behind"), Logf: logger(c.App.ErrWriter)}
	if o.WriteBehind <= 0 {
		return o, usageError("%s: --write-behind %v: say how old changes may become, or --write through", c.Command.Name, o.WriteBehind)
	}
	switch w := c.String("write"); w {
	case "behind":
		o.Writes = cachefs.Behind
	case "close":
		o.Writes = cachefs.OnClose
	case "through":
		o.Writes = cachefs.Through
	default:
		return o, usageError("%s: --write %q: say behind, close or through", c.Command.Name, w)
	}
	switch w := c.String("order"); w {
	case "object":
		o.Order = order.Object
	case "causal":
		o.Order = order.Causal
	case "total":
		o.Order = order.Total
	default:
		return o, usageError("%s: --order %q: say object, causal or total", c.Command.Name, w)
	}
	for name, to := range map[string]*int64{"cache": &o.Cache, "dirty": &o.Dirty} {
		n, err := parseSize(c.String(name))
		if err != nil || n == 0 {
			return o, usageError("%s: --%s: %q is no size; say 64M, 1G", c.Command.Name, name, c.String(name))
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
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("connect-timeout"))
	defer cancel()
	conn, err := p9client.DialConn(ctx, addr, opt)
	if err != nil {
		return nil, connectError(ctx, c, addr, err)
	}
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
		return &cached{Backend: fs, cache: fs}, nil
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

// pending tells how much is not at the server.
func (b *cached) pending() (updates int, bytes int64) {
	if b.cache == nil {
		return 0, 0
	}
	s := b.cache.Status()
	return s.Pending, s.PendingBytes
}

// drain sends what is left and closes, and says how it goes when that takes
// time. When ctx ends first the rest is lost.
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
		err = errors.Join(err, fmt.Errorf("%d changes did not reach the server", left))
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
