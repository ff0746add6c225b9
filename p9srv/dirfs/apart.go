package dirfs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

// asidePrefix begins the names of what a cut has in a directory that is apart, while it is
// being applied. Clients never see such names and cannot make them.
const asidePrefix = ".echo9-aside-"

// What a directory hands down to what is made in it, of the flags of FS_IOC_GETFLAGS: chattr(1)'s s u c S d A X j t D C x P F.
const handedDown = 0x1 | 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x400 | 0x4000 | 0x8000 | 0x10000 | 0x800000 | 0x2000000 | flagProject | 0x40000000

const flagProject = 0x20000000

// inherited is what a directory hands down that cannot be given to a finished inode, and
// in part forbids a rename from elsewhere.
type inherited struct {
	dev     uint64 // a subvolume
	policy  bool   // of encryption
	flags   uint32
	project uint32 // where flags say that it is handed down
}

// hands tells what directory fd hands down.
func (fs *FS) hands(fd int, st *unix.Statx_t) (inherited, error) {
	in := inherited{dev: stDev(st), policy: st.Attributes&unix.STATX_ATTR_ENCRYPTED != 0}
	switch fs.kind {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC:
	default:
		return in, nil
	}
	err := fs.forced(fd, func() error {
		d, err := unix.Openat(fs.procFD, itoa(fd), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(d)
		flags, err := unix.IoctlGetUint32(d, unix.FS_IOC_GETFLAGS)
		if err != nil {
			return nil // it has none
		}
		if in.flags = flags & handedDown; in.flags&flagProject == 0 {
			return nil
		}
		var x struct {
			xflags, extsize, nextents, project, cowextsize uint32
			_                                              [8]byte
		}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(d), fsIocFSGetXattr, uintptr(unsafe.Pointer(&x))); e == 0 {
			in.project = x.project
		}
		return nil
	})
	return in, err
}

// fsIocFSGetXattr is FS_IOC_FSGETXATTR of linux/fs.h: _IOR('X', 31, struct fsxattr).
const fsIocFSGetXattr = 0x801c581f

// lookAtPrivate finds out what the private place hands down.
func (fs *FS) lookAtPrivate() error {
	var st unix.Statx_t
	err := statFD(fs.state.tmp, &st)
	if err == nil {
		fs.tmpHands, err = fs.hands(fs.state.tmp, &st)
	}
	if err != nil {
		return fmt.Errorf("look at the private directory: %w", err)
	}
	return nil
}

// apart says whether what is new in directory d must be made there, and not in the private place:
// it would lack what the directory hands down, or could not be moved.
func (a *apply) apart(d *cutObj) (bool, error) {
	st, err := d.stat()
	if err != nil {
		return false, err
	}
	var in inherited
	err = d.with(func(fd int) (err error) {
		in, err = a.fs.hands(fd, st)
		return err
	})
	return in != a.fs.tmpHands, err
}

// aside is a place in directory d itself for something that is new, or has no name for the moment. That there
// is such a place in d is durable before it is used, so that what a crash leaves there is found.
func (a *apply) aside(d *cutObj) (place, error) {
	if err := a.fs.noteApart(d.n); err != nil {
		return place{}, err
	}
	return place{dir: d, name: asidePrefix + a.tmpPlace().name}, nil
}

// out is a place for something that loses its name in directory d: the private one, unless that is on another device.
func (a *apply) out(d *cutObj) (place, error) {
	if d != nil && !d.created() && d.n.key.dev != a.fs.dev {
		return a.aside(d)
	}
	return a.tmpPlace(), nil
}

// noteApart enters a directory in the list of those that may have something aside.
func (fs *FS) noteApart(n *node) error {
	fs.mu.Lock()
	noted, handle := n.apart, n.handle
	fs.mu.Unlock()
	if noted {
		return nil
	}
	fd, err := n.pin()
	if err == nil {
		err = fs.listApart(fd, handle)
		n.unpin()
	}
	if err != nil {
		return fmt.Errorf("note a directory apart: %w", err)
	}
	fs.mu.Lock()
	n.apart = true
	fs.mu.Unlock()
	return nil
}

