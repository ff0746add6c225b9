package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A mount whose daemon was killed, in use or not, is repaired by the next mount there. Of what was not sent nothing is at the server, and
// the server names who died with it.
func TestKilledMountIsRepaired(t *testing.T) {
	dir, mnt := setUp(t)
	server, addr := serve(t, dir, "-v")
	m := start(t, "mount", slow, addr, mnt)
	m.says("is mounted on")
	write(t, filepath.Join(mnt, "sent"), "sent\n")
	ok(t, "sync", mnt)
	write(t, filepath.Join(mnt, "unsent"), "unsent\n")
	used, err := os.Open(mnt)
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	eventually(t, "the server knows of work pending", func() bool {
		return strings.Contains(ok(t, "status", addr), "has work that is not here")
	})
	m.cmd.Process.Kill()
	m.wait()
	if _, err := os.Stat(filepath.Join(mnt, "sent")); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("of a mount whose daemon was killed: %v", err)
	}
	if out, code := echo9(t, "status", mnt); code != 1 || !strings.Contains(out, "daemon is gone") {
		t.Errorf("its status: exit code %d: %s", code, out)
	}
	label := fmt.Sprint(" ", m.cmd.Process.Pid)
	eventually(t, "the server names the session", func() bool {
		out := ok(t, "status", addr)
		return strings.Contains(out, label+") died with work pending: its client is dead")
	})

	again := start(t, "mount", slow, addr, mnt)
	again.says("is mounted on")
	if got := content(filepath.Join(mnt, "sent")); got != "sent\n" {
		t.Errorf("after the repair: %q", got)
	}
	if _, err := os.Stat(filepath.Join(mnt, "unsent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was not sent: %v", err)
	}
	ok(t, "umount", mnt)
	again.wait()
	if said := again.errs.String(); strings.Count(said, label+") died at ") != 1 {
		t.Errorf("the next mount does not say who died with work pending:\n%s", said)
	}
	third := start(t, "mount", slow, addr, mnt)
	third.says("is mounted on")
	ok(t, "umount", mnt)
	third.wait()
	if said := third.errs.String(); strings.Contains(said, "died") {
		t.Errorf("it is told twice:\n%s", said)
	}
	if code := server.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("serve: exit code %d", code)
	}
	if !strings.Contains(server.errs.String(), label+") died with work pending") {
		t.Errorf("the server's log does not say who died with work pending:\n%s", server.errs)
	}
}

// Nobody waits for the lease of a client of this machine whose process is dead; for that of one which came by TCP others wait, and no longer.
func TestOthersWaitAtMostForTheLease(t *testing.T) {
	for _, c := range []struct {
		listen, lease string
	}{
		{"unix!%s/s", "1h"},
		{"tcp!127.0.0.1!0", "2s"},
	} {
		dir, mnt := setUp(t)
		listen := c.listen
		if strings.Contains(listen, "%s") {
			listen = fmt.Sprintf(listen, t.TempDir())
		}
		server := start(t, "serve", "--listen", listen, "--lease", c.lease, dir)
		addr := strings.Fields(server.says("try: "))[3]
		other := t.TempDir()
		m, o := start(t, "mount", slow, addr, mnt), start(t, "mount", slow, addr, other)
		m.says("is mounted on")
		o.says("is mounted on")
		write(t, filepath.Join(mnt, "f"), "of the dead\n")
		ok(t, "sync", mnt)
		write(t, filepath.Join(mnt, "f"), "lost\n")
		m.cmd.Process.Kill()
		m.wait()
		done := make(chan string, 1)
		go func() { done <- content(filepath.Join(other, "f")) }()
		select {
		case got := <-done:
			if got != "of the dead\n" {
				t.Errorf("%s: the other client reads %q", addr, got)
			}
		case <-time.After(patience):
			t.Errorf("%s: the other client waits for the dead one, with a lease of %s", addr, c.lease)
		}
		ok(t, "umount", other)
		_, _ = echo9(t, "umount", mnt)
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
