package dirfs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"echo9/internal/cut"
	"echo9/p9srv"

	"pgregory.net/rapid"
)

// TestKills kills the server at every step of cuts, of checkpoints, and of recoveries, and recoveries
// of recoveries: the tree that a restart leads to is that of whole cuts, with all that were acknowledged.
func TestKills(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			dir := p.dir(t)
			rapid.Check(t, func(rt *rapid.T) {
				sub, err := os.MkdirTemp(dir, "t")
				if err != nil {
					rt.Fatal(err)
				}
				defer os.RemoveAll(sub)
				if err := os.Chmod(sub, 0o755); err != nil {
					rt.Fatal(err)
				}
				k := &killing{rt: rt, dir: sub, opt: p.opt}
				k.run()
			})
		})
	}
}

// killing is one life of an export with violent ends.
type killing struct {
	rt    *rapid.T
	dir   string
	opt   Options
	mu    sync.Mutex // the log has goroutines of its own
	left  int        // steps until the server dies; negative: it lives
	at    string
	steps []string
	log   []string
}

func (k *killing) hook(step string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.steps = append(k.steps, step)
	if k.left == 0 {
		k.at = step
		return errKilled
	}
	k.left--
	return nil
}

// die says after how many steps the server dies.
func (k *killing) die(steps int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left = steps
}

// open opens the export; nil if the server died over it.
func (k *killing) open() *FS {
	opt := k.opt
	opt.hook, opt.segment = k.hook, 64<<10
	opt.Logf = func(f string, args ...any) { k.log = append(k.log, fmt.Sprintf(f, args...)) }
	fs, err := Open(k.dir, opt)
	if err != nil && !errors.Is(err, errKilled) {
		k.rt.Fatalf("open: %v\n%s", err, strings.Join(k.log, "\n"))
	}
	return fs
}

func (k *killing) run() {
	rt := k.rt
	k.die(-1)
	fs := k.open()
	m, root := newModel(fs, k.dir)
	clock := int64(1_600_000_000e9)
	cred := &p9srv.Cred{UID: fs.uid, GID: fs.gid, Session: 7}
	for number := range rapid.IntRange(1, 5).Draw(rt, "cuts") {
		next := m.clone()
		for range rapid.IntRange(1, 8).Draw(rt, "ops") {
			next.step(rt, root, &clock)
		}
		c := &cut.Cut{Client: [16]byte{1}, Number: uint64(number + 1), Records: next.diff(m, fs.uid, fs.gid)}
		if rapid.IntRange(0, 2).Draw(rt, "violence") == 0 {
			k.die(rapid.IntRange(0, 40).Draw(rt, "steps"))
		}
		k.at = ""
		err := fs.Apply(ctx, cred, c)
		k.die(-1)
		switch {
		case err == nil:
			checkpoint := rapid.IntRange(0, 5).Draw(rt, "checkpoint") == 0
			if checkpoint {
				if err := fs.Checkpoint(ctx); err != nil && !fs.killed.Load() {
					rt.Fatal(err)
				}
			}
			if m = next; !fs.killed.Load() && rapid.IntRange(0, 3).Draw(rt, "kill") > 0 {
				continue
			}
		case !errors.Is(err, errKilled):
			rt.Fatalf("cut refused: %v (record %+v)", err, recordOf(c, err))
		}
		fs = k.restart(fs)
		got := tree(snapshot(rt, k.dir, false))
		was, is := tree(m.render(root, fs.gid)), tree(next.render(root, fs.gid))
		switch {
		case got == is:
			m = next
		case got == was && err != nil:
			if last := fs.LastCut(c.Client); last >= c.Number {
				rt.Fatalf("cut %d is said to be applied, and is not", last)
			}
		default:
			rt.Fatalf("killed at %q, error %v: the restart led to neither\n%s\nnor\n%s\ncut: %+v\n%s", k.at, err, diffText(was, got), diffText(is, got), c.Records, strings.Join(k.log, "\n"))
		}
		if err == nil && fs.LastCut(c.Client) != c.Number {
			rt.Fatalf("the last cut is %d, should be %d", fs.LastCut(c.Client), c.Number)
		}
		k.log = nil
		m = m.withoutNameless(root)
		m.nextID = newIDs(fs)
		m.walkAll(rt, fs, root)
		m.checkIDs(rt, fs, root)
	}
	fs.Close()
}

// restart kills the server, if it is not dead yet, and starts it again, killing it a few times over that.
func (k *killing) restart(fs *FS) *FS {
	fs.killed.Store(true)
	fs.Close()
	for range rapid.IntRange(0, 3).Draw(k.rt, "deaths") {
		k.die(rapid.IntRange(0, 30).Draw(k.rt, "steps"))
		fs := k.open()
		if fs != nil {
			fs.killed.Store(true)
			fs.Close()
		}
	}
	k.die(-1)
	return k.open()
}

// tree takes what the server keeps privately out of a snapshot: no session outlives it.
func tree(snapshot string) string {
	var out []string
	for _, line := range strings.Split(snapshot, "\n") {
		if !strings.HasPrefix(line, "/.echo9") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// withoutNameless forgets what only a session kept.
func (m *model) withoutNameless(root uint64) *model {
	links := m.linked()
	for id, o := range m.objs {
		if links[id] == 0 && id != root {
			delete(m.objs, id)
		}
		o.open = false
	}
	return m
}

// walkAll walks to everything from the root down: where there are no handles, a server knows no other way after a restart.
func (m *model) walkAll(rt *rapid.T, fs *FS, dir uint64) {
	for name, id := range m.objs[dir].entries {
		if got, err := fs.ResolveName(ctx, dir, name); err != nil || got != id {
			rt.Fatalf("%d/%s is %d, %v; want %d", dir, name, got, err, id)
		}
		if m.objs[id].dir() {
			m.walkAll(rt, fs, id)
		}
	}
}
