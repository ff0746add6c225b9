package fusefs

import (
	"context"
	"errors"
	"math"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	flockUnlock = 2 // ReleaseIn.ReleaseFlags: the flock(2) of the owner ends
	fsyncData   = 1 // FsyncIn.FsyncFlags: fdatasync
)

func (f *fileSystem) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r := f.begin(cancel, &in.InHeader)
	defer r.end()
	n, obj := f.nodes.acquire(in.NodeId)
	if n == nil {
		return estale
	}
	cred := f.cred(&in.InHeader)
	flags := openFlags(in.Flags) &^ (wire.OCreat | wire.OExcl)
	if flags&wire.OTrunc != 0 {
		if err := f.settle(r, n); err != nil {
			f.nodes.release(n)
			return f.status(err)
		}
	}
	file, err := obj.Open(r, cred, flags)
	if err == nil && flags&wire.OTrunc != 0 && in.Mode&fuse.OPEN_KILL_SUIDGID != 0 {
		err = f.killPrivileges(r, cred, obj)
		if err != nil {
			_ = file.Close(r)
		}
	}
	if err != nil {
		f.nodes.release(n)
		return f.status(err)
	}
	f.opened(n, file, in.Flags, cred, out)
	return fuse.OK
}

// opened makes a handle. The use of n becomes the handle's. Who may write goes past the kernel's page
// cache: see "Data" in the package's documentation.
func (f *fileSystem) opened(n *node, file p9srv.File, flags uint32, cred *p9srv.Cred, out *fuse.OpenOut) {
	out.Fh = f.handles.add(&handle{n: n, file: file, flags: flags, cred: cred})
	switch {
	case f.hooks.writeback:
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	case writable(flags):
		out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES
	case !f.caches(): // the kernel drops its pages at each open
	case n.isBare():
		out.OpenFlags = fuse.FOPEN_DIRECT_IO
	default:
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
}

// killPrivileges clears the setuid and setgid bits, as a write by somebody without privileges does.
func (f *fileSystem) killPrivileges(ctx context.Context, cred *p9srv.Cred, obj p9srv.Object) error {
	attr, err := obj.GetAttr(ctx, cred)
	if err != nil {
		return err
	}
	mode, changed := killsPrivileges(attr.Mode)
	if !changed || attr.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil
	}
	// It is not the writer's doing, who may not be allowed to.
	owner := &p9srv.Cred{UID: attr.UID, GID: attr.GID, Session: cred.Session}
	return obj.SetAttr(ctx, owner, nil, wire.SetAttr{Valid: wire.SetMode, Mode: mode & 0o7777})
}

// withHandle finds the handle, and runs do with a request's context.
func (f *fileSystem) withHandle(cancel <-chan struct{}, h *fuse.InHeader, fh uint64, do func(r *request, h *handle) error) fuse.Status {
	r := f.begin(cancel, h)
	defer r.end()
	hd := f.handles.get(fh)
	if hd == nil {
		return fuse.EBADF
	}
	return f.status(do(r, hd))
}

func (f *fileSystem) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	var got int
	st := f.withHandle(cancel, &in.InHeader, in.Fh, func(r *request, h *handle) (err error) {
		got, err = f.read(r, h.n, h.file, buf, int64(in.Offset))
		return err
	})
	if !st.Ok() {
		return nil, st
	}
	return fuse.ReadResultData(buf[:got]), fuse.OK
}

func (f *fileSystem) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS // Write is called instead
}

