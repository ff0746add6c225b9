package dirfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"echo9/internal/cut"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// A crash test does a seeded story over and over: cuts, edits by others and checkpoints on
// an empty export. In the n-th run the server dies before its n-th step that changes the
// host. Then it is opened again, perhaps dying in its recovery once or twice more,
// and the tree must be what it was after some cut that is not before the last acknowledged
// one, with the edits of others as they were made.

// world is where a story takes place, and what a death there does.
type world interface {
	fresh(t testing.TB) string // an empty export
	before()                   // called before each step that changes the host
	die()                      // called at the moment of death; from then on nothing may change
	revive(t testing.TB)       // called when the dead server is closed
	synced() bool              // what is not synced is gone after a death
}

// seedDice are dice that a seed determines.
type seedDice struct{ *rand.Rand }

func newDice(seed ...uint64) seedDice {
	return seedDice{rand.New(rand.NewPCG(seed[0], seed[len(seed)-1]))}
}

func (d seedDice) roll(sides int) int { return d.IntN(sides) }

// crashCounts is what was tried.
type crashCounts struct {
	runs, deaths, inRecovery, refused, edits, lateEdits, before, after int
}

func (c crashCounts) String() string {
	return fmt.Sprintf("%d runs, %d deaths, %d more in recovery, %d refusals, %d edits by others, %d of them between death and recovery; the cut under way was there after %d, not there after %d",
		c.runs, c.deaths, c.inRecovery, c.refused, c.edits, c.lateEdits, c.after, c.before)
}

// life is one run of a story.
type life struct {
	w     world
	opt   Options
	seed  uint64
	death int // before which step; 0: at the end
	story seedDice
	fate  seedDice // of this run: deaths in recovery, edits after the death
	// hostOnly: no step of the log is refused.
	hostOnly bool

	dir   string
	fs    *FS
	m     *model   // after the last acknowledged cut
	next  *model   // after the cut that was under way, or nil
	hot   *cut.Cut // the one that was under way
	last  *cut.Cut // the last one that was acknowledged: its note may not have been written
	root  uint64
	clock int64
	cuts  uint64

	inject atomic.Pointer[stepHook] // refuses a step

	steps atomic.Int64
	dying atomic.Int64 // the step to die before
	dead  atomic.Bool
	place atomic.Value // the name of the step
	n     *crashCounts
	trace func(format string, args ...any) // for whoever looks into a failure; may be nil
}

func (l *life) tracef(format string, args ...any) {
	if l.trace != nil {
		l.trace(format, args...)
	}
}

// step is the server's hook.
func (l *life) step(name string) error {
	if l.dead.Load() {
		return errKilled
	}
	if inject := l.inject.Load(); inject != nil {
		return (*inject)(name)
	}
	l.w.before()
	n := l.steps.Add(1)
	l.tracef("step %d: %s", n, name)
	if n == l.dying.Load() && l.dead.CompareAndSwap(false, true) {
		l.place.Store(name)
		l.w.die()
		return errKilled
	}
	return nil
}

func (l *life) open(dying int) error {
	l.steps.Store(0)
	l.dying.Store(int64(dying))
	l.dead.Store(false)
	opt := l.opt
	opt.hook = l.step
	opt.segment = 64 << 10
	var err error
	l.fs, err = Open(l.dir, opt)
	return err
}

// newID gives an id for a new object; any, when the server is dead and does not get to see it.
func (l *life) newID() uint64 {
	id, err := l.fs.AllocIDs(1)
	if err != nil && !l.dead.Load() {
		panic(err)
	}
	if err != nil {
		l.cuts++
		return 1<<59 + l.cuts
	}
	return id
}

// run lives one life; it gives the number of steps of the whole story.
func (l *life) run(t testing.TB) (steps int, err error) {
	l.n.runs++
	l.story, l.fate = newDice(l.seed), newDice(l.seed, uint64(l.death)+1)
	l.clock = 1_600_000_000e9
	l.dir = l.w.fresh(t)
	if err := l.open(l.death); err != nil {
		if !l.dead.Load() {
			return 0, fmt.Errorf("open an empty export: %w", err)
		}
		l.w.revive(t)
		return l.death, l.lateOpen(t)
	}
	l.m, l.root = newModel(l.fs, l.dir)
	l.m.nextID = l.newID
	err = l.live(t)
	steps = int(l.steps.Load())
	if err != nil {
		l.fs.Close()
		return steps, err
	}
	if !l.dead.Load() {
		l.dead.Store(true)
		l.place.Store("the end")
		l.w.die()
	}
	l.n.deaths++
	if err := l.close(t); err != nil {
		return steps, err
	}
	l.w.revive(t)
	return steps, l.rise(t)
}

// lateOpen opens an export whose server died before it served anything.
func (l *life) lateOpen(t testing.TB) error {
	if err := l.open(0); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	return l.fs.Close()
}

// close closes the dead server: that must change nothing.
func (l *life) close(t testing.TB) error {
	if l.w.synced() {
		l.fs.Close()
		return nil
	}
	before := snapshot(t, l.dir, true)
	l.fs.Close()
	if after := snapshot(t, l.dir, true); after != before {
		return fmt.Errorf("the server died before %q, but went on to change the host:\n%s", l.place.Load(), diffText(before, after))
	}
	return nil
}

