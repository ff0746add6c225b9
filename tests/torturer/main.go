// Command torturer runs a server and mounts of it, and does to them what happens to
// machines and networks: connections are cut, stopped in one direction or both, processes are
// stopped and killed before and after messages of each kind, the server is started again, its disk is full. Another
// kernel's v9fs client is among those who look.
// Meanwhile everybody writes and looks, and a checker that knows every acknowledged update
// accepts only states which contain all of them, in which nothing is half done, and
// in which nobody sees less than somebody saw before.
//
// At its end it prints what it did and found: faults by kind, operations, losses that
// were reported and, which must be none, that were not, and stale reads, which must be none too.
// The seed decides on the faults, not on the times of processes: a seed that found something finds it again often, not always.
//
// It must be root, and there must be FUSE. Ctrl-C ends it sooner, in good order. Exit codes: 0 nothing wrong, 1 something wrong, 2 it could not be run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"echo9/internal/loopfs"
)

func main() { os.Exit(torment()) }

func torment() int {
	length := flag.Duration("for", time.Minute, "how long")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the faults")
	clients := flag.Int("clients", 3, "how many mounts")
	lease := flag.Duration("lease", 2*time.Second, "of the server")
	small := flag.Bool("small-disk", true, "serve a small file system of its own, which is full at times")
	apart := flag.Bool("namespace", true, "have one of the mounts in a network namespace of its own, whose link goes down")
	guest := flag.Bool("guest", true, "have the v9fs client of another kernel (user-mode Linux) look")
	echo9 := flag.String("echo9", "", "the `program` to torture (default: built from here)")
	without := flag.String("without", "", "kinds of `faults` to leave out, with commas between (kill-server,full-disk)")
	verbose := flag.Bool("v", false, "tell of each fault")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: tests/torture [-for 1h] [-seed N] ...\n\nCuts, stops, kills, and fills the disk under a server and its mounts, and checks what becomes of their files.\nNeeds root and FUSE.\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	dir, err := os.MkdirTemp("", "echo9-torture-")
	if err != nil {
		return fail(err)
	}
	interrupted, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer restore()
	o := options{stop: interrupted.Done(), echo9: *echo9, dir: dir, seed: *seed, length: *length, clients: *clients, lease: *lease, apart: *apart, guest: *guest, enough: 20, without: strings.Split(*without, ","), logf: func(string, ...any) {}}
	if *verbose {
		o.logf = func(format string, args ...any) {
			fmt.Printf("%9.3f  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
		}
	}
	if o.echo9 == "" {
		o.echo9 = filepath.Join(dir, "echo9")
		if out, err := exec.Command("go", "build", "-o", o.echo9, "echo9/cli").CombinedOutput(); err != nil {
			return fail(fmt.Errorf("building echo9: %w: %s", err, out))
		}
	}
	if *small {
		mnt, unmount, err := loopfs.Mount(dir, 64)
		if err != nil {
			return fail(fmt.Errorf("a file system of its own (-small-disk=false does without): %w", err))
		}
		defer func() { _ = unmount() }()
		o.export = mnt
	}
	fmt.Printf("seed %d, for %v, in %s\n", o.seed, o.length, dir)
	t, err := prepare(o)
	if err != nil {
		if t != nil {
			t.end()
		}
		return fail(err)
	}
	t.run()
	t.end()
	fmt.Println(t.summary())
	if wrong := t.wrongs(); len(wrong) > 0 {
		for _, s := range wrong {
			fmt.Println("WRONG:", s)
		}
		t.keepLogs()
		fmt.Printf("wrong with seed %d; what the processes said is in %s\n", o.seed, dir)
		return 1
	}
	_ = os.RemoveAll(dir)
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "torture:", err)
	return 2
}

// keepLogs leaves what all processes said beside the rest.
func (t *torture) keepLogs() {
	for _, p := range t.logs {
		_ = os.WriteFile(filepath.Join(t.o.dir, fmt.Sprintf("%s-%d.log", p.cmd.Args[1], p.pid())), []byte(p.said()), 0o644)
	}
}
