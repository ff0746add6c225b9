package p9srv

import (
	"context"
	"fmt"
	"path"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"echo9/internal/bytelock"
	"echo9/internal/wire"
)

// memFS is a Backend in memory: the fake of the tests. It counts the references
// and files that are out, and can stop operations at a gate.
type memFS struct {
	mu       sync.Mutex
	nodes    map[uint64]*memNode
	next     uint64
	refs     int // Objects that are out
	files    int // Files that are open
	locks    bytelock.Table
	hook     func(ctx context.Context, what string, id uint64) error
	closeErr error
}

type memNode struct {
	id      uint64
	mode    uint32
	uid     uint32
	gid     uint32
	nlink   uint64
	rdev    uint64
	data    []byte
	target  string
	parent  uint64
	ents    map[string]uint64
	xattrs  map[string][]byte
	open    int
	mtime   int64
	version uint64
}

func newMemFS() *memFS {
	fs := &memFS{nodes: map[uint64]*memNode{}, next: 1}
	root := fs.node(syscall.S_IFDIR | 0o755)
	root.parent, root.nlink = root.id, 2
	return fs
}

func (fs *memFS) node(mode uint32) *memNode {
	n := &memNode{id: fs.next, mode: mode, nlink: 1, mtime: int64(time.Hour)}
	fs.next++
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.ents = map[string]uint64{}
	}
	fs.nodes[n.id] = n
	return n
}

func (fs *memFS) at(ctx context.Context, what string, id uint64) error {
	fs.mu.Lock()
	h := fs.hook
	fs.mu.Unlock()
	if h != nil {
		return h(ctx, what, id)
	}
	return nil
}

func (fs *memFS) setHook(h func(ctx context.Context, what string, id uint64) error) {
	fs.mu.Lock()
	fs.hook = h
	fs.mu.Unlock()
}

func (fs *memFS) out() (refs, files int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.refs, fs.files
}

// object gives a reference; fs.mu is held.
func (fs *memFS) object(n *memNode) Object {
	fs.refs++
	return &memObject{fs: fs, n: n}
}

func (fs *memFS) Root(ctx context.Context, _ *Cred, aname string) (Object, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.nodes[1]
	for _, name := range strings.Split(path.Clean("/"+aname), "/") {
		if name == "" {
			continue
		}
		if n = fs.nodes[n.ents[name]]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return fs.object(n), nil
}

func (fs *memFS) Lookup(_ context.Context, id uint64) (Object, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.nodes[id]
	if n == nil {
		return nil, syscall.ESTALE
	}
	return fs.object(n), nil
}

func (fs *memFS) StatFS(context.Context) (wire.StatFS, error) {
	return wire.StatFS{Type: 0x01021997, BlockSize: 4096, NameLen: 255}, nil
}

// put makes a file for a test; dirs are made as needed.
func (fs *memFS) put(p string, data string) uint64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.nodes[1]
	parts := strings.Split(strings.Trim(p, "/"), "/")
	for i, name := range parts {
		next := fs.nodes[n.ents[name]]
		if next == nil {
			mode := uint32(syscall.S_IFDIR | 0o755)
			if i == len(parts)-1 {
				mode = syscall.S_IFREG | 0o644
			}
			next = fs.node(mode)
			next.parent = n.id
			n.ents[name] = next.id
		}
		n = next
	}
	n.data = []byte(data)
	return n.id
}

// unref drops the node when nothing holds it; fs.mu is held.
func (fs *memFS) gone(n *memNode) {
	if n.nlink == 0 && n.open == 0 && n.id != 1 {
		delete(fs.nodes, n.id)
	}
}

type memObject struct {
	fs       *memFS
	n        *memNode
	released bool
}

func (o *memObject) ID() uint64 { return o.n.id }

func (o *memObject) QID() wire.QID { return qidOf(o.n) }

func qidOf(n *memNode) wire.QID {
	q := wire.QID{Path: n.id, Version: 7}
	switch n.mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		q.Type = wire.QTDir
	case syscall.S_IFLNK:
		q.Type = wire.QTSymlink
	}
	return q
}

func (n *memNode) attr() wire.Attr {
	return wire.Attr{
		QID: qidOf(n), Mode: n.mode, UID: n.uid, GID: n.gid, Nlink: n.nlink, Rdev: n.rdev,
		Size: uint64(len(n.data)), BlockSize: 4096, Mtime: n.mtime, DataVersion: n.version,
	}
}

func (o *memObject) Release() {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.released {
		panic("released twice")
	}
	o.released = true
	o.fs.refs--
}

