package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fsType is what mount(8) shows; by it we know our own mounts.
const fsType = "fuse.echo9"

// mountedAt finds the topmost mount at exactly path.
func mountedAt(path string) (typ, source string, ok bool) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", false
	}
	at := escapeMount(path)
	for line := range strings.SplitSeq(string(b), "\n") {
		w := strings.Fields(line)
		if len(w) < 10 || w[4] != at {
			continue
		}
		for i := 6; i+2 < len(w); i++ {
			if w[i] == "-" {
				typ, source, ok = w[i+1], w[i+2], true
				break
			}
		}
	}
	return typ, source, ok
}

// escapeMount writes a path as /proc/self/mountinfo does.
func escapeMount(p string) string {
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(p)
}

// preparePoint checks the mount point, and clears it of a mount of ours whose server died. It gives the
// path that the kernel will know it by.
func preparePoint(mountpoint string, o *Options) (string, error) {
	p, err := filepath.Abs(mountpoint)
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", mountpoint, err)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(p))
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", mountpoint, err)
	}
	p = filepath.Join(parent, filepath.Base(p))
	for range 8 { // several may lie on top of each other
		if _, err = os.Lstat(p); err == nil {
			err = answers(p)
		}
		if !errors.Is(err, syscall.ENOTCONN) {
			break
		}
		typ, _, _ := mountedAt(p)
		if typ != fsType {
			return "", fmt.Errorf("mount point %s: a dead mount of type %q is there, and not one of ours: unmount it first (umount -l): %w", p, typ, err)
		}
		o.logf("fuse: %s: clearing away a mount whose server is gone", p)
		if uerr := detach(p, true); uerr != nil {
			return "", fmt.Errorf("mount point %s: a mount whose server is gone cannot be cleared away: %w", p, uerr)
		}
	}
	if errors.Is(err, syscall.ENOENT) {
		return "", fmt.Errorf("mount point %s: there is no such directory: %w", p, syscall.ENOENT)
	}
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", p, err)
	}
	if p, err = filepath.EvalSymlinks(p); err != nil {
		return "", fmt.Errorf("mount point %s: %w", mountpoint, err)
	}
	st, err := os.Stat(p)
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", p, err)
	}
	if !st.IsDir() {
		return "", fmt.Errorf("mount point %s: %w", p, syscall.ENOTDIR)
	}
	if typ, source, ok := mountedAt(p); ok {
		return "", fmt.Errorf("mount point %s is in use: %s (%s) is mounted there: %w", p, source, typ, syscall.EBUSY)
	}
	if !o.NonEmpty {
		d, err := os.Open(p)
		if err != nil {
			return "", fmt.Errorf("mount point %s: %w", p, err)
		}
		names, _ := d.Readdirnames(1)
		_ = d.Close()
		if len(names) > 0 {
			return "", fmt.Errorf("mount point %s: a mount would hide what is in it (%s, …): %w", p, names[0], syscall.ENOTEMPTY)
		}
	}
	return p, nil
}

// answers asks who serves a mount of ours, if path is one: the kernel may have answered for him from its cache.
func answers(path string) error {
	if typ, _, ok := mountedAt(path); !ok || typ != fsType {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); errors.Is(err, syscall.ENOTCONN) {
		return err
	}
	return nil
}

// kernelOptions is what the kernel is to know of the mount, besides who serves it.
func kernelOptions(o *Options) []string {
	opts := []string{"max_read=" + strconv.Itoa(maxTransfer)}
	if !o.NoPermissionChecks {
		opts = append(opts, "default_permissions")
	}
	if o.AllowOther {
		opts = append(opts, "allow_other")
	}
	return opts
}

// attach mounts, and gives the descriptor of the connection.
func attach(path string, o *Options) (int, error) {
	if os.Geteuid() == 0 {
		fd, err := attachDirect(path, o)
		if err == nil || !errors.Is(err, syscall.EPERM) {
			return fd, err
		}
		// Root in a container without the capability: the helper may have it.
	}
	return attachHelper(path, o)
}

