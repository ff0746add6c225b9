package dirfs

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"echo9/internal/cut"
	"echo9/p9srv"

	_ "echo9/internal/draws"
	"golang.org/x/sys/unix"

	"pgregory.net/rapid"
)

// newModel makes the model of an empty export.
func newModel(fs *FS, dir string) (*model, uint64) {
	root := fs.root.id
	m := &model{objs: map[uint64]*mobj{}}
	m.nextID = newIDs(fs)
	info, err := os.Stat(dir)
	if err != nil {
		panic(err)
	}
	m.objs[root] = &mobj{id: root, uid: fs.uid, gid: fs.gid, mode: unix.S_IFDIR | uint32(info.Mode().Perm()), target: "root", xattrs: map[string]string{}, entries: map[string]uint64{}, base: true}
	return m, root
}

func newIDs(fs *FS) func() uint64 {
	return func() uint64 {
		id, err := fs.AllocIDs(1)
		if err != nil {
			panic(err)
		}
		return id
	}
}

// TestCuts applies random cuts, each first with a failure of its n-th step, for n = 1, 2, …,
// which must leave no trace, and then for good, which must lead to what a model says.
func TestCuts(t *testing.T) {
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
				testCuts(rt, sub, p.opt)
			})
		})
	}
}

func testCuts(rt *rapid.T, dir string, opt Options) {
	opt.Logf = func(f string, args ...any) { rt.Errorf(f, args...) }
	opt.State = ""
	fs, err := Open(dir, opt)
	if err != nil {
		rt.Fatal(err)
	}
	defer fs.Close()
	m, root := newModel(fs, dir)
	cred := &p9srv.Cred{UID: fs.uid, GID: fs.gid, Session: 7}
	clock := int64(1_600_000_000e9)
	for number := range rapid.IntRange(1, 4).Draw(rt, "cuts") {
		next := m.clone()
		for range rapid.IntRange(1, 12).Draw(rt, "ops") {
			next.step(rapidDice{rt}, root, &clock)
		}
		c := &cut.Cut{Number: uint64(number + 1), Records: next.diff(m, fs.uid)}
		before := snapshot(rt, dir, true)
		for n := 1; ; n++ {
			hit := false
			fs.fail = func(step string, k int) error {
				if k == n {
					hit = true
					return syscall.ENOSPC
				}
				return nil
			}
			err := fs.Apply(ctx, cred, c)
			if !hit {
				if err != nil {
					rt.Fatalf("cut refused: %v (record %+v)\nof %+v\ntree:\n%s", err, recordOf(c, err), c.Records, before)
				}
				break
			}
			var refusal *cut.Refusal
			if !errors.As(err, &refusal) || !errors.Is(err, syscall.ENOSPC) {
				rt.Fatalf("step %d failed with ENOSPC, the cut with %v", n, err)
			}
			if refusal.Record < 0 || refusal.Record >= len(c.Records) {
				rt.Fatalf("refused record %d of %d", refusal.Record, len(c.Records))
			}
			if after := snapshot(rt, dir, true); after != before {
				rt.Fatalf("a refused cut (step %d) left a trace:\n%s\ncut: %+v", n, diffText(before, after), c.Records)
			}
		}
		fs.fail = nil
		m = next
		if got, want := snapshot(rt, dir, false), m.render(root); got != want {
			rt.Fatalf("the cut led to\n%s\ncut: %+v\nbefore:\n%s", diffText(want, got), c.Records, before)
		}
	}
	if err := m.checkIDs(fs, root); err != nil {
		rt.Fatal(err)
	}
	fs.EndSession(7)
	if entries, _ := os.ReadDir(dir + "/.echo9/orphans"); len(entries) > 0 {
		rt.Fatalf("the session has ended, but %d objects are still kept", len(entries))
	}
	for _, n := range fs.byID {
		if n.pins != 0 || n.refs != 0 && n != fs.root {
			rt.Fatalf("object %d has %d references, %d pins", n.id, n.refs, n.pins)
		}
	}
}

func recordOf(c *cut.Cut, err error) any {
	var r *cut.Refusal
	if errors.As(err, &r) && r.Record >= 0 {
		return c.Records[r.Record]
	}
	return nil
}

// checkIDs makes sure that every object is found by name and by id, under its final id.
func (m *model) checkIDs(fs *FS, root uint64) error {
	for _, d := range m.ids(func(o *mobj) bool { return o.dir() && m.below(o.id, root) }) {
		for name, id := range m.objs[d].entries {
			got, err := fs.ResolveName(ctx, d, name)
			if err != nil || got != id {
				return fmt.Errorf("%d/%s is %d, %v; want %d", d, name, got, err, id)
			}
			o, err := fs.Lookup(ctx, id)
			if err != nil || o.ID() != id {
				return fmt.Errorf("look up %d: %v", id, err)
			}
			o.Release()
		}
	}
	for id, o := range m.objs {
		if o.open && m.linked()[id] == 0 {
			a, err := attrOf(fs, id)
			if err != nil || a.Nlink != 0 {
				return fmt.Errorf("kept object %d: %+v, %v", id, a, err)
			}
		}
	}
	return nil
}
