// Command probe does to a file what no shell command does, and says what went
// wrong: shared mappings, byte-range locks, work on files without a name.
//
//	probe mmap FILE        a shared writable mapping, seen by read(2) after msync
//	probe locks FILE       conflicts, F_GETLK of both kinds, release at close
//	probe unlinked FILE    write, truncate, chmod, stat of an open file without a name
//	probe replaced FILE    an open file over which another was renamed
//	probe append FILE      two writers with O_APPEND
//	probe sparse FILE      holes, and sizes beyond 4 GiB
//
// FILE is made and, in the end, removed.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

var probes = map[string]func(name string) error{
	"mmap": probeMmap, "locks": probeLocks, "unlinked": probeUnlinked,
	"replaced": probeReplaced, "append": probeAppend, "sparse": probeSparse,
	"hold-lock": holdLock,
}

func main() {
	if len(os.Args) != 3 || probes[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: probe mmap|locks|unlinked|replaced|append|sparse FILE")
		os.Exit(2)
	}
	err := probes[os.Args[1]](os.Args[2])
	if os.Args[1] != "hold-lock" {
		os.Remove(os.Args[2])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "probe %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// firstOf gives the first error, with what was being done.
func firstOf(steps ...any) error {
	for i := 0; i+1 < len(steps); i += 2 {
		if err, ok := steps[i+1].(error); ok && err != nil {
			return fmt.Errorf("%s: %w", steps[i], err)
		}
	}
	return nil
}

func open(name string, flags int) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|flags, 0o644)
}

func want(what string, got, want any) error {
	if got != want {
		return fmt.Errorf("%s is %v, not %v", what, got, want)
	}
	return nil
}

func probeMmap(name string) error {
	f, err := open(name, os.O_TRUNC)
	if err != nil {
		return err
	}
	defer f.Close()
	const size = 3*4096 + 100
	if err := f.Truncate(size); err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer unix.Munmap(m)
	copy(m, "first")
	copy(m[2*4096-3:], "across pages")
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		return fmt.Errorf("msync: %w", err)
	}
	got := make([]byte, 12)
	if _, err := f.ReadAt(got, 2*4096-3); err != nil {
		return err
	}
	if err := want("what read(2) sees of the mapping", string(got), "across pages"); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte("second"), 4096); err != nil {
		return err
	}
	return want("what the mapping sees of write(2)", string(m[4096:4096+6]), "second")
}

func lockOf(typ int16, start, length int64) *unix.Flock_t {
	return &unix.Flock_t{Type: typ, Whence: io.SeekStart, Start: start, Len: length}
}

func probeLocks(name string) error {
	f, err := open(name, os.O_TRUNC)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(1000); err != nil {
		return err
	}
	// Another process holds a read lock on 0–99 and a write lock on 100–199.
	other := exec.Command(os.Args[0], "hold-lock", name)
	in, err := other.StdinPipe()
	if err != nil {
		return err
	}
	out, err := other.StdoutPipe()
	if err != nil {
		return err
	}
	if err := other.Start(); err != nil {
		return err
	}
	defer func() { in.Close(); other.Wait() }()
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		return fmt.Errorf("the other process got no locks: %w", err)
	}
	fd := f.Fd()
	if err := unix.FcntlFlock(fd, unix.F_SETLK, lockOf(unix.F_RDLCK, 0, 100)); err != nil {
		return fmt.Errorf("a read lock beside a read lock: %w", err)
	}
	for what, l := range map[string]*unix.Flock_t{
		"a write lock over a read lock": lockOf(unix.F_WRLCK, 50, 10),
		"a read lock over a write lock": lockOf(unix.F_RDLCK, 150, 10),
	} {
		err := unix.FcntlFlock(fd, unix.F_SETLK, l)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return fmt.Errorf("%s: %v, not EAGAIN", what, err)
		}
	}
	get := lockOf(unix.F_WRLCK, 150, 10)
	if err := unix.FcntlFlock(fd, unix.F_GETLK, get); err != nil {
		return fmt.Errorf("F_GETLK: %w", err)
	}
	if err := want("the type that F_GETLK tells", get.Type, int16(unix.F_WRLCK)); err != nil {
		return err
	}
	get = lockOf(unix.F_WRLCK, 500, 10)
	if err := unix.FcntlFlock(fd, unix.F_GETLK, get); err != nil {
		return fmt.Errorf("F_GETLK of a free range: %w", err)
	}
	if err := want("the type that F_GETLK tells of a free range", get.Type, int16(unix.F_UNLCK)); err != nil {
		return err
	}
	in.Close() // the other one closes the file, and with it its locks
	if err := other.Wait(); err != nil {
		return fmt.Errorf("the other process: %w", err)
	}
	return firstOf(
		"a write lock after the other's end", unix.FcntlFlock(fd, unix.F_SETLKW, lockOf(unix.F_WRLCK, 0, 0)),
		"unlock", unix.FcntlFlock(fd, unix.F_SETLK, lockOf(unix.F_UNLCK, 0, 0)))
}

