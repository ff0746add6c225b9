package dirfs

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// TestSwapAttacks walks and creates while a process of the host swaps directories with
// symlinks that lead outside: nothing outside is ever reached.
func TestSwapAttacks(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		outside := openDir(t, os.TempDir())
		must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
		must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "real/secret"), []byte("public"), 0o600))
		must(t, os.Symlink(outside, filepath.Join(dir, "link")))
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			for !stop.Load() {
				if err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "real"), unix.AT_FDCWD, filepath.Join(dir, "link"), unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		root := rootOf(t, fs)
		// At least 1500 walks, and until both sides of the swap were met: on a busy machine the swapper may not run for a while.
		reached, walks := 0, 0
		for begun := time.Now(); walks < 1500 || (reached == 0 || reached == walks) && time.Since(begun) < time.Minute; walks++ {
			i := walks
			d, _, err := root.Walk(ctx, nil, "real")
			must(t, err)
			o, _, err := d.Walk(ctx, nil, "secret")
			if err == nil {
				f, err := o.Open(ctx, nil, wire.ORdonly)
				must(t, err)
				buf := make([]byte, 10)
				k, _ := f.ReadAt(ctx, buf, 0)
				if string(buf[:k]) != "public" {
					t.Fatalf("read %q", buf[:k])
				}
				reached++
				must(t, f.Close(ctx))
				o.Release()
				c, f, _, err := d.Create(ctx, nil, "made"+strconv.Itoa(i), wire.OWronly, 0o600, noGID)
				must(t, err)
				must(t, f.Close(ctx))
				c.Release()
			} else if !errors.Is(err, syscall.ENOTDIR) {
				t.Fatal(err)
			}
			_, err = fs.Root(ctx, nil, "real/../link/secret")
			if err == nil {
				t.Fatal("attached to a file")
			}
			d.Release()
		}
		stop.Store(true)
		wg.Wait()
		entries, err := os.ReadDir(outside)
		must(t, err)
		if len(entries) != 1 {
			t.Fatalf("%d files outside", len(entries))
		}
		if reached == 0 || reached == walks {
			t.Errorf("the swaps were never seen: %d of %d walks came through", reached, walks)
		}
	})
}

// TestMovedOut: a directory that the host moves out of the tree leads to nothing above it.
func TestMovedOut(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		root := rootOf(t, fs)
		must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
		b := walkPath(t, root, "a", "b")
		outside := filepath.Join(filepath.Dir(dir), filepath.Base(dir)+".out")
		if err := os.Rename(filepath.Join(dir, "a"), outside); err != nil {
			if errors.Is(err, syscall.EXDEV) { // out of the mount: the host itself is in the way
				return
			}
			t.Fatal(err)
		}
		defer os.RemoveAll(outside)
		_, _, err := b.Walk(ctx, nil, "..")
		wantErrno(t, err, syscall.ESTALE)
	})
}

// TestSpecialFiles: FIFOs and devices are seen and changed, but never opened.
func TestSpecialFiles(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		root := rootOf(t, fs)
		o, attr, err := root.Mknod(ctx, nil, "fifo", unix.S_IFIFO|0o644, 0, 0, noGID)
		must(t, err)
		defer o.Release()
		if attr.Mode != unix.S_IFIFO|0o644 {
			t.Errorf("%+v", attr)
		}
		for _, flags := range []uint32{wire.ORdonly, wire.OWronly, wire.ORdwr} {
			_, err := o.Open(ctx, nil, flags)
			wantErrno(t, err, syscall.ENXIO)
			_, _, _, err = root.Create(ctx, nil, "fifo", flags, 0o644, noGID)
			wantErrno(t, err, syscall.ENXIO)
		}
		wantErrno(t, o.SetAttr(ctx, nil, nil, wire.SetAttr{Valid: wire.SetSize}), syscall.EINVAL)
		must(t, o.SetAttr(ctx, nil, nil, wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}))
		must(t, root.Rename(ctx, nil, "fifo", root, "pipe", 0))
		must(t, root.Unlink(ctx, nil, "pipe", 0))
		l, _, err := root.Symlink(ctx, nil, "link", "/etc/passwd", noGID)
		must(t, err)
		defer l.Release()
		_, err = l.Open(ctx, nil, wire.ORdonly)
		wantErrno(t, err, syscall.ELOOP)
		_, _, err = l.Walk(ctx, nil, "x")
		wantErrno(t, err, syscall.ENOTDIR)
		target, err := l.Readlink(ctx, nil)
		must(t, err)
		if target != "/etc/passwd" {
			t.Errorf("target %q", target)
		}
		must(t, l.SetAttr(ctx, nil, nil, wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeSet, Mtime: -1_500_000_000}))
		if a, err := l.GetAttr(ctx, nil); err != nil || a.Mtime != -1_500_000_000 {
			t.Errorf("mtime of a symlink: %d, %v", a.Mtime, err)
		}
		wantErrno(t, l.SetAttr(ctx, nil, nil, wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}), syscall.EOPNOTSUPP)
	})
}

