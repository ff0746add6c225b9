package cachefs

import (
	"slices"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/tokens"
)

// node is one object. It is the p9srv.Object that faces work with; refs counts
// how often it was given out.
//
// All fields but fs, id and qid are guarded by fs.mu. What is cached is true while the
// object's token is held; it is forgotten when the token goes back.
type node struct {
	fs  *FS
	id  uint64
	qid wire.QID

	refs  int // given out and not released, plus open files
	opens int // open files

	// attr is good if attrOK; DataVersion and Gen in it are the server's.
	attr   wire.Attr
	attrOK bool
	// up are the directories in which the object has names, as far as known, good as long as
	// its own token is held; of a directory it is its parent.
	up []uint64
	// upOld: up may have directories in which the object has no name any more.
	upOld bool

	ents *entries // of a directory
	data *content // of a regular file
	// target is a symlink's, good if targetOK; it never changes.
	target   string
	targetOK bool

	// xattrs are the values known; nil: the attribute does not exist. xlist: names not here do not
	// exist; a value may still be unknown (xUnknown).
	xattrs map[string][]byte
	xlist  bool

	base base // of a file: what is at the server

	// mine: created here, and nobody else ever had a token of it.
	mine bool
	// fresh: created here and not yet at the server.
	fresh bool
	// kept: the server keeps the object for us though it may have no name; owed a release.
	kept bool
	// linkable: it has no name, and may still get one.
	linkable bool
	// rights is the last update that changed who may do what with it, by rightsBy.
	rights   uint64
	rightsBy uint32
	// freed are the updates by which names went from a directory in which only some may remove them.
	freed map[string]freed
	// gone: the object is known to be no more; everything fails with ESTALE.
	gone bool

	// suspect: pending work on it was lost; what is cached is forgotten once the
	// rest of the pending work is at the server, and until then nobody uses it.
	suspect bool
	// lost counts losses that kill open files; reported those that fsync reports once, and told is
	// what reported was when somebody was last told: who opens the object later is told of the rest.
	lost, reported, told uint64
	// whole is what reported was when the file was last begun anew, empty: no content that was lost before is missing
	// in it; marred: an attribute was lost, of which nobody was told.
	whole  uint64
	marred bool

	fids     [2]*boundFid // for reading, and unopened
	locks    []heldLock   // file locks of those here
	lockUID  *uint32      // as whom they are asked for
	fetches  []*fetch     // of data, under way
	listing  *listing     // under way
	siblings *siblings    // of a directory, once its files are used one after another
	ahead    bool         // a file: its write token was asked for ahead, and was not used yet
	along    bool         // a file: its content came along with another's, and was not used yet
	misses   int          // names of a directory that had to be asked for one by one

	idle nodeLink // in fs.idle, when refs is 0
}

// freed is an update that took a name away, and who did it.
type freed struct {
	seq uint64
	by  uint32
}

// xUnknown marks an extended attribute that exists and whose value is not known.
var xUnknown = []byte{0}

// nodeFor gives the node of an object, and makes it if it is not there. A host may use an id again, for an object with
// another version: then the one known by it is no more. Called with fs.mu held.
func (fs *FS) nodeFor(qid wire.QID) *node {
	qid = canonical(qid)
	n := fs.nodes[qid.Path]
	if n != nil && n.qid != qid {
		n.gone = true
		n.forget()
		fs.idle.remove(n)
		delete(fs.nodes, n.id)
		delete(fs.untold, n)
		n = nil
	}
	if n == nil {
		n = &node{fs: fs, id: qid.Path, qid: qid}
		n.shape()
		fs.nodes[n.id] = n
		fs.idle.push(n)
	}
	return n
}

// firstGivenID is the first id that is given out in ranges, and never used again.
const firstGivenID = 1 << 48

// canonical gives the QID under which an object is known here. Who creates an object does not know its version,
// and of ids that are never used again it says nothing: it is 0.
func canonical(qid wire.QID) wire.QID {
	if qid.Path >= firstGivenID {
		qid.Version = 0
	}
	return qid
}

// shape makes the parts that n's type needs.
func (n *node) shape() {
	if n.qid.Type&wire.QTDir != 0 {
		n.ents = &entries{}
	}
}

// content gives n's data, of a regular file.
func (n *node) content() *content {
	if n.data == nil {
		n.data = &content{lru: n.fs.lru}
	}
	return n.data
}

// ref gives n out once more.
func (n *node) ref() *node {
	if n.refs == 0 {
		n.fs.idle.remove(n)
	}
	n.refs++
	return n
}

// unref takes a reference back. Called with fs.mu held.
func (n *node) unref() {
	if n.refs--; n.refs > 0 {
		return
	}
	if n.refs < 0 {
		panic("cachefs: object released once too often")
	}
	n.fs.closeFids(n)
	n.fs.unlocked(n)
	n.fs.idle.push(n)
	n.fs.reap(n)
}

// reap forgets a node that has nothing worth keeping. Called with fs.mu held.
func (fs *FS) reap(n *node) {
	_, untold := fs.untold[n]
	if n.refs > 0 || n.suspect || n == fs.root || untold && !n.gone || fs.holder.Mode(n.id) != tokens.None && !n.gone || fs.pendingOn(n) > 0 {
		return
	}
	fs.idle.remove(n)
	if fs.nodes[n.id] != n {
		return // another object has its id
	}
	n.forget()
	delete(fs.nodes, n.id)
	delete(fs.untold, n)
}

