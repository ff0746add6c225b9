package p9srv

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"

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

// procName names a client's process among all that ever ran on this machine, "" if it is none of those.
func procName(peer Peer) string {
	if !peer.HasCred || peer.PID <= 0 {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", peer.PID))
	if err != nil {
		return ""
	}
	// The name of the command, in parentheses, may have anything in it. The time of the start is the 20th after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fmt.Sprintf("%s %d %s", bytes.TrimSpace(boot), peer.PID, fields[19])
}

// isAlive tells whether the process of that name is there.
func isAlive(name string) bool {
	var boot, start string
	var pid int
	if n, err := fmt.Sscan(name, &boot, &pid, &start); n != 3 || err != nil {
		return false
	}
	return procName(Peer{HasCred: true, PID: pid}) == name
}

// close lets go of the process.
func (p *process) close() {
	if p != nil {
		p.f.Close()
	}
}
