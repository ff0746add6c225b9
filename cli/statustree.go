package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/urfave/cli/v2"

	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// statusFile reads a file of a server's status tree, by a connection of its own.
func statusFile(ctx context.Context, c *cli.Context, addr, name string) ([]byte, error) {
	opt, err := clientOptions(c)
	if err != nil {
		return nil, err
	}
	opt.Aname = p9srv.StatusAname
	ctx, cancel := context.WithTimeout(ctx, c.Duration("connect-timeout"))
	defer cancel()
	conn, err := p9client.DialConn(ctx, addr, opt)
	if err != nil {
		return nil, connectError(ctx, c, addr, err)
	}
	tree, err := p9client.Attach(ctx, conn, opt)
	if err != nil {
		conn.Close()
		return nil, noStatus(addr, err)
	}
	text, err := readWhole(ctx, tree, name)
	if cerr := tree.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", addr, name, err)
	}
	return text, nil
}

// readWhole reads a file in the root of a tree.
func readWhole(ctx context.Context, tree p9srv.Backend, name string) ([]byte, error) {
	cred := new(p9srv.Cred)
	root, err := tree.Root(ctx, cred, "")
	if err != nil {
		return nil, err
	}
	defer root.Release()
	o, _, err := root.Walk(ctx, cred, name)
	if err != nil {
		return nil, err
	}
	defer o.Release()
	f, err := o.Open(ctx, cred, wire.ORdonly)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.NewSectionReader(readerAt{ctx, f}, 0, math.MaxInt64))
	return text, errors.Join(err, f.Close(ctx))
}

// readerAt is a File as Go's library reads.
type readerAt struct {
	ctx context.Context
	f   p9srv.File
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.f.ReadAt(r.ctx, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
