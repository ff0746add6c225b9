package badinput

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"echo9/cachefs"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/tests/internal/need"
	"echo9/tests/internal/served"
	"echo9/tests/internal/treehash"
)

// looker is a plain client that looks at names all the time, one after the other. From the moment on when it sees
// a name as it is after a cut, it must see all of them so.
type looker struct {
	c      *raw
	names  [][]string // dir, name
	after  []bool     // whether it is there after the cut
	stop   atomic.Bool
	done   sync.WaitGroup
	looks  int
	turned bool // it has seen the cut
	err    error
}

// look starts to look.
func look(t *testing.T, s *served.Server, after map[string]bool) *looker {
	t.Helper()
	l := &looker{c: plain(t, s.Addr)}
	for name, there := range after {
		l.names, l.after = append(l.names, strings.Split(name, "/")), append(l.after, there)
	}
	l.done.Go(func() {
		for l.pass(); !l.stop.Load() && l.err == nil; {
			l.pass()
		}
	})
	t.Cleanup(func() { l.stop.Store(true); l.c.nc.Close(); l.done.Wait() })
	return l
}

// pass looks at each name once.
func (l *looker) pass() {
	for i, name := range l.names {
		there, err := l.there(name)
		if err != nil {
			l.err = err
			return
		}
		l.looks++
		if is := there == l.after[i]; l.turned && !is {
			l.err = fmt.Errorf("%s is as before the cut, after something else was as after it", strings.Join(name, "/"))
		} else if is {
			l.turned = true
		}
	}
}

func (l *looker) there(name []string) (bool, error) {
	ask := func(m wire.Message) (wire.Message, error) {
		if err := l.c.bytes(wire.AppendFrame(nil, 1, m)); err != nil {
			return nil, err
		}
		_, r, err := l.c.next()
		return r, err
	}
	m, err := ask(&wire.Twalk{Fid: 0, NewFid: 1, Names: name})
	if err != nil {
		return false, err
	}
	if r, ok := m.(*wire.Rwalk); !ok || len(r.QIDs) < len(name) {
		return false, nil
	}
	_, err = ask(&wire.Tclunk{Fid: 1})
	return true, err
}

// end stops looking and tells whether the cut was seen.
func (l *looker) end(t *testing.T) (seen bool) {
	t.Helper()
	l.stop.Store(true)
	l.done.Wait()
	if l.err != nil {
		t.Error(l.err)
	}
	if l.looks < len(l.names) {
		t.Errorf("only %d looks", l.looks)
	}
	return l.turned
}

// A change that is not atomic is caught by who looks.
func TestHalfACutIsCaught(t *testing.T) {
	s := served.Start(t, "")
	write(t, filepath.Join(s.Dir, "a/old"), "old")
	write(t, filepath.Join(s.Dir, "b/old"), "old")
	l := look(t, s, map[string]bool{"a/old": false, "b/old": false})
	must(t, os.Remove(filepath.Join(s.Dir, "a/old")))
	ended := make(chan struct{})
	go func() { l.done.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("half a change is not seen")
	}
	if l.err == nil || !strings.Contains(l.err.Error(), "as before the cut") {
		t.Errorf("half a change is seen as %v", l.err)
	}
}

