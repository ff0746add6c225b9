// Package mounts has the tests of mounts as a user meets them: the echo9
// command, its processes, signals, and what others do to a mount.
package mounts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/slowproxy"
)

func TestMain(m *testing.M) { echo9bin.Main(m) }

// patience bounds every wait.
const patience = 2 * time.Minute

// process is a running echo9.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of stdout
	errs  *said
	ended chan struct{}
	err   error
}

// said is what a process has written so far.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs echo9 until the test ends.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, lines: make(chan string, 1000), errs: new(said), ended: make(chan struct{})}
	p.cmd = exec.Command(echo9bin.Echo9(t), args...)
	p.cmd.Stderr = p.errs
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		s := bufio.NewScanner(out)
		for s.Scan() {
			p.lines <- s.Text()
		}
		close(p.lines)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("echo9 %s said:\n%s", strings.Join(args, " "), p.errs)
		}
	})
	return p
}

// says waits for a line of stdout that contains the text.
func (p *process) says(text string) string {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				<-p.ended
				p.t.Fatalf("ended (%v) without saying %q: %s", p.err, text, p.errs)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			p.t.Fatalf("never said %q", text)
		}
	}
}

// stop signals the process, waits for its end, and gives its exit code.
func (p *process) stop(sig os.Signal) int {
	select {
	case <-p.ended:
	default:
		_ = p.cmd.Process.Signal(sig)
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
	}
	return p.wait()
}

// freeze stops the process until a SIGCONT, and returns when it stands still.
func (p *process) freeze() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "all its threads are stopped", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		for _, stat := range threads {
			if !strings.Contains(content(stat), ") T ") {
				return false
			}
		}
		return len(threads) > 0
	})
}

func (p *process) wait() int {
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		p.t.Errorf("echo9 %s does not end", strings.Join(p.cmd.Args[1:], " "))
		<-p.ended
	}
	return p.cmd.ProcessState.ExitCode()
}

