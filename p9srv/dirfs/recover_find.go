package dirfs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

// look finds the objects of the log, and what its names are bound to.
func (r *recovery) look() error {
	r.seen = &journal.Seen{Objects: map[uint64]journal.SeenObject{}, Slots: map[journal.SlotKey]uint64{}}
	r.spots, r.held = map[uint64][]spot{}, map[uint64]int{}
	for _, fd := range []int{r.fs.state.orphans, r.fs.state.tmp} {
		if err := r.lookInside(fd); err != nil {
			return fmt.Errorf("look into the private directory: %w", err)
		}
	}
	if err := r.lookAside(); err != nil {
		return fmt.Errorf("look into the directories that are apart: %w", err)
	}
	if r.fs.openHandles {
		if err := r.byHandles(); err != nil {
			return err
		}
	} else if err := r.byNames(); err != nil {
		return err
	}
	if err := r.lookAtSlots(); err != nil {
		return err
	}
	for _, g := range r.plan.Goals {
		o, ok := r.seen.Objects[g.ID]
		if !ok || !r.plan.Emptied(g) {
			continue
		}
		fd, err := r.open(g.ID)
		if err != nil {
			return err
		}
		o.Names, err = r.list(fd)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("list directory %d: %w", g.ID, err)
		}
		r.seen.Objects[g.ID] = o
	}
	return nil
}

// identifyAt tells which object of the log a name is: its id, 0 for none.
func (r *recovery) identifyAt(dirfd int, name string, st *unix.Statx_t) (uint64, error) {
	if err := statAt(dirfd, name, st); err != nil {
		return 0, err
	}
	ident, err := r.fs.identify(dirfd, name, st)
	if err != nil {
		return 0, err
	}
	return r.plan.Identify(st.Ino, ident.tag), nil
}

// lookInside notes what of the log is in a private directory.
func (r *recovery) lookInside(fd int) error {
	names, err := r.list(fd)
	if err != nil {
		return err
	}
	return r.lookAt(fd, names)
}

func (r *recovery) lookAt(fd int, names []string) error {
	for _, name := range names {
		var st unix.Statx_t
		id, err := r.identifyAt(fd, name, &st)
		if err != nil {
			return err
		}
		if id == 0 {
			continue
		}
		r.spots[id] = append(r.spots[id], spot{fd: fd, name: name})
		r.seen.Objects[id] = journal.SeenObject{Ctime: nanos(st.Ctime), Private: true}
	}
	return nil
}

