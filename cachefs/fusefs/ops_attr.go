package fusefs

import (
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func (f *fileSystem) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	r := f.begin(cancel, &in.InHeader)
	defer r.end()
	n, obj := f.nodes.acquire(in.NodeId)
	if n == nil {
		return estale
	}
	defer f.nodes.release(n)
	stamp := f.stamp()
	attr, err := obj.GetAttr(r, f.cred(&in.InHeader))
	if err != nil {
		return f.status(err)
	}
	setAttr(&out.Attr, n.id, &attr)
	out.SetTimeout(f.tellAttr(n, stamp, &attr))
	return fuse.OK
}

func (f *fileSystem) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	r := f.begin(cancel, &in.InHeader)
	defer r.end()
	n, obj := f.nodes.acquire(in.NodeId)
	if n == nil {
		return estale
	}
	defer f.nodes.release(n)
	cred := f.cred(&in.InHeader)
	var file p9srv.File
	if in.Valid&fuse.FATTR_FH != 0 {
		if h := f.handles.get(in.Fh); h != nil {
			file = h.file
		}
	}
	var set wire.SetAttr
	if in.Valid&fuse.FATTR_MODE != 0 {
		set.Valid |= wire.SetMode
		set.Mode = in.Mode & 0o7777
	}
	if in.Valid&fuse.FATTR_UID != 0 {
		set.Valid |= wire.SetUID
		set.UID = in.Uid
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		set.Valid |= wire.SetGID
		set.GID = in.Owner.Gid
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		set.Valid |= wire.SetSize
		set.Size = in.Size
		if err := f.settle(r, n); err != nil {
			return f.status(err)
		}
	}
	switch {
	case in.Valid&fuse.FATTR_ATIME_NOW != 0:
		set.Valid |= wire.SetAtime
	case in.Valid&fuse.FATTR_ATIME != 0:
		set.Valid |= wire.SetAtime | wire.SetAtimeSet
		set.Atime = nanoseconds(in.Atime, in.Atimensec)
	}
	switch {
	case in.Valid&fuse.FATTR_MTIME_NOW != 0:
		set.Valid |= wire.SetMtime
	case in.Valid&fuse.FATTR_MTIME != 0:
		set.Valid |= wire.SetMtime | wire.SetMtimeSet
		set.Mtime = nanoseconds(in.Mtime, in.Mtimensec)
	}
	if set.Valid != 0 {
		if err := obj.SetAttr(r, cred, file, set); err != nil {
			return f.status(err)
		}
	}
	if in.Valid&fuse.FATTR_KILL_SUIDGID != 0 && set.Valid&wire.SetMode == 0 {
		if err := f.killPrivileges(r, cred, obj); err != nil {
			return f.status(err)
		}
	}
	attr, err := obj.GetAttr(r, cred)
	if err != nil {
		return f.status(err)
	}
	setAttr(&out.Attr, n.id, &attr)
	// No timeout: the kernel would keep to it though it was told meanwhile to drop it.
	return fuse.OK
}

// Access is asked only of mounts on which the kernel does not check permissions itself.
func (f *fileSystem) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	r := f.begin(cancel, &in.InHeader)
	defer r.end()
	n, obj := f.nodes.acquire(in.NodeId)
	if n == nil {
		return estale
	}
	defer f.nodes.release(n)
	cred := f.cred(&in.InHeader)
	attr, err := obj.GetAttr(r, cred)
	if err != nil {
		return f.status(err)
	}
	switch {
	case in.Mask&2 != 0 && attr.Flags&wire.AttrReadOnly != 0:
		return fuse.EROFS
	case in.Mask&2 != 0 && attr.Flags&wire.AttrFixed != 0:
		return fuse.EPERM
	case !allowed(&attr, cred, in.Mask):
		return fuse.EACCES
	}
	return fuse.OK
}

// allowed is the classic check of permission bits.
func allowed(a *wire.Attr, cred *p9srv.Cred, mask uint32) bool {
	mask &= 7
	if cred.UID == 0 {
		return mask&1 == 0 || a.Mode&syscall.S_IFMT == syscall.S_IFDIR || a.Mode&0o111 != 0
	}
	bits := a.Mode
	switch {
	case cred.UID == a.UID:
		bits >>= 6
	case inGroup(cred, a.GID):
		bits >>= 3
	}
	return bits&mask == mask
}

func inGroup(cred *p9srv.Cred, gid uint32) bool {
	if cred.GID == gid {
		return true
	}
	for _, g := range cred.Groups {
		if g == gid {
			return true
		}
	}
	return false
}

func (f *fileSystem) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	r := f.begin(cancel, h)
	defer r.end()
	s, err := f.backend.StatFS(r)
	if err != nil {
		return f.status(err)
	}
	*out = fuse.StatfsOut{
		Blocks: s.Blocks, Bfree: s.Bfree, Bavail: s.Bavail, Files: s.Files, Ffree: s.Ffree,
		Bsize: s.BlockSize, Frsize: s.BlockSize, NameLen: s.NameLen,
	}
	return fuse.OK
}
