package dirfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// state is the private directory: the table of ids, and places for what has no name
// in the tree.
type state struct {
	dir     string // for messages
	fd      int    // the directory; what is in it is reached through it, whoever renames it
	lock    *os.File
	orphans int // kept alive for sessions, by id
	tmp     int // being made, or replaced, by a cut
}

// openState makes or opens the private directory of an export and takes its locks.
func openState(root, dir string, rootFD int, dev uint64) (*state, error) {
	if err := lockTree(root, rootFD); err != nil {
		return nil, err
	}
	if dir == "" {
		dir = filepath.Join(root, privateName)
	} else {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		dir = abs
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the private directory: %w", err)
		}
		inside, err := Contains(root, dir)
		if err != nil {
			return nil, err
		}
		if inside && dir != filepath.Join(root, privateName) {
			return nil, fmt.Errorf("the private directory %s lies inside the export, where clients would see it", dir)
		}
	}
	s := &state{dir: dir, fd: -1, orphans: -1, tmp: -1}
	if err := s.open(dev); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *state) open(dev uint64) error {
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the private directory (serve read-only, or name another place for it): %w", err)
	}
	var err error
	if s.fd, err = unix.Open(s.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the private directory %s: %w", s.dir, err)
	}
	var st unix.Statx_t
	if err := statFD(s.fd, &st); err != nil {
		return err
	}
	if stDev(&st) != dev || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return fmt.Errorf("the private directory %s is on another file system than the export", s.dir)
	}
	if st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("the private directory %s belongs to user %d", s.dir, st.Uid)
	}
	if err := unix.Fchmod(s.fd, 0o700); err != nil {
		return fmt.Errorf("close the private directory to others: %w", err)
	}
	if err := os.WriteFile(s.path(".gitignore"), []byte("*\n"), 0o600); err != nil {
		return fmt.Errorf("write the private directory: %w", err)
	}
	if s.lock, err = os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("lock the private directory: %w", err)
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("the private directory %s is in use by another server%s", s.dir, holder(s.dir))
	}
	if err := s.lock.Truncate(0); err != nil {
		return err
	}
	if _, err := s.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return err
	}
	for _, sub := range []struct {
		name string
		fd   *int
	}{{"orphans", &s.orphans}, {"tmp", &s.tmp}} {
		path := s.path(sub.name)
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make the private directory: %w", err)
		}
		if *sub.fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open %s in the private directory: %w", sub.name, err)
		}
		// What is made in here must inherit nothing: its own values are given to it.
		if err := unix.Fchmod(*sub.fd, 0o700); err != nil {
			return fmt.Errorf("close the private directory to others: %w", err)
		}
		if err := unix.Removexattr(path, "system.posix_acl_default"); err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return fmt.Errorf("have the private directory give no ACL: %w", err)
		}
	}
	return nil
}

// clear empties the places for what has no name, whoever may want it. Tests do that too early.
func (s *state) clear() error {
	for _, sub := range []string{"orphans", "tmp"} {
		entries, err := os.ReadDir(s.path(sub))
		for _, e := range entries {
			err = errors.Join(err, os.RemoveAll(s.path(sub)+"/"+e.Name()))
		}
		if err != nil {
			return fmt.Errorf("clear the private directory: %w", err)
		}
	}
	return nil
}

// path is the path of something in the private directory, however that is named now.
func (s *state) path(name string) string { return procPath(s.fd) + "/" + name }

func (s *state) close() error {
	for _, fd := range []int{s.fd, s.orphans, s.tmp} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	if s.lock != nil {
		return s.lock.Close()
	}
	return nil
}

// holder tells who holds a private directory, for messages.
func holder(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "lock"))
	if err != nil || len(b) == 0 {
		return ""
	}
	return " (process " + string(b[:len(b)-1]) + ")"
}

// lockTree locks the root directory itself, wherever its private directory is,
// and looks whether one of its ancestors is being served.
func lockTree(root string, rootFD int) error {
	if err := unix.Flock(rootFD, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s is being served by another server%s: stop that one, or be its client", root, holder(filepath.Join(root, privateName)))
	}
	for dir := root; dir != "/"; {
		dir = filepath.Dir(dir)
		if served(unix.AT_FDCWD, dir) {
			return fmt.Errorf("%s, above %s, is being served by another server%s: stop that one, or be its client", dir, root, holder(filepath.Join(dir, privateName)))
		}
	}
	return nil
}

// served says whether a directory is the root of a live server.
func served(dirfd int, name string) bool {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) == syscall.EWOULDBLOCK
}

// nested says whether the directory fd, below the export's root, belongs to
// another server that lives.
func (fs *FS) nested(fd int) bool {
	if fs.state == nil || unix.Faccessat(fd, privateName+"/lock", unix.F_OK, 0) != nil {
		return false
	}
	return served(fs.procFD, strconv.Itoa(fd)+"/.")
}
