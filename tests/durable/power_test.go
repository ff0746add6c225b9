package durable

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/uml"
)

// guestScript serves a disk in a guest and lets clients write until the power goes.
const guestScript = `
echo $EXPIRE > /proc/sys/vm/dirty_expire_centisecs
echo $EXPIRE > /proc/sys/vm/dirty_writeback_centisecs
mkdir -p /mnt/disk /mnt/record /run/e
mount -t hostfs -o "$RECORD" none /mnt/record || exit 1
mount -t $FSTYPE $MOUNTOPTS /dev/ubda /mnt/disk || exit 1
"$ECHO9" serve $SERVE --listen unix!/run/e/s /mnt/disk/tree &
server=$!
until [ -S /run/e/s ]; do
	kill -0 $server || exit 2
	sleep 0.1
done
"$CLIENTS"
`

// machine is a disk image which guests lose their power over, with what must be on it.
type machine struct {
	image, mnt, record string
	flags              []string
	*place
}

func newMachine(t *testing.T, seed uint64, flags ...string) *machine {
	t.Helper()
	need.Tools(t, "mkfs.ext4", "mount", "umount")
	// In memory, so that a guest's disk is fast and no other test is kept waiting.
	work, err := os.MkdirTemp("/dev/shm", "echo9-power-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	m := &machine{image: filepath.Join(work, "disk"), mnt: filepath.Join(work, "mnt"), record: filepath.Join(work, "acked-"), flags: flags}
	if err := os.Mkdir(m.mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "truncate", "-s", "384M", m.image)
	run(t, "mkfs.ext4", "-q", "-F", "-J", "size=16", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", m.image)
	m.mount(t)
	dir := filepath.Join(m.mnt, "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m.place = newPlace(t, dir, seed)
	m.unmount(t)
	return m
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
}

func (m *machine) mount(t *testing.T) {
	t.Helper()
	run(t, "mount", "-o", "loop", m.image, m.mnt)
	t.Cleanup(func() {
		if mounted(m.mnt) {
			exec.Command("umount", "-l", m.mnt).Run()
		}
	})
}

func (m *machine) unmount(t *testing.T) {
	t.Helper()
	run(t, "umount", m.mnt)
}

func mounted(dir string) bool {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	return strings.Contains(string(b), " "+dir+" ")
}

// fail lets a guest work and cuts its power some time after it began to.
func (m *machine) fail(t *testing.T, rng *rand.Rand) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var from []string
	for c, s := range m.shadows {
		from = append(from, strconv.FormatUint(s.rounds, 10))
		os.Remove(fmt.Sprint(m.record, c))
	}
	g := uml.Start(t, uml.Guest{
		Script: guestScript, Disks: []string{m.image}, Mem: "384M", Limit: 10 * time.Minute,
		Env: map[string]string{
			"ECHO9": echo9bin.Echo9(t), "CLIENTS": exe, "FSTYPE": "ext4", "SERVE": strings.Join(m.flags, " "),
			"MOUNTOPTS": []string{"", "-o commit=1"}[rng.IntN(2)], "EXPIRE": []string{"3000", "20"}[rng.IntN(2)],
			childAddr: "unix!/run/e/s", childSeed: strconv.FormatUint(m.seed, 10),
			childFrom: strings.Join(from, ","), childRecord: "/mnt/record/" + filepath.Base(m.record), "RECORD": filepath.Dir(m.record),
		},
	})
	deadline := time.Now().Add(8 * time.Minute)
	for started := false; !started; time.Sleep(20 * time.Millisecond) {
		done := uint64(0) // since the last time, by all
		for c, s := range m.shadows {
			if n, err := recorded(m.record, c); err == nil && n > s.rounds {
				done += n - s.rounds
			}
		}
		started = done >= 3
		if g.Ended() || time.Now().After(deadline) {
			r := g.Power()
			t.Fatalf("the clients got hardly anything done:\n%s\n%s", r.Output, r.Console)
		}
	}
	time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
	r := g.Power()
	if r.Code >= 0 {
		t.Fatalf("the guest ended by itself with %d:\n%s", r.Code, r.Output)
	}
	for c, s := range m.shadows {
		n, err := recorded(m.record, c)
		if err != nil {
			t.Fatal(err)
		}
		m.acked[c].Store(max(n, s.rounds))
	}
}

// recover mounts the disk here, lets a server recover, and compares.
func (m *machine) recover(t *testing.T) error {
	t.Helper()
	m.mount(t)
	defer m.unmount(t)
	srv := m.serve(t, m.flags...)
	err := m.compare()
	if serr := srv.Stop(); serr != nil {
		t.Fatal(serr)
	}
	if err == nil {
		err = m.compare() // and it stays so
	}
	return err
}

// TestPowerFailure cuts the power of a machine on which a server works for
// clients that fsync: all that was acknowledged is there, and nothing half.
func TestPowerFailure(t *testing.T) {
	uml.Need(t)
	failures := 3
	if need.Full() {
		failures = 32
	}
	rng := rand.New(rand.NewPCG(3, 3))
	m := newMachine(t, 3)
	start := time.Now()
	for n := range failures {
		m.fail(t, rng)
		if err := m.recover(t); err != nil {
			t.Fatalf("power failure %d: %v", n+1, err)
		}
	}
	t.Logf("%d power failures, %d rounds acknowledged or found, in %v", failures, m.rounds, time.Since(start).Round(time.Millisecond))
	if m.rounds < uint64(3*failures) {
		t.Errorf("only %d rounds in %d power failures: the clients hardly worked", m.rounds, failures)
	}
}

// TestPowerFailureIsNoticed is the same with a server that does not wait for the disk: that an
// acknowledged round is gone must be seen.
func TestPowerFailureIsNoticed(t *testing.T) {
	uml.Need(t)
	rng := rand.New(rand.NewPCG(4, 4))
	for n := range 4 {
		m := newMachine(t, 100+uint64(n), "--durability", "os")
		m.fail(t, rng)
		if err := m.recover(t); err != nil {
			t.Logf("seen: %v", err)
			return
		}
	}
	t.Error("a server that syncs nothing lost its power four times, and nothing was missed")
}
