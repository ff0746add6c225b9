package fusefs

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// mapping is a mapped file of a mount that this very process serves. Its memory is touched only by system
// calls: a page fault keeps its thread from the Go scheduler, and the garbage collector waits for that thread while
// those who would serve the fault wait for the garbage collector.
type mapping struct {
	mem []byte
	fd  int // of a scratch file
}

func mapFile(t testing.TB, f *os.File, length, prot, flags int) *mapping {
	t.Helper()
	mem, err := unix.Mmap(int(f.Fd()), 0, length, prot, flags)
	must(t, err)
	fd, err := unix.MemfdCreate("scratch", unix.MFD_CLOEXEC)
	must(t, err)
	m := &mapping{mem, fd}
	t.Cleanup(m.close)
	return m
}

// close unmaps the file. What is dirty is written before: munmap waits for that with the lock of the process's memory
// held, which those who are to take it in need.
func (m *mapping) close() {
	if m.mem != nil {
		_ = unix.Msync(m.mem, unix.MS_SYNC)
		_ = unix.Munmap(m.mem)
		_ = unix.Close(m.fd)
		m.mem = nil
	}
}

// at reads n bytes of the mapping.
func (m *mapping) at(t testing.TB, off, n int) string {
	t.Helper()
	_, err := unix.Pwrite(m.fd, m.mem[off:off+n], 0)
	must(t, err)
	b := make([]byte, n)
	_, err = unix.Pread(m.fd, b, 0)
	must(t, err)
	return string(b)
}

// put writes into the mapping.
func (m *mapping) put(t testing.TB, off int, s string) {
	t.Helper()
	_, err := unix.Pwrite(m.fd, []byte(s), 0)
	must(t, err)
	_, err = unix.Pread(m.fd, m.mem[off:off+len(s)], 0)
	must(t, err)
}

func (m *mapping) sync(t testing.TB) { t.Helper(); must(t, unix.Msync(m.mem, unix.MS_SYNC)) }
