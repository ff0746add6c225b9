package fusefs

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Notifications of the FUSE protocol (linux/fuse.h) that the library has not, or
// not with their flags.
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
	notifyIncEpoch   = 8

	invalEntryExpireOnly = 1

	capHasExpireOnly = 1 << 35
)

// notifier tells the kernel what it must no longer serve from its caches. It has a
// descriptor of its own for the mount's connection.
type notifier struct {
	file       *os.File
	conn       syscall.RawConn // of file
	epoch      bool            // the kernel knows FUSE_NOTIFY_INC_EPOCH
	expireOnly bool            // and FUSE_EXPIRE_ONLY
}

func newNotifier(fd int) (*notifier, error) {
	file := os.NewFile(uintptr(fd), "/dev/fuse")
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &notifier{file: file, conn: conn}, nil
}

func (t *notifier) send(code uint32, body []byte) error {
	msg := make([]byte, 16+len(body))
	binary.NativeEndian.PutUint32(msg[0:], uint32(len(msg)))
	binary.NativeEndian.PutUint32(msg[4:], code)
	copy(msg[16:], body) // the unique of a notification is 0
	// Not file.Write: it lets one write at a time go ahead, and one may be stuck.
	var err error
	if cerr := t.conn.Control(func(fd uintptr) {
		for {
			if _, err = unix.Write(int(fd), msg); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}); cerr != nil {
		return cerr
	}
	return err
}

// invalAttr makes the kernel ask for the node's attributes again. It never waits.
func (t *notifier) invalAttr(nid uint64) error { return t.invalInode(nid, -1, 0) }

// invalData drops the pages of the node from off on (length 0: to the end) and its
// attributes. It waits for requests about these pages: see the package's "Deadlocks".
func (t *notifier) invalData(nid uint64, off, length int64) error {
	return t.invalInode(nid, off, length)
}

func (t *notifier) invalInode(nid uint64, off, length int64) error {
	var b [24]byte
	binary.NativeEndian.PutUint64(b[0:], nid)
	binary.NativeEndian.PutUint64(b[8:], uint64(off))
	binary.NativeEndian.PutUint64(b[16:], uint64(length))
	return t.send(notifyInvalInode, b[:])
}

// invalName drops a name of a directory, or with expire makes the kernel ask again for it. It
// waits for the kernel's lock of the directory.
func (t *notifier) invalName(dir uint64, name string, expire bool) error {
	b := make([]byte, 16+len(name)+1)
	binary.NativeEndian.PutUint64(b[0:], dir)
	binary.NativeEndian.PutUint32(b[8:], uint32(len(name)))
	if expire {
		binary.NativeEndian.PutUint32(b[12:], invalEntryExpireOnly)
	}
	copy(b[16:], name)
	return t.send(notifyInvalEntry, b)
}

// newEpoch makes the kernel ask again for every name of the mount. It takes no lock.
func (t *notifier) newEpoch() error { return t.send(notifyIncEpoch, nil) }

// alive says whether the mount is still there.
func (t *notifier) alive() bool {
	err := t.invalAttr(nobody)
	return err == nil || errors.Is(err, unix.ENOENT)
}

func (t *notifier) close() { _ = t.file.Close() }
