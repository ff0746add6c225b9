package faces

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/tests/internal/need"
	"echo9/tests/internal/treehash"
)

// crowdTime is how long the crowd works.
const crowdTime = 30 * time.Second

// TestCrowd has two mounts with 8 processes each that create, write, rename and
// unlink in one directory and on the same files: nothing stands still, no
// client is given up, no recall takes long, and in the end all see the same.
func TestCrowd(t *testing.T) {
	setUp(t)
	h := newHost(t)
	if err := os.Mkdir(filepath.Join(h.dir, "shared"), 0o755); err != nil {
		t.Fatal(err)
	}
	a, b := mount(t, "mount", h.addr, t.TempDir()), mount(t, "mount", h.addr, t.TempDir())
	trips := roundTrips(t, h.addr)
	var workers []*crowdWorker
	for i := range 16 {
		workers = append(workers, newWorker(t, filepath.Join([]string{a.mnt, b.mnt}[i%2], "shared"), i))
	}
	time.Sleep(crowdTime)
	for _, w := range workers {
		w.in.Close()
	}
	limit := time.After(patience)
	total, all, stale := map[string]int{}, 0, 0
	var slowest report
	for i, w := range workers {
		select {
		case err := <-w.ended:
			if err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		case <-limit:
			t.Errorf("worker %d stands still; waiting at the server: %+v", i, h.authority.Status().Waiting)
			stacks(a, b)
			for _, w := range workers {
				_ = w.cmd.Process.Kill()
			}
			t.FailNow()
		}
		done := 0
		for name, n := range w.report.Done {
			total[name] += n
			done += n
		}
		all, stale = all+done, stale+w.report.Stale
		if done < enough && len(w.report.Wrong) == 0 {
			t.Errorf("worker %d did %d operations: it starves", i, done)
		}
		for _, wrong := range w.report.Wrong {
			t.Error(wrong)
		}
		if w.report.Slowest > slowest.Slowest {
			slowest = w.report
		}
	}
	trip := trips()
	st := h.authority.Status()
	t.Logf("done: %v; %d paths vanished; slowest: %s, %v", total, stale, slowest.Slow, slowest.Slowest)
	if stale > all/100 {
		t.Errorf("%d of %d operations failed since a path's object vanished", stale, all)
	}
	t.Logf("%d cuts, %d refused, %d recalls, the longest %v; longest round trip %v",
		st.CutsApplied, st.CutsRefused, st.Recalls, st.LongestRecall, trip)
	most := 1500*time.Millisecond + 2*trip
	if !need.Full() { // what is not the machine's doing: somebody waits for what comes only when a lease ends
		most = max(most, lease/3)
	}
	if st.LongestRecall > most {
		t.Errorf("a recall took %v; %v at most", st.LongestRecall, most)
	}
	if st.Recalls < 100 {
		t.Errorf("%d recalls: the mounts hardly met", st.Recalls)
	}
	h.noneEvicted(t)
	a.noneLost(t)
	b.noneLost(t)
	sameEverywhere(t, h.dir, a, b)
	a.umount(t)
	b.umount(t)
}

// sameEverywhere compares what the mounts show, and what the host has after a sync.
func sameEverywhere(t *testing.T, dir string, mounts ...*daemon) {
	t.Helper()
	for _, m := range mounts {
		echo9(t, "sync", m.mnt)
	}
	want := tree(t, dir)
	for i, m := range mounts {
		if d := treehash.Diff(want, tree(t, m.mnt), 20); d != "" {
			t.Errorf("the host (first) and mount %d (second):\n%s", i, d)
		}
	}
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	m, err := treehash.Tree(dir, treehash.All)
	if err != nil {
		t.Error(err)
	}
	return m
}

// stacks has the daemons print their goroutines, and end.
func stacks(daemons ...*daemon) {
	for _, d := range daemons {
		_ = d.cmd.Process.Signal(syscall.SIGQUIT)
		d.wait(patience)
	}
}

// crowdWorker is a worker's process.
type crowdWorker struct {
	cmd    *exec.Cmd
	in     io.Closer
	ended  chan error
	report report
}

func newWorker(t *testing.T, dir string, id int) *crowdWorker {
	t.Helper()
	cmd, in, out := again(t, "worker", dir, fmt.Sprint(id))
	w := &crowdWorker{cmd: cmd, in: in, ended: make(chan error, 1)}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := json.NewDecoder(out).Decode(&w.report)
		w.ended <- errors.Join(err, cmd.Wait())
	}()
	t.Cleanup(func() { in.Close() })
	return w
}

// roundTrips sends a small message again and again, and answers the longest
// round trip when it is called: on a busy machine these are long.
func roundTrips(t *testing.T, addr string) func() time.Duration {
	t.Helper()
	c, err := p9client.DialConn(t.Context(), addr, p9client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	longest := make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		for ctx.Err() == nil {
			began := time.Now()
			if err := c.RPC(context.Background(), &wire.Tflush{OldTag: 0xfff0}, &wire.Rflush{}); err != nil {
				break
			}
			most = max(most, time.Since(began))
			select {
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		longest <- most
	}()
	return func() time.Duration {
		cancel()
		d := <-longest
		if err := c.Close(); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
		return d
	}
}