// echo9 runs a command to its end.
func echo9(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), echo9bin.Echo9(t), args...)
	cmd.WaitDelay = patience
	b, err := cmd.CombinedOutput()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		t.Fatalf("echo9 %s: %v", strings.Join(args, " "), err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// ok is echo9 that must go well.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	out, code := echo9(t, args...)
	if code != 0 {
		t.Errorf("echo9 %s: exit code %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

// setUp gives the tests records and sockets of their own, an export and a mount point.
func setUp(t *testing.T) (dir, mnt string) {
	t.Helper()
	needFUSE(t)
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("ECHO9_ADDR", "")
	dir, mnt = t.TempDir(), t.TempDir()
	t.Cleanup(func() {
		if mounted(t, mnt) { // only after a failure
			_ = syscall.Unmount(mnt, syscall.MNT_FORCE|syscall.MNT_DETACH)
		}
	})
	return dir, mnt
}

func needFUSE(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		need.Missing(t, "no FUSE: "+err.Error())
	}
	f.Close()
	if os.Geteuid() != 0 {
		need.Tools(t, "fusermount3")
	}
}

func mounted(t *testing.T, mnt string) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), " "+mnt+" ")
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func status(t *testing.T, mnt string) (s struct {
	Mounted bool
	Daemon  struct{ PID int }
	Status  struct{ Pending, Lost int }
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(ok(t, "status", "--json", mnt)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// slow keeps changes at the client until somebody asks for them.
const slow = "--write-behind=1h"

// serve starts a server, and gives its address. Its leases are so long that no client loses one because the machine does not let it run.
func serve(t *testing.T, dir string, args ...string) (p *process, addr string) {
	t.Helper()
	if !slices.Contains(args, "--lease") {
		args = append(args, "--lease", "1m")
	}
	p = start(t, append([]string{"serve", "--listen", "unix!" + filepath.Join(t.TempDir(), "s"), dir}, args...)...)
	line := p.says("try: ")
	addr = strings.Fields(line)[3]
	return p, addr
}

func TestUp(t *testing.T) {
	dir, mnt := setUp(t)
	write(t, filepath.Join(dir, "old"), "before\n")
	up := start(t, "up", slow, dir, mnt)
	up.says("is mounted on")
	if got := content(filepath.Join(mnt, "old")); got != "before\n" {
		t.Errorf("what was there: %q", got)
	}
	write(t, filepath.Join(mnt, "new"), "after\n")
	if s := status(t, mnt); s.Status.Pending == 0 || s.Daemon.PID != up.cmd.Process.Pid || !s.Mounted {
		t.Errorf("status before the sync: %+v", s)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("the file is at the server before anybody asked: nothing is written behind")
	}
	ok(t, "sync", mnt)
	if got := content(filepath.Join(dir, "new")); got != "after\n" {
		t.Errorf("after the sync: %q", got)
	}
	if s := status(t, mnt); s.Status.Pending != 0 {
		t.Errorf("status after the sync: %+v", s)
	}
	write(t, filepath.Join(mnt, "last"), "last\n")
	ok(t, "umount", mnt)
	if got := content(filepath.Join(dir, "last")); got != "last\n" {
		t.Errorf("after the umount: %q", got)
	}
	select {
	case <-up.ended: // umount waits for it
	case <-time.After(patience):
		t.Error("umount returned before the daemon's end")
	}
	if mounted(t, mnt) {
		t.Error("still mounted")
	}
	if code := up.wait(); code != 0 {
		t.Errorf("up: exit code %d", code)
	}
	if out, code := echo9(t, "umount", mnt); code != 1 || !strings.Contains(out, "no mount of echo9") {
		t.Errorf("umount of what is not mounted: %d, %s", code, out)
	}
}

func TestUpRefusesToServeItsOwnMount(t *testing.T) {
	dir, _ := setUp(t)
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(sub, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{dir, sub}, {sub, dir}, {dir, dir}, {dir, link}} {
		if out, code := echo9(t, "up", c[0], c[1]); code != 2 || !strings.Contains(out, "wait for its own mount") {
			t.Errorf("up %s %s: exit code %d: %s", c[0], c[1], code, out)
		}
	}
}

// Two mounts of one server see each other's work at once, though nothing was synced.
func TestTwoMounts(t *testing.T) {
	dir, one := setUp(t)
	two := t.TempDir()
	_, addr := serve(t, dir)
	a, b := start(t, "mount", slow, addr, one), start(t, "mount", slow, addr, two)
	a.says("cached")
	b.says("cached")
	for i := range 20 {
		from, to := one, two
		if i%2 == 1 {
			from, to = two, one
		}
		name, text := fmt.Sprintf("f%d", i), fmt.Sprintf("text %d\n", i)
		write(t, filepath.Join(from, "tmp"), text)
		if err := os.Rename(filepath.Join(from, "tmp"), filepath.Join(from, name)); err != nil {
			t.Fatal(err)
		}
		if got := content(filepath.Join(to, name)); got != text {
			t.Errorf("the other mount reads %q of %s", got, name)
		}
	}
	if out := ok(t, "-a", addr, "ls", "/"); strings.Count(out, "\n") != 20 {
		t.Errorf("a plain client lists %q", out)
	}
	if out := ok(t, "status"); strings.Count(out, addr+" on ") != 2 {
		t.Errorf("status lists %q", out)
	}
	ok(t, "umount", one)
	ok(t, "umount", two)
}

func TestInterruptFlushesAndUnmounts(t *testing.T) {
	for name, sig := range map[string]os.Signal{"SIGINT": os.Interrupt, "SIGTERM": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			dir, mnt := setUp(t)
			_, addr := serve(t, dir)
			m := start(t, "mount", slow, addr, mnt)
			m.says("is mounted on")
			write(t, filepath.Join(mnt, "f"), "unsent\n")
			if code := m.stop(sig); code != 0 {
				t.Errorf("exit code %d: %s", code, m.errs)
			}
			if mounted(t, mnt) {
				t.Error("still mounted")
			}
			if got := content(filepath.Join(dir, "f")); got != "unsent\n" {
				t.Errorf("at the server: %q", got)
			}
		})
	}
}

// A mount that is in use goes away all the same when its daemon has to end.
func TestInterruptOfAMountInUse(t *testing.T) {
	dir, mnt := setUp(t)
	_, addr := serve(t, dir)
	m := start(t, "mount", slow, addr, mnt)
	m.says("is mounted on")
	f, err := os.Create(filepath.Join(mnt, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("unsent\n"); err != nil {
		t.Fatal(err)
	}
	if out, code := echo9(t, "umount", mnt); code != 1 || !strings.Contains(out, "in use") {
		t.Errorf("umount while a file is open: exit code %d: %s", code, out)
	}
	m.stop(syscall.SIGTERM)
	if mounted(t, mnt) {
		t.Error("still mounted")
	}
	if got := content(filepath.Join(dir, "open")); got != "unsent\n" {
		t.Errorf("at the server: %q", got)
	}
}

// umount(8) by somebody else: the daemon says what is left, sends it, and ends;
// echo9 wait waits for that.
func TestForeignUnmountDrains(t *testing.T) {
	need.Root(t)
	dir, mnt := setUp(t)
	server, addr := serve(t, dir)
	m := start(t, "mount", slow, addr, mnt)
	m.says("is mounted on")
	write(t, filepath.Join(mnt, "f"), "unsent\n")
	// The server stands still, so that there is something to see.
	server.freeze()
	if err := syscall.Unmount(mnt, 0); err != nil {
		t.Fatal(err)
	}
	if out := ok(t, "status", mnt); !strings.Contains(out, "still sending") {
		t.Errorf("status after a foreign unmount: %s", out)
	}
	wait := start(t, "wait", mnt)
	wait.says("still sends")
	if err := server.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if code := wait.wait(); code != 0 {
		t.Errorf("wait: exit code %d", code)
	}
	if got := content(filepath.Join(dir, "f")); got != "unsent\n" {
		t.Errorf("at the server after the wait: %q", got)
	}
	if code := m.wait(); code != 0 || !strings.Contains(m.errs.String(), "still to be sent") {
		t.Errorf("mount: exit code %d: %s", code, m.errs)
	}
}

func TestDetach(t *testing.T) {
	dir, mnt := setUp(t)
	_, addr := serve(t, dir)
	log := filepath.Join(t.TempDir(), "log")
	out := ok(t, "mount", "--detach", "--log", log, slow, addr, mnt)
	if !strings.Contains(out, "in the background") || !mounted(t, mnt) {
		t.Errorf("mounted: %v; %s", mounted(t, mnt), out)
	}
	write(t, filepath.Join(mnt, "f"), "x")
	ok(t, "umount", mnt)
	if got := content(filepath.Join(dir, "f")); got != "x" {
		t.Errorf("at the server: %q", got)
	}
	// What fails fails in the foreground, with its exit code.
	if out, code := echo9(t, "mount", "--detach", "unix!"+filepath.Join(dir, "no"), mnt); code != 3 || !strings.Contains(out, "cannot reach") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := echo9(t, "mount", "--detach", addr, filepath.Join(mnt, "no")); code != 1 || !strings.Contains(out, "mkdir") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestWaitHurriesNothing(t *testing.T) {
	dir, mnt := setUp(t)
	up := start(t, "up", "--write-behind=300ms", dir, mnt)
	up.says("is mounted on")
	write(t, filepath.Join(mnt, "f"), "by itself\n")
	ok(t, "wait", mnt)
	if got := content(filepath.Join(dir, "f")); got != "by itself\n" {
		t.Errorf("at the server: %q", got)
	}
}

// A server without the extension is mounted uncached, and the mount says so.
func TestPlainServer(t *testing.T) {
	dir, mnt := setUp(t)
	_, addr := serve(t, dir)
	near := start(t, "cache", slow, "--listen", "unix!"+filepath.Join(t.TempDir(), "near"), addr)
	plain := strings.Fields(near.says("try: "))[3]
	m := start(t, "mount", plain, mnt)
	if line := m.says("is mounted on"); !strings.Contains(line, "uncached") {
		t.Errorf("it says %q", line)
	}
	write(t, filepath.Join(mnt, "f"), "through two\n")
	if got := ok(t, "-a", plain, "cat", "/f"); got != "through two\n" {
		t.Errorf("by way of the cache: %q", got)
	}
	if got := ok(t, "-a", addr, "cat", "/f"); got != "through two\n" {
		t.Errorf("at the server: %q", got)
	}
	ok(t, "sync", mnt)
	ok(t, "wait", mnt)
	if out := ok(t, "status", mnt); !strings.Contains(out, "uncached") {
		t.Errorf("status: %s", out)
	}
	ok(t, "umount", mnt)
	for _, used := range []bool{false, true} {
		again := start(t, "mount", plain, mnt)
		again.says("is mounted on")
		user := func() {}
		if used {
			f := openFile(t, filepath.Join(mnt, "f"), os.O_RDONLY)
			user = func() { f.Close() }
		}
		if out := ok(t, "umount", "--give-up", mnt); strings.Contains(out, "detached") != used || mounted(t, mnt) {
			t.Errorf("in use: %v; it says %q", used, out)
		}
		user()
		again.wait()
	}
	if code := near.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("cache: exit code %d: %s", code, near.errs)
	}
	if got := content(filepath.Join(dir, "f")); got != "through two\n" {
		t.Errorf("on the host: %q", got)
	}
}

// What is served from a cache is at the server when the cache has ended.
func TestCacheFlushesAtItsEnd(t *testing.T) {
	dir, _ := setUp(t)
	_, addr := serve(t, dir)
	near := start(t, "cache", slow, "--listen", "unix!"+filepath.Join(t.TempDir(), "near"), addr)
	at := strings.Fields(near.says("try: "))[3]
	script := filepath.Join(t.TempDir(), "script")
	write(t, script, "mkdir -p /a/b\ntouch /a/b/c\nmv /a /z\n")
	ok(t, "-a", at, "script", script)
	if _, err := os.Stat(filepath.Join(dir, "z")); err == nil {
		t.Error("nothing is written behind")
	}
	if code := near.stop(os.Interrupt); code != 0 {
		t.Errorf("exit code %d: %s", code, near.errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "z/b/c")); err != nil {
		t.Error(err)
	}
}

// A cached script's work is at the server when it ends.
func TestScriptInACachedSession(t *testing.T) {
	dir, _ := setUp(t)
	_, addr := serve(t, dir)
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "touch /tmp%d\nmv /tmp%d /f%d\n", i, i, i)
		if i == 100 {
			b.WriteString("barrier\n")
		}
	}
	script := filepath.Join(t.TempDir(), "script")
	write(t, script, b.String()+"sync\nrm /f7\n")
	ok(t, "-a", addr, "script", script, "-v")
	list, err := filepath.Glob(filepath.Join(dir, "f*"))
	if err != nil || len(list) != 299 {
		t.Errorf("%d files, %v", len(list), err)
	}
	write(t, script, "touch /one\nbarrier /one\nbarrier /absent\n")
	if out, code := echo9(t, "-a", addr, "script", script); code != 1 || !strings.Contains(out, "line 3: barrier /absent") {
		t.Errorf("a barrier on what is not there: exit code %d: %s", code, out)
	}
	// A read-only server refuses: the script must not say that all went well.
	_, ro := serve(t, t.TempDir(), "--ro")
	if out, code := echo9(t, "-a", ro, "script", script); code != 1 || !strings.Contains(out, "read-only") {
		t.Errorf("on a read-only server: exit code %d: %s", code, out)
	}
}

// waitFor waits until there is a file that the pattern matches.
func waitFor(t *testing.T, pattern string) {
	t.Helper()
	timeout := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if list, _ := filepath.Glob(pattern); len(list) > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("nothing is called %s", pattern)
		}
	}
}

