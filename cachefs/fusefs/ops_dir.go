package fusefs

import (
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

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

// plusEntry is an entry of READDIRPLUS; obj is nil when its attributes are not told.
type plusEntry struct {
	wire.Dirent
	obj   p9srv.Object
	attr  wire.Attr
	stamp uint64
}

// ReadDirPlus gives entries with attributes where the backend has these at hand and they may be kept. They are
// looked up after the listing was read, so that the backend is not called back from within it; and what the kernel may
// keep is decided after the last look-up: none of them may make the answer late.
func (f *fileSystem) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.withHandle(cancel, &in.InHeader, in.Fh, func(r *request, h *handle) error {
		dir, obj := f.nodes.acquire(in.NodeId)
		if dir == nil {
			return syscall.ESTALE
		}
		defer f.nodes.release(dir)
		var list []plusEntry
		room := int(in.Size)
		err := h.file.ReadDir(r, in.Offset, func(d wire.Dirent) bool {
			room -= plusSize + (len(d.Name)+plusPad)&^plusPad
			if room < 0 {
				return false
			}
			list = append(list, plusEntry{Dirent: d})
			return true
		})
		if err != nil {
			return err
		}
		cred := f.cred(&in.InHeader)
		for i := range list {
			e := &list[i]
			if e.Name == "." || e.Name == ".." || f.ttl(dir.id) == 0 || f.ttl(e.QID.Path) == 0 {
				continue // node 0: just the entry
			}
			e.stamp = f.stamp()
			if e.obj, e.attr, err = obj.Walk(r, cred, e.Name); err != nil {
				e.obj = nil // gone meanwhile, or not for us: whoever wants it will ask
			}
		}
		for i, e := range list {
			o := out.AddDirLookupEntry(fuse.DirEntry{Mode: dirType(e.Type), Name: e.Name, Ino: e.QID.Path, Off: e.Offset})
			if o == nil {
				for _, rest := range list[i:] {
					if rest.obj != nil {
						rest.obj.Release()
					}
				}
				break
			}
			if e.obj != nil {
				f.entry(dir, e.Name, e.obj, &e.attr, e.stamp, true, o)
				out.FixMode(e.attr.Mode)
			}
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
