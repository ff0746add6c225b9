// Command compare measures when and in which order a mount sends what was
// changed: every change at once (sync), a file when it is closed (close), and
// written behind in the orders total, causal and object. Real programs work on
// a real FUSE mount, over TCP, through a proxy that counts. It asks what that
// costs, and what a client must send at once when somebody else looks at one
// file: of a work just done, among k unsent files, and while much is draining.
//
//	go run ./tests/compare                     print the tables
//	go run ./tests/compare -docs docs          write docs/comparison.{md,json} and the plots
//	go run ./tests/compare -render -docs docs  the same from the docs/comparison.json that is there
//	go run ./tests/compare -only edit,mail -saves 2 -mails 20 -k 10,100 -drain 16
//
// Needs /dev/fuse, vi, git, and Go. Counts depend on the code, times on the machine:
// what else it was doing is in the tables.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"echo9/tests/internal/rig"
)

// config is how much is done, and where.
type config struct {
	Saves   int    `json:"saves"`
	Commits int    `json:"commits"`
	Mails   int    `json:"mails"`
	Tree    string `json:"tree"` // below GOROOT/src
	K       []int  `json:"k"`
	Drain   int    `json:"drain"` // MiB
	Runs    int    `json:"runs"`  // of each work, of which the fastest counts

	dir, echo9, input, tmp string
	files                  int    // in Tree
	lastFile               string // of Tree
	say                    func(format string, args ...any)
}

func main() {
	c := config{say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	flag.IntVar(&c.Saves, "saves", 6, "saves of each file by the editors")
	flag.IntVar(&c.Commits, "commits", 5, "commits after the first")
	flag.IntVar(&c.Mails, "mails", 100, "deliveries")
	flag.StringVar(&c.Tree, "tar", "net", "what of Go's src is unpacked")
	flag.IntVar(&c.Drain, "drain", 256, "MiB of the large drain")
	flag.IntVar(&c.Runs, "runs", 1, "runs of each work, of which the fastest counts")
	ks := flag.String("k", "10,100,1000,10000", "numbers of unsent files, ascending")
	only := flag.String("only", "", "these works only, comma separated; not with -docs")
	dir := flag.String("dir", "", "where exports and mounts are made (default: a temporary directory)")
	docs := flag.String("docs", "", "write comparison.md, comparison.json and the plots into this directory")
	again := flag.Bool("render", false, "do not measure: take the comparison.json that is there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, c, *ks, *only, *dir, *docs, *again); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config, ks, only, dir, docs string, again bool) error {
	if again {
		r, err := load(docs)
		if err != nil {
			return err
		}
		return r.write(docs)
	}
	for s := range strings.SplitSeq(ks, ",") {
		k, err := strconv.Atoi(s)
		if err != nil || k < 1 {
			return fmt.Errorf("-k %s: say numbers, such as 10,100", s)
		}
		c.K = append(c.K, k)
	}
	chosen := works
	if only != "" {
		if docs != "" {
			return fmt.Errorf("-only with -docs would write half a page")
		}
		names := strings.Split(only, ",")
		chosen = slices.DeleteFunc(slices.Clone(works), func(w work) bool { return !slices.Contains(names, w.name) })
		if len(chosen) != len(names) {
			return fmt.Errorf("-only %s: say some of edit, fsync, build, git, tar, mail", only)
		}
	}
	tmp, err := os.MkdirTemp(dir, "echo9-compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	c.dir, c.echo9 = tmp, filepath.Join(tmp, "echo9")
	if err := rig.Build(ctx, c.echo9, "echo9/cli"); err != nil {
		return err
	}
	if err := c.prepare(ctx, tmp); err != nil {
		return err
	}
	r, err := measure(ctx, c, chosen)
	if err != nil {
		return err
	}
	if docs == "" {
		fmt.Print(r.markdown())
		return nil
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(docs, "comparison.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return r.write(docs)
}

// rtts are the round-trip times that works are done with.
var rtts = []time.Duration{0, time.Millisecond}

// measure does everything, one thing after another.
func measure(ctx context.Context, c config, chosen []work) (*result, error) {
	r := &result{Config: c, Where: where(ctx)}
	for _, w := range chosen {
		wr := workResult{Name: w.name, What: w.describe(c), Target: w.target(c)}
		for _, p := range policies {
			row := workRow{Policy: p.name}
			for _, rtt := range rtts {
				c.say("%s, %s, %v", w.name, p.name, rtt)
				var best cost
				for i := range max(1, c.Runs) {
					k, err := measureWork(ctx, c, w, p, rtt)
					if err != nil {
						return nil, fmt.Errorf("%s, %s, rtt %v: %w", w.name, p.name, rtt, err)
					}
					if i == 0 || k.Seconds < best.Seconds {
						best = k
					}
				}
				row.Costs = append(row.Costs, best)
			}
			c.say("%s, %s, a recall", w.name, p.name)
			f, err := measureRecall(ctx, c, w, p)
			if err != nil {
				return nil, fmt.Errorf("%s, %s, a recall: %w", w.name, p.name, err)
			}
			row.Recall = f
			wr.Rows = append(wr.Rows, row)
		}
		r.Works = append(r.Works, wr)
	}
	for _, pl := range places {
		s := sweep{Place: pl.name, What: pl.what}
		for _, p := range policies {
			c.say("k unsent files in %s, %s", pl.name, p.name)
			fs, err := measureSweep(ctx, c, pl, p, p.sweeps(c.K))
			if err != nil {
				return nil, fmt.Errorf("k unsent files in %s, %s: %w", pl.name, p.name, err)
			}
			s.Rows = append(s.Rows, sweepRow{p.name, fs})
		}
		r.Sweeps = append(r.Sweeps, s)
	}
	for _, p := range policies {
		c.say("a drain of %d MiB, %s", c.Drain, p.name)
		fs, err := measureDrain(ctx, c, p, time.Millisecond, c.Drain)
		if err != nil {
			return nil, fmt.Errorf("a drain, %s: %w", p.name, err)
		}
		r.Drains = append(r.Drains, sweepRow{p.name, fs})
	}
	r.Where.LoadAfter = load1()
	return r, nil
}

// where says what was measured, and on what.
func where(ctx context.Context) (w whereabouts) {
	w.Date, w.CPUs, w.LoadBefore = time.Now().UTC().Format("2006-01-02 15:04 MST"), cpus(), load1()
	if out, err := output(ctx, "", "go", "version"); err == nil {
		w.Go = strings.TrimPrefix(out, "go version ")
	}
	if out, err := output(ctx, "", "uname", "-sr"); err == nil {
		w.Kernel = out
	}
	if out, err := output(ctx, "", "git", "rev-parse", "--short=12", "HEAD"); err == nil {
		w.Commit = out
		if err := exec.CommandContext(ctx, "git", "diff", "--quiet", "HEAD", "--", "*.go").Run(); err != nil {
			w.Commit += " and changes"
		}
	}
	return w
}
