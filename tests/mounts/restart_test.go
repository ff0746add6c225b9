package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// The server is killed and started again beneath a mount and a cache that work: nobody gets an error, nothing is lost, and in the
// end all see the same.
func TestServerKilledBeneathMounts(t *testing.T) {
	dir, mnt := setUp(t)
	sock := "unix!" + filepath.Join(t.TempDir(), "s")
	serve := func() *process {
		p := start(t, "serve", "--lease", "1m", "--listen", sock, dir)
		p.says("try: ")
		return p
	}
	server := serve()
	m := start(t, "mount", "--write-behind=20ms", sock, mnt)
	m.says("is mounted on")
	near := start(t, "cache", "--write-behind=20ms", "--listen", "unix!"+filepath.Join(t.TempDir(), "near"), sock)
	at := strings.Fields(near.says("try: "))[3]
	mnt2 := t.TempDir()
	m2 := start(t, "mount", at, mnt2)
	m2.says("is mounted on")

	var stop atomic.Bool
	var wg sync.WaitGroup
	var rounds [2]atomic.Int64
	for i, where := range []string{mnt, mnt2} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; !stop.Load() && !t.Failed(); n++ {
				if err := workBeneath(where, fmt.Sprint("c", i), n); err != nil {
					t.Errorf("client %d, round %d: %v", i, n, err)
				}
				rounds[i].Add(1)
			}
		}()
	}
	const kills = 3
	for range kills {
		server.cmd.Process.Kill()
		<-server.ended
		server = serve()
		before := rounds[0].Load()
		eventually(t, "work goes on", func() bool { return t.Failed() || rounds[0].Load() > before+5 })
	}
	eventually(t, "the other one's, too", func() bool { return t.Failed() || rounds[1].Load() > 3 })
	stop.Store(true)
	wg.Wait()
	ok(t, "sync", mnt)
	if s := status(t, mnt); s.Status.Lost > 0 || s.Status.Pending > 0 {
		t.Errorf("the mount: %+v", s)
	}
	ok(t, "umount", mnt2)
	m2.wait()
	if code := near.stop(os.Interrupt); code != 0 || strings.Contains(near.errs.String(), "lost:") {
		t.Errorf("the cache: exit code %d: %s", code, near.errs)
	}
	for i := range rounds {
		for k := range 3 {
			name := fmt.Sprintf("c%d/f%d", i, k)
			if at, here := content(filepath.Join(dir, name)), content(filepath.Join(mnt, name)); at != here || strings.Contains(at, "no such") {
				t.Errorf("%s: %q at the server, %q in the mount", name, at, here)
			}
		}
	}
	ok(t, "umount", mnt)
	if code := m.wait(); code != 0 {
		t.Errorf("mount: exit code %d", code)
	}
	t.Logf("%d kills, %d and %d rounds", kills, rounds[0].Load(), rounds[1].Load())
}

// workBeneath replaces a file, with and without fsync, reads it back, and has others look for what it does.
func workBeneath(mnt, dir string, n int) error {
	dir = filepath.Join(mnt, dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, name, text := filepath.Join(dir, "tmp"), filepath.Join(dir, fmt.Sprint("f", n%3)), fmt.Sprint("round ", n)
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if n%4 == 0 {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("fsync: %w", err)
		}
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != text {
		return fmt.Errorf("read back: %q, %w", b, err)
	}
	list, err := os.ReadDir(mnt)
	if err != nil {
		return err
	}
	for _, d := range list {
		if _, err := os.ReadDir(filepath.Join(mnt, d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// A mount whose daemon was stopped for longer than its lease shows nothing stale when it goes on, says what it lost, and works on.
func TestStoppedPastTheLease(t *testing.T) {
	dir, mnt := setUp(t)
	_, addr := serve(t, dir, "--lease", "2s")
	m := start(t, "mount", slow, addr, mnt)
	m.says("is mounted on")
	mnt2 := t.TempDir()
	m2 := start(t, "mount", slow, addr, mnt2)
	m2.says("is mounted on")
	for _, name := range []string{"read", "written", "mine"} {
		write(t, filepath.Join(mnt, name), "old\n")
	}
	ok(t, "sync", mnt)
	for _, name := range []string{"written", "mine"} {
		write(t, filepath.Join(mnt, name), "unsent\n")
	}
	if got := content(filepath.Join(mnt, "read")); got != "old\n" {
		t.Fatal(got)
	}
	m.freeze()
	for _, name := range []string{"read", "written"} {
		write(t, filepath.Join(mnt2, name), "new\n") // it waits for the lease
	}
	ok(t, "sync", mnt2)
	if err := m.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"read", "written"} {
		if got := content(filepath.Join(mnt, name)); got != "new\n" {
			t.Errorf("%s: %q after the daemon goes on", name, got)
		}
	}
	if got := content(filepath.Join(mnt, "mine")); got != "unsent\n" {
		t.Errorf("what nobody wanted: %q", got)
	}
	if s := status(t, mnt); s.Status.Lost == 0 {
		t.Errorf("nothing is told as lost: %+v", s)
	}
	_, _ = echo9(t, "sync", mnt) // tells the loss
	ok(t, "sync", mnt)
	if got := content(filepath.Join(mnt2, "mine")); got != "unsent\n" {
		t.Errorf("what nobody wanted, elsewhere: %q", got)
	}
	ok(t, "umount", mnt)
	ok(t, "umount", mnt2)
}
