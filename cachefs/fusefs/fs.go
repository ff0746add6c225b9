package fusefs

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// maxTTL bounds what the kernel is told to serve without asking.
const maxTTL = time.Second

// cautiousTTL is for names in a directory whose revocation lately had to wait until names timed
// out, and cautiousFor is how long that is remembered.
const (
	cautiousTTL = 20 * time.Millisecond
	cautiousFor = 10 * time.Second
)

// slack is added where we wait for a timeout of the kernel: its clock ticks, and it counts
// from when the thread that asked gets to run.
const slack = 20 * time.Millisecond

// fileSystem answers the kernel's requests out of a backend.
type fileSystem struct {
	fuse.RawFileSystem // what is not implemented: ENOSYS

	backend  p9srv.Backend
	coherent p9srv.Coherent // nil when the backend is not
	witness  p9srv.Witness  // nil when the backend does not care what is read
	opts     Options
	path     string // of the mount point
	notify   *notifier
	nodes    *nodeTable
	handles  handleTable
	stats    counters
	hooks    hooks

	revs       atomic.Uint64 // counts the beginnings and ends of revocations
	covers     atomic.Bool   // the backend was seen to cover something: see caches
	clientID   string        // of locks
	uid        uint32
	groups     []uint32
	groupCache groupCache

	background crew // work that outlives its request
	bg         context.Context
	stop       context.CancelFunc
}

// hooks let tests break what the tests are to find broken.
type hooks struct {
	skipAttr, skipNames, skipData bool          // nothing is invalidated
	onePass                       bool          // pages are dropped once, whoever reads meanwhile
	onlyAnswered                  bool          // READs that are not answered when an invalidation is through are forgotten
	lateCover                     bool          // a revocation makes all data good that were got before it
	keepWritten                   bool          // what is written drops no pages
	wrote                         func()        // called before a WRITE is answered
	noStamp                       bool          // what was told during a revocation lasts
	ttl                           time.Duration // what everything lasts
	maxTTL                        time.Duration // instead of the constant
	noEpoch                       bool          // the kernel knows no epochs
	preciseNone                   bool          // names are never invalidated one by one
	noCover                       bool          // a READ does not look whether its data were covered
	serialLaunder                 bool          // a write back waits for its token although its object is being revoked
	writeback                     bool          // the kernel may keep what is written
	patience                      time.Duration // for names
	limit                         time.Duration // for pages
}

func (f *fileSystem) logf(format string, args ...any) {
	if f.opts.Logf != nil {
		f.opts.Logf(format, args...)
	}
}

func (f *fileSystem) String() string { return "echo9" }

// stamp is taken before the backend is asked; what was revoked since is told
// with no time to live.
func (f *fileSystem) stamp() uint64 { return f.revs.Load() }

// ttl is what the backend allows for an object now.
func (f *fileSystem) ttl(id uint64) time.Duration {
	switch {
	case f.hooks.ttl > 0:
		return f.hooks.ttl
	case f.coherent != nil:
		return max(0, min(cmp.Or(f.hooks.maxTTL, maxTTL), f.cover(id)))
	}
	return max(0, min(maxTTL, f.opts.Cache))
}

// cover is what a Coherent backend says of an object.
func (f *fileSystem) cover(id uint64) time.Duration {
	ttl := f.coherent.TTL(id)
	if ttl > 0 && !f.covers.Load() {
		f.covers.Store(true)
	}
	return ttl
}

// caches says whether the backend really caches: one that could, but speaks to a
// server that knows no tokens, covers nothing, ever.
func (f *fileSystem) caches() bool { return f.coherent != nil && f.covers.Load() }

// fresh says, with n.mu held, whether what was read since stamp may be told to last.
func (f *fileSystem) fresh(n *node, stamp uint64) bool {
	return f.hooks.noStamp || n.revoking == 0 && n.lastRev <= stamp
}

// tellAttr decides how long the kernel may serve attributes that were got after stamp.
func (f *fileSystem) tellAttr(n *node, stamp uint64, a *wire.Attr) time.Duration {
	ttl := f.ttl(n.id)
	if ttl <= 0 {
		return 0
	}
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !f.fresh(n, stamp) {
		return 0
	}
	if u := now.Add(ttl); u.After(n.attrUntil) {
		n.attrUntil = u
	}
	n.noXattrs = a.Flags&wire.AttrNoXattrs != 0
	return ttl
}

// maxNames bounds the names remembered for a directory. They matter for a second.
const maxNames = 1024

// tellName decides how long the kernel may serve what was told of a name.
func (f *fileSystem) tellName(dir *node, name string, isDir bool, stamp uint64) time.Duration {
	ttl := f.ttl(dir.id)
	if ttl <= 0 {
		return 0
	}
	now := time.Now()
	dir.mu.Lock()
	defer dir.mu.Unlock()
	if !f.fresh(dir, stamp) {
		return 0
	}
	if dir.cautious.After(now) {
		ttl = min(ttl, cautiousTTL)
	}
	dir.remember(name, told{now, now.Add(ttl), isDir})
	return ttl
}

