package dirfs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/cut"
	"echo9/p9srv"
)

// errnos are what a host may answer to any step.
var errnos = []syscall.Errno{
	syscall.EDQUOT, syscall.ENOSPC, syscall.EMLINK, syscall.EXDEV, syscall.EPERM, syscall.EBUSY, syscall.EROFS, syscall.EIO,
}

// faulty applies a cut with a refusal of its n-th step, for n = 1, 2, …, and then for good.
// After a refusal there is no trace; sometimes the server dies then, and there is
// none after recovery either.
func (l *life) faulty(t testing.TB) error {
	next := l.m.clone()
	for range 2 + l.story.roll(10) {
		next.step(l.story, l.root, &l.clock)
	}
	l.cuts++
	c := &cut.Cut{Number: l.cuts, Records: next.diff(l.m, l.fs.uid)}
	if len(c.Records) == 0 {
		return nil
	}
	for n := 1; ; n++ {
		errno := errnos[(n+l.fate.roll(3))%len(errnos)]
		before := snapshot(t, l.dir, true)
		steps, hit := 0, ""
		inject := stepHook(func(name string) error {
			if name == hit && !strings.HasPrefix(name, "log ") && (errno == syscall.ENOSPC || errno == syscall.EDQUOT) {
				return errno // there is still no room when the cut is tried again
			}
			if strings.HasPrefix(name, "undo") || hit != "" {
				return nil
			}
			if l.hostOnly && strings.HasPrefix(name, "log ") {
				return nil
			}
			if steps++; steps < n {
				return nil
			}
			hit = name
			return errno
		})
		l.inject.Store(&inject)
		err := l.fs.Apply(ctx, &p9srv.Cred{UID: l.fs.uid, GID: l.fs.gid, Session: 7}, c)
		l.inject.Store(nil)
		switch {
		case err == nil:
			l.m = next
			return l.applied(t, c, hit, errno)
		case hit == "":
			return fmt.Errorf("refused without a cause: %w\n%s", err, recordsText(c))
		}
		l.n.refused++
		doubt := errors.Is(err, p9srv.ErrInDoubt)
		var refusal *cut.Refusal
		if doubt && !strings.HasPrefix(hit, "log ") || !doubt && !errors.As(err, &refusal) || !errors.Is(err, errno) || !doubt && refusal.Record >= len(c.Records) {
			return fmt.Errorf("step %d, %q, failed with %v, the cut with %w (%+v)", n, hit, errno, err, refusal)
		}
		if after := snapshot(t, l.dir, true); after != before {
			return fmt.Errorf("a cut that was refused at step %d, %q, with %v left a trace:\n%s\nthe cut: %s", n, hit, errno, diffText(before, after), recordsText(c))
		}
		// A log that could not write or sync takes nothing more; for want of space it goes on. Nor does a server whose checkpoint failed,
		// as one does that is to make space and that the host refuses to sync.
		full := (errno == syscall.ENOSPC || errno == syscall.EDQUOT) && hit == "log allocate"
		l.fs.ledger.mu.Lock()
		broken := strings.HasPrefix(hit, "log ") && !full || l.fs.ledger.failed != nil
		l.fs.ledger.mu.Unlock()
		if broken || l.fate.roll(6) == 0 {
			done, err := l.restart(t, c, next, hit, doubt)
			if err != nil || done {
				return err
			}
		}
	}
}

// applied: a step after which nothing can be refused any more may fail, and the cut is what happened.
func (l *life) applied(t testing.TB, c *cut.Cut, hit string, errno syscall.Errno) error {
	if got, want := snapshot(t, l.dir, false), l.m.render(l.root); got != want && hit == "" {
		return fmt.Errorf("the cut led to (- expected, + found):\n%s\nthe cut: %s", diffText(want, got), recordsText(c))
	} else if got != want && !strings.Contains(got, "/.echo9/tmp/") {
		return fmt.Errorf("%v at %q did not matter, but the cut led to (- expected, + found):\n%s\nthe cut: %s", errno, hit, diffText(want, got), recordsText(c))
	}
	if hit == "" {
		return nil
	}
	_, err := l.restart(t, nil, nil, hit, true)
	return err
}

