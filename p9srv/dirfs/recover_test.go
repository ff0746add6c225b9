package dirfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"

	"golang.org/x/sys/unix"
)

// richTree makes what richCut changes.
func richTree(t *testing.T) string {
	dir := openDir(t, "/dev/shm")
	for _, d := range []string{"one", "two", "gone", "two/deep", "two/deep/er"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	for _, f := range []string{"one/a", "one/b", "two/c", "two/d", "kept", "two/deep/f"} {
		must(t, os.WriteFile(filepath.Join(dir, f), []byte("the content of "+f), 0o644))
	}
	must(t, os.Link(filepath.Join(dir, "one/a"), filepath.Join(dir, "two/hard")))
	must(t, unix.Setxattr(filepath.Join(dir, "kept"), "user.x", []byte("old"), 0))
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0))
	}))
	return dir
}

// richCut has everything that is hard: a permutation of names, directories that come to lie in each other the
// other way round, a file out of a directory that goes, a tree that is new, content, attributes.
func richCut(t *testing.T, fs *FS, number uint64) *cut.Cut {
	id := func(path string) uint64 {
		if path == "." {
			return fs.root.id
		}
		d, err := fs.Root(ctx, nil, filepath.Dir(path))
		must(t, err)
		defer d.Release()
		got, err := fs.ResolveName(ctx, d.ID(), filepath.Base(path))
		must(t, err)
		return got
	}
	first, err := fs.AllocIDs(10)
	must(t, err)
	root, one, two, deep, er := id("."), id("one"), id("two"), id("two/deep"), id("two/deep/er")
	a, b, c, d, kept, gone, f := id("one/a"), id("one/b"), id("two/c"), id("two/d"), id("kept"), id("gone"), id("two/deep/f")
	file := func(id uint64, content string) []cut.Record {
		return []cut.Record{
			{Kind: cut.Create, ID: id, Mode: unix.S_IFREG | 0o644, UserID: fs.uid, GroupID: fs.gid},
			{Kind: cut.Data, ID: id, Bytes: []byte(content)},
			{Kind: cut.Attr, ID: id, Valid: cut.AttrSize | cut.AttrMtime | cut.AttrCtime, Size: uint64(len(content)), Mtime: 1e18, Ctime: 1e18 + 1},
		}
	}
	records := append(file(first, "new"), file(first+1, "in a new directory")...)
	records = append(records, []cut.Record{
		{Kind: cut.Create, ID: first + 2, Mode: unix.S_IFDIR | 0o750, UserID: fs.uid, GroupID: fs.gid},
		{Kind: cut.Create, ID: first + 3, Mode: unix.S_IFLNK | 0o777, UserID: fs.uid, GroupID: fs.gid, Target: "nowhere"},
		{Kind: cut.Attr, ID: first + 3, Valid: cut.AttrMtime, Mtime: 1e18},
		{Kind: cut.Bind, Dir: root, Name: "tree", ID: first + 2},
		{Kind: cut.Bind, Dir: first + 2, Name: "file", ID: first + 1},
		{Kind: cut.Bind, Dir: first + 2, Name: "link", ID: first + 3},
		{Kind: cut.Bind, Dir: first + 2, Name: "f", ID: f},
		{Kind: cut.Bind, Dir: deep, Name: "f", Before: f},
		{Kind: cut.Bind, Dir: one, Name: "b", Before: b, ID: first},
		{Kind: cut.Bind, Dir: one, Name: "a", Before: a},
		{Kind: cut.Bind, Dir: two, Name: "e", ID: a},
		{Kind: cut.Bind, Dir: two, Name: "c", Before: c, ID: d},
		{Kind: cut.Bind, Dir: two, Name: "d", Before: d, ID: c},
		{Kind: cut.Bind, Dir: root, Name: "gone", Before: gone},
		// two/deep/er becomes er/deep.
		{Kind: cut.Bind, Dir: two, Name: "deep", Before: deep},
		{Kind: cut.Bind, Dir: deep, Name: "er", Before: er},
		{Kind: cut.Bind, Dir: root, Name: "er", ID: er},
		{Kind: cut.Bind, Dir: er, Name: "deep", ID: deep},
		{Kind: cut.Truncate, ID: kept, Size: 4},
		{Kind: cut.Data, ID: kept, Off: 10, Bytes: []byte("far out")},
		{Kind: cut.Attr, ID: kept, Valid: cut.AttrSize | cut.AttrMode | cut.AttrMtime, Size: 20, Mode: 0o4711, Mtime: 1e18},
		{Kind: cut.SetXattr, ID: kept, Name: "user.x", Bytes: []byte("new")},
		{Kind: cut.SetXattr, ID: kept, Name: "user.y", Bytes: []byte("more")},
	}...)
	for i, dir := range []uint64{root, one, two, deep, er, first + 2} {
		records = append(records, cut.Record{Kind: cut.Attr, ID: dir, Valid: cut.AttrMtime, Mtime: 1e18 + int64(i)})
	}
	for i := range records {
		records[i].UID = fs.uid
	}
	return &cut.Cut{Client: [16]byte{1}, Number: number, Records: records}
}

