package cachefs

import (
	"slices"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// File types and special bits of a mode, as in st_mode.
const (
	modeType    = 0o170000
	modeFifo    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeRegular = 0o100000
	modeSymlink = 0o120000
	modeSocket  = 0o140000

	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeSticky = 0o1000
	modePerm   = 0o7777
)

// What access asks for, as in access(2).
const (
	mayExec  = 1
	mayWrite = 2
	mayRead  = 4
)

const (
	maxName   = 255
	maxTarget = 4095
	maxLinks  = 65000
	maxSize   = 1<<63 - 1
)

func isDir(mode uint32) bool     { return mode&modeType == modeDir }
func isRegular(mode uint32) bool { return mode&modeType == modeRegular }

// direntType is d_type of readdir(3) for a mode.
func direntType(mode uint32) uint8 { return uint8(mode & modeType >> 12) }

// qidType is QID.Type for a mode.
func qidType(mode uint32) uint8 {
	switch mode & modeType {
	case modeDir:
		return wire.QTDir
	case modeSymlink:
		return wire.QTSymlink
	}
	return wire.QTFile
}

// inGroup says whether cred is a member of gid.
func inGroup(cred *p9srv.Cred, gid uint32) bool {
	return cred.GID == gid || slices.Contains(cred.Groups, gid)
}

// access is POSIX's permission check by mode bits: EACCES when want is not granted.
func access(cred *p9srv.Cred, a *wire.Attr, want uint32) error {
	if cred.UID == 0 {
		// The superuser may all, but executes only what somebody may execute.
		if want&mayExec != 0 && !isDir(a.Mode) && a.Mode&0o111 == 0 {
			return syscall.EACCES
		}
		return nil
	}
	bits := a.Mode & 7
	switch {
	case cred.UID == a.UID:
		bits = a.Mode >> 6 & 7
	case inGroup(cred, a.GID):
		bits = a.Mode >> 3 & 7
	}
	if want&^bits != 0 {
		return syscall.EACCES
	}
	return nil
}

// mayDelete checks removal of an entry (victim) from dir: write and search permission, and the sticky bit.
func mayDelete(cred *p9srv.Cred, dir, victim *wire.Attr) error {
	if err := access(cred, dir, mayWrite|mayExec); err != nil {
		return err
	}
	if dir.Mode&modeSticky != 0 && cred.UID != 0 && cred.UID != dir.UID && cred.UID != victim.UID {
		return syscall.EPERM
	}
	return nil
}

// owns is the check for operations that only the owner may do.
func owns(cred *p9srv.Cred, a *wire.Attr) error {
	if cred.UID != 0 && cred.UID != a.UID {
		return syscall.EPERM
	}
	return nil
}

// mayLink refuses further names of what belongs to others, as the server does and Linux with
// fs.protected_hardlinks: only a file that one may read and write, and that gives nobody's rights away, can have one.
func mayLink(cred *p9srv.Cred, a *wire.Attr) error {
	if cred.UID == 0 || cred.UID == a.UID {
		return nil
	}
	if !isRegular(a.Mode) || afterWrite(a.Mode) != a.Mode || access(cred, a, mayRead|mayWrite) != nil {
		return syscall.EPERM
	}
	return nil
}

// checkName applies the rules of names; it does not accept "." and "..".
func checkName(name string) error {
	switch {
	case name == "":
		return syscall.ENOENT
	case name == "." || name == "..":
		return syscall.EINVAL
	case len(name) > maxName:
		return syscall.ENAMETOOLONG
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return syscall.EINVAL
		}
	}
	return nil
}

// openWants tells which permissions open flags ask for.
func openWants(flags uint32) uint32 {
	var want uint32
	switch flags & wire.OAccMode {
	case wire.ORdonly:
		want = mayRead
	case wire.OWronly:
		want = mayWrite
	default:
		want = mayRead | mayWrite
	}
	if flags&wire.OTrunc != 0 {
		want |= mayWrite
	}
	return want
}

// afterWrite is the mode of a file once somebody without privilege has written to it, or
// once its owner has changed: setuid goes, setgid where it means execution.
func afterWrite(mode uint32) uint32 {
	mode &^= modeSetuid
	if mode&0o010 != 0 {
		mode &^= modeSetgid
	}
	return mode
}
