package fusefs

import (
	"syscall"

	"echo9/internal/wire"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func (f *fileSystem) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r := f.begin(cancel, &in.InHeader)
	defer r.end()
	n, obj := f.nodes.acquire(in.NodeId)
	if n == nil {
		return estale
	}
	cred := f.cred(&in.InHeader)
	file, err := obj.Open(r, cred, wire.ORdonly|wire.ODirectory)
	if err != nil {
		f.nodes.release(n)
		return f.status(err)
	}
	out.Fh = f.handles.add(&handle{n: n, file: file, flags: in.Flags, cred: cred})
	return fuse.OK
}

func (f *fileSystem) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.withHandle(cancel, &in.InHeader, in.Fh, func(r *request, h *handle) error {
		return h.file.ReadDir(r, in.Offset, func(d wire.Dirent) bool {
			return out.AddDirEntry(fuse.DirEntry{Mode: dirType(d.Type), Name: d.Name, Ino: d.QID.Path, Off: d.Offset})
		})
	})
}

// The sizes of an entry of READDIRPLUS without its name, which is padded to 8 bytes.
const (
	plusSize = 128 + 24
	plusPad  = 7
)

// ReadDirPlus gives entries with attributes, where these may be kept; they are
// looked up after the listing was read, so that the backend is not called back from within it.
func (f *fileSystem) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.withHandle(cancel, &in.InHeader, in.Fh, func(r *request, h *handle) error {
		dir, obj := f.nodes.acquire(in.NodeId)
		if dir == nil {
			return syscall.ESTALE
		}
		defer f.nodes.release(dir)
		var list []wire.Dirent
		room := int(in.Size)
		err := h.file.ReadDir(r, in.Offset, func(d wire.Dirent) bool {
			room -= plusSize + len(d.Name) + plusPad&^7
			if room < 0 {
				return false
			}
			list = append(list, d)
			return true
		})
		if err != nil {
			return err
		}
		cred := f.cred(&in.InHeader)
		for _, d := range list {
			e := out.AddDirLookupEntry(fuse.DirEntry{Mode: dirType(d.Type), Name: d.Name, Ino: d.QID.Path, Off: d.Offset})
			if e == nil {
				break
			}
			if d.Name == "." || d.Name == ".." || f.ttl(dir.id) == 0 {
				continue // node 0: just the entry
			}
			stamp := f.stamp()
			found, attr, err := obj.Walk(r, cred, d.Name)
			if err != nil {
				continue // gone meanwhile, or not for us: whoever wants it will ask
			}
			f.entry(dir, d.Name, found, &attr, stamp, true, e)
			out.FixMode(attr.Mode)
		}
		return nil
	})
}

func (f *fileSystem) ReleaseDir(in *fuse.ReleaseIn) {
	f.stats.requests.Add(1)
	if h := f.handles.remove(in.Fh); h != nil {
		f.unref(h)
	}
}

func (f *fileSystem) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return f.withHandle(cancel, &in.InHeader, in.Fh, func(r *request, h *handle) error {
		return h.file.Fsync(r, in.FsyncFlags&fsyncData != 0)
	})
}