// fuse has the server die after some steps, unless it is put out.
type fuse struct {
	mu   sync.Mutex // the log has goroutines of its own
	left int
	out  bool
	at   string // the step that was not done
}

func (f *fuse) hook(step string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.out {
		return nil
	}
	if f.left--; f.left == -1 {
		f.at = step
	}
	if f.left < 0 {
		return errKilled
	}
	return nil
}

// light lights one that is out.
func (f *fuse) light() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out = false
}

// burnt puts it out, and says whether it was too late for that.
func (f *fuse) burnt() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out = true
	return f.left < 0
}

// deaths has the server die at each step of the rich cut, and each recovery at each of its steps, and gives
// those restarts that did not lead to a whole cut. More than one in stride.
func deaths(t *testing.T, stride int, opt Options) (bad []string, runs int) {
	for n := 0; ; n++ {
		stop := true
		for m := n % stride; ; m += stride {
			dir := richTree(t)
			opt := opt
			opt.segment, opt.Logf = 64<<10, func(string, ...any) {}
			fs, err := Open(dir, opt)
			must(t, err)
			c := richCut(t, fs, 1)
			before := tree(snapshot(t, dir, false))
			first := &fuse{left: n}
			fs.setHook(first.hook)
			applied := fs.Apply(ctx, nil, c)
			died := first.burnt()
			after := ""
			if applied == nil {
				after = tree(snapshot(t, dir, false))
			}
			if !died {
				must(t, fs.Close())
				must(t, os.RemoveAll(dir))
				if wholeRich != "" && after != wholeRich {
					t.Fatalf("a cut led to different trees:\n%s", diffText(wholeRich, after))
				}
				wholeRich = after
				break
			}
			stop = false
			crash(t, fs)
			second := &fuse{left: m}
			opt.hook = second.hook
			if fs, err = Open(dir, opt); err == nil {
				fs.killed.Store(true)
				fs.Close()
			}
			again := second.burnt()
			opt.hook = nil
			runs++
			if fs, err = Open(dir, opt); err != nil {
				bad = append(bad, err.Error())
			} else {
				must(t, fs.Close())
				got := tree(snapshot(t, dir, false))
				if got != wholeRich && (got != before || applied == nil) {
					bad = append(bad, diffText(wholeRich, got))
				}
			}
			must(t, os.RemoveAll(dir))
			if !again {
				break
			}
		}
		if stop {
			return bad, runs
		}
	}
}

// wholeRich is the tree that the rich cut leads to. It names no ids or inodes, so it is always the same.
var wholeRich string

