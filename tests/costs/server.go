package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"echo9/cachefs"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// export is a directory of the file system that is measured, and its server in this process.
type export struct {
	dir, sock string
	fs        *dirfs.FS
	server    *p9srv.Server
	authority *p9srv.Authority
}

// newExport makes and serves mnt/name. Clients come by a unix socket.
func newExport(ctx context.Context, mnt, name string) (*export, error) {
	e := &export{dir: filepath.Join(mnt, name), sock: filepath.Join(filepath.Dir(mnt), name+".sock")}
	if err := os.Mkdir(e.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if e.fs, err = dirfs.Open(e.dir, dirfs.Options{Logf: logf}); err != nil {
		return nil, err
	}
	users, err := p9srv.ParseUsers("self")
	if err != nil {
		return nil, err
	}
	e.authority = p9srv.NewAuthority(p9srv.AuthorityConfig{Backend: e.fs, Users: users, Lease: 10 * time.Second, Logf: func(string, ...any) {}})
	e.server = p9srv.New(p9srv.Config{Backend: e.fs, Authority: e.authority, Users: users})
	l, err := net.Listen("unix", e.sock)
	if err != nil {
		return nil, err
	}
	go e.server.Serve(ctx, l)
	return e, nil
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (e *export) close() error {
	err := e.server.Close()
	e.authority.Close()
	return errors.Join(err, e.fs.Close(), os.RemoveAll(e.dir))
}

// client is a caching client of the export.
type client struct {
	fs   *cachefs.FS
	cred *p9srv.Cred
	root p9srv.Object
}

func (e *export) client(ctx context.Context) (*client, error) {
	// Nothing goes but by fsync.
	fs, err := cachefs.Open(ctx, "unix!"+e.sock, cachefs.Options{WriteBehind: time.Hour, CutOps: 16000, CutBytes: 16 << 20})
	if err != nil {
		return nil, err
	}
	if !fs.Cached() {
		return nil, errors.New("the server does not know the extension")
	}
	c := &client{fs: fs, cred: &p9srv.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}}
	if c.root, err = fs.Root(ctx, c.cred, ""); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *client) close(ctx context.Context) error {
	c.root.Release()
	return c.fs.Close(ctx)
}
