// Package badinput treats real echo9 processes badly: wrong commands, frames
// that are none, messages that are lies, clients that take no answers, disks
// that are full, cuts that the host refuses. Whatever comes, the server goes on
// for others, gives back what the bad client had, and whoever erred is told what
// to do next.
package badinput

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"echo9/cachefs"
	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/served"
)

func TestMain(m *testing.M) { echo9bin.Main(m) }

// patience bounds every wait.
const patience = 2 * time.Minute

// command runs a program to its end.
func command(t *testing.T, name string, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s %q: %v %v\n%s", name, args, err, ctx.Err(), b)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return string(b), code
}

// echo9 runs an echo9 command to its end.
func echo9(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	return command(t, echo9bin.Echo9(t), args...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until cond is nil, no longer than within.
func eventually(t *testing.T, within time.Duration, cond func() error) {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %v", within, err)
		}
	}
}

// settled is how long a server may take to give back what a client had.
const settled = time.Minute

// unharmed serves dir; the function that it gives checks that the server is as it was: it serves, has
// as many descriptors open, and, when it is ended, has no more goroutines than one that did nothing.
func unharmed(t *testing.T, dir string, flags ...string) (*served.Server, func()) {
	t.Helper()
	s := served.Start(t, dir, flags...)
	serves(t, s) // once: what is opened on first use is open
	var before []string
	eventually(t, settled, func() error {
		now := openFiles(t, s)
		if len(now) != len(before) {
			before = now
			return errors.New("the number of open files does not come to rest")
		}
		return nil
	})
	return s, func() {
		t.Helper()
		serves(t, s)
		eventually(t, settled, func() error {
			if now := openFiles(t, s); len(now) > len(before) {
				return fmt.Errorf("%d files are open, %d were: %q", len(now), len(before), now)
			}
			return nil
		})
		idle(t, s)
	}
}

// openFiles names what the server has open, but for the O_PATH descriptors by which it remembers where objects
// are, and the segments of its log of cuts: of these it keeps as many as it likes, up to a bound.
func openFiles(t *testing.T, s *served.Server) (list []string) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", s.Cmd.Process.Pid)
	all, err := os.ReadDir(proc + "fd")
	must(t, err)
	segments := 0
	for _, e := range all {
		to, err := os.Readlink(proc + "fd/" + e.Name())
		info, ierr := os.ReadFile(proc + "fdinfo/" + e.Name())
		if err != nil || ierr != nil {
			continue // it is gone
		}
		if m := openFlags.FindSubmatch(info); m != nil {
			if flags, err := strconv.ParseUint(string(m[1]), 8, 64); err == nil && flags&unix.O_PATH != 0 {
				continue
			}
		}
		if strings.Contains(to, "/.echo9/log/") {
			segments++
			continue
		}
		list = append(list, to)
	}
	if segments > 8 {
		t.Errorf("the log of cuts has %d segments", segments)
	}
	return list
}

var openFlags = regexp.MustCompile(`flags:\s+(\d+)`)

// serves checks that the server goes on for others.
func serves(t *testing.T, s *served.Server) {
	t.Helper()
	if out, code := echo9(t, "-a", s.Addr, "ls", "/"); code != 0 {
		t.Fatalf("the server does not serve others any more: exit code %d: %s\nit said:\n%s", code, out, s.Log())
	}
}

// goroutine is the head of a goroutine in what Go's runtime prints of them.
var goroutine = regexp.MustCompile(`(?m)^goroutine (\d+)[^\[]* \[`)

// idleGoroutines is how many goroutines a server has at most that serves nobody: those of its
// listener, of signals, of what it keeps on the disk, and of Go's runtime. One for each connection or request would be more at once.
const idleGoroutines = 17

// rests waits until the server does nothing any more, as long as it may take to give back what a client had: what it takes of
// the processor stays the same, and none of its threads waits for a processor.
func rests(t *testing.T, s *served.Server) {
	t.Helper()
	used := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Cmd.Process.Pid))
		must(t, err)
		return strings.Join(strings.Fields(string(b))[13:15], " ")
	}
	idle := func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.Cmd.Process.Pid))
		must(t, err)
		for _, stat := range threads {
			if b, err := os.ReadFile(stat); err == nil && !bytes.Contains(b, []byte(") S ")) {
				return false
			}
		}
		return true
	}
	eventually(t, settled, func() error {
		if !idle() {
			return errors.New("the server is still at work")
		}
		before := used()
		time.Sleep(100 * time.Millisecond) // ten ticks of what is counted
		if now := used(); now != before || !idle() {
			return fmt.Errorf("the server is still at work: %s, then %s ticks", before, now)
		}
		return nil
	})
}

// idle ends the server, which then prints its goroutines, and counts them.
func idle(t *testing.T, s *served.Server) {
	t.Helper()
	if text := s.Log(); strings.Contains(text, "panic") || strings.Contains(text, "fatal error") {
		t.Fatalf("the server panicked:\n%s", text)
	}
	rests(t, s)
	must(t, s.Cmd.Process.Signal(syscall.SIGQUIT))
	eventually(t, settled, func() error {
		if !strings.Contains(s.Log(), "\nrip ") && !strings.Contains(s.Log(), "\npc ") { // the registers, at the end
			return errors.New("the server does not print its goroutines")
		}
		return nil
	})
	if n := len(goroutine.FindAllString(s.Log(), -1)); n == 0 || n > idleGoroutines {
		t.Errorf("the server has %d goroutines when nobody is there, more than %d:\n%s", n, idleGoroutines, s.Log())
	}
}

// memory is what a process has in memory, in bytes.
func memory(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "VmRSS:" {
			kib, err := strconv.ParseInt(string(f[1]), 10, 64)
			must(t, err)
			return kib << 10
		}
	}
	t.Fatalf("no VmRSS in %s", b)
	return 0
}

// smallDisk mounts a file system of few bytes until the test ends.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// cache opens a caching client that sends nothing unasked.
func cache(t *testing.T, s *served.Server, change ...func(*cachefs.Options)) *cachefs.FS {
	t.Helper()
	o := cachefs.Options{WriteBehind: time.Hour, Logf: t.Logf}
	for _, c := range change {
		c(&o)
	}
	f, err := cachefs.Open(t.Context(), s.Addr, o)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = f.Close(ctx) // tests look at the losses that it tells
	})
	return f
}

// write makes a file on the host.
func write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), 0o644))
}
