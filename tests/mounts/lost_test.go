package mounts

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"echo9/tests/internal/need"
)

// immutable is FS_IMMUTABLE_FL: nobody, not even root, may change the file, or the names in the directory.
const immutable = 0x10

// setImmutable makes the server's own host refuse what clients have taken on.
func setImmutable(t *testing.T, on bool, names ...string) {
	t.Helper()
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil {
			flags &^= immutable
			if on {
				flags |= immutable
			}
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
		}
		f.Close()
		if err != nil {
			need.Missing(t, "files cannot be made immutable here: "+err.Error())
		}
	}
}

// follow is tail -f of a file: it gives the lines as they come, until stop.
func follow(t *testing.T, name string) (_ <-chan string, stop func()) {
	t.Helper()
	cmd := exec.Command("tail", "-s", "0.1", "-n", "+1", "-f", name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	return lines, stop
}

func wantErr(t *testing.T, what string, err error, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, not %v", what, err, want)
	}
}

func openFile(t *testing.T, name string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestLost: what the server refuses after it was taken on is told by everything that should tell, kept, and given back.
func TestLost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes files immutable")
	}
	dir, mnt := setUp(t)
	spool := filepath.Join(t.TempDir(), "lost")
	write(t, filepath.Join(dir, "f"), "base content")
	write(t, filepath.Join(dir, "other"), "other")
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, addr := serve(t, dir)
	p := start(t, "mount", slow, "--spool", spool, addr, mnt)
	p.says("is mounted on")
	events, stop := follow(t, filepath.Join(mnt, ".echo9/events"))

	f := openFile(t, filepath.Join(mnt, "f"), os.O_RDWR)
	reader := openFile(t, filepath.Join(mnt, "f"), os.O_RDONLY)
	other := openFile(t, filepath.Join(mnt, "other"), os.O_RDWR)
	sub := openFile(t, filepath.Join(mnt, "sub"), os.O_RDONLY)
	if _, err := reader.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("LOST"), 0); err != nil {
		t.Fatal(err)
	}
	made := openFile(t, filepath.Join(mnt, "sub/new"), os.O_RDWR|os.O_CREATE)
	if _, err := made.WriteString("never there"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.WriteAt([]byte("O"), 0); err != nil {
		t.Fatal(err)
	}
	// Only now, for what the host is known to refuse is not taken on.
	setImmutable(t, true, filepath.Join(dir, "f"), filepath.Join(dir, "sub"))
	t.Cleanup(func() { setImmutable(t, false, filepath.Join(dir, "f"), filepath.Join(dir, "sub")) })

	wantErr(t, "fsync of what is lost", f.Sync(), syscall.EIO)
	wantErr(t, "fsync of what is lost, again", f.Sync(), syscall.EIO)
	_, err := reader.ReadAt(make([]byte, 4), 0)
	wantErr(t, "read through another handle of it", err, syscall.EIO)
	wantErr(t, "fsync of a file that could not be made", made.Sync(), syscall.EIO)
	wantErr(t, "fsync of its directory", sub.Sync(), syscall.EIO)
	if err := sub.Sync(); err != nil {
		t.Errorf("a directory tells the loss of a name twice: %v", err)
	}
	if err := other.Sync(); err != nil {
		t.Errorf("fsync of what has nothing to do with it: %v", err)
	}
	wantErr(t, "close of what is lost", f.Close(), syscall.EIO)
	wantErr(t, "close of what could not be made", made.Close(), syscall.EIO)
	if out, code := echo9(t, "sync", mnt); code != 1 || !strings.Contains(out, "lost") {
		t.Errorf("sync says %d: %s", code, out)
	}
	ok(t, "sync", mnt)
	if got := content(filepath.Join(mnt, "f")); got != "base content" {
		t.Errorf("opened anew it has %q", got)
	}
	if _, err := os.Stat(filepath.Join(mnt, "sub/new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what could not be made: %v", err)
	}

	// The events come while they are followed, each with the way to what is kept.
	var ids []string
	timeout := time.After(patience)
	for len(ids) < 2 {
		select {
		case line := <-events:
			if _, id, found := strings.Cut(line, "echo9 lost show "); found {
				ids = append(ids, id)
			}
		case <-timeout:
			t.Fatalf("of two losses the events told %v", ids)
		}
	}
	if s := ok(t, "status", mnt); !strings.Contains(s, "lost show "+ids[1]) {
		t.Errorf("status does not tell: %s", s)
	}
	if names := content(filepath.Join(mnt, ".echo9/events")); !strings.Contains(names, "write 4 bytes at 0 of /f") {
		t.Errorf("the events are %s", names)
	}
	list := ok(t, "lost", "list", "--spool", spool)
	for _, id := range ids {
		if !strings.Contains(list, id) {
			t.Errorf("%s is not in the list: %s", id, list)
		}
	}
	var line struct {
		ID, Cause string
		Changes   int
	}
	first, _, _ := strings.Cut(ok(t, "lost", "list", "--json", "--spool", spool), "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil || line.ID != ids[0] || line.Cause != "refused" || line.Changes != 1 {
		t.Errorf("%v: %s", err, first)
	}
	if s := ok(t, "lost", "show", "--spool", spool, ids[1]); !strings.Contains(s, "create /sub/new") || !strings.Contains(s, "11 bytes, all of them kept, new") {
		t.Errorf("shown: %s", s)
	}
	if s := ok(t, "lost", "show", "--spool", spool, "--cat", "sub/new", ids[1]); s != "never there" {
		t.Errorf("cat gives %q", s)
	}
	if _, code := echo9(t, "lost", "show", "--spool", spool, "zzzzzz"); code != 1 {
		t.Errorf("an ID that is not there: %d", code)
	}
	if _, code := echo9(t, "lost", "restor", ids[0]); code != 2 {
		t.Errorf("a wrong word: %d", code)
	}

	// Back to where it was: f is as it was before, and gets the change; somebody else has made sub/new meanwhile.
	setImmutable(t, false, filepath.Join(dir, "f"), filepath.Join(dir, "sub"))
	ok(t, "-a", addr, "touch", "sub/new")
	ok(t, "lost", "restore", "--spool", spool, ids[0])
	s := ok(t, "lost", "restore", "--spool", spool, ids[1])
	if want := "/sub/new.echo9-lost-" + ids[1]; !strings.Contains(s, want) {
		t.Errorf("restored: %s", s)
	}
	ok(t, "sync", mnt)
	for name, want := range map[string]string{"f": "LOST content", "sub/new": "", "sub/new.echo9-lost-" + ids[1]: "never there"} {
		if got := content(filepath.Join(dir, name)); got != want {
			t.Errorf("%s has %q, not %q", name, got, want)
		}
	}
	found := t.TempDir()
	ok(t, "lost", "restore", "--spool", spool, ids[1], found)
	if got := content(filepath.Join(found, "sub/new")); got != "never there" {
		t.Errorf("elsewhere it has %q", got)
	}
	ok(t, "lost", "drop", "--spool", spool, ids[0], ids[1])
	if s := ok(t, "lost", "--spool", spool, "list", "--json"); s != "" {
		t.Errorf("after drop: %s", s)
	}
	stop()
	reader.Close()
	other.Close()
	sub.Close()
	ok(t, "umount", mnt)
	if code := p.wait(); code != 0 {
		t.Errorf("the mount ends with %d", code)
	}
}
