// Package uml runs shell scripts in a real Linux kernel with the real v9fs
// client, from go test: Debian's user-mode-linux, an ordinary process.
//
// A guest sees the host's file system (hostfs: read and write, as root) and
// has tmpfs on /mnt and /run, the loopback interface, 9p and fuse. Its script
// reports by the shell function check; each check is one test.
//
// A guest's system calls are slow, hundreds of stat(2) a second: guests are for
// correctness, not for speed.
//
// # Concurrency
//
// Guests are independent of each other. Everything that a guest started ends
// with it: its processes are one process group, which Run kills.
package uml

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/tests/internal/need"
	"echo9/tests/internal/shcheck"
)

//go:embed guest.sh
var guestLibrary string

// Guest is one run of a script.
type Guest struct {
	// Script is run by sh with the library guest.sh read in.
	Script string
	// Env is set for the script.
	Env map[string]string
	// Mem is the guest's memory; "": 1G.
	Mem string
	// Limit ends a guest that hangs; 0: 5 minutes.
	Limit time.Duration
	// Disks are images that the guest has as /dev/ubda, /dev/ubdb, ….
	Disks []string
	// NetNS, Tap and IP give it a network card on a tap of a network namespace.
	NetNS, Tap, IP string
}

// Result is what a guest came to.
type Result struct {
	// Code is the script's exit code; -1: it never finished.
	Code   int
	Output string
	// Console has the kernel's messages.
	Console string
	Checks  []shcheck.Check
	Took    time.Duration
}

// Need skips or fails a test where there is no user-mode Linux.
func Need(t testing.TB) {
	t.Helper()
	need.Root(t) // hostfs as an ordinary user has nobody's files
	need.Tools(t, "linux.uml", "mount")
	need.Path(t, "/sbin/insmod", "no insmod (package kmod)")
	need.Path(t, "/sbin/ip", "no ip (package iproute2)")
	need.Path(t, "/usr/lib/uml/modules", "user-mode Linux has no modules")
}

// Run boots the guest, and returns when its script has ended.
func Run(t testing.TB, g Guest) *Result {
	t.Helper()
	return Start(t, g).Wait()
}

// Running is a guest that was started.
type Running struct {
	logf    func(format string, args ...any)
	work    string
	start   time.Time
	cmd     *exec.Cmd
	cancel  context.CancelFunc
	console bytes.Buffer
	killed  bool
}

// Start boots the guest. Wait or Power must follow.
func Start(t testing.TB, g Guest) *Running {
	t.Helper()
	Need(t)
	r, err := Boot(t.TempDir(), g)
	if err != nil {
		t.Fatal(err)
	}
	r.logf = t.Logf
	return r
}

// Boot is Start for programs, with a directory of the guest's own. Power must follow.
func Boot(work string, g Guest) (*Running, error) {
	r := &Running{work: work, start: time.Now(), logf: func(string, ...any) {}}
	for name, text := range map[string]string{"lib": shcheck.Library + guestLibrary, "script": g.Script, "init": g.init(r.work)} {
		if err := os.WriteFile(filepath.Join(r.work, name), []byte(text), 0o755); err != nil {
			return nil, fmt.Errorf("starting a guest: %w", err)
		}
	}
	limit := g.Limit
	if limit == 0 {
		limit = 5 * time.Minute
	}
	var ctx context.Context
	ctx, r.cancel = context.WithTimeout(context.Background(), limit)
	args := g.args(r.work)
	r.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	r.cmd.Cancel = r.kill
	r.cmd.Stdout, r.cmd.Stderr = &r.console, &r.console
	r.cmd.WaitDelay = 5 * time.Second
	// The thread that starts a process must live as long, for Pdeathsig is about it.
	if err := r.cmd.Start(); err != nil {
		r.cancel()
		return nil, fmt.Errorf("starting a guest: %w", err)
	}
	return r, nil
}

// kill ends the guest's processes, which are a group of their own.
func (r *Running) kill() error { return syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) }

// Power cuts the guest's power: what its kernel has not written to its disks is gone.
func (r *Running) Power() *Result {
	r.killed = true
	_ = r.kill()
	return r.Wait()
}

// Ended says whether the script has ended.
func (r *Running) Ended() bool { return read(filepath.Join(r.work, "rc")) != "" }

// Wait returns when the guest has ended.
func (r *Running) Wait() *Result {
	defer r.cancel()
	runErr := r.cmd.Wait()
	_ = r.kill()
	res := &Result{Code: -1, Console: r.console.String(), Took: time.Since(r.start)}
	res.Output = read(filepath.Join(r.work, "out"))
	if code, err := strconv.Atoi(strings.TrimSpace(read(filepath.Join(r.work, "rc")))); err == nil {
		res.Code = code
	}
	res.Checks = shcheck.Read(r.work)
	if res.Code < 0 && !r.killed {
		r.logf("the guest did not finish (%v)\n--- output\n%s\n--- console\n%s", runErr, res.Output, res.Console)
	}
	return res
}

// Report makes each check a subtest, and fails the test where the script did
// not end well or made fewer checks than expected.
func (r *Result) Report(t *testing.T, least int) {
	t.Helper()
	if r.Code != 0 {
		t.Errorf("the script ended with %d:\n%s\n--- console\n%s", r.Code, r.Output, r.Console)
	}
	shcheck.Report(t, r.Checks, least)
}

func (g Guest) args(work string) []string {
	mem := g.Mem
	if mem == "" {
		mem = "1G"
	}
	var args []string
	if g.NetNS != "" {
		args = append(args, "ip", "netns", "exec", g.NetNS)
	}
	args = append(args, "linux.uml", "mem="+mem, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet",
		"init="+filepath.Join(work, "init"), "con=null", "con0=null,fd:1", "umid=echo9-"+filepath.Base(filepath.Dir(work))+strconv.Itoa(os.Getpid()),
		"uml_dir="+work)
	if g.Tap != "" {
		args = append(args, "vec0:transport=tap,ifname="+g.Tap+",depth=128,gro=1")
	}
	for i, d := range g.Disks {
		args = append(args, fmt.Sprintf("ubd%c=%s", 'a'+i, d))
	}
	return args
}

// init is the guest's first process. It ends the guest when the script ends.
func (g Guest) init(work string) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	fmt.Fprintf(&b, "export WORK=%s PATH=%s HOME=/root IP=%s\n", quote(work), quote(os.Getenv("PATH")+":/usr/sbin:/sbin"), quote(g.IP))
	for k, v := range g.Env {
		fmt.Fprintf(&b, "export %s=%s\n", k, quote(v))
	}
	b.WriteString(`exec >> "$WORK/out" 2>&1
. "$WORK/lib"
guest_setup || { sync; echo o > /proc/sysrq-trigger; sleep 10; }
(cd /mnt && . "$WORK/script")
echo $? > "$WORK/rc"
sync
echo o > /proc/sysrq-trigger
sleep 10
`)
	return b.String()
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func read(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(b)
}
