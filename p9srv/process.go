package p9srv

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// process is a client's process, watched by a descriptor, so that no other process
// that gets its number later is taken for it.
type process struct{ f *os.File }

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
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil
	}
	return &process{os.NewFile(uintptr(fd), "pidfd")}
}

// wait waits until the process has ended; false: close came first, or it cannot be told.
func (p *process) wait() bool {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return false
	}
	dead := false
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		dead = err == nil && n == 1
		return dead
	})
	return err == nil && dead
}

// close lets go of the process.
func (p *process) close() {
	if p != nil {
		p.f.Close()
	}
}