// immutable makes the host refuse every change of a directory, until f is called.
func immutable(t *testing.T, dir string) (f func()) {
	t.Helper()
	need.Root(t)
	set := func(on bool) error {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer d.Close()
		flags, err := unix.IoctlGetInt(int(d.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		const immutableFlag = 0x10
		if flags &^= immutableFlag; on {
			flags |= immutableFlag
		}
		return unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err := set(true); err != nil {
		need.Missing(t, "no immutable directories here: "+err.Error())
	}
	off := sync.OnceFunc(func() { must(t, set(false)) })
	t.Cleanup(off)
	return off
}

// A cut of many creations, removals and renames that the host refuses in its middle, again and again, while two plain
// clients look: they see none of it, and when it is taken they see it wholly.
func TestRefusedCut(t *testing.T) {
	for _, c := range []struct {
		name  string
		dir   func(*testing.T) string
		bad   func(t *testing.T, dir string) (undo func())
		data  int // bytes of each new file
		files int
	}{
		{"immutable", func(t *testing.T) string { return t.TempDir() }, func(t *testing.T, dir string) func() { return immutable(t, filepath.Join(dir, "c")) }, 10, 60},
		{"full", func(t *testing.T) string { return smallDisk(t, "4m") }, func(t *testing.T, dir string) func() {
			must(t, os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 7<<19), 0o644))
			return func() { must(t, os.Remove(filepath.Join(dir, "filler"))) }
		}, 15_000, 60},
		{"taken", func(t *testing.T) string { return t.TempDir() }, func(t *testing.T, dir string) func() { // the host itself was quicker
			must(t, os.WriteFile(filepath.Join(dir, "c/new32"), nil, 0o644))
			return func() { must(t, os.Remove(filepath.Join(dir, "c/new32"))) }
		}, 10, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := served.Start(t, c.dir(t))
			for _, d := range []string{"a", "b", "c"} {
				write(t, filepath.Join(s.Dir, d, "old"), "old")
				write(t, filepath.Join(s.Dir, d, "moves"), "moves")
			}
			must(t, os.Symlink("old", filepath.Join(s.Dir, "b/link")))
			w := session(t, s.Addr, "writer", 0)
			p := plain(t, s.Addr)
			ids := map[string]uint64{}
			for i, name := range []string{"a", "b", "c", "a/old", "b/moves", "b/link"} {
				ids[name] = p.walk(0, uint32(i+1), strings.Split(name, "/")...)
			}
			var set []wire.GrantElem
			for _, id := range ids {
				set = append(set, want(id, writeMode))
			}
			after := map[string]bool{"a/old": false, "b/moves": false, "a/moved": true}
			records := []cut.Record{
				{Kind: cut.Bind, Dir: ids["a"], Name: "old", Before: ids["a/old"]}, // is removed
				{Kind: cut.Bind, Dir: ids["b"], Name: "moves", Before: ids["b/moves"]},
				{Kind: cut.Bind, Dir: ids["a"], Name: "moved", ID: ids["b/moves"]},
				{Kind: cut.Attr, ID: ids["a"], Valid: cut.AttrMode, Mode: 0o700},
				{Kind: cut.SetXattr, ID: ids["b/moves"], Name: "user.x", Bytes: []byte("x")},
				{Kind: cut.Truncate, ID: ids["b/moves"], Size: 0},
				{Kind: cut.Data, ID: ids["b/moves"], Bytes: []byte("new content")},
				{Kind: cut.Attr, ID: ids["b/moves"], Valid: cut.AttrSize, Size: 11},
			}
			for i := range c.files {
				id, dir := w.s.IDs.First+uint64(i), []string{"a", "b", "c"}[i%3]
				name := fmt.Sprintf("new%d", i)
				records = append(records, cut.Record{Kind: cut.Create, ID: id, Mode: syscall.S_IFREG | 0o644}, cut.Record{Kind: cut.Bind, Dir: ids[dir], Name: name, ID: id},
					cut.Record{Kind: cut.Data, ID: id, Bytes: bytes.Repeat([]byte("n"), c.data)}, cut.Record{Kind: cut.Attr, ID: id, Valid: cut.AttrSize, Size: uint64(c.data)})
				after[dir+"/"+name] = true
			}
			whole := func() map[string]string {
				m, err := treehash.Tree(s.Dir, treehash.All, ".echo9")
				must(t, err)
				delete(m, ".")
				return m
			}
			undo := c.bad(t, s.Dir)
			delete(after, "c/new32") // which may be there before
			before := whole()
			lookers := []*looker{look(t, s, after), look(t, s, after)}
			try := func() *wire.Rcommit { // and gives the tokens back at once, so that the lookers can look
				tokens := w.grant(set...)
				w.send(1, &wire.Tcommit{Cut: 1, Flags: wire.CommitLast, Fence: fence(tokens), Records: records})
				back := &wire.Treturn{}
				for _, g := range tokens {
					back.Tokens = append(back.Tokens, wire.ReturnElem{ID: g.ID, Gen: g.Gen})
				}
				w.send(2, back)
				w.reply(2)
				return w.reply(1).(*wire.Rcommit)
			}
			for range 15 {
				if r := try(); r.Status != wire.CommitRefused || r.Errno == 0 || r.Reason == "" {
					t.Fatalf("the cut: %v", r)
				}
				if d := treehash.Diff(before, whole(), 10); d != "" {
					t.Fatalf("the refused cut left traces:\n%s", d)
				}
			}
			undo()
			if r := try(); r.Status != wire.CommitApplied {
				t.Fatalf("the cut, when the host takes it: %v", r)
			}
			for name, there := range after { // let the lookers see it, too
				if _, err := os.Lstat(filepath.Join(s.Dir, name)); (err == nil) != there {
					t.Errorf("%s after the cut: %v", name, err)
				}
			}
			for _, l := range lookers {
				seen := l.end(t)
				t.Logf("%d looks; the cut was seen: %v", l.looks, seen)
			}
			last := look(t, s, after)
			must(t, p.there(after))
			if !last.end(t) {
				t.Error("the cut is not seen")
			}
		})
	}
}

