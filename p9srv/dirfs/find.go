package dirfs

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// After a restart clients ask for objects by their ids that nobody has walked to yet. Those that are inode numbers, and on hosts
// whose handles cannot be opened all, are found by an index of the tree: inode number → a name. It is
// made at the start, when sessions may come back, else when a client that was forgotten asks, from the listings of all directories,
// without looking at the files; who asks meanwhile waits for it. (A handle made of an inode number could lead out of the tree.)

// treeIndex is the index.
type treeIndex struct {
	turn  sync.Mutex // held while it is made
	mu    sync.Mutex
	where map[uint64]whereabouts
	names []byte
	made  time.Time
	took  time.Duration

	stop    atomic.Bool
	atStart sync.WaitGroup
}

// indexAtStart makes the index before anybody asks for it.
func (fs *FS) indexAtStart() {
	if !fs.resumes {
		return
	}
	fs.index.atStart.Go(func() {
		if err := fs.makeIndex(time.Time{}); err != nil {
			fs.logf("list the tree: %v", err)
		}
	})
}

// end ends the making of the index.
func (x *treeIndex) end() {
	x.stop.Store(true)
	x.atStart.Wait()
}

// whereabouts is a name of an inode, in the directory with inode number dir.
type whereabouts struct {
	dir uint64
	at  uint32 // in treeIndex.names
	len uint8
}

const (
	// maxIndex bounds the index; what is beyond it must be walked to.
	maxIndex = 16 << 20
	// indexEvery is how old the index is at least before one is made anew for something that it lacks, in times
	// of what it took to make it.
	indexEvery = 10
)

// find finds the object of an inode number in the tree. It carries a reference.
func (fs *FS) find(ino uint64) (*node, error) {
	x := &fs.index
	for round := range 2 {
		x.mu.Lock()
		_, known := x.where[ino]
		made, took := x.made, x.took
		x.mu.Unlock()
		if known {
			n, err := fs.findKnown(ino, 0)
			if err == nil || round == 1 {
				return n, err
			}
		}
		if !made.IsZero() && time.Since(made) < max(time.Second, indexEvery*took) {
			break
		}
		if err := fs.makeIndex(made); err != nil {
			return nil, fmt.Errorf("look for an object in the tree: %w", err)
		}
	}
	return nil, syscall.ESTALE
}

// maxDepth bounds how deep an object is looked for.
const maxDepth = 4096

// findKnown opens what the index has, from the nearest directory that is known.
func (fs *FS) findKnown(ino uint64, depth int) (*node, error) {
	fs.mu.Lock()
	n := fs.byKey[devIno{fs.dev, ino}]
	if n != nil && !n.gone {
		n.refs++
		fs.mu.Unlock()
		return n, nil
	}
	fs.mu.Unlock()
	x := &fs.index
	x.mu.Lock()
	w, ok := x.where[ino]
	name := ""
	if ok {
		name = string(x.names[w.at : w.at+uint32(w.len)])
	}
	x.mu.Unlock()
	if !ok || depth > maxDepth {
		return nil, syscall.ESTALE
	}
	dir, err := fs.findKnown(w.dir, depth+1)
	if err != nil {
		return nil, err
	}
	defer dir.Release()
	dirfd, err := dir.pin()
	if err != nil {
		return nil, err
	}
	defer dir.unpin()
	fd, err := openPath(dirfd, name)
	if err != nil {
		return nil, syscall.ESTALE
	}
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil || st.Ino != ino || stDev(&st) != fs.dev {
		unix.Close(fd)
		return nil, syscall.ESTALE
	}
	return fs.adopt(fd, &st, dir.id, name)
}

// makeIndex lists the whole tree, unless somebody else has done that since.
func (fs *FS) makeIndex(since time.Time) error {
	x := &fs.index
	x.turn.Lock()
	defer x.turn.Unlock()
	x.mu.Lock()
	done := x.made != since
	x.mu.Unlock()
	if done {
		return nil
	}
	begin := time.Now()
	fresh := &treeIndex{where: map[uint64]whereabouts{}}
	fd, err := unix.Openat(fs.procFD, itoa(fs.mountFD), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	buf := make([]byte, dirBuffer)
	fs.indexDir(fresh, fd, fs.root.key.ino, buf, true)
	took := time.Since(begin)
	if len(fresh.where) >= maxIndex {
		fs.logf("there are more than %d files: clients may have to look some of theirs up again", maxIndex)
	}
	x.mu.Lock()
	x.where, x.names, x.made, x.took = fresh.where, fresh.names, time.Now(), took
	x.mu.Unlock()
	if took > time.Second {
		fs.logf("finding what clients had before the restart: %d names were listed in %v", len(fresh.where), took.Round(10*time.Millisecond))
	}
	return nil
}

// indexDir lists directory fd, which it closes, and all below it on the export's device. What cannot be read is left out.
func (fs *FS) indexDir(x *treeIndex, fd int, ino uint64, buf []byte, root bool) {
	defer unix.Close(fd)
	var below []uint64
	for len(x.where) < maxIndex && !fs.index.stop.Load() {
		k, err := unix.Getdents(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || k == 0 {
			break
		}
		for b := buf[:k]; len(b) > 0; {
			ent := b[:binary.NativeEndian.Uint16(b[16:])]
			b = b[len(ent):]
			name := entryName(ent)
			if string(name) == "." || string(name) == ".." || root && string(name) == privateName {
				continue
			}
			child, typ := binary.NativeEndian.Uint64(ent), ent[18]
			if fs.kind == unix.OVERLAYFS_SUPER_MAGIC || typ == unix.DT_UNKNOWN {
				var st unix.Statx_t // listings of such file systems do not say what stat does
				if statAt(fd, string(name), &st) != nil || stDev(&st) != fs.dev {
					continue
				}
				child, typ = st.Ino, unix.DT_REG
				if st.Mode&unix.S_IFMT == unix.S_IFDIR {
					typ = unix.DT_DIR
				}
			}
			if len(name) > 255 || len(x.names)+len(name) > 1<<32-1 {
				continue
			}
			if _, have := x.where[child]; have {
				continue // another name of it
			}
			x.where[child] = whereabouts{dir: ino, at: uint32(len(x.names)), len: uint8(len(name))}
			x.names = append(x.names, name...)
			if typ == unix.DT_DIR {
				below = append(below, child)
			}
		}
	}
	for _, child := range below {
		if fs.index.stop.Load() {
			return
		}
		w := x.where[child]
		name := string(x.names[w.at : w.at+uint32(w.len)])
		// Neither out of the tree nor onto another file system.
		if d, err := openat2(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0); err == nil {
			fs.indexDir(x, d, child, buf, false)
		}
	}
}
