package dirfs

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"syscall"
	"unsafe"

	"echo9/internal/wire"

	"golang.org/x/sys/unix"
)

// atHandleFid asks name_to_handle_at for a handle that identifies only.
const atHandleFid = 0x200

// statMask is what every statx asks for.
const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// maxHandle is the largest file handle of Linux.
const maxHandle = 128

// devIno identifies an inode as long as it is held.
type devIno struct{ dev, ino uint64 }

// identity is what tells an inode from another one that has its number later.
type identity struct {
	tag    uint64 // hash of the file handle, else of the birth time
	handle string // with its type in front, where handles can be opened
}

// statFD is statx on a descriptor, O_PATH ones included.
func statFD(fd int, st *unix.Statx_t) error {
	for {
		err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT, statMask, st)
		if err != syscall.EINTR {
			return err
		}
	}
}

// statAt is statx on a name in a directory; it does not follow symlinks.
func statAt(dirfd int, name string, st *unix.Statx_t) error {
	return unix.Statx(dirfd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, st)
}

func stDev(st *unix.Statx_t) uint64 { return unix.Mkdev(st.Dev_major, st.Dev_minor) }
func stKey(st *unix.Statx_t) devIno { return devIno{stDev(st), st.Ino} }
func nanos(t unix.StatxTimestamp) int64 {
	return t.Sec*1e9 + int64(t.Nsec)
}

// timespec is the inverse of nanos, for times before 1970 as well.
func timespec(ns int64) unix.Timespec {
	sec, nsec := ns/1e9, ns%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return unix.Timespec{Sec: sec, Nsec: nsec}
}

// rawHandle calls name_to_handle_at. buf receives the type and the bytes.
func rawHandle(dirfd int, name string, flags int, buf *[8 + maxHandle]byte) ([]byte, error) {
	binary.NativeEndian.PutUint32(buf[0:], maxHandle)
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return nil, err
	}
	var mount int32
	_, _, e := unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(dirfd), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(buf)), uintptr(unsafe.Pointer(&mount)), uintptr(flags), 0)
	if e != 0 {
		return nil, e
	}
	n := binary.NativeEndian.Uint32(buf[0:])
	return buf[4 : 8+n], nil
}

// hashTag hashes what identifies an inode.
func hashTag(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// identify tells the identity of the inode at name in dirfd ("" for dirfd itself).
func (fs *FS) identify(dirfd int, name string, st *unix.Statx_t) (identity, error) {
	if fs.handleFlags >= 0 {
		flags := fs.handleFlags
		if name == "" {
			flags |= unix.AT_EMPTY_PATH
		}
		var buf [8 + maxHandle]byte
		h, err := rawHandle(dirfd, name, flags, &buf)
		if err == nil {
			id := identity{tag: hashTag(h)}
			if fs.openHandles {
				id.handle = string(h)
			}
			return id, nil
		}
		if err != unix.EOPNOTSUPP && err != unix.EOVERFLOW {
			return identity{}, err
		}
	}
	var b [32]byte
	if dev := stDev(st); dev != fs.dev { // the export's own may have another number after the next boot
		binary.LittleEndian.PutUint64(b[0:], dev)
	}
	binary.LittleEndian.PutUint64(b[8:], st.Ino)
	if st.Mask&unix.STATX_BTIME != 0 {
		binary.LittleEndian.PutUint64(b[16:], uint64(nanos(st.Btime)))
	}
	return identity{tag: hashTag(b[:24])}, nil
}

// openHandle opens a file handle as an O_PATH descriptor.
func (fs *FS) openHandle(h string) (int, error) {
	var buf [8 + maxHandle]byte
	binary.NativeEndian.PutUint32(buf[0:], uint32(len(h)-4))
	copy(buf[4:], h)
	fd, _, e := unix.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(fs.mountFD),
		uintptr(unsafe.Pointer(&buf)), unix.O_PATH|unix.O_CLOEXEC)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// probeHandles finds out what the host offers to identify inodes.
func (fs *FS) probeHandles() {
	var buf [8 + maxHandle]byte
	fs.handleFlags = -1
	for _, flags := range []int{0, atHandleFid} {
		if _, err := rawHandle(fs.mountFD, "", flags|unix.AT_EMPTY_PATH, &buf); err == nil {
			fs.handleFlags = flags
			break
		}
	}
	if fs.handleFlags == 0 && fs.uid == 0 && !fs.opt.noHandles {
		h, _ := rawHandle(fs.mountFD, "", unix.AT_EMPTY_PATH, &buf)
		if fd, err := fs.openHandle(string(h)); err == nil {
			unix.Close(fd)
			fs.openHandles = true
		}
	}
}

// version is the qid.version of a tag.
func version(tag uint64) uint32 { return uint32(tag) ^ uint32(tag>>32) }

// qidType is the type of a QID by the file's mode.
func qidType(mode uint32) uint8 {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return wire.QTDir
	case unix.S_IFLNK:
		return wire.QTSymlink
	}
	return wire.QTFile
}

// procPath is the name by which system calls that know no O_PATH descriptors reach one.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// attr makes the answer of getattr. n's mutable fields are read under FS.mu.
func (n *node) attr(st *unix.Statx_t) wire.Attr {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	return n.attrLocked(st)
}

func (n *node) attrLocked(st *unix.Statx_t) wire.Attr {
	a := wire.Attr{
		QID: n.QID(), Mode: uint32(st.Mode), UID: st.Uid, GID: st.Gid,
		Nlink: uint64(st.Nlink), Rdev: unix.Mkdev(st.Rdev_major, st.Rdev_minor), Size: st.Size,
		BlockSize: uint64(st.Blksize), Blocks: st.Blocks,
		Atime: nanos(st.Atime), Mtime: nanos(st.Mtime), Ctime: nanos(st.Ctime), Btime: nanos(st.Btime),
		Gen: n.tag,
	}
	if n.ctShown != 0 && a.Ctime == n.ctHost {
		a.Ctime = n.ctShown
	}
	a.DataVersion = wire.DataVersion(a.Mode, a.Ctime, a.Size)
	if n.fs.opt.ReadOnly {
		a.Flags |= wire.AttrReadOnly
	}
	if st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0 {
		// To what can only be appended a cut changes nothing either: it sets times.
		a.Flags |= wire.AttrFixed
	}
	if n.orphan && a.Nlink > 0 {
		a.Nlink--
		if a.Mode&unix.S_IFMT == unix.S_IFDIR {
			a.Nlink = 0
		}
	}
	return a
}
