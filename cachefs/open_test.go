package cachefs

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"echo9/p9client"
	"echo9/p9srv"
)

// TestOpenPlainServer: with a server that does not know the extension everything works, uncached.
func TestOpenPlainServer(t *testing.T) {
	w := newWorld(t)
	srv := p9srv.New(p9srv.Config{Backend: w.backend})
	defer srv.Close()
	sock := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", sock)
	ok(t, err)
	go srv.Serve(bg, l)
	f, err := Open(bg, "unix!"+sock, Options{})
	ok(t, err)
	same(t, "cached", f.Cached(), false)
	ok(t, f.WriteFile(bg, "f", []byte("x"), 0o644))
	hasContent(t, f, "f", "x")
	hasContent(t, w.direct(), "f", "x")
	ok(t, f.Sync(bg))
	ok(t, f.Drop(bg))
	same(t, "TTL", f.TTL(object(t, f, "f").ID()), 0)
	same(t, "status", f.Status().Cached, false)
	ok(t, f.Close(bg))
}

// TestOpenFails: what cannot be opened gives an error that says why.
func TestOpenFails(t *testing.T) {
	_, err := Open(bg, "unix!"+filepath.Join(t.TempDir(), "nobody"), Options{})
	fails(t, err, syscall.ENOENT)
	w := newWorld(t)
	conn, err := p9client.NewConn(bg, w.pipe(), p9client.Options{})
	ok(t, err)
	_, err = OpenConn(bg, conn, Options{})
	fails(t, err, syscall.EPROTONOSUPPORT)
	conn.Close()
	conn, err = p9client.NewConn(bg, w.pipe(), p9client.Options{Extension: true})
	ok(t, err)
	_, err = OpenConn(bg, conn, Options{Aname: "not/there"})
	fails(t, err, syscall.ENOENT)
}
