package cachefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"sync"
	"syscall"
	"time"

	"echo9/cachefs/order"
	"echo9/internal/boottime"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/tokens"
)

// FS is the cache of one session with a server, as a p9srv.Backend.
type FS struct {
	opt Options

	// plain is set when the server lacks the extension: then everything goes straight to it.
	plain p9srv.Backend

	client, secret [16]byte // who we are

	session wire.Rsession // as the server answered first; does not change
	kick    chan struct{} // wakes the committer
	renew   chan struct{} // wakes the keeper of the link
	ended   chan struct{} // closed when dead is set
	saying  saying
	givenUp chan struct{} // closed by giveUp
	giveUp  func()
	workers sync.WaitGroup

	mu     sync.Mutex // the one mutex: guards all below, and the nodes
	holder *tokens.Holder
	log    *order.Log
	nodes  map[uint64]*node
	idle   nodeList
	lru    *chunkList
	root   *node

	lastReq tokens.ReqID
	// questions are the Tgrants without an answer, for the status.
	questions map[tokens.ReqID]question
	lastSeq   uint64        // of the last operation appended
	leaseCh   chan struct{} // closed and replaced when the lease is extended
	ids       wire.IDRange
	nextIDs   wire.IDRange
	idsCh     chan struct{} // closed and replaced when a range has come
	offset    int64         // the server's clock minus ours
	dead      error         // why nothing works any more

	conn        *p9client.Conn // the present connection
	online      bool           // requests go out on conn
	upCh        chan struct{}  // closed and replaced when they do again
	downAt      int64          // no connection or no lease since; 0: there is no trouble
	leaseOver   bool           // and that was said
	told        bool           // that the server cannot be reached, since the connection broke
	wantResume  bool           // the session is to be resumed on the connection that is there
	number      uint64         // of the session
	toldPending bool           // the server was told last that something is pending
	leaseLen    int64          // the last that was given
	unrenewed   bool           // the server could not renew the lease, and that was said
	epoch       uint64         // of the server

	committing
	journaling
	revokers []func(context.Context, []p9srv.Revocation)
	returns  []wire.ReturnElem // collected by settle
	// unreturned are the Treturns without an answer.
	unreturned []*wire.Treturn
	revoking   map[uint64]int // objects between the call of the revokers and their return
	events     []Event
	keeping    keeping
	space      space
	stats      stats
	statfs     wire.StatFS
	statfsAt   int64
	// wantedContent counts small files whose content had to be fetched: then it comes along with listings.
	wantedContent int
	takesXattr    map[string]bool // name spaces of extended attributes that the server has taken
	rootFid       fid
	lockers       map[*node]bool // which have file locks
	closing       bool
}

// Open connects to a server at addr, in any notation of `echo9 serve`, and opens a session. When the server
// does not know echo9's extension everything goes straight to it, and Cached tells so.
func Open(ctx context.Context, addr string, o Options) (*FS, error) {
	o = o.withDefaults()
	if o.Dial == nil {
		o.Dial = func(ctx context.Context) (*p9client.Conn, error) {
			return p9client.DialConn(ctx, addr, p9client.Options{Extension: true})
		}
	}
	conn, err := o.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if !conn.Ext() {
		tree, err := p9client.Attach(ctx, conn, p9client.Options{Aname: o.Aname})
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("%s: %w", addr, err)
		}
		return &FS{opt: o, plain: tree}, nil
	}
	return OpenConn(ctx, conn, o)
}

// OpenConn opens a session on a connection with the extension, which then belongs to the FS. Without Options.Dial its end is that of the FS.
func OpenConn(ctx context.Context, conn *p9client.Conn, o Options) (*FS, error) {
	if !conn.Ext() {
		return nil, fmt.Errorf("the server does not speak %s: %w", wire.ExtVersion, syscall.EPROTONOSUPPORT)
	}
	fs := newFS(conn, o)
	if err := fs.openSession(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return fs, nil
}

// newFS makes an FS without a session.
func newFS(conn *p9client.Conn, o Options) *FS {
	fs := &FS{
		opt: o.withDefaults(), conn: conn,
		kick: make(chan struct{}, 1), renew: make(chan struct{}, 1), ended: make(chan struct{}), givenUp: make(chan struct{}),
		leaseCh: make(chan struct{}), idsCh: make(chan struct{}), upCh: make(chan struct{}), space: space{ch: make(chan struct{})},
		holder: tokens.NewHolder(int64(leaseMargin)), nodes: make(map[uint64]*node), lru: newChunkList(),
		revoking: make(map[uint64]int), questions: make(map[tokens.ReqID]question), lockers: make(map[*node]bool),
	}
	fs.giveUp = sync.OnceFunc(func() { close(fs.givenUp) })
	fs.opt.Clock = boottime.Forward(fs.opt.Clock)
	fs.log = order.New(fs.opt.Order)
	if fs.opt.Mutant == mutantWrongOrder {
		fs.log = order.NewBroken(fs.opt.Order)
	}
	fs.log.Locate(fs.parentsOf)
	fs.journal()
	fs.idle.init()
	fs.committing.init()
	return fs
}

// Cached tells whether the server knows the extension; if not, nothing is cached.
func (f *FS) Cached() bool { return f.plain == nil }

// Root is the object that aname names: "" and "/" are the session's root.
func (f *FS) Root(ctx context.Context, cred *p9srv.Cred, aname string) (p9srv.Object, error) {
	if f.plain != nil {
		return f.plain.Root(ctx, cred, aname)
	}
	f.mu.Lock()
	at := p9srv.Object(f.root.ref())
	f.mu.Unlock()
	for _, name := range split(aname) {
		next, attr, err := at.Walk(ctx, cred, name)
		at.Release()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", aname, err)
		}
		if !isDir(attr.Mode) {
			next.Release()
			return nil, fmt.Errorf("%s: %w", aname, syscall.ENOTDIR)
		}
		at = next
	}
	return at, nil
}

