package netaddr

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func vsockSocket() (int, error) {
	return unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

func dialVsock(ctx context.Context, a Addr) (net.Conn, error) {
	cid := a.CID
	if cid == AnyCID {
		cid = LocalCID
	}
	fd, err := vsockSocket()
	if err != nil {
		return nil, err
	}
	err = unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: a.Port})
	f := os.NewFile(uintptr(fd), "vsock")
	c := newFileConn(f, nil, a)
	if err == unix.EINPROGRESS || err == unix.EAGAIN {
		stop := context.AfterFunc(ctx, func() { f.Close() })
		err = connected(f)
		if !stop() {
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

// connected waits until the socket is connected, or cannot be.
func connected(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	asked := false
	werr := raw.Write(func(fd uintptr) bool {
		if !asked { // be told when it is writable
			asked = true
			return false
		}
		var n int
		if n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
			err = syscall.Errno(n)
		}
		return true
	})
	if werr != nil {
		return werr
	}
	return err
}

type vsockListener struct {
	f    *os.File
	addr Addr
	once sync.Once
}

func listenVsock(a Addr) (net.Listener, error) {
	fd, err := vsockSocket()
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "vsock")
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: a.CID, Port: a.Port}); err != nil {
		f.Close()
		return nil, err
	}
	if err := unix.Listen(fd, 128); err != nil {
		f.Close()
		return nil, err
	}
	return &vsockListener{f: f, addr: a}, nil
}

func (l *vsockListener) Addr() net.Addr { return l.addr }

func (l *vsockListener) Accept() (net.Conn, error) {
	raw, err := l.f.SyscallConn()
	if err != nil {
		return nil, net.ErrClosed
	}
	var fd int
	var peer unix.Sockaddr
	rerr := raw.Read(func(s uintptr) bool {
		fd, peer, err = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return err != unix.EAGAIN
	})
	if rerr != nil {
		return nil, net.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	from := Addr{Net: Vsock}
	if vm, ok := peer.(*unix.SockaddrVM); ok {
		from.CID, from.Port = vm.CID, vm.Port
	}
	return newFileConn(os.NewFile(uintptr(fd), "vsock"), nil, from), nil
}

func (l *vsockListener) Close() (err error) {
	l.once.Do(func() { err = l.f.Close() })
	return err
}