// TestMounts: what is mounted below the export is out of reach.
func TestMounts(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "mounting needs root")
	}
	dir := openDir(t, os.TempDir())
	must(t, os.Mkdir(filepath.Join(dir, "mnt"), 0o755))
	must(t, unix.Mount("none", filepath.Join(dir, "mnt"), "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { unix.Unmount(filepath.Join(dir, "mnt"), unix.MNT_DETACH) })
	fs := openFS(t, dir, Options{})
	root := rootOf(t, fs)
	_, _, err := root.Walk(ctx, nil, "mnt")
	wantErrno(t, err, syscall.EXDEV)
	// A bind mount of another directory of the same file system is a mount as well.
	must(t, os.Mkdir(filepath.Join(dir, "bind"), 0o755))
	must(t, unix.Mount(os.TempDir(), filepath.Join(dir, "bind"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(filepath.Join(dir, "bind"), unix.MNT_DETACH) })
	_, _, err = root.Walk(ctx, nil, "bind")
	wantErrno(t, err, syscall.EXDEV)
}

// TestBigDirectory lists 10,000 names while others come and go: each once.
func TestBigDirectory(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		root := rootOf(t, fs)
		count := 10_000
		if testing.Short() {
			count = 2_000
		}
		for i := range count {
			fd, err := unix.Open(filepath.Join(dir, "stays"+strconv.Itoa(i)), unix.O_CREAT|unix.O_WRONLY, 0o644)
			must(t, err)
			unix.Close(fd)
		}
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; !stop.Load(); i++ {
				name := "comes" + strconv.Itoa(i%100)
				o, f, _, err := root.Create(ctx, nil, name, wire.OWronly, 0o644, noGID)
				if err != nil {
					t.Error(err)
					return
				}
				f.Close(ctx)
				o.Release()
				if err := root.Unlink(ctx, nil, name, 0); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		f, err := root.Open(ctx, nil, wire.ORdonly)
		must(t, err)
		seen := make(map[string]int, count)
		var cookie uint64
		for done := false; !done; {
			k := 0
			done = true
			must(t, f.ReadDir(ctx, cookie, func(e wire.Dirent) bool {
				if k++; k > 777 {
					done = false
					return false
				}
				cookie = e.Offset
				seen[e.Name]++
				return true
			}))
		}
		stop.Store(true)
		wg.Wait()
		must(t, f.Close(ctx))
		for i := range count {
			if name := "stays" + strconv.Itoa(i); seen[name] != 1 {
				t.Fatalf("%s was listed %d times", name, seen[name])
			}
		}
	})
}

// TestDescriptors: many objects, few descriptors.
func TestDescriptors(t *testing.T) {
	for _, opt := range []Options{{maxFDs: 20}, {maxFDs: 20, noHandles: true}} {
		dir := openDir(t, "/dev/shm")
		fs := openFS(t, dir, opt)
		root := rootOf(t, fs)
		var objs []p9srv.Object
		for i := range 200 {
			o, _, err := root.Mkdir(ctx, nil, "d"+strconv.Itoa(i), 0o755, noGID)
			must(t, err)
			objs = append(objs, o)
		}
		fs.mu.Lock()
		if fs.nfds > 21 {
			t.Errorf("%d descriptors for nodes", fs.nfds)
		}
		fs.mu.Unlock()
		// Renamed by the server and by name found again; parents included.
		must(t, root.Rename(ctx, nil, "d7", objs[8], "moved", 0))
		c, _, err := objs[7].Mkdir(ctx, nil, "child", 0o755, noGID)
		must(t, err)
		must(t, objs[8].Rename(ctx, nil, "moved", objs[9], "again", 0))
		for i, o := range append(objs, c) {
			if a, err := o.GetAttr(ctx, nil); err != nil || a.QID != o.QID() {
				t.Fatalf("object %d: %v", i, err)
			}
			id := o.ID()
			o.Release()
			again, err := fs.Lookup(ctx, id)
			must(t, err)
			again.Release()
		}
		// Replaced on the host behind our back: the old object is stale, never the new one.
		stale := walkPath(t, root, "d5")
		for i := range 50 {
			walkPath(t, root, "d"+strconv.Itoa(100+i))
		}
		must(t, os.Rename(filepath.Join(dir, "d5"), filepath.Join(dir, "old5")))
		must(t, os.Remove(filepath.Join(dir, "old5")))
		must(t, os.Mkdir(filepath.Join(dir, "d5"), 0o755))
		fresh := walkPath(t, root, "d5")
		if fresh.ID() == stale.ID() {
			t.Errorf("a new directory has the id %d of one that is still held", fresh.ID())
		}
		_, err = stale.GetAttr(ctx, nil)
		wantErrno(t, err, syscall.ESTALE)
	}
}
