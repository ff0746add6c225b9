package mounts

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestGiveUp: a mount whose server is away for good is taken away without it, and what the server has not is kept: in the spool, or in
// the journal, from which the next mount sends it.
func TestGiveUp(t *testing.T) {
	needFUSE(t)
	why := map[string]string{"interrupts": "in doubt"} // it was being sent
	ways := map[string]func(t *testing.T, m *process, mnt string){
		"umount": func(t *testing.T, m *process, mnt string) {
			if out, code := echo9(t, "umount", "--give-up", mnt); code != 1 || !strings.Contains(out, "changes are not at the server") {
				t.Errorf("exit code %d: %s", code, out)
			}
			m.wait()
		},
		"umount while it is in use": func(t *testing.T, m *process, mnt string) {
			f := openFile(t, filepath.Join(mnt, "f"), os.O_RDONLY)
			if out, code := echo9(t, "umount", "--give-up", mnt); code != 1 || !strings.Contains(out, "changes are not at the server") {
				t.Errorf("exit code %d: %s", code, out)
			}
			m.wait()
			if said := m.errs.String(); !strings.Contains(said, "is detached") {
				t.Errorf("it says:\n%s", said)
			}
			if _, err := f.Stat(); err == nil {
				_, err = f.Read(make([]byte, 1))
				wantErr(t, "a read", err, syscall.ENOTCONN)
			}
		},
		"interrupts": func(t *testing.T, m *process, mnt string) {
			_ = m.cmd.Process.Signal(os.Interrupt)
			eventually(t, "what a second one does is said", func() bool { return strings.Contains(m.errs.String(), "a second Ctrl-C gives up") })
			_ = m.cmd.Process.Signal(os.Interrupt)
			if code := m.wait(); code != 1 {
				t.Errorf("exit code %d", code)
			}
		},
	}
	for name, giveUp := range ways {
		for _, journalled := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", with a journal"}[journalled], func(t *testing.T) {
				dir, mnt := setUp(t)
				spool, journal := t.TempDir(), t.TempDir()
				server, addr := serve(t, dir)
				args := []string{"mount", slow, "--spool", spool}
				if journalled {
					args = append(args, "--journal", journal)
				}
				args = append(args, addr, mnt)
				m := start(t, args...)
				m.says("is mounted on")
				write(t, filepath.Join(mnt, "f"), "kept\n")
				server.freeze()
				giveUp(t, m, mnt)
				if mounted(t, mnt) {
					t.Error("it is still mounted")
				}
				_ = server.cmd.Process.Signal(syscall.SIGCONT)
				out := ok(t, "lost", "--spool", spool, "list")
				if !journalled {
					if !strings.Contains(out, cmp.Or(why[name], "given up")) || !strings.Contains(m.errs.String(), "echo9 lost list") {
						t.Errorf("lost:\n%s\nthe mount says:\n%s", out, m.errs.String())
					}
					_, rest, _ := strings.Cut(m.errs.String(), "echo9 lost show ")
					id, _, _ := strings.Cut(rest, "\n")
					to := t.TempDir()
					ok(t, "lost", "--spool", spool, "restore", id, to)
					if got := content(filepath.Join(to, "f")); got != "kept\n" {
						t.Errorf("restored: %q", got)
					}
					return
				}
				if strings.Contains(out, "/f") {
					t.Errorf("what is in the journal is in the spool, too:\n%s", out)
				}
				again := start(t, args...)
				again.says("is mounted on")
				if got := content(filepath.Join(dir, "f")); got != "kept\n" {
					t.Errorf("at the server after the next mount: %q", got)
				}
				ok(t, "umount", mnt)
			})
		}
	}
}

// TestGiveUpOfTheDead: a mount whose daemon was killed is taken away, and nobody says that all is well.
func TestGiveUpOfTheDead(t *testing.T) {
	needFUSE(t)
	dir, mnt := setUp(t)
	_, addr := serve(t, dir)
	m := start(t, "mount", slow, addr, mnt)
	m.says("is mounted on")
	write(t, filepath.Join(mnt, "f"), "lost\n")
	m.cmd.Process.Kill()
	m.wait()
	if out, code := echo9(t, "umount", "--give-up", mnt); code != 1 || !strings.Contains(out, "nobody knows here") || mounted(t, mnt) {
		t.Errorf("exit code %d, mounted %v: %s", code, mounted(t, mnt), out)
	}
}
