package fusefs

import (
	"errors"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const estale = fuse.Status(syscall.ESTALE)

// updates counts a request that holds the kernel's lock of directory n exclusively.
func (n *node) updates() (done func()) {
	n.mu.Lock()
	n.updating++
	n.mu.Unlock()
	return func() {
		n.mu.Lock()
		n.updating--
		n.mu.Unlock()
	}
}

func (f *fileSystem) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	r := f.begin(cancel, h)
	defer r.end()
	stamp := f.stamp()
	cred := f.cred(h)
	dir, obj := f.nodes.acquire(h.NodeId)
	if name == "." { // a file handle (open_by_handle_at) of a node that may be forgotten
		if dir != nil {
			defer f.nodes.release(dir)
		}
		return f.lookupID(r, h.NodeId, cred, stamp, out)
	}
	if dir == nil {
		return estale
	}
	defer f.nodes.release(dir)
	found, attr, err := obj.Walk(r, cred, name)
	if err != nil {
		if errors.Is(err, syscall.ENOENT) {
			if ttl := f.tellName(dir, name, false, stamp); ttl > 0 {
				*out = fuse.EntryOut{} // node 0: no such name, and that may be kept
				out.SetEntryTimeout(ttl)
				return fuse.OK
			}
			return fuse.ENOENT
		}
		return f.status(err)
	}
	if name == ".." {
		dir = nil // no entry to remember
	}
	f.entry(dir, name, found, &attr, stamp, true, out)
	return fuse.OK
}

func (f *fileSystem) lookupID(r *request, nid uint64, cred *p9srv.Cred, stamp uint64, out *fuse.EntryOut) fuse.Status {
	id := nid
	switch nid {
	case fuse.FUSE_ROOT_ID:
		id = f.nodes.rootID
	case aliasOfOne:
		id = 1
	case aliasOfZero:
		id = 0
	}
	obj, err := f.backend.Lookup(r, id)
	if err != nil {
		return f.status(err)
	}
	attr, err := obj.GetAttr(r, cred)
	if err != nil {
		obj.Release()
		return f.status(err)
	}
	f.entry(nil, "", obj, &attr, stamp, true, out)
	return fuse.OK
}

func (f *fileSystem) Forget(nid, count uint64) { f.nodes.forget(nid, count) }

// making does what all requests that make an object have in common.
func (f *fileSystem) making(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut,
	do func(r *request, cred *p9srv.Cred, dir p9srv.Object) (p9srv.Object, wire.Attr, error)) fuse.Status {
	r := f.begin(cancel, h)
	defer r.end()
	dir, obj := f.nodes.acquire(h.NodeId)
	if dir == nil {
		return estale
	}
	defer f.nodes.release(dir)
	defer dir.updates()()
	stamp := f.stamp()
	made, attr, err := do(r, f.cred(h), obj)
	if err != nil {
		return f.status(err)
	}
	f.entry(dir, name, made, &attr, stamp, false, out)
	return fuse.OK
}

func (f *fileSystem) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.making(cancel, &in.InHeader, name, out, func(r *request, cred *p9srv.Cred, dir p9srv.Object) (p9srv.Object, wire.Attr, error) {
		major, minor := devNumbers(in.Rdev)
		return dir.Mknod(r, cred, name, in.Mode, major, minor, in.Gid)
	})
}

func (f *fileSystem) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.making(cancel, &in.InHeader, name, out, func(r *request, cred *p9srv.Cred, dir p9srv.Object) (p9srv.Object, wire.Attr, error) {
		return dir.Mkdir(r, cred, name, in.Mode, in.Gid)
	})
}

func (f *fileSystem) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return f.making(cancel, h, name, out, func(r *request, cred *p9srv.Cred, dir p9srv.Object) (p9srv.Object, wire.Attr, error) {
		return dir.Symlink(r, cred, name, target, h.Gid)
	})
}

