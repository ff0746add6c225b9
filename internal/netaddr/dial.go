package netaddr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"syscall"
)

// Dial connects to the server at the address.
func (a Addr) Dial(ctx context.Context) (net.Conn, error) {
	c, err := a.dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("dialing %s: %w%s", a, err, a.dialAdvice(err))
	}
	return c, nil
}

func (a Addr) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	switch a.Net {
	case TCP:
		host := a.Host
		if host == "" {
			host = "localhost"
		}
		return bare(d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(a.Port)))))
	case Unix:
		return bare(d.DialContext(ctx, "unix", a.Path))
	case Vsock:
		return dialVsock(ctx, a)
	case FD:
		return fdConn(a.FD, a)
	case Stdio:
		return stdioConn()
	}
	return nil, fmt.Errorf("an empty address: %s", notations)
}

// bare takes away what net's errors repeat of the address.
func bare(c net.Conn, err error) (net.Conn, error) {
	var op *net.OpError
	if errors.As(err, &op) {
		return nil, op.Err
	}
	return c, err
}

func (a Addr) dialAdvice(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return ": check the host's name; a unix socket's path has a slash in it"
	case errors.Is(err, syscall.ECONNREFUSED):
		return ": nobody serves there: start the server, or check the address it printed"
	case a.Net == Unix && errors.Is(err, fs.ErrNotExist):
		return ": there is no such socket: start the server, or check the address it printed"
	case errors.Is(err, fs.ErrPermission):
		return ": the socket is private to the user who serves: run as that user, or ask for another address"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return ": no answer: check the host, and that no firewall is in between"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return ": no way there: check the host and the network"
	case a.Net == Vsock && errors.Is(err, syscall.EAFNOSUPPORT):
		return ": this kernel has no vsock: load the module vsock, or use another network"
	}
	return ""
}