func (f *fileSystem) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	var wrote int
	st := f.withHandle(cancel, &in.InHeader, in.Fh, func(r *request, h *handle) error {
		n, obj := f.nodes.acquire(in.NodeId)
		if n == nil {
			return syscall.ESTALE
		}
		defer f.nodes.release(n)
		if in.WriteFlags&fuse.WRITE_CACHE != 0 {
			file, err := h.forWrite(r, obj, false)
			if err != nil {
				return err
			}
			h.refs.Add(1)
			wrote = len(data)
			return f.writeBack(r, n, file, func() { f.unref(h) }, data, int64(in.Offset))
		}
		if err := f.settle(r, n); err != nil {
			return err
		}
		file, err := h.forWrite(r, obj, in.Flags&syscall.O_APPEND != 0)
		if err != nil {
			return err
		}
		if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 && (f.coherent != nil || !h.noPriv.Swap(true)) {
			if err := f.killPrivileges(r, h.cred, obj); err != nil {
				return err
			}
		}
		wrote, err = file.WriteAt(r, data, int64(in.Offset))
		f.dropWritten(n, int64(in.Offset), int64(len(data)))
		if err != nil {
			return err
		}
		if in.Flags&syscall.O_DSYNC != 0 {
			return file.Fsync(r, in.Flags&syscall.O_SYNC != syscall.O_SYNC)
		}
		return nil
	})
	return uint32(wrote), st
}

// Flush is close(2) of one descriptor.
func (f *fileSystem) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	return f.withHandle(cancel, &in.InHeader, in.Fh, func(r *request, h *handle) error {
		n, obj := f.nodes.acquire(in.NodeId)
		if n == nil {
			return syscall.ESTALE
		}
		defer f.nodes.release(n)
		lockErr := f.unlockAll(n, obj, h.cred, in.LockOwner)
		if err := f.settled(r, n); err != nil {
			return err
		}
		if fl, ok := h.file.(p9srv.Flusher); ok {
			if err := fl.Flush(r); err != nil {
				return err
			}
		}
		return lockErr
	})
}

func (f *fileSystem) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	f.stats.requests.Add(1)
	h := f.handles.remove(in.Fh)
	if h == nil {
		return
	}
	if in.ReleaseFlags&flockUnlock != 0 {
		if n, obj := f.nodes.acquire(in.NodeId); n != nil {
			if err := f.unlockAll(n, obj, h.cred, in.LockOwner); err != nil {
				f.logf("fuse: object %#x: unlocking it: %v", n.id, err)
			}
			f.nodes.release(n)
		}
	}
	f.unref(h)
}

func (f *fileSystem) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return f.withHandle(cancel, &in.InHeader, in.Fh, func(r *request, h *handle) error {
		err := f.settled(r, h.n)
		return errors.Join(err, h.file.Fsync(r, in.FsyncFlags&fsyncData != 0))
	})
}

func (f *fileSystem) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return f.withHandle(cancel, &in.InHeader, in.Fh, func(r *request, h *handle) error {
		if err := f.settle(r, h.n); err != nil {
			return err
		}
		return h.file.Allocate(r, in.Mode, in.Offset, in.Length)
	})
}

// Lseek leaves SEEK_DATA and SEEK_HOLE to the kernel: all is data.
func (f *fileSystem) Lseek(<-chan struct{}, *fuse.LseekIn, *fuse.LseekOut) fuse.Status {
	return fuse.ENOSYS
}

// CopyFileRange has the backend copy where the bytes are. EXDEV and EOPNOTSUPP leave it to the kernel, which reads and writes.
func (f *fileSystem) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	copied := int64(0)
	st := f.withHandle(cancel, &in.InHeader, in.FhIn, func(r *request, from *handle) error {
		to := f.handles.get(in.FhOut)
		if to == nil {
			return syscall.EBADF
		}
		if in.Flags != 0 || in.OffIn > math.MaxInt64 || in.OffOut > math.MaxInt64 {
			return syscall.EINVAL
		}
		file, ok := to.file.(p9srv.Copier)
		if !ok {
			return syscall.EOPNOTSUPP
		}
		for _, n := range []*node{from.n, to.n} {
			if err := f.settle(r, n); err != nil {
				return err
			}
		}
		var err error
		copied, err = file.CopyFrom(r, from.file, int64(in.OffIn), int64(in.OffOut), int64(min(in.Len, 1<<30)))
		return err
	})
	return uint32(copied), st
}

// Ioctl knows none.
func (f *fileSystem) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
