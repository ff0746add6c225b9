package fusefs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// posix is what programs expect of a file system; d is an empty directory of the mount.
var posix = []struct {
	name string
	do   func(t *testing.T, d string)
}{
	{"create, write, read", func(t *testing.T, d string) {
		write(t, d+"/f", "hello")
		wantFile(t, d+"/f", "hello")
	}},
	{"O_EXCL", func(t *testing.T, d string) {
		write(t, d+"/f", "")
		_, err := os.OpenFile(d+"/f", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		wantErr(t, err, syscall.EEXIST)
		f, err := os.OpenFile(d+"/g", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		must(t, err)
		must(t, f.Close())
	}},
	{"O_APPEND", func(t *testing.T, d string) {
		write(t, d+"/f", "1")
		a, b := openFile(t, d+"/f", os.O_APPEND|os.O_WRONLY), openFile(t, d+"/f", os.O_APPEND|os.O_WRONLY)
		for range 3 {
			_, err := a.WriteString("a")
			must(t, err)
			_, err = b.WriteString("b")
			must(t, err)
		}
		wantFile(t, d+"/f", "1ababab")
	}},
	{"O_APPEND set and cleared by fcntl", func(t *testing.T, d string) {
		write(t, d+"/f", "123")
		f := openFile(t, d+"/f", os.O_WRONLY)
		setFlags(t, f, unix.O_APPEND)
		_, err := f.Write([]byte("4"))
		must(t, err)
		wantFile(t, d+"/f", "1234")
		g := openFile(t, d+"/f", os.O_WRONLY|os.O_APPEND)
		setFlags(t, g, 0)
		_, err = unix.Pwrite(int(g.Fd()), []byte("x"), 0)
		must(t, err)
		wantFile(t, d+"/f", "x234")
	}},
	{"O_TRUNC", func(t *testing.T, d string) {
		write(t, d+"/f", "long content")
		f := openFile(t, d+"/f", os.O_TRUNC|os.O_RDWR)
		wantSize(t, d+"/f", 0)
		_, err := f.WriteString("x")
		must(t, err)
		wantFile(t, d+"/f", "x")
	}},
	{"O_DIRECTORY of a file", func(t *testing.T, d string) {
		write(t, d+"/f", "")
		_, err := unix.Open(d+"/f", unix.O_DIRECTORY|unix.O_RDONLY, 0)
		wantErr(t, err, unix.ENOTDIR)
	}},
	{"O_NOFOLLOW of a symlink", func(t *testing.T, d string) {
		must(t, os.Symlink("f", d+"/l"))
		_, err := unix.Open(d+"/l", unix.O_NOFOLLOW|unix.O_RDONLY, 0)
		wantErr(t, err, unix.ELOOP)
	}},
	{"O_TMPFILE is refused", func(t *testing.T, d string) {
		_, err := unix.Open(d, unix.O_TMPFILE|unix.O_RDWR, 0o600)
		wantErr(t, err, unix.EOPNOTSUPP)
	}},
	{"O_SYNC and O_DSYNC", func(t *testing.T, d string) {
		for _, flag := range []int{unix.O_SYNC, unix.O_DSYNC} {
			f := openFile(t, d+"/f", os.O_CREATE|os.O_WRONLY|flag)
			_, err := f.WriteString("x")
			must(t, err)
		}
	}},
	{"open for writing of a directory", func(t *testing.T, d string) {
		_, err := unix.Open(d, unix.O_WRONLY, 0)
		wantErr(t, err, unix.EISDIR)
	}},
	{"read at and after the end", func(t *testing.T, d string) {
		write(t, d+"/f", "abc")
		f := openFile(t, d+"/f", os.O_RDONLY)
		b := make([]byte, 10)
		if n, err := f.ReadAt(b, 2); n != 1 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := f.ReadAt(b, 100); n != 0 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
	}},
	{"write far after the end", func(t *testing.T, d string) {
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		_, err := f.WriteAt([]byte("x"), 1<<20)
		must(t, err)
		wantSize(t, d+"/f", 1<<20+1)
		b := make([]byte, 100)
		_, err = f.ReadAt(b, 1000)
		must(t, err)
		if !bytes.Equal(b, make([]byte, 100)) {
			t.Error("the hole is not zero")
		}
	}},
	{"a large file, in odd pieces", func(t *testing.T, d string) {
		want := make([]byte, 5<<20+13)
		for i := range want {
			want[i] = byte(i * i >> 3)
		}
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		for off := 0; off < len(want); off += 777_777 {
			_, err := f.WriteAt(want[off:min(off+777_777, len(want))], int64(off))
			must(t, err)
		}
		for _, p := range []*os.File{f, openFile(t, d+"/f", os.O_RDONLY)} {
			got, err := io.ReadAll(io.NewSectionReader(p, 0, int64(len(want)+1)))
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes, and not the same", len(got))
			}
		}
	}},
	{"readers see what another descriptor writes", func(t *testing.T, d string) {
		write(t, d+"/f", "aaaa")
		r, w := openFile(t, d+"/f", os.O_RDONLY), openFile(t, d+"/f", os.O_RDWR)
		for i := range 50 {
			s := fmt.Sprintf("%04d", i)
			_, err := w.WriteAt([]byte(s), 0)
			must(t, err)
			if got := readAt(t, r, 0, 4); got != s {
				t.Fatalf("%q, want %q", got, s)
			}
		}
		must(t, w.Truncate(2))
		if n, _ := r.ReadAt(make([]byte, 4), 0); n != 2 {
			t.Errorf("after truncate: %d bytes", n)
		}
	}},
	{"truncate and ftruncate", func(t *testing.T, d string) {
		write(t, d+"/f", "0123456789")
		must(t, os.Truncate(d+"/f", 4))
		wantFile(t, d+"/f", "0123")
		f := openFile(t, d+"/f", os.O_RDWR)
		must(t, f.Truncate(6))
		wantFile(t, d+"/f", "0123\x00\x00")
	}},
	{"ftruncate of a file that may no longer be written", func(t *testing.T, d string) {
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		must(t, f.Chmod(0))
		must(t, f.Truncate(5))
		wantSize(t, d+"/f", 5)
	}},
	{"a file opened when created read-only", func(t *testing.T, d string) {
		f, err := os.OpenFile(d+"/f", os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o400)
		must(t, err)
		_, err = f.WriteString("x")
		must(t, errors.Join(err, f.Close()))
		wantFile(t, d+"/f", "x")
	}},
	{"fallocate", func(t *testing.T, d string) {
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		if err := unix.Fallocate(int(f.Fd()), 0, 0, 1<<20); err == nil {
			wantSize(t, d+"/f", 1<<20)
		} else {
			wantErr(t, err, unix.EOPNOTSUPP)
		}
	}},
	{"SEEK_DATA and SEEK_HOLE", func(t *testing.T, d string) {
		write(t, d+"/f", "abc")
		f := openFile(t, d+"/f", os.O_RDONLY)
		if off, err := f.Seek(1, unix.SEEK_DATA); err != nil || off != 1 {
			t.Errorf("data: %d, %v", off, err)
		}
		if off, err := f.Seek(0, unix.SEEK_HOLE); err != nil || off != 3 {
			t.Errorf("hole: %d, %v", off, err)
		}
		_, err := f.Seek(5, unix.SEEK_DATA)
		wantErr(t, err, unix.ENXIO)
	}},
	{"copy_file_range", func(t *testing.T, d string) {
		write(t, d+"/f", "0123456789")
		f, g := openFile(t, d+"/f", os.O_RDONLY), openFile(t, d+"/g", os.O_CREATE|os.O_RDWR)
		off := int64(2)
		n, err := unix.CopyFileRange(int(f.Fd()), &off, int(g.Fd()), nil, 5, 0)
		must(t, err)
		wantFile(t, d+"/g", "23456"[:n])
	}},
	{"an open file that is unlinked", func(t *testing.T, d string) {
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		_, err := f.WriteString("abc")
		must(t, err)
		must(t, os.Remove(d+"/f"))
		wantErr(t, lstat(d+"/f"), syscall.ENOENT)
		_, err = f.WriteAt([]byte("x"), 1)
		must(t, err)
		if s := readAt(t, f, 0, 3); s != "axc" {
			t.Errorf("%q", s)
		}
		must(t, f.Truncate(2))
		must(t, f.Chmod(0o600))
		st, err := f.Stat()
		must(t, err)
		if s := st.Sys().(*syscall.Stat_t); st.Size() != 2 || s.Nlink != 0 || st.Mode().Perm() != 0o600 {
			t.Errorf("size %d, %d links, mode %v", st.Size(), s.Nlink, st.Mode())
		}
		must(t, f.Sync())
	}},
	{"a file that is renamed over while open", func(t *testing.T, d string) {
		write(t, d+"/old", "old")
		write(t, d+"/new", "new")
		f := openFile(t, d+"/old", os.O_RDONLY)
		must(t, os.Rename(d+"/new", d+"/old"))
		if s := readAt(t, f, 0, 3); s != "old" {
			t.Errorf("%q", s)
		}
		wantFile(t, d+"/old", "new")
	}},
	{"an open file whose name changes", func(t *testing.T, d string) {
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		must(t, os.Rename(d+"/f", d+"/g"))
		_, err := f.WriteString("x")
		must(t, err)
		wantFile(t, d+"/g", "x")
	}},
	{"mkdir, rmdir", func(t *testing.T, d string) {
		must(t, os.Mkdir(d+"/a", 0o750))
		st, err := os.Stat(d + "/a")
		must(t, err)
		if !st.IsDir() || st.Mode().Perm() != 0o750 {
			t.Errorf("%v", st.Mode())
		}
		wantErr(t, os.Mkdir(d+"/a", 0o755), syscall.EEXIST)
		write(t, d+"/a/f", "")
		wantErr(t, unix.Rmdir(d+"/a"), syscall.ENOTEMPTY)
		wantErr(t, unix.Rmdir(d+"/a/f"), syscall.ENOTDIR)
		wantErr(t, unix.Unlink(d+"/a"), syscall.EISDIR)
		must(t, os.Remove(d+"/a/f"))
		must(t, unix.Rmdir(d+"/a"))
		wantErr(t, lstat(d+"/a"), syscall.ENOENT)
	}},
	{"link counts of directories", func(t *testing.T, d string) {
		must(t, os.MkdirAll(d+"/a/b", 0o755))
		if n := nlink(t, d+"/a"); n != 3 && n != 1 {
			t.Errorf("%d", n)
		}
	}},
	{"the working directory goes", func(t *testing.T, d string) {
		must(t, os.Mkdir(d+"/a", 0o755))
		f, err := os.Open(d + "/a")
		must(t, err)
		defer f.Close()
		must(t, os.Remove(d+"/a"))
		_, err = unix.Openat(int(f.Fd()), "x", unix.O_CREAT|unix.O_WRONLY, 0o644)
		wantErr(t, err, unix.ENOENT)
	}},
	{"..", func(t *testing.T, d string) {
		must(t, os.MkdirAll(d+"/a/b", 0o755))
		x, y := stat(t, d+"/a/b/.."), stat(t, d+"/a")
		if x.Ino != y.Ino {
			t.Errorf("%d, %d", x.Ino, y.Ino)
		}
	}},
	{"hard links", func(t *testing.T, d string) {
		write(t, d+"/f", "x")
		must(t, os.Link(d+"/f", d+"/g"))
		if a, b := stat(t, d+"/f"), stat(t, d+"/g"); a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 {
			t.Errorf("%+v, %+v", a, b)
		}
		overwrite(t, d+"/g", "y")
		wantFile(t, d+"/f", "y")
		must(t, os.Remove(d+"/f"))
		wantFile(t, d+"/g", "y")
		if n := nlink(t, d+"/g"); n != 1 {
			t.Errorf("%d links", n)
		}
		must(t, os.Mkdir(d+"/dir", 0o755))
		wantErr(t, os.Link(d+"/dir", d+"/dir2"), syscall.EPERM)
		wantErr(t, os.Link(d+"/g", d+"/dir"), syscall.EEXIST)
	}},
	{"symlinks", func(t *testing.T, d string) {
		for _, target := range []string{"f", "/a/b/../c", strings.Repeat("x/", 400), "no\nsuch file"} {
			must(t, os.Symlink(target, d+"/l"))
			for range 2 { // the second time from the kernel's cache
				if got, err := os.Readlink(d + "/l"); err != nil || got != target {
					t.Errorf("%q, %v", got, err)
				}
			}
			if s := stat(t, d+"/l"); s.Size != int64(len(target)) || s.Mode&syscall.S_IFMT != syscall.S_IFLNK {
				t.Errorf("%+v", s)
			}
			must(t, os.Remove(d+"/l"))
		}
		must(t, os.Mkdir(d+"/dir", 0o755))
		must(t, os.Symlink("dir", d+"/l"))
		write(t, d+"/l/f", "x")
		wantFile(t, d+"/dir/f", "x")
		must(t, os.Symlink("loop", d+"/loop"))
		_, err := os.ReadFile(d + "/loop")
		wantErr(t, err, syscall.ELOOP)
		_, err = os.Readlink(d + "/dir")
		wantErr(t, err, syscall.EINVAL)
	}},
	{"FIFOs, sockets, devices", func(t *testing.T, d string) {
		must(t, unix.Mkfifo(d+"/p", 0o600))
		if s := stat(t, d+"/p"); s.Mode != syscall.S_IFIFO|0o600 {
			t.Errorf("%o", s.Mode)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		must(t, err)
		defer unix.Close(fd)
		if len(d) < 90 {
			must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: d + "/s"}))
			if s := stat(t, d+"/s"); s.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
				t.Errorf("%o", s.Mode)
			}
		}
		if os.Geteuid() == 0 {
			dev := unix.Mkdev(0xabc, 0xde123)
			must(t, unix.Mknod(d+"/c", unix.S_IFCHR|0o600, int(dev)))
			if s := stat(t, d+"/c"); s.Rdev != dev || s.Mode != syscall.S_IFCHR|0o600 {
				t.Errorf("%o, %#x, want %#x", s.Mode, s.Rdev, dev)
			}
		}
		must(t, unix.Mknod(d+"/r", unix.S_IFREG|0o640, 0))
		if s := stat(t, d+"/r"); s.Mode != syscall.S_IFREG|0o640 {
			t.Errorf("%o", s.Mode)
		}
	}},
	{"a FIFO in use", func(t *testing.T, d string) {
		must(t, unix.Mkfifo(d+"/p", 0o600))
		go func() {
			if f, err := os.OpenFile(d+"/p", os.O_WRONLY, 0); err == nil {
				_, _ = f.WriteString("through")
				_ = f.Close()
			}
		}()
		b, err := os.ReadFile(d + "/p")
		if err != nil || string(b) != "through" {
			t.Errorf("%q, %v", b, err)
		}
	}},
	{"rename of a file", func(t *testing.T, d string) {
		write(t, d+"/a", "a")
		must(t, os.Mkdir(d+"/dir", 0o755))
		ino := stat(t, d+"/a").Ino
		must(t, os.Rename(d+"/a", d+"/dir/b"))
		wantErr(t, lstat(d+"/a"), syscall.ENOENT)
		if stat(t, d+"/dir/b").Ino != ino {
			t.Error("another inode")
		}
		wantErr(t, os.Rename(d+"/a", d+"/x"), syscall.ENOENT)
		write(t, d+"/f", "")
		wantErr(t, unix.Rename(d+"/f", d+"/dir"), syscall.EISDIR)
	}},
	{"rename of directories", func(t *testing.T, d string) {
		must(t, os.MkdirAll(d+"/a/b/c", 0o755))
		must(t, os.Mkdir(d+"/e", 0o755))
		write(t, d+"/a/b/f", "x")
		wantErr(t, unix.Rename(d+"/a", d+"/a/b/x"), syscall.EINVAL)
		wantErr(t, unix.Rename(d+"/e", d+"/a"), syscall.ENOTEMPTY)
		must(t, unix.Rename(d+"/a/b", d+"/e"))
		wantFile(t, d+"/e/f", "x")
		if a, b := stat(t, d+"/e/.."), stat(t, d); a.Ino != b.Ino {
			t.Error(".. is the old one")
		}
		write(t, d+"/f", "")
		wantErr(t, unix.Rename(d+"/e", d+"/f"), syscall.ENOTDIR)
	}},
	{"RENAME_NOREPLACE", func(t *testing.T, d string) {
		write(t, d+"/a", "a")
		write(t, d+"/b", "b")
		wantErr(t, rename2(d+"/a", d+"/b", unix.RENAME_NOREPLACE), syscall.EEXIST)
		must(t, rename2(d+"/a", d+"/c", unix.RENAME_NOREPLACE))
		wantFile(t, d+"/c", "a")
	}},
	{"RENAME_EXCHANGE", func(t *testing.T, d string) {
		write(t, d+"/a", "a")
		must(t, os.MkdirAll(d+"/b/x", 0o755))
		must(t, rename2(d+"/a", d+"/b", unix.RENAME_EXCHANGE))
		wantFile(t, d+"/b", "a")
		if stat(t, d+"/a/x").Mode&syscall.S_IFMT != syscall.S_IFDIR {
			t.Error("a is not the directory")
		}
		wantErr(t, rename2(d+"/a", d+"/none", unix.RENAME_EXCHANGE), syscall.ENOENT)
	}},
	{"RENAME_WHITEOUT is refused", func(t *testing.T, d string) {
		write(t, d+"/a", "a")
		wantErr(t, rename2(d+"/a", d+"/b", unix.RENAME_WHITEOUT), syscall.EINVAL)
	}},
	{"rename of a name to another of the same file", func(t *testing.T, d string) {
		write(t, d+"/a", "a")
		must(t, os.Link(d+"/a", d+"/b"))
		must(t, unix.Rename(d+"/a", d+"/b"))
		wantFile(t, d+"/a", "a")
		wantFile(t, d+"/b", "a")
	}},
	{"chmod, umask", func(t *testing.T, d string) {
		f, err := os.OpenFile(d+"/f", os.O_CREATE|os.O_WRONLY, 0o666)
		must(t, err)
		must(t, unix.Fchmod(int(f.Fd()), 0o4751))
		must(t, f.Close())
		if s := stat(t, d+"/f"); s.Mode != syscall.S_IFREG|0o4751 {
			t.Errorf("%o", s.Mode)
		}
		must(t, os.Mkdir(d+"/d", 0o777))
		must(t, os.Chmod(d+"/d", 0o700|os.ModeSticky))
		if s := stat(t, d+"/d"); s.Mode != syscall.S_IFDIR|0o1700 {
			t.Errorf("%o", s.Mode)
		}
	}},
	{"chown", func(t *testing.T, d string) {
		write(t, d+"/f", "")
		must(t, os.Chmod(d+"/f", 0o6755))
		if os.Geteuid() != 0 {
			must(t, os.Chown(d+"/f", -1, os.Getegid()))
			return
		}
		must(t, os.Chown(d+"/f", 12, 34))
		if s := stat(t, d+"/f"); s.Uid != 12 || s.Gid != 34 || s.Mode&0o6000 != 0 {
			t.Errorf("%d, %d, %o", s.Uid, s.Gid, s.Mode)
		}
		must(t, os.Symlink("f", d+"/l"))
		must(t, os.Lchown(d+"/l", 5, 6))
		if s := stat(t, d+"/l"); s.Uid != 5 || s.Gid != 6 {
			t.Errorf("%d, %d", s.Uid, s.Gid)
		}
	}},
	{"a set-group-id directory", func(t *testing.T, d string) {
		if os.Geteuid() != 0 {
			t.Log("only root can choose a foreign group")
			return
		}
		must(t, os.Mkdir(d+"/d", 0o755))
		must(t, os.Chown(d+"/d", 0, 1234))
		must(t, os.Chmod(d+"/d", 0o755|os.ModeSetgid))
		write(t, d+"/d/f", "")
		must(t, os.Mkdir(d+"/d/e", 0o755))
		if s := stat(t, d+"/d/f"); s.Gid != 1234 {
			t.Errorf("the file's group is %d", s.Gid)
		}
		if s := stat(t, d+"/d/e"); s.Gid != 1234 || s.Mode&syscall.S_ISGID == 0 {
			t.Errorf("the directory's group is %d, its mode %o", s.Gid, s.Mode)
		}
	}},
	{"times", func(t *testing.T, d string) {
		write(t, d+"/f", "x")
		for _, ts := range [][2]unix.Timespec{{{Sec: 1e9, Nsec: 123456789}, {Sec: 1234567890, Nsec: 1}}, {{Sec: -5, Nsec: 500}, {Sec: 0, Nsec: 0}}} {
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, d+"/f", ts[:], 0))
			if s := stat(t, d+"/f"); unix.Timespec(s.Atim) != ts[0] || unix.Timespec(s.Mtim) != ts[1] {
				t.Errorf("%v, %v; want %v", s.Atim, s.Mtim, ts)
			}
		}
		before := time.Now().Add(-time.Second)
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, d+"/f", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}, 0))
		if s := stat(t, d+"/f"); s.Atim.Sec != -5 || time.Unix(s.Mtim.Unix()).Before(before) {
			t.Errorf("%v, %v", s.Atim, s.Mtim)
		}
	}},
	{"a write changes mtime, a read of another does not", func(t *testing.T, d string) {
		write(t, d+"/f", "x")
		old := time.Unix(1e9, 0)
		must(t, os.Chtimes(d+"/f", old, old))
		wantFile(t, d+"/f", "x")
		if s := stat(t, d+"/f"); s.Mtim.Sec != 1e9 {
			t.Errorf("%v", s.Mtim)
		}
		overwrite(t, d+"/f", "y")
		if s := stat(t, d+"/f"); s.Mtim.Sec == 1e9 {
			t.Errorf("%v", s.Mtim)
		}
	}},
	{"times of the directory", func(t *testing.T, d string) {
		old := time.Unix(1e9, 0)
		for _, do := range []func(){
			func() { write(t, d+"/f", "") }, func() { must(t, os.Link(d+"/f", d+"/g")) },
			func() { must(t, os.Rename(d+"/f", d+"/h")) }, func() { must(t, os.Remove(d+"/g")) },
			func() { must(t, os.Mkdir(d+"/d", 0o755)) }, func() { must(t, os.Remove(d+"/d")) },
		} {
			must(t, os.Chtimes(d, old, old))
			do()
			if s := stat(t, d); s.Mtim.Sec == 1e9 {
				t.Errorf("%v", s.Mtim)
			}
		}
	}},
	{"inode numbers", func(t *testing.T, d string) {
		write(t, d+"/f", "")
		ino := stat(t, d+"/f").Ino
		es, err := os.ReadDir(d)
		must(t, err)
		if len(es) != 1 {
			t.Fatalf("%v", es)
		}
		if fi, err := es[0].Info(); err != nil || fi.Sys().(*syscall.Stat_t).Ino != ino || direntIno(t, d, "f") != ino {
			t.Errorf("%v, %v", fi, err)
		}
	}},
	{"statx, fstat, fstatat of .", func(t *testing.T, d string) {
		write(t, d+"/f", "abc")
		var sx unix.Statx_t
		must(t, unix.Statx(unix.AT_FDCWD, d+"/f", 0, unix.STATX_BASIC_STATS, &sx))
		if sx.Size != 3 || sx.Ino != stat(t, d+"/f").Ino {
			t.Errorf("%+v", sx)
		}
	}},
	{"statfs", func(t *testing.T, d string) {
		var s unix.Statfs_t
		must(t, unix.Statfs(d, &s))
		if s.Blocks == 0 || s.Bsize == 0 || s.Namelen != 255 || s.Bfree > s.Blocks {
			t.Errorf("%+v", s)
		}
	}},
	{"access", func(t *testing.T, d string) {
		write(t, d+"/f", "")
		must(t, unix.Access(d+"/f", unix.R_OK|unix.W_OK))
		wantErr(t, unix.Access(d+"/f", unix.X_OK), unix.EACCES)
		must(t, unix.Access(d, unix.X_OK))
	}},
	{"names", func(t *testing.T, d string) {
		for _, n := range []string{"a b", "ü", "\x01\xff", "...", strings.Repeat("n", 255), "-rf", "a\\b", "new\nline"} {
			write(t, d+"/"+n, n)
			wantFile(t, d+"/"+n, n)
		}
		wantErr(t, os.WriteFile(d+"/"+strings.Repeat("n", 256), nil, 0o644), syscall.ENAMETOOLONG)
		if n := len(list(t, d)); n != 8 {
			t.Errorf("%d names", n)
		}
	}},
	{"a directory that is not one", func(t *testing.T, d string) {
		write(t, d+"/f", "")
		wantErr(t, lstat(d+"/f/x"), syscall.ENOTDIR)
		_, err := os.ReadDir(d + "/f")
		wantErr(t, err, syscall.ENOTDIR)
	}},
	{"readdir", func(t *testing.T, d string) {
		want := []string{"sub"}
		must(t, os.Mkdir(d+"/sub", 0o755))
		for i := range 300 {
			n := fmt.Sprintf("file-%03d", i)
			write(t, d+"/"+n, "")
			want = append(want, n)
		}
		sort.Strings(want)
		if got := list(t, d); !slices.Equal(got, want) {
			t.Errorf("%d names", len(got))
		}
		raw := dirents(t, d)
		if raw["."] == 0 || raw[".."] == 0 || len(raw) != len(want)+2 {
			t.Errorf("%d raw entries, . is %d, .. is %d", len(raw), raw["."], raw[".."])
		}
	}},
	{"seekdir", func(t *testing.T, d string) {
		for i := range 100 {
			write(t, fmt.Sprintf("%s/%d", d, i), "")
		}
		f := openFile(t, d, os.O_RDONLY)
		all, err := f.Readdirnames(-1)
		must(t, err)
		_, err = f.Seek(0, io.SeekStart)
		must(t, err)
		again, err := f.Readdirnames(-1)
		must(t, err)
		if len(all) != 100 || !slices.Equal(all, again) {
			t.Errorf("%d, then %d names", len(all), len(again))
		}
	}},
	{"fsync of files and directories", func(t *testing.T, d string) {
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		_, err := f.WriteString("x")
		must(t, err)
		must(t, f.Sync())
		must(t, unix.Fdatasync(int(f.Fd())))
		dir := openFile(t, d, os.O_RDONLY)
		must(t, dir.Sync())
	}},
	{"extended attributes", func(t *testing.T, d string) {
		write(t, d+"/f", "")
		p := d + "/f"
		if n, err := unix.Listxattr(p, nil); err != nil || n != 0 {
			t.Errorf("%d, %v", n, err)
		}
		_, err := unix.Getxattr(p, "user.a", nil)
		wantErr(t, err, unix.ENODATA)
		must(t, unix.Setxattr(p, "user.a", []byte("value"), unix.XATTR_CREATE))
		wantErr(t, unix.Setxattr(p, "user.a", nil, unix.XATTR_CREATE), unix.EEXIST)
		wantErr(t, unix.Setxattr(p, "user.b", nil, unix.XATTR_REPLACE), unix.ENODATA)
		must(t, unix.Setxattr(p, "user.empty", nil, 0))
		if n, err := unix.Getxattr(p, "user.a", nil); err != nil || n != 5 {
			t.Errorf("size %d, %v", n, err)
		}
		_, err = unix.Getxattr(p, "user.a", make([]byte, 2))
		wantErr(t, err, unix.ERANGE)
		b := make([]byte, 100)
		n, err := unix.Getxattr(p, "user.a", b)
		must(t, err)
		if string(b[:n]) != "value" {
			t.Errorf("%q", b[:n])
		}
		if n, err = unix.Getxattr(p, "user.empty", b); err != nil || n != 0 {
			t.Errorf("empty: %d, %v", n, err)
		}
		n, err = unix.Listxattr(p, b)
		must(t, err)
		if names := strings.Split(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00"); len(names) != 2 {
			t.Errorf("%q", names)
		}
		_, err = unix.Listxattr(p, make([]byte, 3))
		wantErr(t, err, unix.ERANGE)
		must(t, unix.Removexattr(p, "user.a"))
		wantErr(t, unix.Removexattr(p, "user.a"), unix.ENODATA)
		_, err = unix.Getxattr(p, "security.capability", nil)
		wantErr(t, err, unix.ENODATA)
	}},
	{"mmap, reading", func(t *testing.T, d string) {
		write(t, d+"/f", strings.Repeat("mapped", 2000))
		for _, flags := range []int{unix.MAP_SHARED, unix.MAP_PRIVATE} {
			for _, mode := range []int{os.O_RDONLY, os.O_RDWR} {
				f := openFile(t, d+"/f", mode)
				m := mapFile(t, f, 12000, unix.PROT_READ, flags)
				if m.at(t, 0, 12000) != strings.Repeat("mapped", 2000) {
					t.Error("the mapping differs")
				}
				m.close()
			}
		}
	}},
	{"mmap, writing", func(t *testing.T, d string) {
		write(t, d+"/f", strings.Repeat(".", 3*page))
		f := openFile(t, d+"/f", os.O_RDWR)
		m := mapFile(t, f, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		m.put(t, 0, "x")
		m.put(t, 2*page, "y")
		m.sync(t)
		if s := readAt(t, f, 0, 2) + readAt(t, f, 2*page, 2); s != "x.y." {
			t.Errorf("%q", s)
		}
		_, err := f.WriteAt([]byte("z"), 1)
		must(t, err)
		if m.at(t, 1, 1) != "z" {
			t.Error("the mapping does not show a write")
		}
		m.put(t, 2, "w")
		m.close()
		must(t, f.Close())
		if b, err := os.ReadFile(d + "/f"); err != nil || string(b[:4]) != "xzw." {
			t.Errorf("%q, %v", b[:4], err)
		}
	}},
	{"mmap of a file that is opened to append", func(t *testing.T, d string) {
		write(t, d+"/f", strings.Repeat(".", page))
		f := openFile(t, d+"/f", os.O_RDWR|os.O_APPEND)
		m := mapFile(t, f, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		m.put(t, 7, "x")
		m.sync(t)
		m.close()
		wantFile(t, d+"/f", strings.Repeat(".", 7)+"x"+strings.Repeat(".", page-8))
	}},
	{"a file handle", func(t *testing.T, d string) {
		if os.Geteuid() != 0 {
			t.Log("only root can open by handle")
			return
		}
		write(t, d+"/f", "by handle")
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, d+"/f", 0)
		must(t, err)
		dir := openFile(t, d, os.O_RDONLY)
		fd, err := unix.OpenByHandleAt(int(dir.Fd()), h, unix.O_RDONLY)
		must(t, err)
		f := os.NewFile(uintptr(fd), "f")
		defer f.Close()
		if s := readAt(t, f, 0, 9); s != "by handle" {
			t.Errorf("%q", s)
		}
	}},
	{"an inode number that is used again", func(t *testing.T, d string) {
		for i := range 20 {
			p := d + "/f"
			write(t, p, fmt.Sprint(i))
			f := openFile(t, p, os.O_RDONLY)
			must(t, os.Remove(p))
			must(t, f.Close())
			write(t, p, fmt.Sprint("again", i))
			wantFile(t, p, fmt.Sprint("again", i))
			must(t, os.Remove(p))
			must(t, os.Mkdir(p, 0o755))
			if stat(t, p).Mode&syscall.S_IFMT != syscall.S_IFDIR {
				t.Fatal("not a directory")
			}
			must(t, os.Remove(p))
		}
	}},
	{"ioctl is not for files", func(t *testing.T, d string) {
		f := openFile(t, d+"/f", os.O_CREATE|os.O_RDWR)
		_, err := unix.IoctlGetInt(int(f.Fd()), unix.TCGETS)
		wantErr(t, err, unix.ENOTTY)
	}},
	{"sendfile", func(t *testing.T, d string) {
		write(t, d+"/f", strings.Repeat("s", 100_000))
		f, g := openFile(t, d+"/f", os.O_RDONLY), openFile(t, d+"/g", os.O_CREATE|os.O_WRONLY)
		for sent := 0; sent < 100_000; {
			n, err := unix.Sendfile(int(g.Fd()), int(f.Fd()), nil, 100_000)
			must(t, err)
			sent += n
		}
		wantFile(t, d+"/g", strings.Repeat("s", 100_000))
	}},
	{"O_DIRECT", func(t *testing.T, d string) {
		write(t, d+"/f", strings.Repeat("d", 2*page))
		fd, err := unix.Open(d+"/f", unix.O_RDONLY|unix.O_DIRECT, 0)
		must(t, err)
		defer unix.Close(fd)
		b, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		must(t, err)
		defer func() { must(t, unix.Munmap(b)) }()
		n, err := unix.Pread(fd, b, page)
		if err != nil || n != page || b[page-1] != 'd' {
			t.Errorf("%d, %v", n, err)
		}
	}},
}

func TestPOSIX(t *testing.T) {
	for name, backend := range map[string]func(t *testing.T) p9srv.Backend{
		"plain":  func(t *testing.T) p9srv.Backend { b, _ := exportDir(t); return b },
		"tokens": func(t *testing.T) p9srv.Backend { b, _ := exportDir(t); return newTokenServer(b).client() },
	} {
		t.Run(name, func(t *testing.T) {
			m := mounted(t, backend(t), Options{})
			for i, tt := range posix {
				t.Run(tt.name, func(t *testing.T) {
					d := fmt.Sprintf("%s/%d", m.Path(), i)
					must(t, os.Mkdir(d, 0o755))
					tt.do(t, d)
				})
			}
		})
	}
}