func (o *memObject) enter(ctx context.Context, what string) error {
	if err := o.fs.at(ctx, what, o.n.id); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	o.fs.mu.Lock()
	if o.released {
		panic(what + " of a released object")
	}
	return nil
}

func (o *memObject) dir(name string) (uint64, error) {
	if o.n.ents == nil {
		return 0, syscall.ENOTDIR
	}
	return o.n.ents[name], nil
}

func (o *memObject) Walk(ctx context.Context, _ *Cred, name string) (Object, wire.Attr, error) {
	if err := o.enter(ctx, "walk"); err != nil {
		return nil, wire.Attr{}, err
	}
	defer o.fs.mu.Unlock()
	id, err := o.dir(name)
	if name == ".." {
		id = o.n.parent
	}
	n := o.fs.nodes[id]
	switch {
	case err != nil:
		return nil, wire.Attr{}, err
	case n == nil:
		return nil, wire.Attr{}, syscall.ENOENT
	}
	return o.fs.object(n), n.attr(), nil
}

func (o *memObject) GetAttr(ctx context.Context, _ *Cred) (wire.Attr, error) {
	if err := o.enter(ctx, "getattr"); err != nil {
		return wire.Attr{}, err
	}
	defer o.fs.mu.Unlock()
	return o.n.attr(), nil
}

func (o *memObject) SetAttr(ctx context.Context, _ *Cred, f File, set wire.SetAttr) error {
	if err := o.enter(ctx, "setattr"); err != nil {
		return err
	}
	defer o.fs.mu.Unlock()
	if set.Valid&wire.SetMode != 0 {
		o.n.mode = o.n.mode&syscall.S_IFMT | set.Mode&0o7777
	}
	if set.Valid&wire.SetSize != 0 {
		o.n.resize(int(set.Size))
	}
	if set.Valid&wire.SetMtimeSet != 0 {
		o.n.mtime = set.Mtime
	}
	o.n.version++
	return nil
}

func (n *memNode) resize(size int) {
	if size <= len(n.data) {
		n.data = n.data[:size]
	} else {
		n.data = append(n.data, make([]byte, size-len(n.data))...)
	}
}

func (o *memObject) Readlink(ctx context.Context, _ *Cred) (string, error) {
	if err := o.enter(ctx, "readlink"); err != nil {
		return "", err
	}
	defer o.fs.mu.Unlock()
	if o.n.mode&syscall.S_IFMT != syscall.S_IFLNK {
		return "", syscall.EINVAL
	}
	return o.n.target, nil
}

func (o *memObject) Open(ctx context.Context, _ *Cred, flags uint32) (File, error) {
	if err := o.enter(ctx, "open"); err != nil {
		return nil, err
	}
	defer o.fs.mu.Unlock()
	if o.n.ents != nil && flags&wire.OAccMode != 0 {
		return nil, syscall.EISDIR
	}
	if flags&wire.OTrunc != 0 {
		o.n.data = nil
		o.n.version++
	}
	return o.fs.file(o.n, flags), nil
}

// file opens; fs.mu is held.
func (fs *memFS) file(n *memNode, flags uint32) File {
	fs.files++
	n.open++
	return &memFile{o: memObject{fs: fs, n: n}, flags: flags}
}

// make makes an entry; fs.mu is held.
func (o *memObject) make(name string, mode uint32, cred *Cred) (*memNode, error) {
	if o.n.ents == nil {
		return nil, syscall.ENOTDIR
	}
	if o.n.ents[name] != 0 {
		return nil, syscall.EEXIST
	}
	n := o.fs.node(mode)
	n.parent, n.uid = o.n.id, cred.UID
	o.n.ents[name] = n.id
	o.n.version++
	return n, nil
}

func (o *memObject) Create(ctx context.Context, cred *Cred, name string, flags, mode, gid uint32) (Object, File, wire.Attr, error) {
	if err := o.enter(ctx, "create"); err != nil {
		return nil, nil, wire.Attr{}, err
	}
	defer o.fs.mu.Unlock()
	n := o.fs.nodes[o.n.ents[name]]
	if n == nil || flags&wire.OExcl != 0 {
		var err error
		if n, err = o.make(name, syscall.S_IFREG|mode&0o7777, cred); err != nil {
			return nil, nil, wire.Attr{}, err
		}
		n.gid = gid
	} else if flags&wire.OTrunc != 0 {
		n.data = nil
	}
	return o.fs.object(n), o.fs.file(n, flags), n.attr(), nil
}

