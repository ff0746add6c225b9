package cachefs_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"echo9/cachefs"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// serve serves a fresh directory on a unix socket and gives its address, as `echo9 serve DIR` does.
func serve() (addr string, stop func()) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "echo9-example")
	must(err)
	export := filepath.Join(dir, "export")
	must(os.Mkdir(export, 0o755))
	backend, err := dirfs.Open(export, dirfs.Options{})
	must(err)
	auth := p9srv.NewAuthority(p9srv.AuthorityConfig{Backend: backend})
	srv := p9srv.New(p9srv.Config{Backend: backend, Authority: auth})
	sock := filepath.Join(dir, "sock")
	l, err := net.Listen("unix", sock)
	must(err)
	go srv.Serve(context.Background(), l)
	return "unix!" + sock, func() {
		srv.Close()
		auth.Close()
		backend.Close()
		os.RemoveAll(dir)
	}
}

// A program works on a remote tree as on a local one: at memory's speed, and written back in order.
func ExampleOpen() {
	addr, stop := serve()
	defer stop()
	ctx := context.Background()
	fs, err := cachefs.Open(ctx, addr, cachefs.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("cached:", fs.Cached())
	err = errors.Join(
		fs.MkdirAll(ctx, "project/src", 0o755),
		fs.WriteFile(ctx, "project/src/main.go.tmp", []byte("package main\n"), 0o644),
		fs.Rename(ctx, "project/src/main.go.tmp", "project/src/main.go"),
	)
	fmt.Println("written:", err)
	fmt.Println("closed:", fs.Close(ctx)) // everything is at the server now
	// Output:
	// cached: true
	// written: <nil>
	// closed: <nil>
}

// Fsync makes one file durable, and what it needs to exist; Sync everything.
func ExampleFS_Sync() {
	addr, stop := serve()
	defer stop()
	ctx := context.Background()
	fs, err := cachefs.Open(ctx, addr, cachefs.Options{WriteBehind: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fs.Close(ctx)
	fs.WriteFile(ctx, "a", []byte("1"), 0o644)
	fs.WriteFile(ctx, "b", []byte("2"), 0o644)
	fmt.Println("pending before:", fs.Status().Pending > 0)
	fmt.Println(fs.Sync(ctx))
	fmt.Println("pending after:", fs.Status().Pending > 0)
	// Output:
	// pending before: true
	// <nil>
	// pending after: false
}

// A barrier orders and does not wait: after a crash nobody finds the index without the data it points to.
func ExampleFile_Barrier() {
	addr, stop := serve()
	defer stop()
	ctx := context.Background()
	fs, err := cachefs.Open(ctx, addr, cachefs.Options{WriteBehind: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer fs.Close(ctx)
	data, err := fs.OpenFile(ctx, "data", wire.ORdwr|wire.OCreat, 0o644)
	if err != nil {
		fmt.Println(err)
		return
	}
	data.WriteAt(ctx, []byte("record 1"), 0)
	fmt.Println("barrier:", data.Barrier())
	fs.MkdirAll(ctx, "index", 0o755)
	fs.WriteFile(ctx, "index/1", []byte("data, 0, 8"), 0o644)
	fmt.Println("nothing is at the server yet:", fs.Status().Cuts == 0)
	fmt.Println("closed:", data.Close(ctx))
	// Output:
	// barrier: <nil>
	// nothing is at the server yet: true
	// closed: <nil>
}

// Two caches of one server see each other's changes at once, though neither was told to write anything back.
func ExampleFS_ReadFile() {
	addr, stop := serve()
	defer stop()
	ctx := context.Background()
	one, err := cachefs.Open(ctx, addr, cachefs.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer one.Close(ctx)
	two, err := cachefs.Open(ctx, addr, cachefs.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer two.Close(ctx)
	one.WriteFile(ctx, "note", []byte("hello"), 0o644)
	b, err := two.ReadFile(ctx, "note")
	fmt.Printf("%s %v\n", b, err)
	_, err = two.ReadFile(ctx, "nothing")
	fmt.Println(errors.Is(err, syscall.ENOENT))
	// Output:
	// hello <nil>
	// true
}