// listApart enters directory fd in the list.
func (fs *FS) listApart(fd int, handle string) error {
	line := "handle " + hex.EncodeToString([]byte(handle))
	if handle == "" {
		path, err := os.Readlink(procPath(fd))
		if err != nil {
			return err
		}
		line = "path " + hex.EncodeToString([]byte(path))
	}
	if err := fs.step("note a directory apart"); err != nil {
		return err
	}
	f, err := os.OpenFile(fs.state.path(apartList), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
		err = errors.Join(err, f.Sync(), f.Close(), unix.Fsync(fs.state.fd))
	}
	return err
}

// apartList is the list of the directories that are apart, in the private directory.
const apartList = "apart"

// apartDirs opens the directories that may have something aside from before the server was started.
func (fs *FS) apartDirs() ([]int, error) {
	b, err := os.ReadFile(fs.state.path(apartList))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which directories are apart: %w", err)
	}
	var fds []int
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		kind, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) == 0 || seen[line] {
			continue // a torn line was not relied on
		}
		seen[line] = true
		fd := -1
		if kind == "handle" {
			fd, err = fs.openHandle(string(raw))
		} else if rel, rerr := filepath.Rel(fs.dir, string(raw)); rerr == nil {
			fd, err = openat2(fs.mountFD, rel, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		}
		if err == nil && fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds, nil
}

// asideIn lists what is aside in a directory.
func (fs *FS) asideIn(fd int) ([]string, error) {
	var names []string
	err := fs.forced(fd, func() error {
		d, err := unix.Openat(fs.procFD, itoa(fd), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(d)
		all, err := listFD(d)
		for _, name := range all {
			if strings.HasPrefix(name, asidePrefix) {
				names = append(names, name)
			}
		}
		return err
	})
	return names, err
}

// lookAside notes what of the log is aside in directories that are apart: to a recovery they are private places, too.
func (r *recovery) lookAside() (err error) {
	if r.apart, err = r.fs.apartDirs(); err != nil {
		return err
	}
	for _, fd := range r.apart {
		names, err := r.fs.asideIn(fd)
		if err != nil {
			return err
		}
		if err := r.lookAt(fd, names); err != nil {
			return err
		}
	}
	return nil
}

// placeFor gives the private place where g is to be made anew: if it is to get its name in a directory that is
// apart, there.
func (r *recovery) placeFor(g *journal.Goal) (fd int, prefix string, err error) {
	for _, s := range r.plan.Named(g.ID) {
		if _, there := r.seen.Objects[s.Dir]; !there {
			if d := r.plan.Goal(s.Dir); d != nil && d != g {
				return r.placeFor(d) // which is made anew, too
			}
			continue
		}
		dir, err := r.open(s.Dir)
		if err != nil {
			return -1, "", err
		}
		var st unix.Statx_t
		var in inherited
		if err = statFD(dir, &st); err == nil {
			in, err = r.fs.hands(dir, &st)
		}
		if err == nil && in != r.fs.tmpHands {
			handle := ""
			if d := r.plan.Goal(s.Dir); d != nil && len(d.Idents) > 0 && r.fs.openHandles {
				handle = d.Idents[0].Handle
			}
			r.apart = append(r.apart, dir)
			return dir, asidePrefix, r.fs.listApart(dir, handle)
		}
		unix.Close(dir)
		if err != nil {
			return -1, "", err
		}
	}
	return r.fs.state.tmp, "", nil
}

// clearApart removes what is aside, when nothing of it is wanted any more.
func (fs *FS) clearApart() error {
	fds, err := fs.apartDirs()
	defer closeFDs(fds...)
	for _, fd := range fds {
		names, lerr := fs.asideIn(fd)
		err = errors.Join(err, lerr)
		for _, name := range names {
			err = errors.Join(err, fs.forced(fd, func() error { return os.RemoveAll(procPath(fd) + "/" + name) }))
		}
	}
	if err != nil {
		return fmt.Errorf("clear the directories that are apart: %w", err)
	}
	if err := os.Remove(fs.state.path(apartList)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
