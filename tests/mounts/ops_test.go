package mounts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"echo9/cachefs"
)

// statusOf is what status.json of a mount says.
func statusOf(t *testing.T, mnt string) (s cachefs.Status) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(mnt, ".echo9/status.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// cp(1), which calls copy_file_range(2), copies at the server: the bytes do not come here.
func TestCopyAtServer(t *testing.T) {
	dir, mnt := setUp(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB
	write(t, filepath.Join(dir, "src"), string(want))
	start(t, "up", slow, dir, mnt).says("is mounted on")
	if out, err := exec.Command("cp", "--sparse=never", filepath.Join(mnt, "src"), filepath.Join(mnt, "dst")).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	if s := statusOf(t, mnt); s.CachedBytes > 1<<20 || s.PendingBytes > 1<<20 {
		t.Errorf("%d bytes came here, and %d are to be sent", s.CachedBytes, s.PendingBytes)
	}
	ok(t, "sync", mnt)
	for _, name := range []string{filepath.Join(dir, "dst"), filepath.Join(mnt, "dst")} {
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the copy differs: %d bytes, %v", name, len(got), err)
		}
	}
	// Of what is not at the server yet, copies are as they must be, too.
	write(t, filepath.Join(mnt, "new"), "new")
	if out, err := exec.Command("cp", filepath.Join(mnt, "new"), filepath.Join(mnt, "dst")).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	if got := content(filepath.Join(mnt, "dst")); got != "new" {
		t.Errorf("the copy is %q", got)
	}
}

// O_TMPFILE and linkat(2): a file that is complete before it has a name.
func TestTmpfile(t *testing.T) {
	dir, mnt := setUp(t)
	start(t, "up", slow, dir, mnt).says("is mounted on")
	fd, err := unix.Open(mnt, unix.O_TMPFILE|unix.O_RDWR, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "nameless")
	defer f.Close()
	if _, err := f.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	ok(t, "sync", mnt)
	if list, err := os.ReadDir(mnt); err != nil || len(list) != 0 {
		t.Errorf("it has a name: %v %v", list, err)
	}
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, filepath.Join(mnt, "f"), unix.AT_SYMLINK_FOLLOW); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(" world"); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(mnt, "f"), &st); err != nil || st.Nlink != 1 || st.Mode&0o777 != 0o640 {
		t.Errorf("%+v %v", st, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	ok(t, "sync", mnt)
	for _, d := range []string{mnt, dir} {
		if got := content(filepath.Join(d, "f")); got != "hello world" {
			t.Errorf("in %s: %q", d, got)
		}
	}

	fd, err = unix.Open(mnt, unix.O_TMPFILE|unix.O_WRONLY|unix.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, filepath.Join(mnt, "g"), unix.AT_SYMLINK_FOLLOW); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a file that is never to have a name got one: %v", err)
	}
	ok(t, "sync", mnt)
	if list, err := os.ReadDir(filepath.Join(dir, ".echo9", "orphans")); err == nil && len(list) > 1 {
		t.Errorf("%d files without a name are kept", len(list))
	}
}

// rename(2) in its three forms, and fallocate(2), as they are after a sync.
func TestRenamesAndSpace(t *testing.T) {
	dir, mnt := setUp(t)
	start(t, "up", slow, dir, mnt).says("is mounted on")
	at := func(name string) string { return filepath.Join(mnt, name) }
	mkdir(t, at("d"), at("d/sub"))
	write(t, at("a"), "a")
	write(t, at("d/sub/b"), "b")
	if err := unix.Renameat2(unix.AT_FDCWD, at("a"), unix.AT_FDCWD, at("d"), unix.RENAME_NOREPLACE); !errors.Is(err, unix.EEXIST) {
		t.Errorf("RENAME_NOREPLACE over a name: %v", err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, at("a"), unix.AT_FDCWD, at("c"), unix.RENAME_NOREPLACE); err != nil {
		t.Error(err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, at("c"), unix.AT_FDCWD, at("d/sub"), unix.RENAME_EXCHANGE); err != nil {
		t.Error(err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, at("c"), unix.AT_FDCWD, at("absent"), unix.RENAME_EXCHANGE); !errors.Is(err, unix.ENOENT) {
		t.Errorf("RENAME_EXCHANGE with nothing: %v", err)
	}
	f, err := os.OpenFile(at("space"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("0123456789"); err != nil {
		t.Error(err)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2, 3); err != nil {
		t.Error(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 12); err != nil {
		t.Error(err)
	}
	ok(t, "sync", mnt)
	for _, d := range []string{mnt, dir} {
		for name, want := range map[string]string{"c/b": "b", "d/sub": "a", "space": "01\x00\x00\x0056789\x00\x00"} {
			if got := content(filepath.Join(d, name)); got != want {
				t.Errorf("%s in %s is %q", name, d, got)
			}
		}
	}
}