// holdLock takes locks, says so on stdout, and holds them until stdin ends.
func holdLock(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := firstOf(
		"read lock", unix.FcntlFlock(f.Fd(), unix.F_SETLK, lockOf(unix.F_RDLCK, 0, 100)),
		"write lock", unix.FcntlFlock(f.Fd(), unix.F_SETLK, lockOf(unix.F_WRLCK, 100, 100)),
	); err != nil {
		return err
	}
	fmt.Print("x")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func probeUnlinked(name string) error {
	f, err := open(name, os.O_TRUNC)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("before"); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil {
		return err
	}
	if err := withoutName(f, "before"); err != nil {
		return err
	}
	if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the name is still there: %v", err)
	}
	return nil
}

func probeReplaced(name string) error {
	f, err := open(name, os.O_TRUNC)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("old"); err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", []byte("new content"), 0o644); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	if err := withoutName(f, "old"); err != nil {
		return err
	}
	got, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return want("the new file", string(got), "new content")
}

// withoutName works on an open file that has lost its name.
func withoutName(f *os.File, content string) error {
	got := make([]byte, 100)
	n, err := f.ReadAt(got, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read: %w", err)
	}
	if err := want("the open file's content", string(got[:n]), content); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte("changed"), 0); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := firstOf("ftruncate", f.Truncate(3), "fchmod", f.Chmod(0o600), "fsync", f.Sync()); err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if err := want("the size", st.Size, int64(3)); err != nil {
		return err
	}
	if err := want("the mode", st.Mode&0o777, uint32(0o600)); err != nil {
		return err
	}
	n, _ = f.ReadAt(got, 0)
	return want("the content", string(got[:n]), "cha")
}

func probeAppend(name string) error {
	a, err := open(name, os.O_TRUNC|os.O_APPEND)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := open(name, os.O_APPEND)
	if err != nil {
		return err
	}
	defer b.Close()
	for range 3 {
		if _, err := a.WriteString("a"); err != nil {
			return err
		}
		if _, err := b.WriteString("b"); err != nil {
			return err
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return want("the content", string(got), "ababab")
}

func probeSparse(name string) error {
	f, err := open(name, os.O_TRUNC)
	if err != nil {
		return err
	}
	defer f.Close()
	const far = 5 << 30
	if _, err := f.WriteAt([]byte("end"), far); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := want("the size", st.Size(), int64(far+3)); err != nil {
		return err
	}
	got := make([]byte, 1000)
	if _, err := f.ReadAt(got, far-500); err != nil && err != io.EOF {
		return err
	}
	if !bytes.Equal(got[:500], make([]byte, 500)) || string(got[500:503]) != "end" {
		return fmt.Errorf("the end of the hole reads %q", got[490:510])
	}
	return nil
}
