package fusefs

import (
	"sync"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is an object that the kernel knows, or that a request or an open file uses.
type node struct {
	id  uint64 // of the object: st_ino
	nid uint64 // the kernel's number for it

	// Guarded by the table's shard.
	obj     p9srv.Object
	qid     wire.QID
	old     []p9srv.Object // of earlier generations, used until the node goes
	uses    int            // requests, handles, and 1 for all look-ups of the kernel
	lookups uint64         // what the kernel will forget

	mu sync.Mutex
	// What the kernel was told, and until when it may serve it without asking.
	attrUntil time.Time
	names     map[string]told // of a directory
	manyUntil time.Time       // names that are no longer in the map: too many
	updating  int             // requests that hold the kernel's lock of the directory exclusively
	cautious  time.Time       // until then names are told for a short time only
	invalBusy bool            // a notification for names is under way, perhaps stuck
	noXattrs  bool            // the attributes last told said so; true only while attrUntil lasts

	// Revocations: see revoke.go and data.go.
	drops
	lastRev uint64        // fs.revs at the last beginning or end of one
	revoked chan struct{} // closed when one begins

	active  int // READs in the backend
	parking bool
	unpark  chan struct{}
	idle    chan struct{} // closed when active is 0, while somebody asks
	dataSem chan struct{} // one revocation at a time drops pages
	bareAt  time.Time     // when a READ was last answered without a token

	laundry    []*laundered
	laundering bool
	washed     chan struct{} // closed when the laundry is empty
	washErr    error

	lockOwners map[uint64]uint32 // who took locks through this mount: the kernel's owner, and the process that was first
}

// told says what was told of a name.
type told struct {
	at, until time.Time
	dir       bool // the name of a directory
}

const shards = 64

// nodeTable finds nodes by the kernel's number.
type nodeTable struct {
	rootID uint64
	shard  [shards]struct {
		sync.Mutex
		m map[uint64]*node
	}
}

func newNodeTable(rootID uint64) *nodeTable {
	t := &nodeTable{rootID: rootID}
	for i := range t.shard {
		t.shard[i].m = map[uint64]*node{}
	}
	return t
}

// The kernel calls the root 1. An object whose id is 1, or 0, gets a number that no id can be.
const (
	aliasOfOne  = 1<<62 | 1
	aliasOfZero = 1 << 62
	nobody      = 1<<61 | 1 // never a node: see notifier.alive
)

func (t *nodeTable) number(id uint64) uint64 {
	switch {
	case id == t.rootID:
		return fuse.FUSE_ROOT_ID
	case id == 1:
		return aliasOfOne
	case id == 0:
		return aliasOfZero
	}
	return id
}

// acquire finds the node that a request is about. It counts as a use.
func (t *nodeTable) acquire(nid uint64) (*node, p9srv.Object) {
	s := &t.shard[nid%shards]
	s.Lock()
	defer s.Unlock()
	n := s.m[nid]
	if n == nil {
		return nil, nil
	}
	n.uses++
	return n, n.obj
}

// enter makes obj known: the node has one more use, and with lookup one more look-up of the
// kernel. The reference of obj becomes the node's. known says that the kernel
// had looked it up before. revs is the count of revocations when a node comes into being.
func (t *nodeTable) enter(obj p9srv.Object, lookup bool, stamp uint64, revs func() uint64) (n *node, known bool) {
	id, qid := obj.ID(), obj.QID()
	nid := t.number(id)
	s := &t.shard[nid%shards]
	spare := obj
	s.Lock()
	n = s.m[nid]
	switch {
	case n == nil:
		n = &node{id: id, nid: nid, obj: obj, qid: qid, revoked: make(chan struct{}), dataSem: make(chan struct{}, 1)}
		if now := revs(); now != stamp {
			n.lastRev = now // it may have been revoked while nobody knew it here
		}
		s.m[nid] = n
		spare = nil
	case n.qid.Version != qid.Version || n.qid.Type != qid.Type:
		// The id was used again for another object.
		n.old = append(n.old, n.obj)
		n.obj, n.qid = obj, qid
		spare = nil
	}
	known = n.lookups > 0
	if lookup {
		if n.lookups == 0 {
			n.uses++
		}
		n.lookups++
	}
	n.uses++
	s.Unlock()
	if spare != nil {
		spare.Release()
	}
	return n, known
}

// find is acquire by object id.
func (t *nodeTable) find(id uint64) *node {
	n, _ := t.acquire(t.number(id))
	return n
}

// again counts one more use of a node that is in use.
func (t *nodeTable) again(n *node) *node {
	s := &t.shard[n.nid%shards]
	s.Lock()
	n.uses++
	s.Unlock()
	return n
}

// lookedUp counts one more look-up of a node that is in use.
func (t *nodeTable) lookedUp(n *node) {
	s := &t.shard[n.nid%shards]
	s.Lock()
	defer s.Unlock()
	if n.lookups == 0 {
		n.uses++
	}
	n.lookups++
}

// known says whether the kernel counts a look-up of n.
func (t *nodeTable) known(n *node) bool {
	s := &t.shard[n.nid%shards]
	s.Lock()
	defer s.Unlock()
	return n.lookups > 0
}

// release ends a use.
func (t *nodeTable) release(n *node) {
	s := &t.shard[n.nid%shards]
	s.Lock()
	t.drop(s.m, n, 1, s.Unlock)
}

// forget takes back look-ups.
func (t *nodeTable) forget(nid, count uint64) {
	s := &t.shard[nid%shards]
	s.Lock()
	n := s.m[nid]
	if n == nil || n.lookups == 0 {
		s.Unlock()
		return
	}
	n.lookups -= min(count, n.lookups)
	if n.lookups > 0 {
		s.Unlock()
		return
	}
	t.drop(s.m, n, 1, s.Unlock)
}

// drop ends k uses of n; unlock unlocks its shard.
func (t *nodeTable) drop(m map[uint64]*node, n *node, k int, unlock func()) {
	n.uses -= k
	if n.uses > 0 {
		unlock()
		return
	}
	if m[n.nid] == n {
		delete(m, n.nid)
	}
	obj, old := n.obj, n.old
	n.obj, n.old = nil, nil
	unlock()
	if obj != nil {
		obj.Release()
	}
	for _, o := range old {
		o.Release()
	}
}

// clear forgets all look-ups: the kernel is gone.
func (t *nodeTable) clear() {
	for i := range t.shard {
		s := &t.shard[i]
		s.Lock()
		var all []uint64
		for nid, n := range s.m {
			if n.lookups > 0 {
				all = append(all, nid)
			}
		}
		s.Unlock()
		for _, nid := range all {
			t.forget(nid, ^uint64(0))
		}
	}
}

// count is the number of nodes.
func (t *nodeTable) count() int {
	c := 0
	for i := range t.shard {
		t.shard[i].Lock()
		c += len(t.shard[i].m)
		t.shard[i].Unlock()
	}
	return c
}
