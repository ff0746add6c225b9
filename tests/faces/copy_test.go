package faces

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"echo9/tests/internal/need"
	"echo9/tests/internal/treehash"
)

// sampleFiles is how many files of the Go distribution are copied in an everyday run; a full run takes all.
const sampleFiles = 500

// TestCopyIn copies a real tree into what `echo9 up` has mounted: files of the Go distribution, and this
// repository. The mount shows it, the host has it after a sync, and so has another mount that never saw it before.
func TestCopyIn(t *testing.T) {
	setUp(t)
	need.Tools(t, "git", "cp")
	from, dir := t.TempDir(), t.TempDir()
	sample(t, filepath.Join(from, "go"))
	clone(t, filepath.Join(from, "echo9"))
	want := tree(t, from)

	up := mount(t, "up", "--write-behind=1s", dir, t.TempDir())
	to := filepath.Join(up.mnt, "copy")
	began := time.Now()
	timed := func(what string) {
		t.Logf("%d names %s in %v", len(want), what, time.Since(began).Round(time.Millisecond))
		began = time.Now()
	}
	run(t, "", "cp", "-a", from, to)
	timed("copied")
	same(t, "the mount", want, tree(t, to))
	timed("read")
	echo9(t, "sync", up.mnt)
	timed("sent")
	same(t, "the host", want, tree(t, filepath.Join(dir, "copy")))
	if out := run(t, filepath.Join(to, "echo9"), "git", "-c", "safe.directory=*", "--no-optional-locks", "status", "--porcelain"); out != "" {
		t.Errorf("git status: %s", out)
	}
	run(t, filepath.Join(to, "echo9"), "git", "-c", "safe.directory=*", "fsck", "--strict")
	up.noneLost(t)
	up.umount(t)
	timed("compared on the host, used by git, and unmounted")

	again := mount(t, "up", dir, t.TempDir())
	same(t, "a new mount", want, tree(t, filepath.Join(again.mnt, "copy")))
	timed("read by a new mount")
	run(t, "", "rm", "-rf", filepath.Join(again.mnt, "copy"))
	timed("removed")
	again.noneLost(t)
	again.umount(t)
	timed("removed at the server")
	if _, err := os.Lstat(filepath.Join(dir, "copy")); !os.IsNotExist(err) {
		t.Errorf("removed, sent, and yet on the host: %v", err)
	}
}

func same(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	if d := treehash.Diff(want, got, 10); d != "" {
		t.Errorf("the original (first) and %s (second):\n%s", what, d)
	}
}

// sample copies files of the Go distribution's src.
func sample(t *testing.T, to string) {
	t.Helper()
	src := filepath.Join(strings.TrimSpace(run(t, "", "go", "env", "GOROOT")), "src")
	if need.Full() {
		run(t, "", "cp", "-a", src, to)
		return
	}
	var list []string
	err := filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, "./"+strings.TrimPrefix(p, src+"/"))
		}
		return err
	})
	if err != nil || len(list) < 5000 {
		t.Fatalf("the Go distribution's src has %d files: %v", len(list), err)
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"-a", "--parents"}
	for i := 0; i < sampleFiles; i++ {
		args = append(args, list[i*len(list)/sampleFiles])
	}
	run(t, src, "cp", append(args, to)...)
}

// clone clones this repository.
func clone(t *testing.T, to string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	need.Path(t, filepath.Join(root, ".git"), "this is no git repository")
	run(t, "", "git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks", root, to)
}

// run runs a program that must go well, and gives what it says on stdout.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errs.String())
	}
	return string(out)
}
