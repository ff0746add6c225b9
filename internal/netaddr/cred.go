package netaddr

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Cred says who is at the other end of a unix socket.
type Cred struct {
	PID      int32
	UID, GID uint32
}

// PeerCred tells who connected. The error wraps ENOTSUP on connections that are
// no unix sockets.
func PeerCred(c net.Conn) (Cred, error) {
	if one, ok := c.(*oneConn); ok {
		c = one.Conn
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Cred{}, fmt.Errorf("peer credentials of %s: %w", c.RemoteAddr().Network(), syscall.ENOTSUP)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Cred{}, fmt.Errorf("peer credentials: %w", err)
	}
	var ucred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) {
		ucred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if cerr != nil {
		err = cerr
	}
	if err != nil {
		return Cred{}, fmt.Errorf("peer credentials: %w", err)
	}
	return Cred{PID: ucred.Pid, UID: ucred.Uid, GID: ucred.Gid}, nil
}
