package badinput

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/wire"
	"echo9/tests/internal/served"
)

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EIO) }

// A full disk: a plain client's write says so, and when something is removed there is room again.
func TestFullDiskPlain(t *testing.T) {
	dir := smallDisk(t, "4m")
	s := served.Start(t, dir)
	local := filepath.Join(t.TempDir(), "big")
	must(t, os.WriteFile(local, bytes.Repeat([]byte("0123456789abcdef"), 8<<16), 0o644))
	out, code := echo9(t, "-a", s.Addr, "put", local, "/big")
	if code != 1 || !strings.Contains(out, "no space left") || !strings.Contains(out, "`df` shows the space") {
		t.Errorf("put: exit code %d: %s", code, out)
	}
	c := plain(t, s.Addr)
	c.walk(0, 1)
	c.ok(&wire.Tlcreate{Fid: 1, Name: "raw", Flags: wire.ORdwr, Mode: 0o644})
	block, taken := bytes.Repeat([]byte("y"), 1<<17), uint64(0)
	for {
		m := c.do(&wire.Twrite{Fid: 1, Offset: taken, Data: block})
		if e, bad := m.(*wire.Rlerror); bad {
			if syscall.Errno(e.Errno) != syscall.ENOSPC {
				t.Errorf("a write to a full disk: %v", syscall.Errno(e.Errno))
			}
			break
		}
		if taken += uint64(m.(*wire.Rwrite).Count); taken > 8<<20 {
			t.Fatal("the disk does not become full")
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "raw")); err != nil || uint64(len(b)) < taken || strings.Trim(string(b[:taken]), "y") != "" {
		t.Errorf("%d bytes were taken, %d are there, %v", taken, len(b), err)
	}
	if out, code := echo9(t, "-a", s.Addr, "rm", "-f", "/raw", "/big"); code != 0 {
		t.Errorf("rm on a full disk: exit code %d: %s", code, out)
	}
	c.nc.Close()
	eventually(t, patience, func() error { // it was open
		if out, code := echo9(t, "-a", s.Addr, "put", s.Cmd.Path, "/again"); code != 1 {
			return fmt.Errorf("a program fits 4 MB: exit code %d: %s", code, out)
		}
		small := filepath.Join(t.TempDir(), "small")
		must(t, os.WriteFile(small, block, 0o644))
		if out, code := echo9(t, "-a", s.Addr, "put", small, "/small"); code != 0 {
			return fmt.Errorf("put after rm: exit code %d: %s", code, out)
		}
		return nil
	})
}

// A full disk behind a cache: what fsync has acknowledged is there; a write or an fsync tells what is not; the
// final name of a file that did not fit is what it was; and when something is removed all goes on.
func TestFullDiskCached(t *testing.T) {
	dir := smallDisk(t, "4200k")
	s := served.Start(t, dir)
	f := cache(t, s)
	ctx := t.Context()
	must(t, f.WriteFile(ctx, "final", []byte("old"), 0o644))
	must(t, f.Fsync(ctx, "final"))
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 100_000) }
	acknowledged := 0
	for {
		name := fmt.Sprintf("f%d", acknowledged)
		err := f.WriteFile(ctx, name, content(acknowledged), 0o644)
		if err == nil {
			err = f.Fsync(ctx, name)
		}
		if err != nil {
			if !isFull(err) && !errors.Is(err, syscall.ENOENT) {
				t.Errorf("the disk is full: %v", err)
			}
			break
		}
		if acknowledged++; acknowledged > 60 {
			t.Fatal("the disk does not become full")
		}
	}
	if acknowledged < 10 {
		t.Errorf("only %d files of 100 kB were taken", acknowledged)
	}
	// A large file, made beside and renamed into place.
	h, err := f.OpenFile(ctx, "tmp", wire.OWronly|wire.OCreat, 0o644)
	must(t, err)
	if _, err = h.WriteAt(ctx, bytes.Repeat([]byte("n"), 2<<20), 0); err == nil {
		if err = f.Rename(ctx, "tmp", "final"); err == nil {
			err = h.Fsync(ctx, false)
		}
	}
	if !isFull(err) {
		t.Errorf("2 MB more: %v", err)
	}
	_ = h.Close(ctx) // tells it, or has told it
	check := func(when string) {
		t.Helper()
		for i := range acknowledged {
			if b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("f%d", i))); err != nil || !bytes.Equal(b, content(i)) {
				t.Errorf("%s: f%d, which fsync has acknowledged, has %d bytes, %v", when, i, len(b), err)
			}
		}
		if b, err := os.ReadFile(filepath.Join(dir, "final")); err != nil || string(b) != "old" {
			t.Errorf("%s: final has %d bytes, %v", when, len(b), err)
		}
	}
	check("full")
	serves(t, s)
	must(t, f.Sync(ctx))
	if st := f.Status(); st.Lost > 0 || st.Error != "" {
		t.Errorf("who writes is told, and nothing is lost behind his back: %+v", st)
	}
	// Room again.
	for range 5 {
		acknowledged--
		must(t, f.Remove(ctx, fmt.Sprintf("f%d", acknowledged)))
	}
	must(t, f.Sync(ctx))
	must(t, f.WriteFile(ctx, "final", content(7), 0o644))
	must(t, f.Fsync(ctx, "final"))
	if b, err := os.ReadFile(filepath.Join(dir, "final")); err != nil || !bytes.Equal(b, content(7)) {
		t.Errorf("after making room: %d bytes, %v", len(b), err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "final"), []byte("old"), 0o644))
	check("room again")
	t.Logf("%d files of 100 kB; %v", acknowledged+5, f.Events())
}

// A script in a cached session on a full disk does not say that all went well.
func TestFullDiskScript(t *testing.T) {
	s := served.Start(t, smallDisk(t, "4m"))
	local := t.TempDir()
	must(t, os.WriteFile(filepath.Join(local, "big"), make([]byte, 1), 0o644))
	must(t, os.WriteFile(filepath.Join(local, "big"), bytes.Repeat([]byte("0123456789abcdef"), 6<<16), 0o644))
	script := filepath.Join(local, "script")
	must(t, os.WriteFile(script, []byte("mkdir /d\nput "+local+"/big /d/big\nsync\nput "+script+" /d/small\n"), 0o644))
	out, code := echo9(t, "-a", s.Addr, "script", script)
	if code != 1 || !strings.Contains(out, "echo9: ") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if st, err := os.Stat(filepath.Join(s.Dir, "d/big")); err == nil && st.Size() == 6<<20 {
		t.Error("6 MiB fit 4 MiB")
	}
	serves(t, s)
}
