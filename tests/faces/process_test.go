package faces

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
)

// patience bounds waits for what should be quick.
const patience = 60 * time.Second

// daemon is a running echo9 that has mounted something.
type daemon struct {
	cmd   *exec.Cmd
	mnt   string
	log   logText
	ended chan struct{}
}

// mount runs echo9 with arguments whose last is the mount point, until the test ends.
func mount(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{mnt: args[len(args)-1], ended: make(chan struct{})}
	d.cmd = exec.Command(echo9bin.Echo9(t), args...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = d.cmd.Wait(); close(d.ended) }()
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		if !d.wait(patience) {
			t.Errorf("echo9 %s does not end", strings.Join(args, " "))
			_ = d.cmd.Process.Signal(syscall.SIGQUIT)
			if !d.wait(patience) {
				_ = d.cmd.Process.Kill()
				<-d.ended
			}
		}
		if mounted(t, d.mnt) {
			_ = syscall.Unmount(d.mnt, syscall.MNT_FORCE|syscall.MNT_DETACH)
		}
		if t.Failed() {
			t.Logf("echo9 %s said:\n%s", strings.Join(args, " "), d.log.String())
		}
	})
	for end := time.Now().Add(patience); !strings.Contains(d.log.String(), "is mounted on"); {
		select {
		case <-d.ended:
			t.Fatalf("echo9 %s ended:\n%s", strings.Join(args, " "), d.log.String())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("echo9 %s does not mount", strings.Join(args, " "))
		}
	}
	return d
}

func (d *daemon) wait(limit time.Duration) bool {
	select {
	case <-d.ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// umount ends it, and all that it has is at the server then.
func (d *daemon) umount(t *testing.T) {
	t.Helper()
	echo9(t, "umount", d.mnt)
	if !d.wait(patience) {
		t.Errorf("the daemon of %s does not end", d.mnt)
	}
}

// noneLost checks that nothing that was done on the mount is lost.
func (d *daemon) noneLost(t *testing.T) {
	t.Helper()
	var s struct {
		Status struct {
			Cached bool
			Lost   int
			Error  string
			Events []any
		}
	}
	out := echo9(t, "status", "--json", d.mnt)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s := s.Status; !s.Cached || s.Lost != 0 || s.Error != "" || len(s.Events) != 0 {
		t.Errorf("the status of the mount: %+v", s)
	}
}

// echo9 runs a command that must go well.
func echo9(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(echo9bin.Echo9(t), args...)
	cmd.WaitDelay = patience
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("echo9 %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// setUp is for tests that mount: with records and sockets of their own.
func setUp(t *testing.T) {
	t.Helper()
	need.Root(t)
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		need.Missing(t, "no FUSE: "+err.Error())
	}
	f.Close()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("ECHO9_ADDR", "")
}

func mounted(t *testing.T, mnt string) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), " "+mnt+" ")
}

// again is this binary with a role, not yet started.
func again(t *testing.T, role string, args ...string) (cmd *exec.Cmd, in io.WriteCloser, out io.ReadCloser) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(self, args...)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if in, err = cmd.StdinPipe(); err == nil {
		out, err = cmd.StdoutPipe()
	}
	if err != nil {
		t.Fatal(fmt.Errorf("pipes of a %s: %w", role, err))
	}
	return cmd, in, out
}
