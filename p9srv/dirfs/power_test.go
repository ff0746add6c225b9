package dirfs

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"echo9/internal/cut"
	"echo9/internal/loopfs"

	"echo9/p9srv"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestPowerFailures takes copies of a disk, an ext4 with a journal, while a server applies cuts: what is in the kernel's
// memory only is not in them. Each, mounted and recovered, has all cuts that were acknowledged then, and no part of another one.
func TestPowerFailures(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	mnt, unmount, err := loopfs.Mount(dir, 40)
	if err != nil {
		skip(t, err.Error())
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Error(err)
		}
	})
	must(t, os.Mkdir(filepath.Join(dir, "after"), 0o755))
	runs := 12 // each takes about half a second
	if os.Getenv("ECHO9_FULL") != "" {
		runs = 1 << 30 // as many as -rapid.checks says
	}
	rapid.Check(t, func(rt *rapid.T) {
		if runs--; runs < 0 {
			return
		}
		sub, err := os.MkdirTemp(mnt, "t")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(sub)
		if err := os.Chmod(sub, 0o755); err != nil {
			rt.Fatal(err)
		}
		p := &power{rt: rt, image: filepath.Join(dir, "ext4.img"), after: filepath.Join(dir, "after"), sub: sub}
		p.run()
	})
}

// TestPowerFailureMutants leaves out what a file needs to be there after a power failure.
func TestPowerFailureMutants(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	for _, m := range []struct {
		name          string
		before, after Options
		there         bool
	}{
		{"nothing is left out", Options{}, Options{}, true},
		{"the log is not synced", Options{Durability: DurableOS}, Options{}, false},
		{"nothing is recovered", Options{}, Options{mutant: noRecovery}, false},
	} {
		dir := t.TempDir()
		mnt, unmount, err := loopfs.Mount(dir, 40)
		if err != nil {
			skip(t, err.Error())
		}
		image, after := filepath.Join(dir, "ext4.img"), filepath.Join(dir, "after")
		must(t, os.Mkdir(after, 0o755))
		// So that the kernel writes nothing by itself before the copy, however late that is made.
		must(t, exec.Command("mount", "-o", "remount,commit=300", mnt).Run())
		fs, err := Open(mnt, m.before)
		must(t, err)
		must(t, fs.Checkpoint(ctx))
		must(t, unix.Syncfs(fs.mountFD))
		oneFile(t, fs, 1, "a", "content")
		must(t, copyImage(image, image+".copy"))
		must(t, fs.Close())
		must(t, unmount())
		must(t, exec.Command("mount", "-o", "loop", image+".copy", after).Run())
		fs, err = Open(after, m.after)
		if err == nil {
			if b, rerr := os.ReadFile(filepath.Join(after, "a")); (string(b) == "content") != m.there {
				t.Errorf("%s: a is %q, %v", m.name, b, rerr)
			}
			err = fs.Close()
		}
		must(t, exec.Command("umount", after).Run())
		must(t, err)
	}
}

// power is one life of an export, with the disk as it was at some moments.
type power struct {
	rt                *rapid.T
	image, after, sub string

	mu     sync.Mutex
	left   int // steps until the power fails
	flush  int // and until the kernel happens to write all that it has
	copied bool
}

func (p *power) hook(string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flush--; p.flush == 0 {
		d, err := os.Open(p.sub)
		if err != nil {
			return err
		}
		defer d.Close()
		if err := unix.Syncfs(int(d.Fd())); err != nil {
			return err
		}
	}
	if p.left--; p.left == 0 {
		if err := copyImage(p.image, p.image+".copy"); err != nil {
			return err
		}
		p.copied = true
	}
	return nil
}

func copyImage(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

func (p *power) run() {
	rt := p.rt
	fs, err := Open(p.sub, Options{segment: 64 << 10, Logf: func(string, ...any) {}})
	if err != nil {
		rt.Fatal(err)
	}
	defer fs.Close()
	m, root := newModel(fs, p.sub)
	cred := &p9srv.Cred{UID: fs.uid, GID: fs.gid, Session: 7}
	clock := int64(1_600_000_000e9)
	for number := range rapid.IntRange(1, 4).Draw(rt, "cuts") {
		next := m.clone()
		for range rapid.IntRange(1, 8).Draw(rt, "ops") {
			next.step(rapidDice{rt}, root, &clock)
		}
		c := &cut.Cut{Client: [16]byte{1}, Number: uint64(number + 1), Records: next.diff(m, fs.uid)}
		fails, flush := rapid.IntRange(1, 40).Draw(rt, "power fails"), rapid.IntRange(0, 40).Draw(rt, "flush")
		p.mu.Lock()
		p.left, p.flush, p.copied = fails, flush, false
		p.mu.Unlock()
		fs.setHook(p.hook)
		err := fs.Apply(ctx, cred, c)
		fs.setHook(nil)
		if err != nil {
			rt.Fatalf("cut refused: %v (record %+v)", err, recordOf(c, err))
		}
		states := []string{tree(next.render(root))}
		p.mu.Lock()
		copied := p.copied
		p.mu.Unlock()
		if copied {
			states = append(states, tree(m.render(root)))
		} else if err := copyImage(p.image, p.image+".copy"); err != nil {
			rt.Fatal(err)
		}
		p.restart(states, c)
		m = next
	}
}

// restart mounts the disk as it was, and serves it.
func (p *power) restart(states []string, c *cut.Cut) {
	rt := p.rt
	if out, err := exec.Command("mount", "-o", "loop", p.image+".copy", p.after).CombinedOutput(); err != nil {
		rt.Fatalf("mount: %v: %s", err, out)
	}
	defer func() {
		if out, err := exec.Command("umount", p.after).CombinedOutput(); err != nil {
			rt.Fatalf("umount: %v: %s", err, out)
		}
	}()
	var log []string
	dir := filepath.Join(p.after, filepath.Base(p.sub))
	fs, err := Open(dir, Options{segment: 64 << 10, Logf: func(f string, _ ...any) { log = append(log, f) }})
	if err != nil {
		rt.Fatalf("the server does not start after a power failure: %v", err)
	}
	defer fs.Close()
	got := tree(snapshot(rt, dir, false))
	for _, want := range states {
		if got == want {
			return
		}
	}
	rt.Fatalf("after a power failure:\n%s\ncut: %+v\n%s", diffText(states[0], got), c.Records, strings.Join(log, "\n"))
}
