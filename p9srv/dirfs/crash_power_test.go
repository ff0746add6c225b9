package dirfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// powerWorld is a small file system of its own, with a journal, whose machine loses its power: the
// host is told to stop all I/O of it at once (what xfstests calls godown), so all that was not
// synced is gone. Then it is mounted again.
type powerWorld struct {
	fstype, dev, mnt string
	fate             seedDice
	dead             bool
	failures         int
}

// newPowerWorld makes a file system in memory; without the tools for it the test is skipped, on CI it fails.
func newPowerWorld(t *testing.T, fstype string, seed uint64, mkfs ...string) *powerWorld {
	t.Helper()
	if os.Getuid() != 0 {
		skip(t, "a file system of its own needs root")
	}
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		skip(t, mkfs[0]+" is not installed")
	}
	work := openDir(t, "/dev/shm")
	// Shared, so that an unmount reaches the copies that others' mount namespaces have got.
	must(t, unix.Mount("tmpfs", work, "tmpfs", 0, "size=1G,mode=755"))
	t.Cleanup(func() { must(t, unix.Unmount(work, unix.MNT_DETACH)) })
	must(t, unix.Mount("", work, "", unix.MS_SHARED, ""))
	image := filepath.Join(work, "disk")
	w := &powerWorld{fstype: fstype, mnt: filepath.Join(work, "mnt"), fate: newDice(seed)}
	must(t, os.Mkdir(w.mnt, 0o755))
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 400<<20))
	command(t, append(mkfs, image)...)
	w.dev = strings.TrimSpace(command(t, "losetup", "-f", "--show", image))
	t.Cleanup(func() {
		if w.mounted() {
			_ = unix.Unmount(w.mnt, unix.MNT_DETACH)
		}
		command(t, "losetup", "-d", w.dev)
	})
	w.mount(t)
	return w
}

func command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
	return string(out)
}

func (w *powerWorld) mounted() bool {
	var a, b unix.Stat_t
	return unix.Stat(w.mnt, &a) == nil && unix.Stat(filepath.Dir(w.mnt), &b) == nil && a.Dev != b.Dev
}

func (w *powerWorld) mount(t testing.TB) {
	t.Helper()
	if err := unix.Mount(w.dev, w.mnt, w.fstype, 0, ""); err != nil {
		t.Fatalf("mount %s: %v", w.fstype, err)
	}
}

func (w *powerWorld) fresh(t testing.TB) string {
	if w.dead {
		w.revive(t)
	}
	old, err := filepath.Glob(w.mnt + "/life*")
	for _, dir := range old {
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}
	dir := ""
	if err == nil {
		dir, err = os.MkdirTemp(w.mnt, "life")
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		err = w.sync()
	}
	if err != nil {
		t.Fatal(err)
	}
	w.dead = false
	return dir
}

func (w *powerWorld) sync() error {
	fd, err := unix.Open(w.mnt, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// before is called before each step: now and then the host writes something to its disk
// by itself, all of it, or the journal with what it orders.
func (w *powerWorld) before() {
	if w.dead || w.fate.roll(12) != 0 {
		return
	}
	if w.fate.roll(3) == 0 {
		_ = w.sync()
		return
	}
	if fd, err := unix.Open(w.mnt, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		_ = unix.Fsync(fd)
		unix.Close(fd)
	}
}

func (w *powerWorld) die() {
	const shutdown, noLogFlush = 0x8004587d, 2
	w.dead = true
	w.failures++
	fd, err := unix.Open(w.mnt, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, shutdown, noLogFlush)
		unix.Close(fd)
	}
	if err != nil {
		panic(fmt.Sprintf("cut the power of %s: %v", w.mnt, err))
	}
}

// revive mounts again: the host's journal is replayed.
func (w *powerWorld) revive(t testing.TB) {
	t.Helper()
	if err := unix.Unmount(w.mnt, 0); err != nil {
		t.Fatalf("unmount after the power failure (does the dead server hold a file open?): %v", err)
	}
	w.mount(t)
	w.dead = false
}

func (w *powerWorld) synced() bool { return true }

// powerStory does one story with a power failure before every step-th step.
func powerStory(t *testing.T, w *powerWorld, opt Options, seed uint64, step int, n *crashCounts) error {
	t.Helper()
	for death := 1 + int(seed)%step; ; death += step {
		w.fate = newDice(seed, uint64(death))
		l := &life{w: w, opt: opt, seed: seed, death: death, n: n}
		steps, err := l.run(t)
		if err != nil && err != errHalf {
			return fmt.Errorf("story %d, power failure at step %d: %w", seed, death, err)
		}
		if steps < death {
			return nil
		}
	}
}

var powerKinds = []struct {
	name string
	mkfs []string
}{
	{"ext4", []string{"mkfs.ext4", "-q", "-F", "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"}},
	{"xfs", []string{"mkfs.xfs", "-q", "-f"}},
}

func TestPowerFailsAtEveryStep(t *testing.T) {
	stories, step := 5, 7
	if testing.Short() {
		stories = 1
	}
	stories *= more
	for _, k := range powerKinds {
		t.Run(k.name, func(t *testing.T) {
			w := newPowerWorld(t, k.name, 1, k.mkfs...)
			var n crashCounts
			for seed := range uint64(stories) {
				if err := powerStory(t, w, Options{}, seed, step, &n); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d power failures: %v", w.failures, n)
			if w.failures < 8*stories {
				t.Errorf("only %d power failures", w.failures)
			}
		})
	}
}

// TestPowerFailureMutant leaves out the log's sync: that acknowledged cuts are gone must be seen.
func TestPowerFailureMutant(t *testing.T) {
	w := newPowerWorld(t, "ext4", 1, powerKinds[0].mkfs...)
	var n crashCounts
	for seed := range uint64(5) {
		if err := powerStory(t, w, Options{Durability: DurableOS}, seed, 11, &n); err != nil {
			t.Logf("seen: %v", err)
			return
		}
	}
	t.Errorf("a log that is not synced was not missed: %v", n)
}
