package mounts

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/shcheck"
	"echo9/tests/internal/suite"
)

// TestApplications does to a FUSE mount what applications do. It is owner and
// device work, too: as root.
func TestApplications(t *testing.T) {
	need.Root(t)
	dir, mnt := setUp(t)
	work := t.TempDir()
	env := suite.Env(t, work)
	if out, err := exec.Command("tar", "-xf", env["SAMPLE"], "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	server, addr := serve(t, dir, "--state", t.TempDir())
	m := start(t, "mount", addr, mnt)
	m.says("is mounted on")

	env["S"], env["M"], env["WORK"], env["FEATURES"] = dir, mnt, work, "mmap build"
	env["ECHO9"] = echo9bin.Echo9(t)
	script := filepath.Join(work, "script")
	write(t, script, shcheck.Library+suite.Script+"\nsuite fuse\n")
	limit := 5 * time.Minute
	if need.Full() {
		limit = time.Hour
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", script)
	cmd.Dir = work
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = patience
	cmd.Cancel = func() error {
		// What hangs, hangs at one of these: their goroutines tell.
		server.stop(syscall.SIGQUIT)
		m.stop(syscall.SIGQUIT)
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	cmd.Env = os.Environ()
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the script: %v\n%s", err, out)
	}
	checks := shcheck.Read(work)
	for _, c := range checks {
		t.Logf("%-20s %v", c.Name, c.Took)
	}
	shcheck.Report(t, checks, suite.Least+3)
	ok(t, "umount", mnt)
}