// list lists a directory.
func (r *recovery) list(fd int) (names []string, err error) {
	err = r.fs.forced(fd, func() error {
		d, err := unix.Openat(r.fs.procFD, itoa(fd), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(d)
		names, err = listFD(d)
		return err
	})
	return names, err
}

// byHandles finds the objects by their handles.
func (r *recovery) byHandles() error {
	for _, g := range r.plan.Goals {
		fd, err := r.open(g.ID)
		if errors.Is(err, errNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		var st unix.Statx_t
		err = statFD(fd, &st)
		unix.Close(fd)
		if err != nil {
			return err
		}
		o := r.seen.Objects[g.ID]
		o.Ctime = nanos(st.Ctime)
		r.seen.Objects[g.ID] = o
	}
	return nil
}

// byNames finds the objects on a host without handles: by the names that the log tells, and, if
// that leaves some out which should be there, by a search of the whole tree.
func (r *recovery) byNames() error {
	type hint struct {
		name string
		id   uint64
	}
	hints := map[uint64][]hint{}
	for _, s := range r.plan.Slots {
		hints[s.Dir] = append(hints[s.Dir], hint{s.Name, 0})
	}
	for _, g := range r.plan.Goals {
		if g.Name != "" {
			hints[g.Parent] = append(hints[g.Parent], hint{g.Name, g.ID})
		}
	}
	todo := []uint64{r.fs.root.id}
	for id := range r.seen.Objects {
		todo = append(todo, id)
	}
	if err := r.found(r.fs.root.id, r.fs.mountFD); err != nil {
		return err
	}
	follow := func() error {
		for len(todo) > 0 {
			dir := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if len(hints[dir]) == 0 {
				continue
			}
			fd, err := r.open(dir)
			if err != nil {
				return err
			}
			for _, h := range hints[dir] {
				var st unix.Statx_t
				id, err := r.identifyAt(fd, h.name, &st)
				if err != nil || id == 0 {
					continue
				}
				_, known := r.seen.Objects[id]
				r.spots[id] = append(r.spots[id], spot{dir: dir, name: h.name})
				if !known {
					r.seen.Objects[id] = journal.SeenObject{Ctime: nanos(st.Ctime)}
					todo = append(todo, id)
				}
			}
			unix.Close(fd)
		}
		return nil
	}
	if err := follow(); err != nil {
		return err
	}
	missing := false
	for _, g := range r.plan.Goals {
		if _, ok := r.seen.Objects[g.ID]; !ok && r.plan.Expected(g) {
			missing = true
		}
	}
	if !missing {
		return nil
	}
	if err := r.search(r.fs.mountFD, &todo); err != nil {
		return fmt.Errorf("search the tree for what the log names: %w", err)
	}
	return follow()
}

func (r *recovery) found(id uint64, fd int) error {
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		return err
	}
	r.seen.Objects[id] = journal.SeenObject{Ctime: nanos(st.Ctime)}
	return nil
}

// search goes through the tree below fd and holds what the log names and nothing else found.
func (r *recovery) search(fd int, todo *[]uint64) error {
	names, err := r.list(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if fd == r.fs.mountFD && name == privateName {
			continue
		}
		var st unix.Statx_t
		id, err := r.identifyAt(fd, name, &st)
		if err != nil {
			if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EACCES) {
				continue
			}
			return err
		}
		if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			continue
		}
		_, known := r.seen.Objects[id]
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if known && id != 0 || id == 0 && !isDir {
			if !isDir {
				continue
			}
		}
		sub, err := openPath(fd, name)
		if err != nil {
			continue // another file system
		}
		if isDir {
			err = r.search(sub, todo)
		}
		if id != 0 && !known {
			r.held[id] = sub
			r.seen.Objects[id] = journal.SeenObject{Ctime: nanos(st.Ctime)}
			*todo = append(*todo, id)
		} else {
			unix.Close(sub)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lookAtSlots finds what the names of the log are bound to.
func (r *recovery) lookAtSlots() error {
	slots := slices.Clone(r.plan.Slots)
	slices.SortStableFunc(slots, func(a, b *journal.Slot) int { return cmp.Compare(a.Dir, b.Dir) })
	fd, dir := -1, uint64(0)
	defer func() { closeFDs(fd) }()
	for _, s := range slots {
		if _, ok := r.seen.Objects[s.Dir]; !ok {
			continue
		}
		if fd < 0 || dir != s.Dir {
			closeFDs(fd)
			var err error
			if fd, err = r.open(s.Dir); err != nil {
				fd = -1
				return err
			}
			dir = s.Dir
		}
		var st unix.Statx_t
		var id uint64
		err := r.fs.forced(fd, func() (err error) {
			id, err = r.identifyAt(fd, s.Name, &st)
			return err
		})
		switch {
		case err == nil && id == 0:
			id = journal.Somebody
		case errors.Is(err, syscall.ENOENT):
		case err != nil:
			return fmt.Errorf("look at %q in directory %d: %w", s.Name, s.Dir, err)
		}
		r.seen.Slots[s.SlotKey] = id
	}
	return nil
}

// open opens an object of the log as a path; errNotFound if it is nowhere.
func (r *recovery) open(id uint64) (int, error) {
	if id == r.fs.root.id {
		return r.fs.pathOf(r.fs.mountFD)
	}
	g := r.plan.Goal(id)
	if g == nil {
		return -1, errNotFound
	}
	if r.fs.openHandles {
		for _, ident := range g.Idents {
			if ident.Handle == "" {
				continue
			}
			fd, err := r.fs.openHandle(ident.Handle)
			if err == syscall.ESTALE {
				continue
			}
			if err != nil {
				return -1, fmt.Errorf("open object %d by its handle: %w", id, err)
			}
			var st unix.Statx_t
			if err = statFD(fd, &st); err == nil && st.Nlink > 0 && st.Ino == ident.Ino {
				return fd, nil
			}
			unix.Close(fd)
			if err != nil {
				return -1, err
			}
		}
		return -1, errNotFound
	}
	if fd, ok := r.held[id]; ok {
		return r.fs.pathOf(fd)
	}
	for _, s := range r.spots[id] {
		var fd int
		err := r.at(s, func(dirfd int) error {
			return r.fs.forced(dirfd, func() (err error) {
				fd, err = openPath(dirfd, s.name)
				return err
			})
		})
		if err != nil {
			continue
		}
		var st unix.Statx_t
		if err = statFD(fd, &st); err == nil {
			var ident identity
			if ident, err = r.fs.identify(fd, "", &st); err == nil && r.plan.Identify(st.Ino, ident.tag) == id {
				return fd, nil
			}
		}
		unix.Close(fd)
	}
	return -1, errNotFound
}

// at runs fn with the directory of a spot.
func (r *recovery) at(s spot, fn func(dirfd int) error) error {
	if s.dir == 0 {
		return fn(s.fd)
	}
	fd, err := r.open(s.dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fn(fd)
}

// private gives where in the private directory an object is.
func (r *recovery) private(id uint64) (spot, bool) {
	for _, s := range r.spots[id] {
		if s.dir == 0 {
			return s, true
		}
	}
	return spot{}, false
}

func (r *recovery) moved(id uint64, from, to spot) {
	r.spots[id] = slices.DeleteFunc(r.spots[id], func(s spot) bool { return s == from })
	r.spots[id] = append(r.spots[id], to)
}

// listFD lists an open directory.
func listFD(d int) ([]string, error) {
	var names []string
	buf := make([]byte, 8192)
	for {
		k, err := unix.Getdents(d, buf)
		if err != nil {
			return nil, err
		}
		if k == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:k], -1, names)
	}
}
