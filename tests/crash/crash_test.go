package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"echo9/cachefs"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/served"
)

func TestMain(m *testing.M) {
	if os.Getenv("ECHO9_CRASH_WORKLOAD") != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, "writer:", err)
			os.Exit(1)
		}
		return
	}
	echo9bin.Main(m)
}

// child is the client that is killed. Its environment says where, what and how.
func child() error {
	ctx := context.Background()
	behind, err := time.ParseDuration(os.Getenv("ECHO9_CRASH_BEHIND"))
	if err != nil {
		return err
	}
	fs, err := cachefs.Open(ctx, os.Getenv("ECHO9_CRASH_ADDR"), cachefs.Options{
		WriteBehind: behind, CutOps: 7, Mutant: os.Getenv("ECHO9_CRASH_MUTANT"),
	})
	if err != nil {
		return err
	}
	cred := &p9srv.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	root, err := fs.Root(ctx, cred, os.Getenv("ECHO9_CRASH_DIR"))
	if err != nil {
		return err
	}
	w := &writer{ctx: ctx, cred: cred, root: root, say: os.NewFile(3, "record")}
	load := workloads[os.Getenv("ECHO9_CRASH_WORKLOAD")]
	for gen := 0; ; gen++ {
		if err := load.step(w, gen); err != nil {
			return err
		}
	}
}

// bench is a server and a plain client that looks at what the killed ones left.
type bench struct {
	srv  *served.Server
	tree *p9client.Tree
	cred *p9srv.Cred
	root p9srv.Object
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{srv: served.Start(t, ""), cred: &p9srv.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}}
	var err error
	if b.tree, err = p9client.Dial(t.Context(), b.srv.Addr, p9client.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.tree.Close() })
	if b.root, err = b.tree.Root(t.Context(), b.cred, ""); err != nil {
		t.Fatal(err)
	}
	return b
}

// patience is how long a writer gets for what takes an idle machine a moment.
const patience = 2 * time.Minute

// run lets one client work in a fresh directory and kills it after a random time, and not before it has done something.
// While it works and after its death a plain client looks, and every look is checked.
func (b *bench) run(ctx context.Context, name, mutant string, rng *rand.Rand, n int) error {
	load := workloads[name]
	dirName := fmt.Sprintf("%s-%s-%d", name, mutant, n)
	dir, _, err := b.root.Mkdir(ctx, b.cred, dirName, 0o755, 0)
	if err != nil {
		return fmt.Errorf("making %s: %w", dirName, err)
	}
	defer dir.Release()

	record, childEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	defer record.Close()
	behind := time.Duration(1+rng.IntN(20)) * time.Millisecond
	if rng.IntN(4) == 0 {
		behind = time.Minute // only recalls write back
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ECHO9_CRASH_WORKLOAD="+name, "ECHO9_CRASH_MUTANT="+mutant,
		"ECHO9_CRASH_ADDR="+b.srv.Addr, "ECHO9_CRASH_DIR="+dirName, "ECHO9_CRASH_BEHIND="+behind.String())
	cmd.ExtraFiles = []*os.File{childEnd}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	childEnd.Close()

	var issued generations
	started := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- issued.follow(record, started) }()
	select {
	case <-started:
	case <-time.After(patience):
		cmd.Process.Kill()
		cmd.Wait()
		return fmt.Errorf("the writer does not start: %s", stderr.String())
	}
	deadline := time.Now().Add(time.Duration(5+rng.IntN(60)) * time.Millisecond)
	least, latest := 1+rng.IntN(40), time.Now().Add(patience)
	look := func(when string) error {
		t, err := look(ctx, b.cred, dir)
		if err != nil {
			return fmt.Errorf("looking %s: %w", when, err)
		}
		if err := load.check(t, issued.last()); err != nil {
			return fmt.Errorf("%s %s: %w", name, when, err)
		}
		return nil
	}
	watch := rng.IntN(2) == 0
	for err == nil && (time.Now().Before(deadline) || issued.operations() < least) {
		if watch {
			err = lookWhole(ctx, b, dir, load.check, &issued, name)
		}
		time.Sleep(time.Duration(rng.IntN(4)) * time.Millisecond)
		if time.Now().After(latest) {
			err = fmt.Errorf("the writer stands still after %d operations", issued.operations())
		}
	}
	cmd.Process.Kill()
	werr := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(werr, &exit) && exit.Exited() {
		return fmt.Errorf("the writer failed by itself: %s", stderr.String())
	}
	if ferr := <-ended; ferr != nil {
		return ferr
	}
	if err != nil {
		return err
	}
	return look("after the kill")
}

// lookWhole looks while the writer works: the names of one directory are listed first, so only
// what is certain in spite of that is checked: each file that has a final name is whole. Of the workload
// with barriers it only asks for the second directory, so that what was done there must come.
func lookWhole(ctx context.Context, b *bench, dir p9srv.Object, check func(*state, int) error, issued *generations, name string) error {
	if name == "barrier" {
		o, _, err := dir.Walk(ctx, b.cred, "b")
		if gone(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("walking to b: %w", err)
		}
		o.Release()
		return nil
	}
	final := map[string]string{"vi": "f", "cc": "foo.o"}[name]
	if final == "" {
		return nil
	}
	o, _, err := dir.Walk(ctx, b.cred, final)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("walking to %s: %w", final, err)
	}
	defer o.Release()
	f, err := o.Open(ctx, b.cred, wire.ORdonly)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", final, err)
	}
	defer f.Close(ctx)
	buf := make([]byte, pages*4096+1)
	n, err := f.ReadAt(ctx, buf, 0)
	if err != nil {
		return fmt.Errorf("reading %s: %w", final, err)
	}
	if _, err := whole(buf[:n]); err != nil {
		return fmt.Errorf("%s while the writer works: %w", final, err)
	}
	return nil
}

// generations follows the record of what was issued.
type generations struct {
	mu       sync.Mutex
	gen, ops int
}

func (g *generations) operations() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ops
}

func (g *generations) last() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gen
}

func (g *generations) follow(r io.Reader, started chan<- struct{}) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		var seq, gen int
		var verb, what string
		if k, err := fmt.Sscan(lines.Text(), &seq, &verb, &what, &gen); k != 4 || seq != n {
			return fmt.Errorf("line %d of the record is %q: %v", n, lines.Text(), err)
		}
		g.mu.Lock()
		g.gen, g.ops = gen, n
		g.mu.Unlock()
		if n == 1 {
			close(started)
		}
	}
	return lines.Err()
}

// TestKilledWriter kills writers at random moments, hundreds of times.
func TestKilledWriter(t *testing.T) {
	runs := 70
	if need.Full() {
		runs = 700
	}
	b := newBench(t)
	for name := range workloads {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(len(name))))
			for n := range runs {
				if err := b.run(t.Context(), name, "", rng, n); err != nil {
					t.Fatalf("run %d: %v", n, err)
				}
			}
			t.Logf("%d writers killed", runs)
		})
	}
}

// TestKilledWriterMutant: a client that sends operations in a wrong order, or takes no notice of barriers, is caught.
func TestKilledWriterMutant(t *testing.T) {
	b := newBench(t)
	for mutant, name := range map[string]string{"wrongOrder": "vi", "ignoreBarrier": "barrier"} {
		t.Run(mutant, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(2, 2))
			for n := range 200 {
				if err := b.run(t.Context(), name, mutant, rng, n); err != nil {
					t.Logf("caught in run %d: %v", n, err)
					return
				}
			}
			t.Fatal("it was not caught in 200 runs")
		})
	}
}
