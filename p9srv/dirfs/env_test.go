package dirfs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"echo9/internal/wire"

	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

var ctx = context.Background()

// skips counts what could not be tested here, to be named at the end.
var skips struct {
	sync.Mutex
	why []string
}

func skip(t *testing.T, why string) {
	t.Helper()
	skips.Lock()
	skips.why = append(skips.why, t.Name()+": "+why)
	skips.Unlock()
	if os.Getenv("CI") != "" && os.Getuid() == 0 {
		t.Fatalf("on CI nothing is skipped: %s", why)
	}
	t.Skip(why)
}

func TestMain(m *testing.M) {
	// Each check applies a few cuts some dozens of times. -rapid.checks asks for more.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	code := m.Run()
	if len(skips.why) > 0 {
		fmt.Printf("dirfs: %d tests skipped:\n", len(skips.why))
		for _, w := range skips.why {
			fmt.Println("  " + w)
		}
	}
	os.Exit(code)
}

// places are the kinds of host file system that tests run on.
var places = []struct {
	name string
	dir  func(t *testing.T) string
	opt  Options
}{
	{"disk", func(t *testing.T) string { return openDir(t, os.TempDir()) }, Options{}},
	{"tmpfs", func(t *testing.T) string { return openDir(t, "/dev/shm") }, Options{}},
	{"nohandles", func(t *testing.T) string { return openDir(t, "/dev/shm") }, Options{noHandles: true, maxFDs: 8}},
	{"overlay", overlayDir, Options{maxFDs: 16}},
}

// openDir makes a directory that other users may pass through.
func openDir(t *testing.T, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "dirfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func overlayDir(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		skip(t, "overlayfs needs root")
	}
	base := openDir(t, "/dev/shm")
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(base, "merged")
	opts := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", base, base, base)
	if err := unix.Mount("overlay", merged, "overlay", 0, opts); err != nil {
		skip(t, "cannot mount an overlayfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return merged
}

// onPlaces runs fn on an empty export on each kind of file system.
func onPlaces(t *testing.T, fn func(t *testing.T, fs *FS, dir string)) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			dir := p.dir(t)
			opt := p.opt
			opt.Logf = t.Logf
			fn(t, openFS(t, dir, opt), dir)
		})
	}
}

// openFS opens an export, and checks when the test ends that nothing is left open.
func openFS(t *testing.T, dir string, opt Options) *FS {
	t.Helper()
	before, below := len(listFDs("")), len(listFDs(dir))
	fs, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		fs.mu.Lock()
		for _, n := range fs.byID {
			want := 0
			if n == fs.root {
				want = 1
			}
			if n.refs != want || n.pins != 0 || n.opens != 0 {
				t.Errorf("object %d (%s) still has %d references, %d pins, %d opens", n.id, n.name, n.refs, n.pins, n.opens)
			}
		}
		fs.mu.Unlock()
		if err := fs.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		// What was open before and belongs to others may be closed by now.
		if after := len(listFDs("")); after > before {
			t.Errorf("%d descriptors before, %d after: %v", before, after, listFDs(""))
		}
		if after := listFDs(dir); len(after) > below {
			t.Errorf("%d descriptors of the export before, now %v", below, after)
		}
	})
	return fs
}

// listFDs is what this process has open, below a directory if one is named.
func listFDs(dir string) []string {
	entries, _ := os.ReadDir("/proc/self/fd")
	var out []string
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil &&
			!strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/") && !strings.HasPrefix(target, "pipe:") {
			// The rest is the Go runtime's.
			if strings.HasPrefix(target, dir) {
				out = append(out, target)
			}
		}
	}
	return out
}

// root is the export's root, released when the test ends.
func rootOf(t *testing.T, fs *FS) p9srv.Object {
	t.Helper()
	r, err := fs.Root(ctx, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Release)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErrno(t *testing.T, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// walkPath walks several names and gives the last object.
func walkPath(t *testing.T, o p9srv.Object, names ...string) p9srv.Object {
	t.Helper()
	first := true
	for _, name := range names {
		next, _, err := o.Walk(ctx, nil, name)
		if !first {
			o.Release()
		}
		first = false
		must(t, err)
		o = next
	}
	t.Cleanup(o.Release)
	return o
}

// TestAsOrdinaryUser runs the tests of this package again as a user without rights.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("these tests are being run as an ordinary user")
		return
	}
	if testing.Short() {
		t.Log("left out by -short")
		return
	}
	dir := openDir(t, os.TempDir())
	self, err := os.Executable()
	must(t, err)
	body, err := os.ReadFile(self)
	must(t, err)
	bin := filepath.Join(dir, "dirfs.test")
	must(t, os.WriteFile(bin, body, 0o755))
	must(t, os.Chmod(bin, 0o755))
	tmp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(tmp, 0o777))
	must(t, os.Chmod(tmp, 0o777))
	cmd := exec.Command(bin, "-test.short", "-test.count=1")
	cmd.Dir = tmp
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp, "CI=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as an ordinary user: %v\n%s", err, out)
	}
	t.Logf("as an ordinary user: %s", out)
}

// attrOf gives the attributes of an object by its id.
func attrOf(fs *FS, id uint64) (wire.Attr, error) {
	o, err := fs.Lookup(ctx, id)
	if err != nil {
		return wire.Attr{}, err
	}
	defer o.Release()
	return o.GetAttr(ctx, nil)
}