// live does the story until its end, or until the server dies.
func (l *life) live(t testing.TB) error {
	for range 2 + l.story.roll(3) {
		if err := l.cut(); err != nil || l.dead.Load() {
			return err
		}
		switch l.story.roll(6) {
		case 0, 1:
			if err := l.edit(false); err != nil {
				return err
			}
		case 2:
			if err := l.edit(true); err != nil {
				return err
			}
		case 3:
			if err := l.fs.Checkpoint(ctx); err != nil && !l.dead.Load() {
				return fmt.Errorf("checkpoint: %w", err)
			}
		}
		if l.dead.Load() {
			return nil
		}
	}
	return nil
}

// cut applies one random cut.
func (l *life) cut() error {
	next := l.m.clone()
	for range 2 + l.story.roll(10) {
		next.step(l.story, l.root, &l.clock)
	}
	l.cuts++
	c := &cut.Cut{Number: l.cuts, Records: next.diff(l.m, l.fs.uid)}
	l.tracef("cut: %s", recordsText(c))
	err := l.fs.Apply(ctx, &p9srv.Cred{UID: l.fs.uid, GID: l.fs.gid, Session: 7}, c)
	l.tracef("cut: %v", err)
	switch {
	case err == nil:
		l.m, l.last = next, c
	case l.dead.Load():
		l.next, l.hot = next, c
	default:
		return fmt.Errorf("cut refused: %w (record %+v)\nof %+v", err, recordOf(c, err), c.Records)
	}
	return nil
}

// edit has somebody else change something: on the host, or as a plain client.
func (l *life) edit(plain bool) error {
	e := l.m.chooseEdit(l.story, l.root, &l.clock, func(uint64, string, string) bool { return true })
	if e == nil {
		return nil
	}
	l.n.edits++
	l.tracef("edit, by a plain client %v: %+v", plain, e)
	if plain {
		// A plain operation that died half way may be there or not.
		if err := e.byPlain(l.fs); err != nil {
			if l.dead.Load() {
				return errHalf
			}
			return fmt.Errorf("a plain client's %+v: %w", e, err)
		}
	} else if err := e.onHost(l.dir + "/" + l.m.path(l.root, e.dir)); err != nil {
		if l.w.synced() && l.dead.Load() {
			return errHalf // the machine has no power
		}
		return fmt.Errorf("somebody's %+v: %w", e, err)
	}
	if l.w.synced() {
		if err := unix.Syncfs(l.fs.mountFD); err != nil || l.dead.Load() {
			return errHalf
		}
	}
	if l.dead.Load() {
		// The note of an earlier cut was the step; the edit is there.
		return l.edited(e, placeholder)
	}
	id, err := l.fs.ResolveName(ctx, e.dir, e.name)
	if err != nil {
		return err
	}
	return l.edited(e, id)
}

// placeholder is the id of a file whose id is not known yet.
const placeholder = 1 << 60

func (l *life) edited(e *edit, id uint64) error {
	if err := e.onModel(l.m, id); err != nil {
		return err
	}
	return nil
}

// errHalf ends a run whose death was in the middle of somebody's edit: several operations, of which any
// number may have been done.
var errHalf = errors.New("died in the middle of an edit")

// tmpWorld is a directory in memory: what a killed process has done stays.
type tmpWorld struct{ parent string }

func (w *tmpWorld) fresh(t testing.TB) string {
	dir, err := os.MkdirTemp(w.parent, "life")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func (w *tmpWorld) before()           {}
func (w *tmpWorld) die()              {}
func (w *tmpWorld) revive(testing.TB) {}
func (w *tmpWorld) synced() bool      { return false }

// crashStory does one story with a death before every step.
func crashStory(t *testing.T, w world, opt Options, seed uint64, n *crashCounts) {
	t.Helper()
	for death := 1; ; death++ {
		l := &life{w: w, opt: opt, seed: seed, death: death, n: n}
		steps, err := l.run(t)
		if err != nil && !errors.Is(err, errHalf) {
			t.Fatalf("story %d, death at step %d: %v", seed, death, err)
		}
		os.RemoveAll(l.dir)
		if steps < death {
			return
		}
	}
}

// more multiplies the stories: the long run.
var more = func() int {
	if os.Getenv("ECHO9_FULL") != "" {
		return 20
	}
	return 1
}()

func TestKilledAtEveryStep(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "who edits on the host must be allowed to")
	}
	stories := 8
	if testing.Short() {
		stories = 2
	}
	stories *= more
	for _, p := range []struct {
		name string
		opt  Options
	}{{"handles", Options{}}, {"nohandles", Options{noHandles: true, maxFDs: 8}}} {
		t.Run(p.name, func(t *testing.T) {
			w := &tmpWorld{openDir(t, "/dev/shm")}
			var n crashCounts
			for seed := range uint64(stories) {
				crashStory(t, w, p.opt, seed, &n)
			}
			t.Log(n)
			if n.runs < 50*stories || n.before < stories || n.after < stories || n.inRecovery < 5*stories {
				t.Errorf("too little was tried: %v", n)
			}
		})
	}
}
