package dirfs

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

// noGID means that no group is asked for.
const noGID = ^uint32(0)

// as runs fn with the file-system ids of cred on a thread of its own, so that
// the host checks what that user may do. The server's own user, and a server that
// cannot act for others, run fn as they are.
func (fs *FS) as(cred *p9srv.Cred, fn func() error) error {
	return fs.asGroup(cred, noGID, fn)
}

// look is as for what changes nothing but may be forbidden: the capabilities that
// setfsuid leaves do not matter to it, and leaving them alone is cheaper.
func (fs *FS) look(cred *p9srv.Cred, fn func() error) error {
	if !fs.switches || cred == nil || cred.UID == fs.uid {
		return fn()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer fs.unbecome(false)
	if err := fs.become(cred.UID, cred.GID, cred.Groups, false); err != nil {
		return fmt.Errorf("act as user %d: %w", cred.UID, err)
	}
	return fn()
}

// asGroup is as, with gid as the group of what fn makes, if the user is in it.
func (fs *FS) asGroup(cred *p9srv.Cred, gid uint32, fn func() error) error {
	if !fs.switches || cred == nil {
		return fn()
	}
	if cred.UID == fs.uid {
		if gid == noGID || gid == fs.gid {
			return fn()
		}
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer setID(unix.SYS_SETFSGID, fs.gid)
		if err := setID(unix.SYS_SETFSGID, gid); err != nil {
			return err
		}
		return fn()
	}
	if gid == noGID || !slices.Contains(cred.Groups, gid) {
		gid = cred.GID
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer fs.unbecome(true)
	if err := fs.become(cred.UID, gid, cred.Groups, true); err != nil {
		return fmt.Errorf("act as user %d: %w", cred.UID, err)
	}
	return fn()
}

// become makes the calling thread act as another user. With caps also the capabilities
// go that setfsuid leaves: those that override quotas and allow trusted attributes.
func (fs *FS) become(uid, gid uint32, groups []uint32, caps bool) error {
	if err := setGroups(groups); err != nil {
		return err
	}
	if err := setID(unix.SYS_SETFSGID, gid); err != nil {
		return err
	}
	if err := setID(unix.SYS_SETFSUID, uid); err != nil {
		return err
	}
	if !caps {
		return nil
	}
	none := fs.caps
	none[0].Effective, none[1].Effective = 0, 0
	return setCaps(&none)
}

// unbecome undoes become. A thread that cannot be restored must not go on.
func (fs *FS) unbecome(caps bool) {
	var err error
	if caps {
		err = setCaps(&fs.caps)
	}
	for _, e := range []error{
		setID(unix.SYS_SETFSUID, fs.uid), setID(unix.SYS_SETFSGID, fs.gid), setGroups(ownGroups),
	} {
		if err == nil {
			err = e
		}
	}
	if err != nil {
		panic("dirfs: a thread cannot be given back its credentials: " + err.Error())
	}
}

// ownGroups are the supplementary groups that the process has.
var ownGroups = func() []uint32 {
	gids, _ := syscall.Getgroups()
	out := make([]uint32, len(gids))
	for i, g := range gids {
		out[i] = uint32(g)
	}
	return out
}()

// setID sets the thread's fsuid or fsgid. The call tells no error: asking
// for an id that is none tells what is set.
func setID(call uintptr, id uint32) error {
	unix.RawSyscall(call, uintptr(id), 0, 0)
	if now, _, _ := unix.RawSyscall(call, ^uintptr(0), 0, 0); uint32(now) != id {
		return syscall.EPERM
	}
	return nil
}

// setGroups sets the groups of the calling thread only, unlike syscall.Setgroups.
func setGroups(groups []uint32) error {
	if len(groups) == 0 && len(ownGroups) == 0 {
		return nil
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); e != 0 {
		return e
	}
	return nil
}

func setCaps(caps *[2]unix.CapUserData) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if _, _, e := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(caps)), 0); e != 0 {
		return e
	}
	return nil
}

// probeSwitch finds out whether the server can act as other users.
func (fs *FS) probeSwitch() {
	if fs.uid != 0 {
		return
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if _, _, e := unix.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&fs.caps)), 0); e != 0 {
		return
	}
	done := make(chan bool, 1)
	go func() {
		// The thread is thrown away with the goroutine.
		runtime.LockOSThread()
		done <- fs.become(65534, 65534, []uint32{65534}, true) == nil
	}()
	fs.switches = <-done
}

// capSysResource overrides quotas.
const capSysResource = 24

// withQuota runs fn as the server itself, but, for another user than root, without the
// capability that overrides quotas: a cut counts like its user's own doing.
func (fs *FS) withQuota(cred *p9srv.Cred, fn func() error) error {
	if !fs.switches || cred.UID == 0 {
		return fn()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	caps := fs.caps
	caps[0].Effective &^= 1 << capSysResource
	if err := setCaps(&caps); err != nil {
		return fmt.Errorf("act under quotas: %w", err)
	}
	defer func() {
		if err := setCaps(&fs.caps); err != nil {
			panic("dirfs: a thread cannot be given back its capabilities: " + err.Error())
		}
	}()
	return fn()
}
