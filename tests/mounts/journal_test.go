package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A mount with a journal is killed in the middle of work, again and again: whatever a program's call has returned for is there
// after the next mount, and nobody is told of anything lost.
func TestJournalSurvivesKills(t *testing.T) {
	dir, mnt := setUp(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	journal := t.TempDir()
	_, addr := serve(t, dir)
	done := 0
	for life := range 4 {
		m := start(t, "mount", "--write-behind=300ms", "--journal", journal, addr, mnt)
		m.says("is mounted on")
		for i := range done {
			name := filepath.Join(mnt, "d", fmt.Sprint(i))
			if got := content(name); got != fmt.Sprint("content of ", i) {
				t.Fatalf("life %d: of %d files number %d has %q", life, done, i, got)
			}
		}
		// It is killed beside the work, after some time and not before some of it is done.
		due, kill := time.Now().Add(time.Duration(200+150*life)*time.Millisecond), sync.OnceFunc(func() { go m.cmd.Process.Kill() })
		if err := os.MkdirAll(filepath.Join(mnt, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		for before := done; ; {
			if done >= before+10 && time.Now().After(due) {
				kill()
			}
			tmp := filepath.Join(mnt, fmt.Sprint("tmp", done))
			err := os.WriteFile(tmp, []byte(fmt.Sprint("content of ", done)), 0o644)
			if err == nil {
				err = os.Rename(tmp, filepath.Join(mnt, "d", fmt.Sprint(done)))
			}
			if err != nil {
				break
			}
			done++
		}
		m.wait()
	}
	last := start(t, "mount", "--journal", journal, addr, mnt)
	last.says("is mounted on")
	ok(t, "umount", mnt)
	last.wait()
	if said := last.errs.String(); !strings.Contains(said, "they are at the server now") || strings.Contains(said, "died") {
		t.Errorf("the last mount says:\n%s", said)
	}
	for i := range done {
		if got := content(filepath.Join(dir, "d", fmt.Sprint(i))); got != fmt.Sprint("content of ", i) {
			t.Errorf("at the server, of %d files number %d has %q", done, i, got)
		}
	}
	if out := ok(t, "lost", "list"); strings.Contains(out, "journal") || strings.Contains(out, "d/") {
		t.Errorf("lost:\n%s", out)
	}
	if left, _ := filepath.Glob(filepath.Join(journal, "*.backlog")); len(left) > 0 {
		t.Errorf("after a clean end there is %v", left)
	}
}

// A journal is one mount's at a time; without the server the next mount says where what is pending lies.
func TestJournalOfOneMount(t *testing.T) {
	dir, mnt := setUp(t)
	journal := t.TempDir()
	server, addr := serve(t, dir)
	m := start(t, "mount", slow, "--journal", journal, addr, mnt)
	m.says("is mounted on")
	if out, code := echo9(t, "mount", "--journal", journal, addr, mnt); code != 1 || !strings.Contains(out, "another process has it") {
		t.Errorf("a second mount: exit code %d: %s", code, out)
	}
	write(t, filepath.Join(mnt, "f"), "unsent\n")
	m.cmd.Process.Kill()
	m.wait()
	server.freeze()
	out, code := echo9(t, "mount", "--connect-timeout", "1s", "--journal", journal, addr, mnt)
	if code != 3 || !strings.Contains(out, "cannot reach") {
		t.Errorf("without the server: exit code %d: %s", code, out)
	}
	if left, _ := filepath.Glob(filepath.Join(journal, "*.backlog")); len(left) != 1 {
		t.Errorf("the journal: %v", left)
	}
	_ = server.cmd.Process.Signal(syscall.SIGCONT)
	again := start(t, "mount", slow, "--journal", journal, addr, mnt)
	again.says("is mounted on")
	if got := content(filepath.Join(dir, "f")); got != "unsent\n" {
		t.Errorf("at the server: %q", got)
	}
	ok(t, "umount", mnt)
}
