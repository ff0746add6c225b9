package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"echo9/p9srv/dirfs"
)

func TestFsck(t *testing.T) {
	dir := t.TempDir()
	check := func(code int, want string, args ...string) string {
		t.Helper()
		got, out, errs := echo9("", append([]string{"fsck"}, args...)...)
		if got != code || !strings.Contains(out+errs, want) {
			t.Fatalf("fsck %v: exit code %d, want %d with %q\n%s%s", args, got, code, want, out, errs)
		}
		return out
	}
	check(2, "fsck takes")
	check(1, "no such file", filepath.Join(dir, "nowhere"))
	check(0, "never served", dir)

	fs, err := dirfs.Open(dir, dirfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	check(1, "being served", dir)
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
	check(0, "clean: nothing is to be done", dir)

	garbage := filepath.Join(dir, ".echo9/tmp/17")
	if err := os.WriteFile(garbage, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check(1, "to be done: by the next start of a server, or by `echo9 fsck --repair", dir)
	var res struct {
		Clean   bool
		Garbage []string
	}
	if err := json.Unmarshal([]byte(check(1, "garbage", "--json", dir)), &res); err != nil || res.Clean || len(res.Garbage) != 1 {
		t.Fatalf("--json: %+v, %v", res, err)
	}
	if _, err := os.Lstat(garbage); err != nil {
		t.Fatal("something was changed without --repair")
	}
	check(0, "repaired", "--repair", dir)
	check(0, "clean", dir)
	if _, err := os.Lstat(garbage); err == nil {
		t.Fatal("it is still there")
	}
}

// TestFsckDamage has a log whose segment lost its first block.
func TestFsckDamage(t *testing.T) {
	dir := t.TempDir()
	fs, err := dirfs.Open(dir, dirfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, ".echo9/log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".echo9/log/00000099"), []byte("nothing of ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ := echo9("", "fsck", dir)
	if code != 1 || !strings.Contains(out, "DAMAGE in segment 00000099") || !strings.Contains(out, "no server starts before that") {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	code, out, errs := echo9("", "fsck", "--repair", dir)
	if code != 0 || !strings.Contains(out, "the damaged log is kept in") {
		t.Fatalf("repair: exit code %d:\n%s%s", code, out, errs)
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, ".echo9/damaged-*/00000099")); len(kept) != 1 {
		t.Fatal("the damaged segment is not kept")
	}
	if code, out, _ := echo9("", "fsck", dir); code != 0 {
		t.Fatalf("after the repair: exit code %d:\n%s", code, out)
	}
}