func TestDeathAtEveryStep(t *testing.T) {
	wholeRich = ""
	dir := richTree(t)
	fs := openFS(t, dir, Options{segment: 64 << 10})
	must(t, fs.Apply(ctx, nil, richCut(t, fs, 1)))
	wholeRich = tree(snapshot(t, dir, false))
	stride := 7
	if os.Getenv("ECHO9_FULL") != "" {
		stride = 1
	}
	bad, runs := deaths(t, stride, Options{})
	for _, b := range bad[:min(len(bad), 5)] {
		t.Errorf("a restart led to no whole cut:\n%s", b)
	}
	t.Logf("%d restarts, %d bad", runs, len(bad))
	for name, opt := range map[string]Options{
		"recovery does nothing":        {mutant: noRecovery},
		"the private place is cleared": {mutant: earlyClear},
	} {
		if bad, runs := deaths(t, 3*stride, opt); len(bad) == 0 {
			t.Errorf("mutant %q is not noticed in %d restarts", name, runs)
		}
	}
}

// TestStagedThingsAreLost has a power failure take what was staged: it is made anew, by recoveries that die at each step.
func TestStagedThingsAreLost(t *testing.T) {
	whole := wholeOf(t)
	bad, runs := lostAndKilled(t, whole, noMutant)
	for _, b := range bad[:min(len(bad), 3)] {
		t.Errorf("recovered to\n%s", b)
	}
	t.Logf("%d restarts", runs)
	if bad, runs := lostAndKilled(t, whole, noRedo); len(bad) == 0 {
		t.Errorf("that a recovery leaves no word is not noticed in %d restarts", runs)
	}
}

func lostAndKilled(t *testing.T, whole string, m recoveryMutant) (bad []string, runs int) {
	for again := true; again; runs++ {
		dir := richTree(t)
		c := loseStaged(t, dir)
		quiet := func(string, ...any) {}
		f := &fuse{left: runs}
		if fs, err := Open(dir, Options{hook: f.hook, Logf: quiet, mutant: m, segment: 64 << 10}); err == nil {
			fs.killed.Store(true)
			fs.Close()
		}
		again = f.burnt()
		fs, err := Open(dir, Options{Logf: quiet, mutant: m, segment: 64 << 10})
		must(t, err)
		if got := tree(snapshot(t, dir, false)); got != whole {
			bad = append(bad, diffText(whole, got))
		}
		want := c.Records[9].ID
		if id, err := fs.ResolveName(ctx, fs.root.id, "tree"); err != nil || id != want {
			bad = append(bad, fmt.Sprintf("tree is object %d, %v; want %d: ids are final", id, err, want))
		}
		must(t, fs.Close())
		must(t, os.RemoveAll(dir))
	}
	return bad, runs
}

// loseStaged has a server die when the rich cut is in the log and nothing of it in the tree, and takes away what was staged.
func loseStaged(t *testing.T, dir string) *cut.Cut {
	fs, err := Open(dir, Options{Logf: func(string, ...any) {}, segment: 64 << 10})
	must(t, err)
	c := richCut(t, fs, 1)
	before := fs.LogStats().Cuts
	fs.setHook(func(step string) error {
		// The first step on the tree after the cut went into the log, which is not before it was synced.
		if (step == "open to write" || step == "rename" || step == "exchange") && fs.LogStats().Cuts > before {
			return errKilled
		}
		return nil
	})
	if err := fs.Apply(ctx, nil, c); !errors.Is(err, errKilled) {
		t.Fatalf("apply: %v", err)
	}
	crash(t, fs)
	staged, err := os.ReadDir(filepath.Join(dir, ".echo9/tmp"))
	must(t, err)
	if len(staged) == 0 {
		t.Fatal("nothing was staged")
	}
	for _, e := range staged {
		must(t, os.RemoveAll(filepath.Join(dir, ".echo9/tmp", e.Name())))
	}
	return c
}

// wholeOf gives the tree that the rich cut leads to.
func wholeOf(t *testing.T) string {
	dir := richTree(t)
	fs, err := Open(dir, Options{Logf: t.Logf})
	must(t, err)
	defer fs.Close()
	must(t, fs.Apply(ctx, nil, richCut(t, fs, 1)))
	return tree(snapshot(t, dir, false))
}

