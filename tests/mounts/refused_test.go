package mounts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"echo9/tests/internal/need"
)

// refused tries what changes a file or its directory, and checks that each call fails itself.
func refused(t *testing.T, want syscall.Errno, file, dir string) {
	t.Helper()
	for what, err := range map[string]error{
		"write":    os.WriteFile(file, []byte("x"), 0o644),
		"truncate": os.Truncate(file, 0),
		"chmod":    os.Chmod(file, 0o600),
		"create":   os.WriteFile(filepath.Join(dir, "new"), nil, 0o644),
		"mkdir":    os.Mkdir(filepath.Join(dir, "newdir"), 0o755),
		"rename":   os.Rename(file, filepath.Join(dir, "moved")),
		"remove":   os.Remove(file),
	} {
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
}

// What the server is sure to refuse is refused to the program that wants it, and nothing of it is lost later: on a read-only export, and of
// what the host lets nobody change.
func TestRefusedAtOnce(t *testing.T) {
	need.Root(t)
	need.Tools(t, "chattr")
	dir, mnt := setUp(t)
	file, sub := filepath.Join(dir, "f"), filepath.Join(dir, "d")
	write(t, file, "text\n")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want syscall.Errno
	}{{[]string{"--ro"}, syscall.EROFS}, {nil, syscall.EPERM}} {
		if c.args == nil {
			t.Cleanup(func() { _ = exec.Command("chattr", "-i", file, sub).Run() })
			if out, err := exec.Command("chattr", "+i", file, sub).CombinedOutput(); err != nil {
				need.Missing(t, "chattr +i: "+string(out))
			}
		}
		server, addr := serve(t, dir, c.args...)
		m := start(t, "mount", slow, addr, mnt)
		m.says("is mounted on")
		refused(t, c.want, filepath.Join(mnt, "f"), filepath.Join(mnt, "d"))
		if got := content(filepath.Join(mnt, "f")); got != "text\n" {
			t.Errorf("it has %q", got)
		}
		if s := status(t, mnt); s.Status.Pending != 0 || s.Status.Lost != 0 {
			t.Errorf("with %v: %+v", c.want, s)
		}
		ok(t, "umount", mnt)
		if code := m.wait(); code != 0 {
			t.Errorf("mount: exit code %d: %s", code, m.errs)
		}
		server.stop(syscall.SIGTERM)
	}
}