// An interrupted copy leaves nothing behind, here or there.
func TestInterruptedCopies(t *testing.T) {
	dir, _ := setUp(t)
	_, addr := serve(t, dir)
	local := t.TempDir()
	t.Run("put", func(t *testing.T) {
		put := exec.Command(echo9bin.Echo9(t), "-a", addr, "put", "-", "/big")
		in, err := put.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := put.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(bytes.Repeat([]byte("x"), 3<<20)); err != nil {
			t.Fatal(err)
		}
		// It has begun, and waits for more.
		waitFor(t, filepath.Join(dir, ".echo9-part*"))
		_ = put.Process.Signal(os.Interrupt)
		if err := put.Wait(); err == nil {
			t.Error("it says that all went well")
		}
		in.Close()
		for _, p := range []string{"big", ".echo9-part*"} {
			if list, _ := filepath.Glob(filepath.Join(dir, p)); len(list) != 0 {
				t.Errorf("left: %v", list)
			}
		}
	})
	t.Run("get", func(t *testing.T) {
		fifo := filepath.Join(local, "data")
		f, err := os.Create(filepath.Join(dir, "data"))
		if err == nil {
			err = f.Truncate(4 << 30) // long enough to be interrupted
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		// By a link on which that takes hours, and which passes nothing while this process is not let run.
		link, err := slowproxy.NewLink(strings.TrimPrefix(addr, "unix://"), 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer link.Close()
		get := start(t, "-a", link.Addr(), "get", "/data", fifo)
		waitFor(t, filepath.Join(local, ".echo9-part*"))
		if code := get.stop(os.Interrupt); code != 1 {
			t.Errorf("exit code %d", code)
		}
		if list, _ := os.ReadDir(local); len(list) != 0 {
			t.Errorf("left: %v", list)
		}
	})
}

func TestWrongUsesOfAMount(t *testing.T) {
	dir, mnt := setUp(t)
	_, addr := serve(t, dir)
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	full := t.TempDir()
	write(t, filepath.Join(full, "x"), "")
	m := start(t, "mount", addr, mnt)
	m.says("is mounted on")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"mount", addr, filepath.Join(file, "x")}, 1, "not a directory"},
		{[]string{"mount", addr, file}, 1, "not a directory"},
		{[]string{"mount", addr, full}, 1, "not empty"},
		{[]string{"mount", addr}, 2, "mount takes"},
		{[]string{"mount", "--order", "random", addr, full}, 2, "--order"},
		{[]string{"mount", "--writes", "through", addr, full}, 2, "behind, close or sync"},
		{[]string{"mount", "--cache", "lots", addr, full}, 2, "--cache"},
		{[]string{"mount", "--dirty", "256MiG", addr, full}, 2, "--dirty"},
		{[]string{"pending", full}, 1, "no mount of echo9"},
		{[]string{"mount", "--write-behind", "0s", addr, full}, 2, "--write-behind"},
		{[]string{"mount", "frob!x", full}, 2, "frob"},
		{[]string{"sync", full}, 1, "no mount of echo9"},
		{[]string{"wait", full}, 1, "no mount of echo9"},
		{[]string{"status", full}, 1, "no mount of echo9"},
		{[]string{"umount", "/"}, 1, "no mount of echo9"},
		{[]string{"serve", "--listen", addr, t.TempDir()}, 1, "listening"},
	} {
		out, code := echo9(t, c.args...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("echo9 %s: exit code %d: %s", strings.Join(c.args, " "), code, out)
		}
	}
	ok(t, "umount", mnt)
}
