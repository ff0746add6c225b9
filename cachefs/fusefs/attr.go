package fusefs

import (
	"syscall"

	"echo9/internal/wire"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// seconds splits nanoseconds since 1970, also before it.
func seconds(ns int64) (sec uint64, nsec uint32) {
	s, n := ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return uint64(s), uint32(n)
}

func nanoseconds(sec uint64, nsec uint32) int64 { return int64(sec)*1e9 + int64(nsec) }

func setAttr(out *fuse.Attr, id uint64, a *wire.Attr) {
	out.Ino = id
	out.Size = a.Size
	out.Blocks = a.Blocks
	out.Atime, out.Atimensec = seconds(a.Atime)
	out.Mtime, out.Mtimensec = seconds(a.Mtime)
	out.Ctime, out.Ctimensec = seconds(a.Ctime)
	out.Mode = a.Mode
	out.Nlink = uint32(min(a.Nlink, 1<<32-1))
	out.Uid, out.Gid = a.UID, a.GID
	out.Rdev = uint32(a.Rdev)
	out.Blksize = uint32(min(a.BlockSize, 1<<30))
}

// devNumbers splits the kernel's 32-bit device number.
func devNumbers(dev uint32) (major, minor uint32) {
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00
}

const (
	oSync  = 0o4010000 // with O_DSYNC, as 9P2000.L and x86 have it
	oDsync = 0o10000
)

// openFlags translates the host's open flags to those of 9P2000.L.
func openFlags(host uint32) uint32 {
	out := host & wire.OAccMode
	for _, f := range [...]struct{ host, wire uint32 }{
		{syscall.O_CREAT, wire.OCreat}, {syscall.O_EXCL, wire.OExcl}, {syscall.O_TRUNC, wire.OTrunc},
		{syscall.O_APPEND, wire.OAppend}, {syscall.O_DIRECTORY, wire.ODirectory}, {syscall.O_NOFOLLOW, wire.ONofollow},
		{syscall.O_DSYNC, oDsync}, {syscall.O_SYNC, oSync},
	} {
		if host&f.host == f.host {
			out |= f.wire
		}
	}
	return out
}

func writable(host uint32) bool { return host&wire.OAccMode != wire.ORdonly }

// dirType turns d_type into the type bits of a mode.
func dirType(t uint8) uint32 { return uint32(t) << 12 }

// killsPrivileges gives the mode that a file has after a write, when that differs.
func killsPrivileges(mode uint32) (uint32, bool) {
	m := mode &^ syscall.S_ISUID
	if mode&(syscall.S_ISGID|0o010) == syscall.S_ISGID|0o010 {
		m &^= syscall.S_ISGID
	}
	return m, m != mode
}
