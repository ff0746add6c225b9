package dirfs

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"echo9/internal/cut"
)

// rise opens the export again until it serves, and compares.
func (l *life) rise(t testing.TB) error {
	candidates := []*model{l.m.clone()}
	if l.next != nil {
		candidates = append(candidates, l.next.clone())
	}
	if !l.w.synced() && l.fate.roll(3) != 0 {
		if err := l.lateEdit(candidates); err != nil {
			return err
		}
	}
	for range l.fate.roll(3) {
		err := l.open(1 + l.fate.roll(25))
		if err == nil {
			l.fs.Close() // which may be what it dies of
		}
		if !l.dead.Load() {
			if err != nil {
				return fmt.Errorf("recover: %w", err)
			}
			break
		}
		l.n.inRecovery++
		l.w.revive(t)
	}
	if err := l.open(0); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	defer func() { l.fs.Close() }()
	got := snapshot(t, l.dir, false)
	var diffs []string
	for i, m := range candidates {
		m.forgetOpen()
		want := m.render(l.root)
		if got == want {
			l.m = m
			if i == 1 {
				l.n.after++
			} else if len(candidates) == 2 {
				l.n.before++
			}
			return l.goOn(t)
		}
		diffs = append(diffs, diffText(want, got))
	}
	if len(diffs) == 1 {
		return fmt.Errorf("after the death before %q nothing was under way, but the tree differs (- expected, + found):\n%s", l.place.Load(), diffs[0])
	}
	return fmt.Errorf("after the death before %q in a cut the tree is neither as before it (- expected, + found):\n%s\nnor as after it:\n%s\nthe cut: %s",
		l.place.Load(), diffs[0], diffs[1], recordsText(l.hot))
}

func recordsText(c *cut.Cut) string {
	s := ""
	for _, r := range c.Records {
		kind := []string{"", "create", "bind", "attr", "truncate", "data", "zero", "allocate", "setxattr", "removexattr", "keep", "release", "copy"}[r.Kind]
		s += "\n  " + kind
		v := reflect.ValueOf(r)
		for i := 1; i < v.NumField(); i++ {
			if !v.Field(i).IsZero() {
				s += fmt.Sprintf(" %s=%v", v.Type().Field(i).Name, v.Field(i))
			}
		}
	}
	return s
}

// forgetOpen: no session outlives its server, and with it goes what it kept.
func (m *model) forgetOpen() {
	linked := m.linked()
	for id, o := range m.objs {
		if o.open && linked[id] == 0 {
			delete(m.objs, id)
		}
		o.open = false
	}
}

// lateEdit is by somebody on the host, after the death and before the recovery: in directories
// and of names that the cut under way, and one whose note may not have been written, have nothing to do with.
func (l *life) lateEdit(candidates []*model) error {
	before := candidates[0]
	hot := map[uint64]bool{}
	for _, c := range []*cut.Cut{l.hot, l.last} {
		if c == nil {
			continue
		}
		for _, r := range c.Records {
			for _, id := range []uint64{r.ID, r.Dir, r.Before} {
				hot[id] = true
			}
		}
	}
	e := before.chooseEdit(l.fate, l.root, &l.clock, func(dir uint64, name, kind string) bool {
		if hot[dir] {
			return false
		}
		at := before.objs[dir].entries[name]
		return !hot[at] && before.settledPath(l.root, dir, hot) && (len(candidates) == 1 || candidates[1].objs[dir] != nil)
	})
	if e == nil {
		return nil
	}
	l.tracef("edit before recovery: %+v", e)
	l.n.lateEdits++
	l.n.edits++
	if err := e.onHost(l.dir + "/" + before.path(l.root, e.dir)); err != nil {
		return fmt.Errorf("somebody's %+v: %w", e, err)
	}
	for _, m := range candidates {
		if err := e.onModel(m, placeholder+1); err != nil {
			return err
		}
	}
	return nil
}

// settledPath says whether no directory on the way from the root to dir is hot.
func (m *model) settledPath(root, dir uint64, hot map[uint64]bool) bool {
	for dir != root {
		if hot[dir] {
			return false
		}
		up := uint64(0)
		for id, o := range m.objs {
			if slices.Contains(slices.Collect(maps.Values(o.entries)), dir) {
				up = id
			}
		}
		if up == 0 {
			return false
		}
		dir = up
	}
	return true
}

// goOn checks that everything is found under its id, that the server serves on, and that a clean end is one.
func (l *life) goOn(t testing.TB) error {
	if err := l.walk(l.root); err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	for id := range maps.Clone(l.m.objs) {
		if id >= placeholder {
			if err := l.resolve(id); err != nil {
				return err
			}
		}
	}
	if err := l.m.checkIDs(l.fs, l.root); err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	if err := l.cut(); err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	l.fs.EndSession(7)
	l.m.forgetOpen()
	if err := l.fs.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := l.open(0); err != nil {
		return fmt.Errorf("open after a clean end: %w", err)
	}
	if got, want := snapshot(t, l.dir, false), l.m.render(l.root); got != want {
		return fmt.Errorf("after one more cut and a clean end (- expected, + found):\n%s", diffText(want, got))
	}
	return nil
}

// walk walks to everything below a directory: where the host has no handles, objects
// are known to a new server only then.
func (l *life) walk(dir uint64) error {
	for name, id := range l.m.objs[dir].entries {
		if _, err := l.fs.ResolveName(ctx, dir, name); err != nil {
			return fmt.Errorf("walk to %d/%s: %w", dir, name, err)
		}
		if l.m.objs[id].dir() {
			if err := l.walk(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// resolve learns the id of a file that somebody made while no server ran.
func (l *life) resolve(id uint64) error {
	for dir, d := range l.m.objs {
		for name, at := range d.entries {
			if at != id {
				continue
			}
			got, err := l.fs.ResolveName(ctx, dir, name)
			if err != nil {
				return err
			}
			o := l.m.objs[id]
			delete(l.m.objs, id)
			o.id, l.m.objs[got], d.entries[name] = got, o, got
			return nil
		}
	}
	return fmt.Errorf("nothing names the new file")
}