func (o *memObject) made(ctx context.Context, what, name string, mode uint32, cred *Cred, fill func(*memNode)) (Object, wire.Attr, error) {
	if err := o.enter(ctx, what); err != nil {
		return nil, wire.Attr{}, err
	}
	defer o.fs.mu.Unlock()
	n, err := o.make(name, mode, cred)
	if err != nil {
		return nil, wire.Attr{}, err
	}
	fill(n)
	return o.fs.object(n), n.attr(), nil
}

func (o *memObject) Mkdir(ctx context.Context, cred *Cred, name string, mode, gid uint32) (Object, wire.Attr, error) {
	return o.made(ctx, "mkdir", name, syscall.S_IFDIR|mode&0o7777, cred, func(n *memNode) { n.nlink = 2; n.gid = gid })
}

func (o *memObject) Symlink(ctx context.Context, cred *Cred, name, target string, gid uint32) (Object, wire.Attr, error) {
	return o.made(ctx, "symlink", name, syscall.S_IFLNK|0o777, cred, func(n *memNode) { n.target = target; n.gid = gid })
}

func (o *memObject) Mknod(ctx context.Context, cred *Cred, name string, mode, major, minor, gid uint32) (Object, wire.Attr, error) {
	return o.made(ctx, "mknod", name, mode, cred, func(n *memNode) { n.rdev = uint64(major)<<8 | uint64(minor); n.gid = gid })
}

func (o *memObject) Link(ctx context.Context, _ *Cred, target Object, name string) error {
	if err := o.enter(ctx, "link"); err != nil {
		return err
	}
	defer o.fs.mu.Unlock()
	if o.n.ents == nil {
		return syscall.ENOTDIR
	}
	if o.n.ents[name] != 0 {
		return syscall.EEXIST
	}
	t := target.(*memObject).n
	if t.ents != nil {
		return syscall.EPERM
	}
	o.n.ents[name] = t.id
	t.nlink++
	return nil
}

func (o *memObject) Unlink(ctx context.Context, _ *Cred, name string, flags uint32) error {
	if err := o.enter(ctx, "unlink"); err != nil {
		return err
	}
	defer o.fs.mu.Unlock()
	return o.remove(name, flags&wire.AtRemoveDir != 0)
}

func (o *memObject) remove(name string, dir bool) error {
	n := o.fs.nodes[o.n.ents[name]]
	switch {
	case n == nil:
		return syscall.ENOENT
	case dir && n.ents == nil:
		return syscall.ENOTDIR
	case !dir && n.ents != nil:
		return syscall.EISDIR
	case len(n.ents) > 0:
		return syscall.ENOTEMPTY
	case n.ents != nil:
		n.nlink = 0
	default:
		n.nlink--
	}
	delete(o.n.ents, name)
	o.n.version++
	o.fs.gone(n)
	return nil
}

func (o *memObject) Rename(ctx context.Context, _ *Cred, oldName string, dir Object, newName string, flags uint32) error {
	if err := o.enter(ctx, "rename"); err != nil {
		return err
	}
	defer o.fs.mu.Unlock()
	d := dir.(*memObject)
	if d.n.ents == nil {
		return syscall.ENOTDIR
	}
	n := o.fs.nodes[o.n.ents[oldName]]
	if n == nil {
		return syscall.ENOENT
	}
	for up := d.n; n.ents != nil && up.id != 1; up = o.fs.nodes[up.parent] {
		if up == n {
			return syscall.EINVAL
		}
	}
	if have := d.n.ents[newName]; have == n.id {
		return nil
	} else if have != 0 {
		if err := d.remove(newName, n.ents != nil); err != nil {
			return err
		}
	}
	delete(o.n.ents, oldName)
	d.n.ents[newName] = n.id
	n.parent = d.n.id
	o.n.version++
	d.n.version++
	return nil
}

func (o *memObject) GetXattr(ctx context.Context, _ *Cred, name string) ([]byte, error) {
	if err := o.enter(ctx, "getxattr"); err != nil {
		return nil, err
	}
	defer o.fs.mu.Unlock()
	v, ok := o.n.xattrs[name]
	if !ok {
		return nil, syscall.ENODATA
	}
	return v, nil
}

func (o *memObject) ListXattr(ctx context.Context, _ *Cred) ([]string, error) {
	if err := o.enter(ctx, "listxattr"); err != nil {
		return nil, err
	}
	defer o.fs.mu.Unlock()
	var names []string
	for n := range o.n.xattrs {
		names = append(names, n)
	}
	sort.Strings(names)
	return names, nil
}

