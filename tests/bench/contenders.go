package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"echo9/cachefs"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/tests/internal/rig"
	"echo9/tests/internal/slowproxy"
)

// contender is a server with a client: how it is started, and how a tree of it is had.
type contender struct {
	name  string
	serve func(bin binaries, addr, dir string) []string
	open  func(ctx context.Context, addr, aname string) (b p9srv.Backend, drain func(context.Context) error, err error)
}

var contenders = []contender{
	{"echo9 cached", serveEcho9, openCached},
	{"echo9 plain", serveEcho9, openPlain},
	{"p9ufs", func(b binaries, addr, dir string) []string {
		return []string{b.p9ufs, "-root", dir, addr}
	}, openPlain},
	{"diod", func(b binaries, addr, dir string) []string {
		return []string{b.diod, "-f", "-n", "-N", "-l", addr, "-e", dir}
	}, openPlain},
}

type binaries struct{ echo9, p9ufs, diod string }

// build makes the programs that are compared; diod is Debian's.
func build(ctx context.Context, dir string) (binaries, error) {
	b := binaries{echo9: filepath.Join(dir, "echo9"), p9ufs: filepath.Join(dir, "p9ufs")}
	for out, pkg := range map[string]string{b.echo9: "echo9/cli", b.p9ufs: "github.com/hugelgupf/p9/cmd/p9ufs"} {
		if err := rig.Build(ctx, out, pkg); err != nil {
			return b, err
		}
	}
	var err error
	if b.diod, err = exec.LookPath("diod"); err != nil {
		b.diod = "/usr/sbin/diod"
		if _, err = os.Stat(b.diod); err != nil {
			return b, fmt.Errorf("diod is not installed (apt-get install diod): %w", err)
		}
	}
	return b, nil
}

func serveEcho9(b binaries, addr, dir string) []string {
	return []string{b.echo9, "serve", "--listen", addr, dir}
}

func openPlain(ctx context.Context, addr, aname string) (p9srv.Backend, func(context.Context) error, error) {
	t, err := p9client.Dial(ctx, addr, p9client.Options{Aname: aname})
	if err != nil {
		return nil, nil, err
	}
	return t, func(context.Context) error { return t.Close() }, nil
}

func openCached(ctx context.Context, addr, aname string) (p9srv.Backend, func(context.Context) error, error) {
	fs, err := cachefs.Open(ctx, addr, cachefs.Options{Aname: aname})
	if err != nil {
		return nil, nil, err
	}
	if !fs.Cached() {
		return nil, nil, fmt.Errorf("%s does not know the extension", addr)
	}
	return fs, fs.Close, nil
}

// measure runs all works, one after another, on a fresh server and directory. What is
// cached is opened anew between works, so that reading is cold and a
// work's time includes the drain of what it wrote.
func measure(ctx context.Context, k contender, bin binaries, base string, rtt time.Duration, flow int, all []work) ([]result, error) {
	dir, err := os.MkdirTemp(base, "export-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	addr, err := rig.FreePort()
	if err != nil {
		return nil, err
	}
	server, err := rig.Start(k.serve(bin, addr, dir), rig.Listening(addr))
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	proxy, err := slowproxy.New(addr, rtt)
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	// diod serves what its aname names; the others their root.
	aname := ""
	if k.name == "diod" {
		aname = dir
	}
	var results []result
	for _, w := range all {
		b, drain, err := k.open(ctx, proxy.Addr(), aname)
		if err != nil {
			return nil, fmt.Errorf("attaching: %w", err)
		}
		cred := &p9srv.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
		before, start := proxy.Counts(), time.Now()
		root, err := b.Root(ctx, cred, "")
		if err != nil {
			return nil, fmt.Errorf("attaching: %w", err)
		}
		t := &tree{b: b, cred: cred, root: root, flow: flow}
		err = w.run(ctx, t)
		root.Release()
		if derr := drain(ctx); err == nil {
			err = derr
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		n := proxy.Counts().Sub(before)
		results = append(results, result{time.Since(start).Seconds(), n.Requests, float64(n.Sent+n.Received) / (1 << 20)})
	}
	return results, nil
}