// forget drops all that is cached of n: its token is gone, or what is known is not to be trusted.
func (n *node) forget() {
	n.attrOK = false
	n.mine = false
	if n.ents != nil {
		n.ents.drop()
	}
	if n.data != nil {
		n.data.drop()
	}
	n.xattrs, n.xlist, n.freed = nil, false, nil
	if n.listing != nil {
		n.listing.torn = true
	}
	n.up, n.upOld = nil, false
	n.fs.log.Moved(n.id)
}

// install takes over what came with a grant. Called with fs.mu held, and only if the holder said that it may be.
func (n *node) install(g *wire.Granted) {
	if n.suspect || n.gone {
		return
	}
	if g.Flags&wire.GrantedAttr != 0 && !n.attrOK {
		n.attr, n.attrOK = g.Attr, true
		n.attr.QID = n.qid
		n.base = base{n.attr.Ctime, n.attr.Mtime, n.attr.Size}
		if g.Attr.Flags&wire.AttrNoXattrs != 0 {
			n.xattrs, n.xlist = nil, true
		}
		if n.attr.Mode&modeType == modeSymlink && g.Target != "" {
			n.target, n.targetOK = g.Target, true
		}
	}
	if g.Flags&wire.GrantedInline != 0 && n.attrOK && isRegular(n.attr.Mode) && uint64(len(g.Inline)) == n.attr.Size {
		n.content().fill(0, slices.Clone(g.Inline))
		n.fs.lru.shrink(n.fs.opt.Cache)
	}
}

// addUp and dropUp keep the hints about n's directories.
func (n *node) addUp(dir uint64) {
	if slices.Contains(n.up, dir) {
		return
	}
	if n.ents != nil {
		n.up = n.up[:0] // a directory has one name
	}
	n.up = append(n.up, dir)
	n.fs.log.Moved(n.id)
}

// dropUp: of so many names of n one in dir went. Others may be in dir, too.
func (n *node) dropUp(dir uint64, names uint64) {
	switch {
	case n.ents != nil || names < 2:
		n.up, n.upOld = n.up[:0], false
	case names == uint64(len(n.up)) && !n.upOld:
		n.up = slices.DeleteFunc(n.up, func(d uint64) bool { return d == dir })
	default:
		n.upOld = n.fs.opt.Mutant != mutantOldPlaces
	}
	n.fs.log.Moved(n.id)
}

// countDirs notes that a directory has more directories in it, or fewer. A host that does not count them shows one link.
func (n *node) countDirs(more int) {
	if n.attr.Nlink > 1 {
		n.attr.Nlink += uint64(more)
	}
}

// final gives the attributes of n that an operation leaves, for its row.
func (n *node) final(valid uint32) order.Attr {
	a := &n.attr
	return order.Attr{ID: n.id, Valid: valid, Mode: a.Mode & modePerm, UserID: a.UID, GroupID: a.GID,
		Size: a.Size, Atime: a.Atime, Mtime: a.Mtime, Ctime: a.Ctime}
}

// touch sets the change time of n, and its modification time if mtime is set.
func (n *node) touch(mtime bool) {
	// The server's time, and never earlier than what the object showed: its change time,
	// for programs cannot set that.
	now := max(n.fs.now(), n.attr.Ctime+1)
	n.attr.Ctime = now
	if mtime {
		n.attr.Mtime = now
	}
}

// resize sets the size of a file and the blocks that go with it.
func (n *node) resize(size uint64) {
	n.attr.Size = size
	n.attr.Blocks = (size + 4095) / 4096 * 8
}

// wrote is what a change of its content does to n besides: times, size. It gives the attributes to send.
func (n *node) wrote(size uint64) order.Attr {
	n.touch(true)
	if size != n.attr.Size {
		n.resize(size)
	}
	return n.final(cut.AttrSize | cut.AttrMtime | cut.AttrCtime)
}

// pendingOn counts the operations on n that are not at the server. Called with f.mu held.
func (f *FS) pendingOn(n *node) int {
	ops, _ := f.log.Object(n.id)
	return ops
}

// ID is the object id.
func (n *node) ID() uint64 { return n.id }

// QID never changes.
func (n *node) QID() wire.QID { return n.qid }

// Release gives the reference back.
func (n *node) Release() {
	n.fs.mu.Lock()
	n.unref()
	n.fs.mu.Unlock()
}

// nodeList is the list of nodes that nobody uses, least recently used last.
type nodeList struct {
	head nodeLink
	len  int
}

type nodeLink struct {
	n          *node
	prev, next *nodeLink
}

func (l *nodeList) init() { l.head.next, l.head.prev = &l.head, &l.head }

func (l *nodeList) push(n *node) {
	l.remove(n)
	k := &n.idle
	k.n = n
	k.next, k.prev = l.head.next, &l.head
	k.next.prev, l.head.next = k, k
	l.len++
}

func (l *nodeList) remove(n *node) {
	k := &n.idle
	if k.next == nil {
		return
	}
	k.next.prev, k.prev.next = k.prev, k.next
	k.next, k.prev = nil, nil
	l.len--
}