// restart has the server die and come up again. A refused cut is not there; only when the log could not be told that (it
// is broken, and the server said so), it may be.
func (l *life) restart(t testing.TB, c *cut.Cut, next *model, hit string, maybe bool) (done bool, err error) {
	l.dead.Store(true)
	l.place.Store("after a refusal at " + hit)
	if err := l.close(t); err != nil {
		return false, err
	}
	l.n.deaths++
	if err := l.open(0); err != nil {
		return false, fmt.Errorf("open after a refusal at %q: %w", hit, err)
	}
	if next != nil {
		next.forgetKept(l.m, c)
	}
	l.m.forgetOpen()
	got := snapshot(t, l.dir, false)
	want := l.m.render(l.root)
	if got == want {
		// Where the host has no handles, objects are found again by walking to them.
		if err := l.m.checkIDs(l.fs, l.root); err != nil {
			return false, fmt.Errorf("after a refusal at %q and a restart: %w", hit, err)
		}
		// What the session kept is gone, so the cut may mean something that is not there.
		return c != nil && !l.stillValid(c), nil
	}
	if maybe && next != nil {
		next.forgetOpen()
		if got == next.render(l.root) {
			l.m = next
			return true, l.m.checkIDs(l.fs, l.root)
		}
	}
	return false, fmt.Errorf("after a refusal at %q and a restart (- expected, + found):\n%s", hit, diffText(want, got))
}

// forgetKept forgets what the session kept before the cut, in m, which is the state after it.
func (m *model) forgetKept(old *model, c *cut.Cut) {
	keeps := map[uint64]bool{}
	for _, r := range c.Records {
		if r.Kind == cut.Keep {
			keeps[r.ID] = true
		}
	}
	linked := old.linked()
	for id, o := range old.objs {
		if now := m.objs[id]; o.open && now != nil && !keeps[id] {
			now.open = false
			if linked[id] == 0 {
				delete(m.objs, id)
			}
		}
	}
}

// stillValid says whether all that a cut needs is there.
func (l *life) stillValid(c *cut.Cut) bool {
	created := map[uint64]bool{}
	for _, r := range c.Records {
		if r.Kind == cut.Create {
			created[r.ID] = true
		}
	}
	for _, r := range c.Records {
		for _, id := range []uint64{r.ID, r.Dir, r.Before} {
			if id != 0 && !created[id] && l.m.objs[id] == nil {
				return false
			}
		}
	}
	return true
}

// TestErrnosAtEveryStep has the host refuse every step of random cuts with every errno. The log has its own pace: so every story is
// told once without refusals of its steps, and is the same in every run then.
func TestErrnosAtEveryStep(t *testing.T) {
	stories := 24
	if testing.Short() {
		stories = 3
	}
	stories *= more
	w := &tmpWorld{openDir(t, "/dev/shm")}
	var n crashCounts
	for i := range uint64(2 * stories) {
		seed := i / 2
		l := &life{w: w, opt: Options{Logf: func(string, ...any) {}}, seed: seed, n: &n, story: newDice(seed), fate: newDice(seed, 1), hostOnly: i%2 == 1}
		l.dir, l.clock = w.fresh(t), 1_600_000_000e9
		must(t, l.open(0))
		l.m, l.root = newModel(l.fs, l.dir)
		l.m.nextID = l.newID
		for range 4 {
			n.runs++
			if err := l.faulty(t); err != nil {
				t.Fatalf("story %d: %v", seed, err)
			}
		}
		must(t, l.fs.Close())
		must(t, os.RemoveAll(l.dir))
	}
	t.Log(n)
	least := 25
	if os.Getuid() != 0 {
		least = 15 // owners are not changed
	}
	if n.refused < least*stories || n.deaths < stories {
		t.Errorf("too little was tried: %v", n)
	}
}
