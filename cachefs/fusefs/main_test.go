package fusefs

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test program is also the processes that tests need: FUSEFS_HELPER says which.
var helpers = map[string]func(args []string) error{
	// lock PATH: takes a write lock on the first byte, says so, and holds it until its input ends.
	"lock": func(args []string) error {
		f, err := os.OpenFile(args[0], os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := setLock(f, unix.F_SETLK, unix.F_WRLCK); err != nil {
			return err
		}
		fmt.Println("locked")
		_, _ = os.Stdin.Read(make([]byte, 1))
		return nil
	},
	// trylock PATH: tries to take it.
	"trylock": func(args []string) error {
		f, err := os.OpenFile(args[0], os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = setLock(f, unix.F_SETLK, unix.F_WRLCK)
		fmt.Println(err == nil, err)
		return nil
	},
	// waitlock PATH: waits for it.
	"waitlock": func(args []string) error {
		f, err := os.OpenFile(args[0], os.O_RDWR, 0)
		if err != nil {
			return err
		}
		fmt.Println("waiting")
		if err := setLock(f, unix.F_SETLKW, unix.F_WRLCK); err != nil {
			return err
		}
		fmt.Println("locked")
		return nil
	},
	// stat PATH [HANDLED]: one lstat, whatever signals come. A handler for SIGUSR1 is installed; with HANDLED it waits for one in the end.
	"stat": func(args []string) error {
		c := make(chan os.Signal, 100)
		signal.Notify(c, syscall.SIGUSR1)
		fmt.Println("ready")
		var st unix.Stat_t
		err := unix.Lstat(args[0], &st) // no retry after EINTR
		if len(args) > 1 {
			<-c // the handler's goroutine may be slower than the lstat
		}
		fmt.Println(err)
		return nil
	},
	// hold PATH: has it as its working directory.
	"hold": func(args []string) error {
		if err := os.Chdir(args[0]); err != nil {
			return err
		}
		fmt.Println("there")
		_, _ = os.Stdin.Read(make([]byte, 1))
		return nil
	},
	// getcwd DIR: goes there, and says where it is, once and then for every byte of its input.
	"getcwd": func(args []string) error {
		if err := os.Chdir(args[0]); err != nil {
			return err
		}
		for {
			buf := make([]byte, 4096)
			n, err := unix.Getcwd(buf)
			if err != nil {
				fmt.Println(err)
			} else {
				fmt.Println(string(buf[:n-1]))
			}
			if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
				return nil
			}
		}
	},
	// serve DIR MNT: mounts DIR at MNT and waits to be killed.
	"serve": serveHelper,
	// user STEP…: does one of userSteps as an ordinary user.
	"user": func(args []string) error { return userSteps[args[0]](args[1:]) },
}

func setLock(f *os.File, cmd int, typ int16) error {
	return unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: typ, Whence: 0, Start: 0, Len: 1})
}

func TestMain(m *testing.M) {
	if name := os.Getenv("FUSEFS_HELPER"); name != "" {
		if err := helpers[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helperCmd prepares the test program as a helper.
func helperCmd(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "FUSEFS_HELPER="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// patience is how long tests wait for what comes soon on a machine that has time for it.
const patience = time.Minute

// running is a helper that talks.
type running struct {
	cmd   *exec.Cmd
	lines chan string
	ask   func() error // gives it a byte
	stop  func()       // ends its input, and waits
}

func startHelper(t testing.TB, name string, args ...string) *running {
	t.Helper()
	return startCmd(t, helperCmd(t, name, args...))
}

func startCmd(t testing.TB, cmd *exec.Cmd) *running {
	t.Helper()
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	r := &running{cmd: cmd, lines: make(chan string, 10)}
	r.ask = func() error { _, err := in.Write([]byte("?")); return err }
	ended := make(chan struct{})
	go func() {
		buf := make([]byte, 1<<10)
		for {
			n, err := out.Read(buf)
			for l := range strings.Lines(string(buf[:n])) {
				r.lines <- strings.TrimSpace(l)
			}
			if err != nil {
				break
			}
		}
		_ = cmd.Wait()
		close(r.lines)
		close(ended)
	}()
	done := false
	r.stop = func() {
		if done {
			return
		}
		done = true
		_ = in.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	t.Cleanup(r.stop)
	return r
}

// says waits for the helper's next line.
func (r *running) says(t testing.TB) string {
	t.Helper()
	select {
	case l, ok := <-r.lines:
		if !ok {
			t.Fatal("the helper has ended")
		}
		return l
	case <-time.After(patience):
		t.Fatal("the helper says nothing")
		return ""
	}
}

// output runs a program and gives what it says.
func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Stderr = nil
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, b)
	}
	return string(b)
}
