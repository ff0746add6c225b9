package dirfs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
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
	k.left, k.at = steps, ""
}

// live has the server live on, and says at which step it died.
func (k *killing) live() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left = -1
	return k.at
}

// logf notes what a server says: the one that was killed before may still have something to say.
func (k *killing) logf(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log = append(k.log, fmt.Sprintf(format, args...))
}

// said is what the servers said since forget.
func (k *killing) said() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.log, "\n")
}

func (k *killing) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log = nil
}

// open opens the export; nil if the server died over it.
func (k *killing) open() *FS {
	opt := k.opt
	opt.hook, opt.segment = k.hook, 64<<10
	opt.Logf = k.logf
	fs, err := Open(k.dir, opt)
	if err != nil && !errors.Is(err, errKilled) {
		k.rt.Fatalf("open: %v\n%s", err, k.said())
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
			next.step(rapidDice{rt}, root, &clock)
		}
		c := &cut.Cut{Client: [16]byte{1}, Number: uint64(number + 1), Records: next.diff(m, fs.uid)}
		if rapid.IntRange(0, 2).Draw(rt, "violence") == 0 {
			k.die(rapid.IntRange(0, 40).Draw(rt, "steps"))
		}
		err := fs.Apply(ctx, cred, c)
		at := k.live()
		switch {
		case err == nil:
			checkpoint := rapid.IntRange(0, 5).Draw(rt, "checkpoint") == 0
			if checkpoint {
				if err := fs.Checkpoint(ctx); err != nil && !fs.killed.Load() {
					rt.Fatal(err)
				}
			}
			m = next
			if !fs.killed.Load() && rapid.IntRange(0, 4).Draw(rt, "local edit") == 0 {
				// Once the note of the cut is in the log nothing about the edit is ambiguous.
				if err := fs.ledger.log.Wait(fs.ledger.log.Last()); err != nil {
					rt.Fatal(err)
				}
				nextTick()
				m = m.clone()
				m.edit(rt, k.dir, fs, root, &clock)
				next = m
			}
			if !fs.killed.Load() && rapid.IntRange(0, 3).Draw(rt, "kill") > 0 {
				continue
			}
		case !errors.Is(err, errKilled):
			rt.Fatalf("cut refused: %v (record %+v)", err, recordOf(c, err))
		}
		fs = k.restart(fs)
		got := tree(snapshot(rt, k.dir, false))
		was, is := tree(m.render(root)), tree(next.render(root))
		switch {
		case got == is:
			m = next
		case got == was && err != nil:
			if last := fs.LastCut(c.Client); last >= c.Number {
				rt.Fatalf("cut %d is said to be applied, and is not", last)
			}
		default:
			rt.Fatalf("killed at %q, error %v: the restart led to neither\n%s\nnor\n%s\ncut: %+v\n%s", at, err, diffText(was, got), diffText(is, got), c.Records, k.said())
		}
		if err == nil && fs.LastCut(c.Client) != c.Number {
			rt.Fatalf("the last cut is %d, should be %d", fs.LastCut(c.Client), c.Number)
		}
		k.forget()
		m = m.withoutNameless(root)
		m.nextID = newIDs(fs)
		m.walkAll(rt, fs, root)
		if err := m.checkIDs(fs, root); err != nil {
			rt.Fatal(err)
		}
	}
	fs.Close()
}

// edit is what somebody does on the host, past the server.
func (m *model) edit(rt *rapid.T, at string, fs *FS, root uint64, clock *int64) {
	d, path := m.objs[root], at
	for len(d.entries) > 0 && rapid.Bool().Draw(rt, "deeper") {
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(d.entries))).Draw(rt, "into")
		if !m.objs[d.entries[name]].dir() {
			break
		}
		d, path = m.objs[d.entries[name]], filepath.Join(path, name)
	}
	*clock += 1e9
	now := time.Unix(0, *clock)
	name := rapid.SampledFrom(modelNames).Draw(rt, "name")
	file := filepath.Join(path, name)
	old := m.objs[d.entries[name]]
	write := func(o *mobj, to string) error {
		o.data, o.mtime = []byte("mine"), *clock
		return errors.Join(os.WriteFile(to, o.data, 0o644), os.Chtimes(to, now, now))
	}
	regular := old == nil || old.mode&unix.S_IFMT == unix.S_IFREG
	switch op := rapid.SampledFrom([]string{"in place", "replace", "remove"}).Draw(rt, "edit"); {
	case !regular:
		return
	case op == "in place" && old != nil:
		old.mode &^= 0o6000 // a write takes these away, but not root's
		if err := errors.Join(os.Chmod(file, 0o644), write(old, file)); err != nil {
			rt.Fatal(err)
		}
		old.mode = unix.S_IFREG | 0o644
		old.aclFollowsMode()
		return
	case op == "remove" && old != nil:
		if err := os.Remove(file); err != nil {
			rt.Fatal(err)
		}
		delete(d.entries, name)
	default:
		o := &mobj{mode: unix.S_IFREG | 0o644, uid: fs.uid, gid: fs.gid, xattrs: map[string]string{}, entries: map[string]uint64{}}
		tmp := filepath.Join(at, "edited")
		if err := errors.Join(write(o, tmp), os.Chown(tmp, int(fs.uid), int(fs.gid)), os.Rename(tmp, file)); err != nil {
			rt.Fatal(err)
		}
		id, err := fs.ResolveName(ctx, d.id, name)
		if err != nil {
			rt.Fatal(err)
		}
		o.id = id
		m.objs[id], d.entries[name] = o, id
	}
	d.mtime = *clock
	if err := os.Chtimes(path, now, now); err != nil {
		rt.Fatal(err)
	}
	if old != nil && m.linked()[old.id] == 0 {
		delete(m.objs, old.id)
	}
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