// TestRefusedAtRecovery has the host refuse what the log asks for.
func TestRefusedAtRecovery(t *testing.T) {
	for _, acknowledged := range []bool{false, true} {
		dir := richTree(t)
		fs, err := Open(dir, Options{Logf: t.Logf})
		must(t, err)
		before := tree(snapshot(t, dir, false))
		c := richCut(t, fs, 1)
		if !acknowledged {
			renames := 0
			fs.setHook(func(step string) error {
				if step == "rename" || step == "exchange" {
					if renames++; renames > 2 {
						return errKilled
					}
				}
				return nil
			})
		}
		err = fs.Apply(ctx, nil, c)
		if acknowledged != (err == nil) {
			t.Fatalf("apply: %v", err)
		}
		crash(t, fs)
		refusals := 0
		refuse := func(step string) error {
			if step == "set extended attribute" {
				if refusals++; acknowledged || refusals == 1 {
					return syscall.EDQUOT
				}
			}
			return nil
		}
		fs, err = Open(dir, Options{Logf: t.Logf, hook: refuse})
		if acknowledged {
			if !errors.Is(err, syscall.EDQUOT) || !strings.Contains(err.Error(), "Nothing is lost") {
				t.Fatalf("an acknowledged cut that the host refuses at recovery: %v", err)
			}
			reopen(t, dir, Options{Logf: t.Logf})
			if got := tree(snapshot(t, dir, false)); got != wholeOf(t) {
				t.Fatalf("recovered to\n%s", diffText(wholeOf(t), got))
			}
			continue
		}
		must(t, err)
		must(t, fs.Close())
		if got := tree(snapshot(t, dir, false)); got != before {
			t.Fatalf("a cut that the host refuses at recovery was not undone:\n%s", diffText(before, got))
		}
	}
}

// TestFoundAgain has a recovery die with a directory in its hands, and somebody take the name that it was to get.
func TestFoundAgain(t *testing.T) {
	dir := richTree(t)
	fs, err := Open(dir, Options{Logf: t.Logf})
	must(t, err)
	one, err := fs.ResolveName(ctx, fs.root.id, "one")
	must(t, err)
	fs.setHook(func(step string) error {
		if step == "rename" {
			return errKilled
		}
		return nil
	})
	err = fs.Apply(ctx, nil, &cut.Cut{Client: [16]byte{1}, Number: 1, Records: []cut.Record{
		{Kind: cut.Bind, UID: fs.uid, Dir: fs.root.id, Name: "one", Before: one},
		{Kind: cut.Bind, UID: fs.uid, Dir: fs.root.id, Name: "uno", ID: one},
	}})
	if !errors.Is(err, errKilled) {
		t.Fatalf("apply: %v", err)
	}
	crash(t, fs)
	renames := 0
	if _, err := Open(dir, Options{Logf: t.Logf, hook: func(step string) error {
		if step == "rename" {
			if renames++; renames == 2 {
				return errKilled
			}
		}
		return nil
	}}); !errors.Is(err, errKilled) {
		t.Fatalf("the recovery did not die: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "one")); err == nil {
		t.Fatal("the recovery had nothing in its hands")
	}
	must(t, os.WriteFile(filepath.Join(dir, "uno"), []byte("mine"), 0o644))
	var told string
	fs, err = Open(dir, Options{Logf: func(f string, args ...any) { told += fmt.Sprintf(f, args...) + "\n" }})
	must(t, err)
	must(t, fs.Close())
	if b, err := os.ReadFile(filepath.Join(dir, "uno")); string(b) != "mine" {
		t.Errorf("uno is %q, %v: it is somebody else's", b, err)
	}
	kept := filepath.Join(dir, ".echo9/found", fmt.Sprintf("%d-uno", one))
	if b, err := os.ReadFile(filepath.Join(kept, "a")); string(b) != "the content of one/a" {
		t.Errorf("what had no name to get is lost: %q, %v", b, err)
	}
	if !strings.Contains(told, kept) {
		t.Errorf("nobody is told where it is:\n%s", told)
	}
	if i, err := Inspect(dir, Options{}); err != nil || len(i.Found) != 1 {
		t.Errorf("fsck does not tell: %+v, %v", i, err)
	}
}
