package netaddr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Private is the unix socket of that name in the user's own directory:
// $XDG_RUNTIME_DIR/echo9, for root /run/echo9, else echo9-UID where temporary
// files are. Listen makes the directory, for that user alone.
func Private(name string) (Addr, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") || name[0] == '.' {
		return Addr{}, fmt.Errorf("%q is no name for a socket: one without slashes and a dot in front", name)
	}
	a, err := parsePath(filepath.Join(privateDir(), strings.TrimSuffix(name, ".sock")+".sock"))
	a.private = true
	return a, err
}

func privateDir() string {
	switch dir := os.Getenv("XDG_RUNTIME_DIR"); {
	case os.Geteuid() == 0:
		return "/run/echo9"
	case filepath.IsAbs(dir):
		return filepath.Join(dir, "echo9")
	}
	return filepath.Join(os.TempDir(), "echo9-"+strconv.Itoa(os.Geteuid()))
}

// Listen listens at the address. A listener of FD or Stdio that is one
// connection gives it to the first Accept; the next one waits until that
// connection is closed, and gives io.EOF.
func (a Addr) Listen(ctx context.Context) (net.Listener, error) {
	l, err := a.listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w%s", a, err, a.listenAdvice(err))
	}
	return l, nil
}

func (a Addr) listen(ctx context.Context) (net.Listener, error) {
	switch a.Net {
	case TCP:
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port))))
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return l, err
	case Unix:
		return a.listenUnix(ctx)
	case Vsock:
		return listenVsock(a)
	case FD:
		return fdListener(a.FD, a)
	case Stdio:
		c, err := stdioConn()
		if err != nil {
			return nil, err
		}
		return newOneListener(c, a), nil
	}
	return nil, fmt.Errorf("an empty address: %s", notations)
}

func (a Addr) listenAdvice(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns), errors.Is(err, syscall.EADDRNOTAVAIL):
		return ": the host must be one of this machine's addresses, or * for all of them"
	case errors.Is(err, syscall.EADDRINUSE):
		return ": somebody else listens there: choose another, or stop it"
	case a.Net == TCP && errors.Is(err, fs.ErrPermission):
		return ": ports below 1024 are root's: choose a higher one, such as 5640"
	case errors.Is(err, fs.ErrPermission):
		return ": choose a path where you may create files"
	case a.Net == Unix && errors.Is(err, fs.ErrNotExist):
		return ": its directory does not exist: make it first"
	case a.Net == Vsock && errors.Is(err, syscall.EAFNOSUPPORT):
		return ": this kernel has no vsock: load the module vsock, or use another network"
	}
	return ""
}

// For tests: breaks of the promises, and a look into the moment after a stale
// socket was found.
var (
	breakMode, breakLock bool
	foundStale           = func() {}
)

// ErrLive says that another server lives at the socket.
var ErrLive = errors.New("another server serves there already: stop it, or choose another path")

func (a Addr) listenUnix(ctx context.Context) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// Linux gives the socket file the mode that the socket has when it is
		// bound: there is no moment at which others could connect.
		if cerr := c.Control(func(fd uintptr) {
			if !breakMode {
				err = unix.Fchmod(int(fd), 0o600)
			}
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	if a.Path[0] != '@' {
		if a.private {
			if err := makePrivate(filepath.Dir(a.Path)); err != nil {
				return nil, err
			}
		}
		unlock, err := lockPath(a.Path)
		if err != nil {
			return nil, err
		}
		defer unlock()
		if err := removeStale(ctx, a.Path); err != nil {
			return nil, err
		}
	}
	l, err := lc.Listen(ctx, "unix", a.Path)
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return l, err
}

// makePrivate makes a directory that is the user's alone, and refuses one that is not.
func makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a directory of yours with mode 0700: remove it, or choose another path: %w", dir, fs.ErrPermission)
	}
	return nil
}

// lockPath keeps others from listening at the path until unlock: of two servers
// that find a stale socket at once, the second would remove the first's.
func lockPath(path string) (unlock func(), err error) {
	if breakLock {
		return func() {}, nil
	}
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock")
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			f.Close()
			return nil, err
		}
		ours, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if now, err := os.Stat(name); err == nil && os.SameFile(ours, now) {
			return func() {
				os.Remove(name)
				f.Close()
			}, nil
		}
		f.Close() // its last owner removed it meanwhile
	}
}

// removeStale removes a socket whose server is dead.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("there is something else, not a socket: choose another path: %w", fs.ErrExist)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		c.Close()
		return ErrLive
	case errors.Is(err, syscall.ECONNREFUSED):
		foundStale()
		return os.Remove(path)
	case errors.Is(err, syscall.EAGAIN): // its queue is full
		return ErrLive
	}
	return err
}
