package p9client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"echo9/internal/netaddr"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// serve serves a fresh directory and tells its address.
func serve(ctx context.Context) (addr string, stop func()) {
	dir, err := os.MkdirTemp("", "e9")
	if err != nil {
		log.Fatal(err)
	}
	fs, err := dirfs.Open(dir, dirfs.Options{})
	if err != nil {
		log.Fatal(err)
	}
	sock, err := os.MkdirTemp("", "e9")
	if err != nil {
		log.Fatal(err)
	}
	a, err := netaddr.Parse("unix!" + filepath.Join(sock, "s"))
	if err != nil {
		log.Fatal(err)
	}
	l, err := a.Listen(ctx)
	if err != nil {
		log.Fatal(err)
	}
	s := p9srv.New(p9srv.Config{Backend: fs})
	go s.Serve(ctx, l)
	return a.String(), func() {
		s.Close()
		fs.Close()
		os.RemoveAll(dir)
		os.RemoveAll(sock)
	}
}

// A file is written and read through any 9P2000.L server.
func ExampleDial() {
	ctx := context.Background()
	addr, stop := serve(ctx)
	defer stop()

	tree, err := p9client.Dial(ctx, addr, p9client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer tree.Close()
	root, err := tree.Root(ctx, nil, "")
	if err != nil {
		log.Fatal(err)
	}
	defer root.Release()

	o, f, _, err := root.Create(ctx, nil, "greeting", wire.ORdwr|wire.OExcl, 0o644, wire.NoUID)
	if err != nil {
		log.Fatal(err)
	}
	defer o.Release()
	if _, err := f.WriteAt(ctx, []byte("hello, world"), 0); err != nil {
		log.Fatal(err)
	}
	p := make([]byte, 5)
	if _, err := f.ReadAt(ctx, p, 7); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", p)
	// Output: world
}

// One connection, message by message, with its trace.
func ExampleDialConn() {
	ctx := context.Background()
	addr, stop := serve(ctx)
	defer stop()

	c, err := p9client.DialConn(ctx, addr, p9client.Options{
		Msize: 65536,
		Trace: func(line string) { fmt.Println(line) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	err = c.RPC(ctx, &wire.Tclunk{Fid: 7}, &wire.Rclunk{})
	fmt.Println(err)
	// Output:
	// Tversion tag notag msize 65536 version "9P2000.L"
	// Rversion tag notag msize 65536 version "9P2000.L"
	// Tclunk tag 0 fid 7
	// Rlerror tag 0 errno 9
	// Tclunk: bad file descriptor
}

// hugelgupf/p9's client over the same addresses.
func ExampleDialP9() {
	ctx := context.Background()
	addr, stop := serve(ctx)
	defer stop()

	c, err := p9client.DialP9(ctx, addr)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	root, err := c.Attach("")
	if err != nil {
		log.Fatal(err)
	}
	_, _, err = root.Walk([]string{"nothing"})
	fmt.Println(err)
	// Output: no such file or directory
}