// Lookup finds an object by id.
func (f *FS) Lookup(ctx context.Context, id uint64) (p9srv.Object, error) {
	if f.plain != nil {
		return f.plain.Lookup(ctx, id)
	}
	if o := f.ctlObject(id); o != nil {
		return o, nil
	}
	if id == tokens.DirMove {
		return nil, syscall.ESTALE
	}
	var n *node
	err := f.do(ctx, nil, func(t *turn) error {
		t.wantID(id, tokens.Read)
		if err := t.pin(); err != nil {
			return err
		}
		n = f.nodes[id].ref()
		return nil
	})
	if errors.Is(err, syscall.ENOENT) {
		err = syscall.ESTALE
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

// StatFS tells the space and the limits, at most a second old.
func (f *FS) StatFS(ctx context.Context) (wire.StatFS, error) {
	if f.plain != nil {
		return f.plain.StatFS(ctx)
	}
	f.mu.Lock()
	st, at, dead := f.statfs, f.statfsAt, f.dead
	f.mu.Unlock()
	if dead != nil {
		return st, dead
	}
	if at != 0 && f.clock()-at < int64(time.Second) {
		return f.lessPending(st), nil
	}
	r := new(wire.Rstatfs)
	ctx, stop := f.softly(ctx)
	defer stop()
	err := f.persist(ctx, func(*p9client.Conn) error {
		f.mu.Lock()
		root := f.rootFid
		f.mu.Unlock()
		return f.callOn(ctx, root.conn, &wire.Tstatfs{Fid: root.n}, r, nil)
	})
	if err != nil {
		return st, err
	}
	f.mu.Lock()
	f.statfs, f.statfsAt = r.StatFS, f.clock()
	f.mu.Unlock()
	return f.lessPending(r.StatFS), nil
}

// lessPending takes off what the data will need that is not at the server.
func (f *FS) lessPending(st wire.StatFS) wire.StatFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	if st.BlockSize > 0 {
		need := uint64(f.log.Totals().Bytes) / uint64(st.BlockSize)
		st.Bfree -= min(need, st.Bfree)
		st.Bavail -= min(need, st.Bavail)
	}
	return st
}

// clock is the clock of leases and ages.
func (f *FS) clock() int64 { return f.opt.Clock() }

// now is the server's time as far as known. Called with f.mu held.
func (f *FS) now() int64 { return time.Now().UnixNano() + f.offset }

// fail ends everything: the session cannot go on.
func (f *FS) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead != nil {
		return
	}
	f.dead = fmt.Errorf("%w: %w", err, syscall.EIO)
	if p := f.log.Totals(); p.Ops > 0 && !f.closing {
		f.event("%v: %d updates are not at the server", err, p.Ops)
	} else if !f.closing {
		f.event("%v", err)
	}
	close(f.ended)
	f.wakeCommitted()
}

// settle does what the holder wants done. Called with f.mu held, at the end of each section that used the holder.
func (f *FS) settle() {
	var give []relinquish
	for _, o := range f.holder.Outputs() {
		switch o.Kind {
		case tokens.HolderRelinquish:
			give = append(give, relinquish{o.ID, o.Keep})
		case tokens.HolderReturn:
			f.giveBack(o)
		}
	}
	f.sendReturns()
	if len(give) > 0 && f.dead == nil {
		f.workers.Add(1)
		go f.relinquish(give)
	}
}

// who is on whose behalf cred acts, as the server sees it. Called with f.mu held, or not.
func (f *FS) who(cred *p9srv.Cred) *p9srv.Cred {
	if f.session.UID == wire.NoUID || cred == nil || cred.UID == f.session.UID {
		return cred
	}
	c := *cred
	c.UID, c.GID = f.session.UID, f.session.GID
	return &c
}

func processName() string {
	name := "?"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return fmt.Sprintf("%s@%s %d", name, strings.SplitN(host, ".", 2)[0], os.Getpid())
}
