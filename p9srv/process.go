package p9srv

import (
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// process watches a client's process by a descriptor, so that no other process
// that gets its number later is taken for it.
type process struct {
	fd   int
	refs atomic.Int32
}

// soPeerPidfd is SO_PEERPIDFD of Linux 6.5.
const soPeerPidfd = 77

// openProcess opens the process at the other end of a unix socket; nil when that cannot be had.
func openProcess(nc net.Conn, pid int) *process {
	uc, ok := nc.(*net.UnixConn)
	if !ok || pid <= 0 {
		return nil
	}
	fd := -1
	if raw, err := uc.SyscallConn(); err == nil {
		raw.Control(func(sock uintptr) {
			if n, err := unix.GetsockoptInt(int(sock), unix.SOL_SOCKET, soPeerPidfd); err == nil {
				fd = n
			}
		})
	}
	if fd < 0 {
		n, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return nil
		}
		fd = n
	}
	unix.CloseOnExec(fd)
	p := &process{fd: fd}
	p.refs.Store(1)
	return p
}

// dead waits until the process has ended, for so long at most, and tells whether it has.
func (p *process) dead(wait time.Duration) bool {
	if p.refs.Add(1) <= 1 {
		p.refs.Add(-1)
		return false
	}
	defer p.close()
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(wait/time.Millisecond))
	return err == nil && n == 1
}

// close lets go of the process.
func (p *process) close() {
	if p != nil && p.refs.Add(-1) == 0 {
		unix.Close(p.fd)
	}
}
