package fusefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/p9srv/dirfs"

	"golang.org/x/sys/unix"
)

func serveHelper(args []string) error {
	fs, err := dirfs.Open(args[0], dirfs.Options{})
	if err != nil {
		return err
	}
	m, err := Mount(context.Background(), fs, args[1], Options{FsName: "test"})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	if len(args) > 2 { // and unmount at the end of input
		_, _ = os.Stdin.Read(make([]byte, 1))
		if err := m.Unmount(context.Background()); err != nil {
			return err
		}
		return fs.Close()
	}
	m.Wait()
	return nil
}

func TestMountPointErrors(t *testing.T) {
	b, _ := exportDir(t)
	dir := t.TempDir()
	write(t, dir+"/file", "")
	must(t, os.Mkdir(dir+"/full", 0o755))
	write(t, dir+"/full/x", "")
	m := mounted(t, b, Options{})
	for _, tt := range []struct {
		path string
		want syscall.Errno
		says string
	}{
		{dir + "/none", syscall.ENOENT, "no such directory"},
		{dir + "/none/none", syscall.ENOENT, "none"},
		{dir + "/file", syscall.ENOTDIR, "not a directory"},
		{dir + "/full", syscall.ENOTEMPTY, "x"},
		{m.Path(), syscall.EBUSY, "in use"},
	} {
		got, err := Mount(t.Context(), b, tt.path, Options{})
		if err == nil {
			_ = got.Unmount(t.Context())
			t.Errorf("%s: mounted", tt.path)
		} else if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), filepath.Base(tt.path)) {
			t.Errorf("%s: %v", tt.path, err)
		}
	}
	over, err := Mount(t.Context(), b, dir+"/full", Options{NonEmpty: true})
	must(t, err)
	must(t, over.Unmount(t.Context()))
	must(t, os.Symlink(dir+"/empty", dir+"/link"))
	must(t, os.Mkdir(dir+"/empty", 0o755))
	byLink, err := Mount(t.Context(), b, dir+"/link", Options{})
	must(t, err)
	if filepath.Base(byLink.Path()) != "empty" {
		t.Errorf("mounted at %s", byLink.Path())
	}
	must(t, byLink.Unmount(t.Context()))
}

// A daemon that was killed leaves a mount that answers ENOTCONN to everything. The next mount
// clears it away.
func TestDeadMount(t *testing.T) {
	b, dir := exportDir(t)
	write(t, dir+"/f", "x")
	mnt := t.TempDir()
	for range 2 { // two dead ones on top of each other would be the same
		r := startHelper(t, "serve", dir+"/..", mnt)
		if r.says(t) != "mounted" {
			t.Fatal("not mounted")
		}
		must(t, r.cmd.Process.Kill())
		r.stop()
		for {
			_, err := os.Lstat(mnt)
			if errors.Is(err, syscall.ENOTCONN) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		m, err := Mount(t.Context(), b, mnt, Options{})
		must(t, err)
		if !exists(t, mnt+"/f") {
			t.Error("the new mount does not show the tree")
		}
		must(t, m.Unmount(t.Context()))
		if typ, _, ok := mountedAt(mnt); ok {
			t.Fatalf("a %s is still there", typ)
		}
	}
}

// What is dead and not ours is left alone.
func TestDeadMountOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts by mount(2)")
	}
	mnt := t.TempDir()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Mount("x", mnt, "fuse.other", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)))
	must(t, unix.Close(fd))
	defer func() { must(t, unix.Unmount(mnt, unix.MNT_DETACH)) }()
	b, _ := exportDir(t)
	if _, err := Mount(t.Context(), b, mnt, Options{}); !errors.Is(err, syscall.ENOTCONN) || !strings.Contains(err.Error(), "fuse.other") {
		t.Errorf("%v", err)
	}
	if _, _, ok := mountedAt(mnt); !ok {
		t.Error("it was unmounted")
	}
}

func TestUnmountBusy(t *testing.T) {
	b, _ := exportDir(t)
	m := mounted(t, b, Options{})
	must(t, os.Mkdir(m.Path()+"/d", 0o755))
	r := startHelper(t, "hold", m.Path()+"/d")
	r.says(t)
	err := m.Unmount(t.Context())
	if !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), fmt.Sprint(r.cmd.Process.Pid)) || !strings.Contains(err.Error(), "umount -l") {
		t.Errorf("%v", err)
	}
	if !exists(t, m.Path()+"/d") {
		t.Error("it is no longer mounted")
	}
	r.stop()
}

// Whoever unmounts it: Wait returns, handles and nodes are given back.
func TestForeignUnmount(t *testing.T) {
	for name, how := range map[string]func(path string) *exec.Cmd{
		"umount":        func(p string) *exec.Cmd { return exec.Command("umount", p) },
		"lazily":        func(p string) *exec.Cmd { return exec.Command("umount", "-l", p) },
		"fusermount3":   func(p string) *exec.Cmd { return exec.Command("fusermount3", "-u", p) },
		"forced, abort": func(p string) *exec.Cmd { return exec.Command("umount", "-f", "-l", p) },
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 && name == "forced, abort" {
				t.Skip("only root unmounts by force")
			}
			b, _ := exportDir(t)
			m, err := Mount(t.Context(), b, t.TempDir(), Options{Logf: t.Logf})
			must(t, err)
			write(t, m.Path()+"/f", "x")
			output(t, how(m.Path()))
			select {
			case <-m.Done():
			case <-time.After(patience):
				t.Fatal("Wait does not return")
			}
			m.Wait()
			if s := m.Stats(); s.Nodes != 0 || s.Handles != 0 {
				t.Errorf("left: %+v", s)
			}
			if err := m.Unmount(t.Context()); err != nil {
				t.Errorf("a second unmount: %v", err)
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	b, dir := exportDir(t)
	write(t, dir+"/f", "x")
	m := mounted(t, b, Options{ReadOnly: true})
	if _, err := os.ReadFile(m.Path() + "/f"); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"write": os.WriteFile(m.Path()+"/f", nil, 0o644), "create": os.WriteFile(m.Path()+"/g", nil, 0o644),
		"remove": os.Remove(m.Path() + "/f"), "mkdir": os.Mkdir(m.Path()+"/d", 0o755),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Nothing is left of a mount: no node, no handle, no descriptor, no goroutine that was its own.
func TestNothingIsLeft(t *testing.T) {
	fds := func() int {
		es, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(es)
	}
	b, _ := exportDir(t)
	before := 0
	for i := range 5 {
		m, err := Mount(t.Context(), b, t.TempDir(), Options{})
		must(t, err)
		for k := range 20 {
			write(t, fmt.Sprintf("%s/f%d", m.Path(), k), "x")
		}
		list(t, m.Path())
		must(t, m.Unmount(t.Context()))
		if s := m.Stats(); s.Nodes != 0 || s.Handles != 0 {
			t.Errorf("left: %+v", s)
		}
		if i == 0 {
			before = fds()
		}
	}
	for end := time.Now().Add(patience); fds() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors after one mount, %d after five", before, fds())
		}
	}
}
