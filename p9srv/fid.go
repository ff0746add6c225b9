package p9srv

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"

	"echo9/internal/wire"
)

// objRef is an Object that several fids share.
type objRef struct {
	Object
	n atomic.Int32
}

// newRef takes over the reference that o carries.
func newRef(o Object) *objRef {
	r := &objRef{Object: o}
	r.n.Store(1)
	return r
}

func (r *objRef) share() *objRef {
	if r != nil {
		r.n.Add(1)
	}
	return r
}

func (r *objRef) drop() {
	if r != nil && r.n.Add(-1) == 0 {
		r.Release()
	}
}

// fid is what a client's fid number stands for. All but the parts named below never change: an
// operation that makes a fid stand for something else (Tlcreate, Txattrcreate, Twalk onto
// itself) puts another fid under the number.
type fid struct {
	n    atomic.Int32 // one for the table and one for each request that uses it
	obj  *objRef
	cred *Cred
	// Where it was walked to, for Tremove and Trename; nil for a root. Guarded by conn.mu.
	dir  *objRef
	name string

	open  atomic.Pointer[openFile]
	xattr *xattrFid
	// owners are the lock owners that took locks by this fid. Guarded by conn.mu.
	owners []lockOwner
}

type openFile struct {
	File
	flags uint32
}

// writable tells whether attributes may be set through the open file.
func (o *openFile) writable() bool { return o.flags&wire.OAccMode != wire.ORdonly }

type lockOwner struct {
	proc   uint32
	client string
}

// xattrFid is the state of a fid that stands for an extended attribute.
type xattrFid struct {
	name   string
	create bool // made by Txattrcreate: written, and set when clunked
	size   uint64
	flags  uint32

	mu    sync.Mutex
	value []byte
}

func newFid(obj *objRef, cred *Cred, dir *objRef, name string) *fid {
	f := &fid{obj: obj, cred: cred, dir: dir, name: name}
	f.n.Store(1)
	return f
}

// use counts a request that works with f.
func (f *fid) use() *fid {
	f.n.Add(1)
	return f
}

// end gives a use, or the table's place, back. The last one closes the file; its error
// is that of a write behind, which the Tclunk reports when it is the last.
func (f *fid) end(c *conn) (err error) {
	if f == nil || f.n.Add(-1) != 0 {
		return nil
	}
	ctx := context.Background()
	c.mu.Lock()
	owners := f.owners
	c.mu.Unlock()
	for _, o := range owners {
		// A lock that its owner gave back already is not there: nothing to tell.
		_, _ = f.obj.Lock(ctx, f.cred, wire.Lock{Type: wire.LockUnlock, ProcID: o.proc, ClientID: o.client})
	}
	if o := f.open.Load(); o != nil {
		err = o.Close(ctx)
	}
	if f.xattr != nil {
		c.xattrBytes.Add(-f.xattr.reserved())
	}
	f.obj.drop()
	f.dir.drop()
	return err
}

// reserved is what the attribute's value counts for in conn.xattrBytes.
func (x *xattrFid) reserved() int64 { return int64(x.size) }

// The errors of fids.
const (
	errNoFid   = syscall.EBADF  // never made, or clunked
	errFidUsed = syscall.EINVAL // stands for something already
	errMaxFids = syscall.EMFILE
)

// putFid installs f under a number that stands for nothing. On error f is still the caller's.
func (c *conn) putFid(n uint32, f *fid) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case n == wire.NoFid || c.fids[n] != nil:
		return errFidUsed
	case len(c.fids) >= c.srv.cfg.MaxFids:
		return errMaxFids
	case c.closed:
		return syscall.ECONNRESET
	}
	c.fids[n] = f
	return nil
}

// freeFid checks that a number may be given to a new fid, before work is done for it.
func (c *conn) freeFid(n uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == wire.NoFid || c.fids[n] != nil {
		return errFidUsed
	}
	if len(c.fids) >= c.srv.cfg.MaxFids {
		return errMaxFids
	}
	return nil
}

// swapFid puts f in the place of old, which must still be there. On error f is still the caller's.
func (c *conn) swapFid(n uint32, old, f *fid) error {
	c.mu.Lock()
	if c.fids[n] != old || c.closed {
		c.mu.Unlock()
		return errNoFid
	}
	c.fids[n] = f
	c.mu.Unlock()
	return old.end(c)
}

// dropFid takes a fid out of the table. The caller ends the table's use of it.
func (c *conn) dropFid(n uint32, f *fid) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fids[n] != f {
		return false
	}
	delete(c.fids, n)
	return true
}

// dropAllFids ends the table's use of all fids.
func (c *conn) dropAllFids() {
	c.mu.Lock()
	all := c.fids
	c.fids = map[uint32]*fid{}
	for _, f := range all {
		if f.cred.Session != 0 {
			f.owners = nil // a session's locks outlive its connections
		}
	}
	c.mu.Unlock()
	for _, f := range all {
		if err := f.end(c); err != nil {
			c.srv.cfg.Logf("%s: close of a file left open: %v", c.peer.Addr, err)
		}
	}
}

// place is where the fid's object was walked to.
func (f *fid) place(c *conn) (dir *objRef, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f.dir.share(), f.name
}