func attachDirect(path string, o *Options) (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w", err)
	}
	data := append([]string{
		"fd=" + strconv.Itoa(fd), "rootmode=40000",
		"user_id=" + strconv.Itoa(os.Geteuid()), "group_id=" + strconv.Itoa(os.Getegid()),
	}, kernelOptions(o)...)
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if o.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(o.FsName, path, fsType, flags, strings.Join(data, ",")); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("mount %s: %w", path, err)
	}
	return fd, nil
}

// helper is the setuid program that mounts for ordinary users.
func helper() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount", "/bin/fusermount3", "/usr/bin/fusermount3"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	return "", errors.New("fusermount3 is needed to mount without being root (Debian: apt install fuse3)")
}

func attachHelper(path string, o *Options) (int, error) {
	bin, err := helper()
	if err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount"), os.NewFile(uintptr(pair[1]), "fusermount")
	defer ours.Close()
	opts := append(kernelOptions(o), "subtype=echo9", "fsname="+strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(o.FsName))
	if o.ReadOnly {
		opts = append(opts, "ro")
	}
	cmd := exec.Command(bin, "-o", strings.Join(opts, ","), "--", path)
	cmd.ExtraFiles = []*os.File{theirs} // 3
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	var said bytes.Buffer
	cmd.Stderr = &said
	err = cmd.Run()
	_ = theirs.Close()
	if err != nil {
		return -1, fmt.Errorf("mount %s: %s: %s: %w", path, filepath.Base(bin), strings.TrimSpace(said.String()), syscall.EPERM)
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		return -1, fmt.Errorf("fusermount: %w", err)
	}
	defer conn.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(make([]byte, 4), oob)
	if err != nil {
		return -1, fmt.Errorf("fusermount: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("fusermount sent no descriptor: %w", syscall.EPROTO)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("fusermount sent no descriptor: %w", syscall.EPROTO)
	}
	unix.CloseOnExec(fds[0])
	return fds[0], nil
}

// detach unmounts path; lazy even while it is in use.
func detach(path string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(path, flags)
	if err == nil || !errors.Is(err, syscall.EPERM) {
		return err
	}
	bin, err := helper()
	if err != nil {
		return err
	}
	args := []string{"-u", "--", path}
	if lazy {
		args = []string{"-u", "-z", "--", path}
	}
	out, err := exec.Command(bin, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	said := strings.TrimSpace(string(out))
	if strings.Contains(said, "busy") {
		return syscall.EBUSY
	}
	if strings.Contains(said, "not found") || strings.Contains(said, "Invalid argument") {
		return syscall.EINVAL
	}
	return fmt.Errorf("%s: %s: %w", filepath.Base(bin), said, syscall.EPERM)
}

// usersPatience is how long users looks, on a busy machine with very many processes.
const usersPatience = 5 * time.Second

// users names a few processes that use something below path, as far as we may see.
func users(ctx context.Context, path string) string {
	ctx, cancel := context.WithTimeout(ctx, usersPatience)
	defer cancel()
	inside := func(link string) bool {
		to, err := os.Readlink(link)
		return err == nil && (to == path || strings.HasPrefix(to, path+"/"))
	}
	// Beside us: what /proc says of a process whose exec is stuck in a kernel is waited for until it is not.
	users, ended := make(chan string), make(chan struct{})
	go func() {
		defer close(ended)
		procs, _ := filepath.Glob("/proc/[0-9]*")
		for _, p := range procs {
			fds, _ := filepath.Glob(p + "/fd/*")
			for _, link := range append([]string{p + "/cwd", p + "/exe", p + "/root"}, fds...) {
				if ctx.Err() != nil {
					return
				}
				if inside(link) {
					comm, _ := os.ReadFile(p + "/comm")
					select {
					case users <- fmt.Sprintf("%s (%s)", filepath.Base(p), strings.TrimSpace(string(comm))):
					case <-ctx.Done():
					}
					break
				}
			}
		}
	}()
	var found []string
	for len(found) < 3 {
		select {
		case u := <-users:
			found = append(found, u)
			continue
		case <-ended:
		case <-ctx.Done():
		}
		break
	}
	return strings.Join(found, ", ")
}
