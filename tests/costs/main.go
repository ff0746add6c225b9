// Command costs measures what durability costs, as ratios to what the local file system
// takes for the same, in one run on an ext4 with a journal in a loop file:
//
//	go run ./tests/costs                     all parts
//	go run ./tests/costs -only small,shared  some of them
//
// The parts are
//
//	tree       10,000 small files in one cut, and through a cache, against tar x and sync
//	small      one small overwrite that is made durable, against pwrite and fdatasync
//	shared     clients that fsync at the same time: syncs of the log per cut
//	neighbour  small again, while somebody dirties -dirty GiB on the same file system
//
// What is compared takes turns, so that both meet the same load. With -check it fails when a
// goal is missed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"echo9/internal/loopfs"
)

func main() {
	dir := flag.String("dir", "", "where the loop file is made (default: a temporary directory)")
	files := flag.Int("files", 10000, "small files in one cut")
	rounds := flag.Int("rounds", 300, "small overwrites")
	clients := flag.Int("clients", 16, "clients that fsync at the same time")
	dirty := flag.Float64("dirty", 10, "GiB that the neighbour dirties")
	only := flag.String("only", "", "parts, comma separated (default: all)")
	check := flag.Bool("check", false, "exit with 1 when a goal is missed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	missed, err := run(ctx, *dir, *only, config{files: *files, rounds: *rounds, clients: *clients, dirty: int64(*dirty * (1 << 30))})
	if err != nil {
		fmt.Fprintln(os.Stderr, "costs:", err)
		os.Exit(1)
	}
	if *check && missed > 0 {
		os.Exit(1)
	}
}

type config struct {
	files, rounds, clients int
	dirty                  int64
}

// row is one line of the table.
type row struct {
	what   string
	local  time.Duration // 0: there is nothing local to compare with
	echo9  time.Duration
	ratio  float64
	goal   float64 // 0: none
	detail string
}

type part struct {
	name string
	run  func(ctx context.Context, mnt string, c config) ([]row, error)
}

var parts = []part{{"tree", treePart}, {"small", smallPart}, {"shared", sharedPart}, {"neighbour", neighbourPart}}

func run(ctx context.Context, base, only string, c config) (missed int, err error) {
	syscall.Umask(0)
	work, err := os.MkdirTemp(base, "echo9-costs-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	mnt, unmount, err := loopfs.Mount(work, int(3*c.dirty/2>>20)+4096)
	if err != nil {
		return 0, fmt.Errorf("an ext4 of our own: %w", err)
	}
	defer func() {
		if uerr := unmount(); err == nil {
			err = uerr
		}
	}()
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("%d CPUs, load %s, %s\n\n", runtime.NumCPU(), strings.Join(strings.Fields(string(load))[:3], " "), time.Now().Format("2006-01-02 15:04"))
	fmt.Println("| what | local | echo9 | ratio | goal | |\n|---|---|---|---|---|---|")
	for _, p := range parts {
		if only != "" && !slices.Contains(strings.Split(only, ","), p.name) {
			continue
		}
		rows, err := p.run(ctx, mnt, c)
		if err != nil {
			return missed, fmt.Errorf("%s: %w", p.name, err)
		}
		for _, r := range rows {
			missed += r.print()
		}
	}
	return missed, nil
}

func (r row) print() (missed int) {
	if r.ratio == 0 && r.local > 0 {
		r.ratio = float64(r.echo9) / float64(r.local)
	}
	goal := ""
	if r.goal > 0 {
		goal = fmt.Sprintf("≤ %.1f", r.goal)
		if r.ratio > r.goal {
			goal += " **missed**"
			missed = 1
		}
	}
	local := ""
	if r.local > 0 {
		local = show(r.local)
	}
	fmt.Printf("| %s | %s | %s | %.2f | %s | %s |\n", r.what, local, show(r.echo9), r.ratio, goal, r.detail)
	return missed
}

func show(d time.Duration) string {
	if d > 10*time.Millisecond {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

func median(d []time.Duration) time.Duration { return quantile(d, 0.5) }

func quantile(d []time.Duration, q float64) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

// timed tells how long fn takes.
func timed(fn func() error) (time.Duration, error) {
	start := time.Now()
	err := fn()
	return time.Since(start), err
}