func (f *fileSystem) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	r := f.begin(cancel, &in.InHeader)
	defer r.end()
	target, tobj := f.nodes.acquire(in.Oldnodeid)
	if target == nil {
		return estale
	}
	defer f.nodes.release(target)
	dir, obj := f.nodes.acquire(in.NodeId)
	if dir == nil {
		return estale
	}
	defer f.nodes.release(dir)
	defer dir.updates()()
	stamp := f.stamp()
	cred := f.cred(&in.InHeader)
	if err := obj.Link(r, cred, tobj, name); err != nil {
		return f.status(err)
	}
	attr, err := tobj.GetAttr(r, cred)
	if err != nil {
		return f.status(err)
	}
	f.nodes.lookedUp(target)
	out.NodeId = target.nid
	out.Generation = uint64(attr.QID.Version)
	setAttr(&out.Attr, target.id, &attr)
	out.SetEntryTimeout(f.tellName(dir, name, false, stamp))
	return fuse.OK
}

func (f *fileSystem) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	r := f.begin(cancel, &in.InHeader)
	defer r.end()
	dir, obj := f.nodes.acquire(in.NodeId)
	if dir == nil {
		return estale
	}
	defer f.nodes.release(dir)
	defer dir.updates()()
	stamp := f.stamp()
	cred := f.cred(&in.InHeader)
	made, file, attr, err := obj.Create(r, cred, name, openFlags(in.Flags), in.Mode, in.Gid)
	if err != nil {
		return f.status(err)
	}
	f.entry(dir, name, made, &attr, stamp, false, &out.EntryOut)
	n, _ := f.nodes.acquire(out.NodeId) // just entered, and the kernel cannot forget it yet
	f.opened(n, file, in.Flags, cred, &out.OpenOut)
	return fuse.OK
}

// Tmpfile makes a file without a name: O_TMPFILE.
func (f *fileSystem) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	r := f.begin(cancel, &in.InHeader)
	defer r.end()
	dir, obj := f.nodes.acquire(in.NodeId)
	if dir == nil {
		return estale
	}
	defer f.nodes.release(dir)
	maker, ok := obj.(p9srv.Nameless)
	if !ok {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	stamp := f.stamp()
	cred := f.cred(&in.InHeader)
	made, file, attr, err := maker.Tmpfile(r, cred, openFlags(in.Flags), in.Mode, in.Gid)
	if err != nil {
		return f.status(err)
	}
	f.entry(nil, "", made, &attr, stamp, false, &out.EntryOut)
	n, _ := f.nodes.acquire(out.NodeId) // just entered, and the kernel cannot forget it yet
	f.opened(n, file, in.Flags, cred, &out.OpenOut)
	return fuse.OK
}

func (f *fileSystem) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.unlink(cancel, h, name, 0)
}

func (f *fileSystem) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.unlink(cancel, h, name, wire.AtRemoveDir)
}

func (f *fileSystem) unlink(cancel <-chan struct{}, h *fuse.InHeader, name string, flags uint32) fuse.Status {
	r := f.begin(cancel, h)
	defer r.end()
	dir, obj := f.nodes.acquire(h.NodeId)
	if dir == nil {
		return estale
	}
	defer f.nodes.release(dir)
	defer dir.updates()()
	return f.status(obj.Unlink(r, f.cred(h), name, flags))
}

func (f *fileSystem) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	r := f.begin(cancel, &in.InHeader)
	defer r.end()
	if in.Flags&^(wire.RenameNoReplace|wire.RenameExchange) != 0 {
		return fuse.EINVAL // RENAME_WHITEOUT, and whatever comes
	}
	d1, obj1 := f.nodes.acquire(in.NodeId)
	if d1 == nil {
		return estale
	}
	defer f.nodes.release(d1)
	d2, obj2 := f.nodes.acquire(in.Newdir)
	if d2 == nil {
		return estale
	}
	defer f.nodes.release(d2)
	defer d1.updates()()
	if d1 != d2 {
		defer d2.updates()()
	}
	after := f.moved(d1, oldName, d2, newName, in.Flags&wire.RenameExchange != 0)
	err := obj1.Rename(r, f.cred(&in.InHeader), oldName, obj2, newName, in.Flags)
	after()
	return f.status(err)
}

func (f *fileSystem) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	r := f.begin(cancel, h)
	defer r.end()
	n, obj := f.nodes.acquire(h.NodeId)
	if n == nil {
		return nil, estale
	}
	defer f.nodes.release(n)
	target, err := obj.Readlink(r, f.cred(h))
	return []byte(target), f.status(err)
}
