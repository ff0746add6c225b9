package netaddr

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fdConn makes a connection of an inherited descriptor.
func fdConn(fd int, a Addr) (net.Conn, error) {
	kind, err := fdKind(fd)
	if err != nil {
		return nil, err
	}
	if kind == unix.S_IFSOCK {
		return socketConn(fd)
	}
	return newFileConn(pollable(fd, kind), nil, a), nil
}

// fdListener makes a listener of an inherited descriptor: a listening socket, or one connection.
func fdListener(fd int, a Addr) (net.Listener, error) {
	kind, err := fdKind(fd)
	if err != nil {
		return nil, err
	}
	if kind == unix.S_IFSOCK {
		if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && n == 1 {
			f := os.NewFile(uintptr(fd), "listener")
			defer f.Close()
			return net.FileListener(f)
		}
	}
	c, err := fdConn(fd, a)
	if err != nil {
		return nil, err
	}
	return newOneListener(c, a), nil
}

func fdKind(fd int) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("descriptor %d is not open: start echo9 with it, as in 3<>socket: %w", fd, err)
	}
	return st.Mode & unix.S_IFMT, nil
}

func socketConn(fd int) (net.Conn, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	return net.FileConn(f)
}

// pollable makes a file whose reads end with Close, where it is a pipe. A
// terminal is shared with the shell: it stays as it is.
func pollable(fd int, kind uint32) *os.File {
	unix.CloseOnExec(fd)
	if kind == unix.S_IFIFO {
		_ = unix.SetNonblock(fd, true) // only makes Close prompt
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("fd %d", fd))
}

// stdioConn is standard input and output as one connection.
func stdioConn() (net.Conn, error) {
	in, err := fdKind(0)
	if err != nil {
		return nil, err
	}
	out, err := fdKind(1)
	if err != nil {
		return nil, err
	}
	return newFileConn(pollable(0, in), pollable(1, out), Addr{Net: Stdio}), nil
}

// fileConn is a connection over files: r and w may be one.
type fileConn struct {
	r, w *os.File
	addr Addr
}

func newFileConn(r, w *os.File, a Addr) *fileConn {
	if w == nil {
		w = r
	}
	return &fileConn{r, w, a}
}

func (c *fileConn) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *fileConn) Write(p []byte) (int, error) { return c.w.Write(p) }
func (c *fileConn) LocalAddr() net.Addr         { return c.addr }
func (c *fileConn) RemoteAddr() net.Addr        { return c.addr }

func (c *fileConn) Close() error {
	err := c.r.Close()
	if c.w != c.r {
		err = errors.Join(err, c.w.Close())
	}
	return err
}

func (c *fileConn) SetDeadline(t time.Time) error {
	return errors.Join(c.r.SetReadDeadline(t), c.w.SetWriteDeadline(t))
}
func (c *fileConn) SetReadDeadline(t time.Time) error  { return c.r.SetReadDeadline(t) }
func (c *fileConn) SetWriteDeadline(t time.Time) error { return c.w.SetWriteDeadline(t) }

// SyscallConn gives the descriptor that is read from.
func (c *fileConn) SyscallConn() (syscall.RawConn, error) { return c.r.SyscallConn() }

// oneListener gives its one connection, and ends with it.
type oneListener struct {
	addr   Addr
	first  chan net.Conn
	closed chan struct{} // the listener is
	ended  chan struct{} // the connection is
	once   sync.Once
}

func newOneListener(c net.Conn, a Addr) *oneListener {
	l := &oneListener{addr: a, first: make(chan net.Conn, 1), closed: make(chan struct{}), ended: make(chan struct{})}
	l.first <- &oneConn{Conn: c, ended: l.ended}
	return l
}

func (l *oneListener) Addr() net.Addr { return l.addr }

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.first:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-l.ended:
		return nil, io.EOF
	}
}

func (l *oneListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		select {
		case c := <-l.first: // nobody took it
			c.Close()
		default:
		}
	})
	return nil
}

// oneConn tells its listener when it is closed.
type oneConn struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

func (c *oneConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.ended) })
	return err
}
