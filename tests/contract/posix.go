package contract

import (
	"slices"
	"strings"
	"syscall"
)

// What access asks for.
const (
	mayExec  = 1
	mayWrite = 2
	mayRead  = 4
)

// allowed is the permission check by mode bits. Users are in the group of their own number.
func allowed(uid uint32, i *inode, want uint32) bool {
	if uid == 0 {
		return want&mayExec == 0 || i.isDir() || i.mode&0o111 != 0
	}
	bits := i.mode & 7
	switch {
	case uid == i.uid:
		bits = i.mode >> 6 & 7
	case uid == i.gid:
		bits = i.mode >> 3 & 7
	}
	return want&^bits == 0
}

// faults collects the errors that are legal: which one of several comes is not promised.
type faults []syscall.Errno

func (f *faults) when(bad bool, e syscall.Errno) {
	if bad && !slices.Contains(*f, e) {
		*f = append(*f, e)
	}
}

// found is where a path leads: the objects that were looked at on the way, and the last directory.
type found struct {
	seen []int
	dir  *inode
	base string
	i    *inode // nil: there is nothing of that name
	errs faults // of the way
}

// find follows a path from the root; symlinks are not followed.
func (t tree) find(path string, uid uint32) *found {
	f := &found{i: t[rootID], seen: []int{rootID}}
	if path == "." {
		return f
	}
	names := strings.Split(path, "/")
	for n, name := range names {
		if f.dir, f.base = f.i, name; !f.dir.isDir() {
			f.errs.when(true, syscall.ENOTDIR)
			return f
		}
		if !allowed(uid, f.dir, mayExec) {
			f.errs.when(true, syscall.EACCES)
			return f
		}
		id, ok := f.dir.names[name]
		if !ok {
			f.i = nil
			if n < len(names)-1 {
				f.errs.when(true, syscall.ENOENT)
			}
			return f
		}
		f.i = t[id]
		f.seen = append(f.seen, id)
	}
	return f
}

// reach gives what a symlink in dir to target leads to, and all below it.
func (t tree) reach(dir *inode, target string, uid uint32) []int {
	i := dir
	todo := strings.Split(target, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if !i.isDir() || !allowed(uid, i, mayExec) {
			return nil
		}
		switch name {
		case "", ".":
			continue
		case "..":
			i = t[i.parent]
			continue
		}
		id, ok := i.names[name]
		if !ok {
			return nil
		}
		if t[id].mode&typeMask != typeLink {
			i = t[id]
			continue
		}
		if links++; links > 40 || strings.HasPrefix(t[id].target, "/") {
			return nil
		}
		todo = append(strings.Split(t[id].target, "/"), todo...)
	}
	if i.isDir() {
		return append(t.under(i.id), i.id)
	}
	return []int{i.id}
}

// must adds ENOENT when nothing is there.
func (f *found) must() *found {
	if len(f.errs) == 0 && f.i == nil {
		f.errs.when(true, syscall.ENOENT)
	}
	return f
}

// notDir says that the directory in which something is to be made is none.
func (f *found) within(uid uint32) faults {
	var errs faults
	if len(f.errs) > 0 {
		return f.errs
	}
	errs.when(!allowed(uid, f.dir, mayWrite|mayExec), syscall.EACCES)
	return errs
}

// removable checks that an entry may go.
func removable(uid uint32, dir, victim *inode) faults {
	var errs faults
	errs.when(!allowed(uid, dir, mayWrite|mayExec), syscall.EACCES)
	errs.when(dir.mode&sticky != 0 && uid != 0 && uid != dir.uid && uid != victim.uid, syscall.EPERM)
	return errs
}

// linkable is the host's protection of hard links.
func linkable(uid uint32, i *inode) bool {
	if uid == 0 || uid == i.uid {
		return true
	}
	return i.isReg() && i.mode&setuid == 0 && i.mode&(setgid|0o010) != setgid|0o010 && allowed(uid, i, mayRead|mayWrite)
}

func (f *faults) add(g faults) {
	for _, e := range g {
		f.when(true, e)
	}
}
