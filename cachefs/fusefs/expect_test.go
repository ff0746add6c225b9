package fusefs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func openFile(t testing.TB, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func setFlags(t testing.TB, f *os.File, flags int) {
	t.Helper()
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	must(t, err)
}

func rename2(from, to string, flags uint) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
}

func wantFile(t testing.TB, path, want string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || string(b) != want {
		if len(want) > 60 {
			t.Errorf("%s: %d bytes, %v; want %d", filepath.Base(path), len(b), err, len(want))
			return
		}
		t.Errorf("%s: %q, %v; want %q", filepath.Base(path), b, err, want)
	}
}

func wantSize(t testing.TB, path string, want int64) {
	t.Helper()
	if n := size(t, path); n != want {
		t.Errorf("%s has %d bytes, want %d", filepath.Base(path), n, want)
	}
}

func wantErr(t testing.TB, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}

func lstat(path string) error { _, err := os.Lstat(path); return err }

func stat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	var s syscall.Stat_t
	must(t, syscall.Lstat(path, &s))
	return &s
}

func nlink(t testing.TB, path string) uint64 { t.Helper(); return uint64(stat(t, path).Nlink) }

// dirents gives the names in a directory, "." and ".." included, with their inode numbers.
func dirents(t testing.TB, dir string) map[string]uint64 {
	t.Helper()
	f := openFile(t, dir, os.O_RDONLY)
	m := map[string]uint64{}
	buf := make([]byte, 4096)
	for {
		n, err := unix.Getdents(int(f.Fd()), buf)
		must(t, err)
		if n == 0 {
			return m
		}
		for b := buf[:n]; len(b) > 0; {
			reclen := int(b[16]) | int(b[17])<<8
			var ino uint64
			for i := range 8 {
				ino |= uint64(b[i]) << (8 * i)
			}
			name, _, _ := bytes.Cut(b[19:reclen], []byte{0})
			if m[string(name)] != 0 {
				t.Errorf("%s is listed twice", name)
			}
			m[string(name)] = ino
			b = b[reclen:]
		}
	}
}

func direntIno(t testing.TB, dir, name string) uint64 { t.Helper(); return dirents(t, dir)[name] }
