package fusefs

import (
	"syscall"
	"time"

	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// withNode finds the node and runs do with a request's context.
func (f *fileSystem) withNode(cancel <-chan struct{}, h *fuse.InHeader, do func(r *request, n *node, obj p9srv.Object) error) fuse.Status {
	r := f.begin(cancel, h)
	defer r.end()
	n, obj := f.nodes.acquire(h.NodeId)
	if n == nil {
		return estale
	}
	defer f.nodes.release(n)
	return f.status(do(r, n, obj))
}

// fill puts a value where the kernel wants it; an empty dest asks for the size.
func fill(dest, value []byte) (uint32, error) {
	if len(value) > len(dest) {
		return uint32(len(value)), syscall.ERANGE
	}
	return uint32(copy(dest, value)), nil
}

func (f *fileSystem) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (size uint32, st fuse.Status) {
	st = f.withNode(cancel, h, func(r *request, n *node, obj p9srv.Object) error {
		n.mu.Lock()
		none := n.noXattrs && n.revoking == 0 && time.Now().Before(n.attrUntil)
		n.mu.Unlock()
		if none {
			return syscall.ENODATA
		}
		value, err := obj.GetXattr(r, f.cred(h), name)
		if err != nil {
			return err
		}
		size, err = fill(dest, value)
		return err
	})
	return size, st
}

func (f *fileSystem) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (size uint32, st fuse.Status) {
	st = f.withNode(cancel, h, func(r *request, n *node, obj p9srv.Object) error {
		names, err := obj.ListXattr(r, f.cred(h))
		if err != nil {
			return err
		}
		var list []byte
		for _, name := range names {
			list = append(append(list, name...), 0)
		}
		size, err = fill(dest, list)
		return err
	})
	return size, st
}

func (f *fileSystem) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	return f.withNode(cancel, &in.InHeader, func(r *request, n *node, obj p9srv.Object) error {
		defer n.xattrsChange()()
		return obj.SetXattr(r, f.cred(&in.InHeader), name, append([]byte(nil), value...), in.Flags)
	})
}

func (f *fileSystem) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.withNode(cancel, h, func(r *request, n *node, obj p9srv.Object) error {
		return obj.RemoveXattr(r, f.cred(h), name)
	})
}

// xattrsChange forgets that there are none, before and after the change.
func (n *node) xattrsChange() (after func()) {
	forget := func() {
		n.mu.Lock()
		n.noXattrs = false
		n.mu.Unlock()
	}
	forget()
	return forget
}
