package mounts

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/p9srv"
	"echo9/tests/internal/need"
)

// wait waits for what was done before it began, however much is done meanwhile.
func TestWaitIsNotMistaken(t *testing.T) {
	dir, mnt := setUp(t)
	up := start(t, "up", slow, dir, mnt)
	up.says("is mounted on")
	write(t, filepath.Join(mnt, "first"), "first\n")
	w := start(t, "wait", "--progress", mnt)
	eventually(t, "it waits, and says for what", func() bool { return strings.Contains(w.errs.String(), "to be sent") })
	for i := range 20 {
		write(t, filepath.Join(mnt, fmt.Sprint("more", i)), "more\n")
	}
	select {
	case <-w.ended:
		t.Errorf("wait ends before anything is sent: %s", w.errs)
	default:
	}
	fsync(t, filepath.Join(mnt, "first"))
	if code := w.wait(); code != 0 {
		t.Errorf("wait: exit code %d: %s", code, w.errs)
	}
	if got := content(filepath.Join(dir, "first")); got != "first\n" {
		t.Errorf("at the server when wait returned: %q", got)
	}
	if s := status(t, mnt); s.Status.Pending < 20 {
		t.Errorf("%d changes are pending: what was done meanwhile was sent, too, and nobody would notice that it is waited for", s.Status.Pending)
	}
}

// The daemon can be asked while the server stands still and its lease is over, and when it is unmounted and still sends.
func TestStatusWithoutServer(t *testing.T) {
	need.Root(t)
	dir, mnt := setUp(t)
	server, addr := serve(t, dir, "--lease", "1s")
	m := start(t, "mount", slow, addr, mnt)
	m.says("is mounted on")
	write(t, filepath.Join(mnt, "f"), "unsent\n")
	server.freeze()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		var s struct {
			Status struct {
				Lease time.Duration `json:"lease_ns"`
			}
		}
		if err := json.Unmarshal([]byte(ok(t, "status", "--json", mnt)), &s); err != nil {
			t.Fatal(err)
		}
		if s.Status.Lease <= 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the lease never ends")
		}
	}
	eventually(t, "the status tells that the server is away, and what is pending", func() bool {
		out := ok(t, "status", mnt)
		return strings.Contains(out, "pending  ") && strings.Contains(out, ", 7 bytes, the oldest ") && strings.Contains(out, "\naway     the server, for ")
	})
	if err := syscall.Unmount(mnt, 0); err != nil {
		t.Fatal(err)
	}
	if out := ok(t, "status", mnt); !strings.Contains(out, "still sending") || !strings.Contains(out, ", 7 bytes, the oldest ") {
		t.Errorf("status after the unmount:\n%s", out)
	}
	if out := ok(t, "pending", mnt); !strings.Contains(out, "7 bytes at 0 of /f") {
		t.Errorf("pending after the unmount:\n%s", out)
	}
	if err := server.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// The status of a server names the mounts, that of a cache is the client's own.
func TestStatusOfServers(t *testing.T) {
	dir, mnt := setUp(t)
	_, addr := serve(t, dir)
	m := start(t, "mount", slow, addr, mnt)
	m.says("is mounted on")
	var st p9srv.Status
	if err := json.Unmarshal([]byte(ok(t, "status", "--json", addr)), &st); err != nil {
		t.Fatal(err)
	}
	if len(st.Sessions) != 1 || !strings.HasSuffix(st.Sessions[0].Name, fmt.Sprint(" ", m.cmd.Process.Pid)) || st.Sessions[0].UID != uint32(os.Geteuid()) {
		t.Errorf("sessions: %+v, mounted by process %d", st.Sessions, m.cmd.Process.Pid)
	}
	near := start(t, "cache", slow, "--listen", "unix!"+filepath.Join(t.TempDir(), "near"), addr)
	plain := strings.Fields(near.says("try: "))[3]
	if out := ok(t, "status", plain); !strings.HasPrefix(out, "pending  0 updates") {
		t.Errorf("of a cache:\n%s", out)
	}
}

// What a daemon that was killed leaves of its socket goes with its record.
func TestSocketsOfTheDead(t *testing.T) {
	dir, mnt := setUp(t)
	up := start(t, "up", dir, mnt)
	up.says("is mounted on")
	var s struct{ Daemon struct{ Socket string } }
	if err := json.Unmarshal([]byte(ok(t, "status", "--json", mnt)), &s); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(strings.TrimPrefix(s.Daemon.Socket, "unix!"), "unix://")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("socket %q: %v", s.Daemon.Socket, err)
	}
	up.cmd.Process.Kill()
	up.wait()
	ok(t, "status")
	if _, err := os.Stat(path); err == nil {
		t.Errorf("%s is still there", path)
	}
	if out, code := echo9(t, "umount", mnt); code != 1 || !strings.Contains(out, "had died; the mount is taken away") || mounted(t, mnt) {
		t.Errorf("umount of what a dead process served: exit code %d, mounted %v: %s", code, mounted(t, mnt), out)
	}
}
