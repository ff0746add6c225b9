package fusefs

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maxTransfer is the size of the largest READ and WRITE.
const maxTransfer = 1 << 20

// maxBackground is how many READs for pages, and WRITEs of pages, the kernel has outstanding at once. It is
// high since a READ may wait for a token, and the WRITE that frees the token must not queue behind it.
const maxBackground = 1024

// Options of a mount.
type Options struct {
	// AllowOther lets other users use the mount, too; an ordinary user needs user_allow_other in /etc/fuse.conf.
	AllowOther bool
	ReadOnly   bool
	// NonEmpty allows a mount point that is not empty.
	NonEmpty bool
	// NoPermissionChecks leaves the checking of permission bits to the backend.
	NoPermissionChecks bool
	// FsName is what df(1) and mount(8) show: usually the server's address.
	FsName string
	// Aname is the directory of the backend that is mounted; "" its root.
	Aname string
	// Cache is how long, at most a second, the kernel may serve names and attributes of a backend that is not
	// p9srv.Coherent.
	Cache time.Duration
	// Debug logs every request.
	Debug bool
	// Logf gets what is worth saying; nil: nothing is said.
	Logf func(format string, args ...any)

	hooks hooks
}

func (o *Options) logf(format string, args ...any) {
	if o.Logf != nil {
		o.Logf(format, args...)
	}
}

// Mounted is a mounted file system.
type Mounted struct {
	fs     *fileSystem
	server *fuse.Server
	path   string
	done   chan struct{}
}

// Mount mounts backend at mountpoint and serves it until it is unmounted, by
// Unmount or by anybody else.
func Mount(ctx context.Context, backend p9srv.Backend, mountpoint string, o Options) (*Mounted, error) {
	if o.FsName == "" {
		o.FsName = "echo9"
	}
	path, err := preparePoint(mountpoint, &o)
	if err != nil {
		return nil, err
	}
	f := &fileSystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), backend: backend, opts: o, path: path, hooks: o.hooks,
		uid: uint32(os.Geteuid()), clientID: lockClientID(),
	}
	f.coherent, _ = backend.(p9srv.Coherent)
	f.witness, _ = backend.(p9srv.Witness)
	gids, err := os.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("getgroups: %w", err)
	}
	for _, g := range gids {
		f.groups = append(f.groups, uint32(g))
	}
	root, err := backend.Root(ctx, &p9srv.Cred{UID: f.uid, GID: uint32(os.Getegid()), Groups: f.groups}, o.Aname)
	if err != nil {
		return nil, fmt.Errorf("mount %s: its root: %w", path, err)
	}
	f.nodes = newNodeTable(root.ID())
	n, _ := f.nodes.enter(root, true, 0, f.revs.Load)
	f.nodes.release(n)
	f.bg, f.stop = context.WithCancel(context.Background())

	m := &Mounted{fs: f, path: path, done: make(chan struct{})}
	if err := m.start(); err != nil {
		f.stop()
		f.nodes.clear()
		return nil, err
	}
	return m, nil
}

func (m *Mounted) start() error {
	f := m.fs
	fd, err := attach(m.path, &f.opts)
	if err != nil {
		return err
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		f.notify, err = newNotifier(own)
	}
	if err != nil {
		_ = unix.Close(fd)
		return errors.Join(fmt.Errorf("mount %s: %w", m.path, err), detach(m.path, true))
	}
	caps := uint64(fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_DIRECT_IO_ALLOW_MMAP | fuse.CAP_HANDLE_KILLPRIV_V2 |
		fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_EXPORT_SUPPORT)
	if f.hooks.writeback {
		caps |= fuse.CAP_WRITEBACK_CACHE
	}
	m.server, err = fuse.NewServer(f, fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{
		MaxWrite: maxTransfer, MaxReadAhead: maxTransfer, MaxBackground: maxBackground,
		DisableSplice: true, EnableLocks: true, EnableSymlinkCaching: true, Debug: f.opts.Debug,
		Logger: log.New(logWriter{f}, "", 0), ExtraCapabilities: caps, Name: "echo9",
	})
	if err != nil {
		f.notify.close()
		return errors.Join(fmt.Errorf("mount %s: %w", m.path, err), detach(m.path, true))
	}
	in := m.server.KernelSettings()
	f.notify.epoch = in.SupportsVersion(7, 44)
	f.notify.expireOnly = in.Flags64()&capHasExpireOnly != 0
	if f.coherent != nil {
		f.coherent.OnRevoke(f.revoke)
	}
	go m.serve()
	m.noPoll()
	return nil
}

// noPoll makes the kernel stop asking whether files can be polled, so that a
// program that opens files of its own mount (as our tests do) cannot get stuck in that question.
func (m *Mounted) noPoll() {
	fd, err := unix.Open(filepath.Join(m.path, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // the library knows that name; if not, nothing is lost
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}, 0)
	_ = unix.Close(fd)
}

func (m *Mounted) serve() {
	f := m.fs
	m.server.Serve()
	for _, h := range f.handles.all() {
		f.unref(h) // the kernel has no time for that when it is forced
	}
	f.background.wait()
	f.nodes.clear()
	f.notify.close()
	f.stop()
	close(m.done)
}

// Path is the mount point as the kernel knows it.
func (m *Mounted) Path() string { return m.path }

// Wait returns when the file system is no longer mounted and every request is done: whoever unmounted it.
func (m *Mounted) Wait() { <-m.done }

// Done is closed when Wait would return.
func (m *Mounted) Done() <-chan struct{} { return m.done }

// Stats tells what the mount has done so far.
func (m *Mounted) Stats() Stats { return m.fs.statsNow() }

// busyPatience is how long Unmount tries: what was just closed may not be released yet.
const busyPatience = 500 * time.Millisecond

// Unmount unmounts and waits until every request is done. When the file system is in use it fails with EBUSY and
// says by whom, as far as that can be seen; it stays mounted then.
func (m *Mounted) Unmount(ctx context.Context) error {
	began := time.Now()
	for {
		err := detach(m.path, false)
		if err == nil {
			break
		}
		select {
		case <-m.done:
			return nil
		default:
		}
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) {
			// Not mounted any more: somebody else was faster. What is left are the last requests.
			break
		}
		if !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("unmount %s: %w", m.path, err)
		}
		if time.Since(began) > busyPatience || !sleep(ctx, 20*time.Millisecond) {
			who := users(ctx, m.path)
			if who == "" {
				who = "some process has a file open or its working directory there"
			} else {
				who = "used by process " + who
			}
			return fmt.Errorf("unmount %s: %s; let it finish, or detach with umount -l (fusermount3 -uz): %w", m.path, who, syscall.EBUSY)
		}
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
	}
	if m.fs.notify.alive() {
		return fmt.Errorf("unmount %s: unmounted here, but it is mounted elsewhere, too, or a file is still open: %w", m.path, ctx.Err())
	}
	return fmt.Errorf("unmount %s: unmounted, but requests still run: %w", m.path, ctx.Err())
}

// logWriter is where the library's logger writes.
type logWriter struct{ f *fileSystem }

func (w logWriter) Write(b []byte) (int, error) {
	w.f.logf("%s", strings.TrimRight(string(b), "\n"))
	return len(b), nil
}
