// Command bench compares echo9, cached and plain, with other 9P servers of this
// machine in one run: small files, a stream, and a real tree, through a proxy
// that adds a round-trip time and counts messages and bytes. It prints a
// Markdown table; the ratios of one run are what counts, not the times.
//
//	go run ./tests/bench                   10,000 files, 1 GiB, the Go tree; 0 and 1 ms
//	go run ./tests/bench -files 1000 -mib 64 -tree ""
//
// A contender that is not installed fails the run. Directories are made below
// -dir: give it a journalled file system, such as a loop file:
//
//	truncate -s 8G img && mkfs.ext4 -q img && mount -o loop img DIR
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
	"time"
)

func main() {
	files := flag.Int("files", 10000, "small files")
	mib := flag.Int("mib", 1024, "MiB of the streamed file")
	tree := flag.String("tree", "go", "local tree that is copied in; go: the Go distribution's src; empty: none")
	rtts := flag.String("rtt", "0s,1ms", "round-trip times to add")
	dir := flag.String("dir", "", "where the servers' directories are made (default: a temporary directory)")
	only := flag.String("only", "", "contenders, comma separated (default: all)")
	flow := flag.Int("flow", 16, "operations in flight")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, config{*files, *mib, *tree, *rtts, *dir, *only, *flow}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type config struct {
	files, mib int
	tree, rtts string
	dir, only  string
	flow       int
}

// result is one cell of the table.
type result struct {
	seconds  float64
	messages int64
	mib      float64
}

func run(ctx context.Context, c config) error {
	dir, err := os.MkdirTemp(c.dir, "echo9-bench-")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	bin, err := build(ctx, dir)
	if err != nil {
		return err
	}
	all := []work{}
	all = append(all, smallFiles(c.files)...)
	if c.mib > 0 {
		all = append(all, stream(c.mib)...)
	}
	if c.tree == "go" {
		root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return fmt.Errorf("go env GOROOT: %w", err)
		}
		c.tree = filepath.Join(strings.TrimSpace(string(root)), "src")
	}
	if c.tree != "" {
		w, err := realTree(c.tree)
		if err != nil {
			return err
		}
		all = append(all, w...)
	}
	for _, s := range strings.Split(c.rtts, ",") {
		rtt, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("-rtt %s: %w", s, err)
		}
		var names []string
		var columns [][]result
		for _, k := range contenders {
			if c.only != "" && !strings.Contains(","+c.only+",", ","+k.name+",") {
				continue
			}
			fmt.Fprintf(os.Stderr, "rtt %v: %s\n", rtt, k.name)
			col, err := measure(ctx, k, bin, dir, rtt, c.flow, all)
			if err != nil {
				return fmt.Errorf("%s, rtt %v: %w", k.name, rtt, err)
			}
			names, columns = append(names, k.name), append(columns, col)
		}
		table(rtt, names, all, columns)
	}
	return nil
}

// table prints seconds, messages and MiB of each contender, and the ratio of the best
// other server's time to that of the first contender.
func table(rtt time.Duration, names []string, all []work, columns [][]result) {
	fmt.Printf("\nAdded round trip %v. Each cell: seconds · requests · MiB on the wire. Last column: best other server's time over that of %s.\n\n| work | ", rtt, names[0])
	fmt.Println(strings.Join(names, " | "), "| ratio |")
	fmt.Println("|---" + strings.Repeat("|---", len(names)+1) + "|")
	for i, w := range all {
		fmt.Printf("| %s, %d %s ", w.name, w.ops, w.unit)
		best := 0.0
		for j, col := range columns {
			r := col[i]
			fmt.Printf("| %.2f · %d · %.1f ", r.seconds, r.messages, r.mib)
			if !strings.HasPrefix(names[j], "echo9") && (best == 0 || r.seconds < best) {
				best = r.seconds
			}
		}
		fmt.Printf("| %.1f |\n", best/columns[0][i].seconds)
	}
}