// there checks that all is as it is after a cut.
func (c *raw) there(after map[string]bool) error {
	for name, want := range after {
		m := c.do(&wire.Twalk{Fid: 0, NewFid: 99, Names: strings.Split(name, "/")})
		r, ok := m.(*wire.Rwalk)
		is := ok && len(r.QIDs) == 2
		if is {
			c.ok(&wire.Tclunk{Fid: 99})
		}
		if is != want {
			return fmt.Errorf("%s is there: %v", name, is)
		}
	}
	return nil
}

// What a caching client wrote is refused in its middle: fsync tells it, all that does not depend on it
// survives and is seen wholly or not at all, and others' files are as they were.
func TestRefusedWriteBehind(t *testing.T) {
	s := served.Start(t, "")
	for _, d := range []string{"a", "b", "closed", "others"} {
		write(t, filepath.Join(s.Dir, d, "old"), d)
	}
	var once sync.Once
	var lookers []*looker
	after := map[string]bool{"a/dir": true, "b/g": true, "a/old": false, "b/moved": true}
	never := map[string]bool{"closed/new": true, "closed/dir": true}
	refusals := 0
	f := cache(t, s, func(o *cachefs.Options) {
		o.Hooks.Commit = func(cachefs.CutInfo) { // from the first cut on somebody looks, all the time
			once.Do(func() { lookers = []*looker{look(t, s, after), look(t, s, after), look(t, s, never)} })
			refusals++
		}
	})
	ctx := t.Context()
	other := cache(t, s)
	must(t, other.WriteFile(ctx, "others/new", []byte("theirs"), 0o644))
	must(t, f.Mkdir(ctx, "a/dir", 0o755))
	must(t, f.WriteFile(ctx, "a/dir/f", []byte("f"), 0o644))
	must(t, f.WriteFile(ctx, "closed/new", []byte("refused"), 0o644)) // in the middle
	must(t, f.Mkdir(ctx, "closed/dir", 0o755))
	must(t, f.WriteFile(ctx, "closed/dir/below", []byte("refused, too"), 0o644))
	must(t, f.WriteFile(ctx, "b/g", []byte("g"), 0o644))
	must(t, f.Rename(ctx, "a/old", "b/moved"))           // ties a and b
	undo := immutable(t, filepath.Join(s.Dir, "closed")) // only now: what the host is known to refuse is not taken on
	h, err := f.OpenFile(ctx, "closed/new", wire.ORdwr, 0)
	must(t, err)
	if err := h.Fsync(ctx, false); err == nil || !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EPERM) {
		t.Errorf("fsync of a refused file: %v", err)
	}
	_ = h.Close(ctx)
	if err := f.Sync(ctx); err == nil {
		t.Error("sync does not tell what was refused")
	}
	must(t, f.Sync(ctx)) // once
	for i, l := range lookers {
		if seen := l.end(t); i == 2 && seen {
			t.Error("something of the refused operations was seen")
		}
	}
	if refusals < 2 {
		t.Errorf("%d cuts: nothing was refused", refusals)
	}
	for name, want := range map[string]string{"a/dir/f": "f", "b/g": "g", "b/moved": "a", "closed/old": "closed", "others/old": "others", "a/old": "", "closed/new": "", "closed/dir": ""} {
		b, err := os.ReadFile(filepath.Join(s.Dir, name))
		if want == "" && !errors.Is(err, os.ErrNotExist) || want != "" && string(b) != want {
			t.Errorf("%s on the host: %q, %v", name, b, err)
		}
		b, err = other.ReadFile(ctx, name)
		if want == "" && !errors.Is(err, syscall.ENOENT) || want != "" && string(b) != want {
			t.Errorf("%s at another client: %q, %v", name, b, err)
		}
	}
	must(t, other.Sync(ctx))
	if st := f.Status(); st.Lost == 0 || len(st.Events) == 0 || st.Error != "" {
		t.Errorf("the status knows of no loss: %+v", st)
	}
	// When the host takes it, so does the cache.
	undo()
	must(t, f.WriteFile(context.Background(), "closed/new", []byte("taken"), 0o644))
	must(t, f.Fsync(ctx, "closed/new"))
	if b, err := os.ReadFile(filepath.Join(s.Dir, "closed/new")); string(b) != "taken" {
		t.Errorf("after the refusal: %q, %v", b, err)
	}
}