func (o *memObject) SetXattr(ctx context.Context, _ *Cred, name string, value []byte, flags uint32) error {
	if err := o.enter(ctx, "setxattr"); err != nil {
		return err
	}
	defer o.fs.mu.Unlock()
	_, have := o.n.xattrs[name]
	switch {
	case flags == wire.XattrCreate && have:
		return syscall.EEXIST
	case flags == wire.XattrReplace && !have:
		return syscall.ENODATA
	}
	if o.n.xattrs == nil {
		o.n.xattrs = map[string][]byte{}
	}
	o.n.xattrs[name] = append([]byte(nil), value...)
	return nil
}

func (o *memObject) RemoveXattr(ctx context.Context, _ *Cred, name string) error {
	if err := o.enter(ctx, "removexattr"); err != nil {
		return err
	}
	defer o.fs.mu.Unlock()
	if _, have := o.n.xattrs[name]; !have {
		return syscall.ENODATA
	}
	delete(o.n.xattrs, name)
	return nil
}

func memLock(cred *Cred, l wire.Lock) bytelock.Lock {
	return bytelock.Lock{
		Owner: bytelock.Owner{Session: cred.Session, Conn: cred.Owner, Proc: l.ProcID, Client: l.ClientID},
		Type:  bytelock.Type(l.Type), Start: l.Start, Length: l.Length,
	}
}

func (o *memObject) Lock(_ context.Context, cred *Cred, l wire.Lock) (wire.LockStatus, error) {
	return wire.LockStatus(o.fs.locks.Set(o.n.id, memLock(cred, l))), nil
}

func (o *memObject) GetLock(_ context.Context, cred *Cred, l wire.Lock) (wire.Lock, error) {
	got, hit := o.fs.locks.Get(o.n.id, memLock(cred, l))
	if !hit {
		l.Type = wire.LockUnlock
		return l, nil
	}
	return wire.Lock{Type: uint8(got.Type), Start: got.Start, Length: got.Length, ProcID: got.Owner.Proc, ClientID: got.Owner.Client}, nil
}

type memFile struct {
	o      memObject
	flags  uint32
	closed bool
}

func (f *memFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := f.o.enter(ctx, "read"); err != nil {
		return 0, err
	}
	defer f.o.fs.mu.Unlock()
	switch {
	case f.o.n.ents != nil:
		return 0, syscall.EISDIR
	case f.flags&wire.OAccMode == wire.OWronly:
		return 0, syscall.EBADF
	case off >= int64(len(f.o.n.data)):
		return 0, nil
	}
	return copy(p, f.o.n.data[off:]), nil
}

func (f *memFile) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := f.o.enter(ctx, "write"); err != nil {
		return 0, err
	}
	defer f.o.fs.mu.Unlock()
	n := f.o.n
	if f.flags&wire.OAccMode == wire.ORdonly {
		return 0, syscall.EBADF
	}
	if off > 1<<30 {
		return 0, syscall.EFBIG
	}
	if end := int(off) + len(p); end > len(n.data) {
		n.resize(end)
	}
	copy(n.data[off:], p)
	n.version++
	return len(p), nil
}

func (f *memFile) ReadDir(ctx context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
	if err := f.o.enter(ctx, "readdir"); err != nil {
		return err
	}
	defer f.o.fs.mu.Unlock()
	if f.o.n.ents == nil {
		return syscall.ENOTDIR
	}
	names := make([]string, 0, len(f.o.n.ents)+2)
	for n := range f.o.n.ents {
		names = append(names, n)
	}
	sort.Strings(names)
	names = append([]string{".", ".."}, names...)
	for i := int(min(cookie, uint64(len(names)))); i < len(names); i++ {
		n := f.o.n
		switch names[i] {
		case ".":
		case "..":
			n = f.o.fs.nodes[n.parent]
		default:
			n = f.o.fs.nodes[n.ents[names[i]]]
		}
		if !fn(wire.Dirent{QID: qidOf(n), Offset: uint64(i + 1), Type: uint8(n.mode >> 12), Name: names[i]}) {
			return nil
		}
	}
	return nil
}

func (f *memFile) Fsync(ctx context.Context, _ bool) error {
	if err := f.o.enter(ctx, "fsync"); err != nil {
		return err
	}
	f.o.fs.mu.Unlock()
	return nil
}

func (f *memFile) Allocate(context.Context, uint32, uint64, uint64) error { return syscall.EOPNOTSUPP }

func (f *memFile) Close(context.Context) error {
	f.o.fs.mu.Lock()
	defer f.o.fs.mu.Unlock()
	if f.closed {
		panic("closed twice")
	}
	f.closed = true
	f.o.fs.files--
	f.o.n.open--
	f.o.fs.gone(f.o.n)
	return f.o.fs.closeErr
}
