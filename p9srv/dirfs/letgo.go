package dirfs

import (
	"time"

	"golang.org/x/sys/unix"
)

// letGoEvery is how often descriptors are looked through at most.
const letGoEvery = time.Second

// letGo closes the descriptors of files that somebody on the host has removed, and that nobody uses: an open one would keep the file's
// space, on a disk that was perhaps to be made free by that. It takes as long as one fstat for each descriptor.
func (fs *FS) letGo() {
	fs.mu.Lock()
	if fs.opt.hold || time.Since(fs.letGone) < letGoEvery {
		fs.mu.Unlock()
		return
	}
	fs.letGone = time.Now()
	var idle []*node
	var fds []int
	for n := fs.lru.newer; n != &fs.lru; n = n.newer {
		if n.idle() {
			n.pins++ // so its descriptor stays what it is
			idle, fds = append(idle, n), append(fds, n.fd)
		}
	}
	fs.mu.Unlock()
	removed := make([]bool, len(idle))
	for i, fd := range fds {
		var st unix.Stat_t
		removed[i] = unix.Fstat(fd, &st) == nil && st.Nlink == 0
	}
	fds = nil
	fs.mu.Lock()
	for i, n := range idle {
		n.pins--
		if removed[i] && n.idle() {
			fds = append(fds, n.fd)
			n.fd = -1
			fs.nfds--
			fs.unlistLocked(n)
		} else if n.pins == 0 && n.gone {
			fds = append(fds, n.settleLocked()...)
		}
	}
	fs.mu.Unlock()
	closeFDs(fds...)
}

// idle says whether nobody uses n, and its descriptor may be closed.
func (n *node) idle() bool { return n.evictable() && n.refs == 0 && n.keeps == 0 }