// remember notes, with n.mu held, what the kernel may serve of a name.
func (n *node) remember(name string, t told) {
	if e, ok := n.names[name]; ok {
		t.dir = t.dir || e.dir
		if e.until.After(t.until) {
			t.until = e.until
		}
	} else if len(n.names) >= maxNames {
		for k, e := range n.names {
			if e.until.Add(slack).Before(t.at) {
				delete(n.names, k)
			}
		}
		if len(n.names) >= maxNames/2 {
			for _, e := range n.names {
				if e.until.After(n.manyUntil) {
					n.manyUntil = e.until
				}
			}
			n.names = nil
		}
	}
	if n.names == nil {
		n.names = map[string]told{}
	}
	n.names[name] = t
}

// moved notes that the kernel is about to move the entry (d1, n1) to (d2, n2), with the time that it
// has left, and with exchange the other way round.
// It is called before the backend is asked. The function that it returns is called afterwards: an entry that came
// to a directory that no token covers is dropped.
func (f *fileSystem) moved(d1 *node, n1 string, d2 *node, n2 string, exchange bool) (after func()) {
	moved := map[*node]string{}
	t1, ok1 := d1.recall(n1)
	t2, ok2 := d2.recall(n2)
	if ok1 {
		d2.note(n2, t1)
		moved[d2] = n2
	}
	if ok2 && exchange {
		d1.note(n1, t2)
		moved[d1] = n1
	}
	return func() {
		for d, name := range moved {
			switch {
			case f.ttl(d.id) > 0:
			case f.epochs() && !f.submounts():
				_ = f.notify.newEpoch()
			default:
				d := f.nodes.again(d)
				f.background.Go(func() {
					_ = f.notify.invalName(d.nid, name, f.notify.expireOnly)
					f.nodes.release(d)
				})
			}
		}
	}
}

func (n *node) recall(name string) (told, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t, ok := n.names[name]; ok {
		return t, true
	}
	return told{until: n.manyUntil, dir: true}, n.manyUntil.After(time.Now())
}

func (n *node) note(name string, t told) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t.at = time.Now()
	n.remember(name, t)
}

// entry fills the answer about a name bound to obj, whose reference it takes over, and
// counts a look-up. fresh is false for answers whose attributes the kernel takes over although it
// was told meanwhile to drop them (all but those to LOOKUP and READDIRPLUS).
func (f *fileSystem) entry(dir *node, name string, obj p9srv.Object, a *wire.Attr, stamp uint64, isLookup bool, out *fuse.EntryOut) {
	n, known := f.nodes.enter(obj, true, stamp, f.revs.Load)
	defer f.nodes.release(n)
	out.NodeId = n.nid
	out.Generation = uint64(a.QID.Version)
	setAttr(&out.Attr, n.id, a)
	if dir != nil {
		out.SetEntryTimeout(f.tellName(dir, name, a.QID.Type&wire.QTDir != 0, stamp))
	}
	if isLookup || !known {
		out.SetAttrTimeout(f.tellAttr(n, stamp, a))
	}
}

// counters are counted without a lock.
type counters struct {
	requests, revocations, epochs, waits, gaveUp, bare, parked, passes, laundered atomic.Uint64
	slowest                                                                       atomic.Int64
}

// Stats tells what a mount has done.
type Stats struct {
	Requests    uint64 // of the kernel
	Revocations uint64 // calls of the backend's to revoke
	Epochs      uint64 // times the kernel was made to ask again for every name
	TimedOut    uint64 // revocations that waited until the kernel's timeouts were over
	GaveUp      uint64 // revocations that ended although pages may have been left
	Bare        uint64 // READs answered though no token covered them
	Parked      uint64 // READs that waited for an invalidation
	Passes      uint64 // invalidations of pages
	Laundered   uint64 // writes from shared mappings that were taken on before their token was there
	Slowest     time.Duration
	Nodes       int
	Handles     int
}

func (f *fileSystem) statsNow() Stats {
	c := &f.stats
	return Stats{
		Requests: c.requests.Load(), Revocations: c.revocations.Load(), Epochs: c.epochs.Load(), TimedOut: c.waits.Load(),
		GaveUp: c.gaveUp.Load(), Bare: c.bare.Load(), Parked: c.parked.Load(), Passes: c.passes.Load(), Laundered: c.laundered.Load(),
		Slowest: time.Duration(c.slowest.Load()), Nodes: f.nodes.count(), Handles: f.handles.count(),
	}
}

func lockClientID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d:%x", host, os.Getpid(), time.Now().UnixNano())
}

// crew counts goroutines. Unlike a WaitGroup it may be added to while somebody waits.
type crew struct {
	mu   sync.Mutex
	n    int
	done chan struct{} // closed when n is 0, while somebody waits
}

func (c *crew) Go(do func()) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	go func() {
		defer c.end()
		do()
	}()
}

func (c *crew) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 && c.done != nil {
		close(c.done)
		c.done = nil
	}
}

func (c *crew) wait() {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return
	}
	if c.done == nil {
		c.done = make(chan struct{})
	}
	ch := c.done
	c.mu.Unlock()
	<-ch
}
