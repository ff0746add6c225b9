package dirfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"echo9/internal/cut"
	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

func TestInspectNothing(t *testing.T) {
	dir := openDir(t, os.TempDir())
	if _, err := Inspect(dir, Options{}); !errors.Is(err, ErrNeverServed) {
		t.Fatalf("a directory that was never served: %v", err)
	}
	fs, err := Open(dir, Options{Logf: t.Logf})
	must(t, err)
	if _, err := Inspect(dir, Options{}); err == nil || !strings.Contains(err.Error(), "being served") {
		t.Fatalf("a directory that is being served: %v", err)
	}
	oneFile(t, fs, 1, "a", "content")
	must(t, fs.Close())
	i, err := Inspect(dir, Options{})
	must(t, err)
	if !i.Clean() || i.Rows != 1 || len(i.Dead) != 0 {
		t.Fatalf("after a good end: %+v", i)
	}
}

// TestInspectAndRepair has a server die in the middle of a cut.
func TestInspectAndRepair(t *testing.T) {
	dir := openDir(t, os.TempDir())
	fs, err := Open(dir, Options{Logf: t.Logf, segment: 64 << 10})
	must(t, err)
	oneFile(t, fs, 1, "a", "first")
	id, err := fs.AllocIDs(1)
	must(t, err)
	fs.setHook(func(step string) error {
		if step == "rename" {
			return errKilled
		}
		return nil
	})
	err = fs.Apply(ctx, nil, &cut.Cut{Client: [16]byte{1}, Number: 2, Records: []cut.Record{
		{Kind: cut.Create, UID: fs.uid, ID: id, Mode: unix.S_IFREG | 0o644, UserID: fs.uid, GroupID: fs.gid},
		{Kind: cut.Data, UID: fs.uid, ID: id, Bytes: []byte("second")},
		{Kind: cut.Bind, UID: fs.uid, Dir: fs.root.id, Name: "b", ID: id},
	}})
	if !errors.Is(err, errKilled) {
		t.Fatalf("apply: %v", err)
	}
	crash(t, fs)
	if _, err := os.Lstat(filepath.Join(dir, "b")); err == nil {
		t.Fatal("b is there before the recovery")
	}
	i, err := Inspect(dir, Options{})
	must(t, err)
	if i.Clean() || len(i.Cuts) != 2 || i.Cuts[0].State != "applied" || i.Cuts[1].State != "under way" ||
		!slices.Equal(i.Cuts[1].Names, []string{"b"}) || i.ToBind != 1 || len(i.Garbage) != 1 {
		t.Fatalf("after a death: %+v", i)
	}
	aside, err := Repair(dir, Options{Logf: t.Logf}, i)
	if err != nil || aside != "" {
		t.Fatalf("repair: %q, %v", aside, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "b")); string(b) != "second" {
		t.Fatalf("b is %q, %v", b, err)
	}
	if i, err = Inspect(dir, Options{}); err != nil || !i.Clean() {
		t.Fatalf("after the repair: %+v, %v", i, err)
	}
}

// TestDamagedLog has a byte of the log change on the disk.
func TestDamagedLog(t *testing.T) {
	dir := openDir(t, os.TempDir())
	fs, err := Open(dir, Options{Logf: t.Logf, segment: 64 << 10})
	must(t, err)
	for n, name := range []string{"a", "b", "c"} {
		oneFile(t, fs, uint64(n+1), name, "the content of "+name)
	}
	crash(t, fs)
	segments, err := filepath.Glob(filepath.Join(dir, ".echo9/log/0*"))
	must(t, err)
	damaged := false
	for _, s := range segments {
		b, err := os.ReadFile(s)
		must(t, err)
		if at := strings.Index(string(b), "the content of b"); at >= 0 {
			b[at] ^= 1
			must(t, os.WriteFile(s, b, 0o600))
			damaged = true
		}
	}
	if !damaged {
		t.Fatalf("no segment of %v has the second cut", segments)
	}
	var d *journal.Damage
	if _, err := Open(dir, Options{Logf: t.Logf}); !errors.As(err, &d) || !strings.Contains(err.Error(), "echo9 fsck") {
		t.Fatalf("a server starts with a damaged log: %v", err)
	}
	i, err := Inspect(dir, Options{})
	must(t, err)
	if i.Clean() || i.Log.Damage == nil || len(i.Cuts) != 1 || len(i.Lost) != 1 || i.Lost[0].Number != 3 || !slices.Equal(i.Lost[0].Names, []string{"c"}) {
		t.Fatalf("inspected: %+v, damage %+v", i, i.Log.Damage)
	}
	aside, err := Repair(dir, Options{Logf: t.Logf}, i)
	must(t, err)
	if entries, err := os.ReadDir(aside); err != nil || len(entries) < len(segments) {
		t.Fatalf("the damaged log is not kept: %v, %v", entries, err)
	}
	if i, err = Inspect(dir, Options{}); err != nil || !i.Clean() {
		t.Fatalf("after the repair: %+v, %v", i, err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != "the content of "+name {
			t.Errorf("%s is %q, %v: a repair does not take away what was applied", name, b, err)
		}
	}
}
