package dirfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"echo9/internal/bytelock"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/p9srv/journal"

	"golang.org/x/sys/unix"
)

// Options say how a directory is served. The zero value is good.
type Options struct {
	// State is the private directory, on the same file system as the export and not
	// inside it; empty: .echo9 in the export's root.
	State string
	// ReadOnly refuses every change, and needs no private directory.
	ReadOnly bool
	// Logf receives what an administrator should know; nil: nobody.
	Logf func(format string, args ...any)
	// Groups tells the groups of a user that a cut names but whose credentials
	// the caller did not give; nil: such a user has none.
	Groups func(uid uint32) (gid uint32, groups []uint32)
	// Durability says what an acknowledged cut survives.
	Durability Durability
	// MaxNodes bounds the objects that are remembered; 0: 4 million.
	MaxNodes int

	// For tests.
	noHandles bool // as if the host had none
	maxFDs    int  // descriptors held for nodes
	hold      bool // a mutant: descriptors of removed files are held
	bigTail   int64
	hook      func(step string) error // FS.hook, from the beginning
	segment   int64                   // size of the log's segments
	mutant    recoveryMutant
}

// FS is a directory of the host that is being served.
type FS struct {
	opt  Options
	dir  string
	dev  uint64
	uid  uint32 // the server's own
	gid  uint32
	kind int64 // of the host's file system, as in statfs

	mountFD int // the root, opened for reading: for handles, the lock, syncfs
	procFD  int // /proc/self/fd
	root    *node
	nameMax int

	handleFlags int  // for name_to_handle_at; -1: the host has no handles
	openHandles bool // and they can be opened
	switches    bool // can act as other users
	caps        [2]unix.CapUserData

	state *state // nil when read-only
	ids   *idTable
	locks bytelock.Table

	maxFDs, maxNodes int
	tmpSeq           atomic.Uint64

	mu      sync.Mutex
	byID    map[uint64]*node
	byKey   map[devIno]*node
	lru     node                           // the ends of the list of nodes with a descriptor: newer is the oldest
	nfds    int                            // nodes in byID that have a descriptor
	ngone   int                            // nodes in byID that are gone
	letGone time.Time                      // when letGo last did something
	kept    map[uint64]map[uint64]struct{} // session → objects kept alive for it

	owed map[uint64][]uint64 // object → sessions that kept it before the restart; not found yet

	ledger   *ledger      // nil when read-only
	sessions *sessionFile // nil when read-only
	resumes  bool         // there are sessions of an earlier life
	index    treeIndex

	tmpHands inherited // what the private place hands down

	hookMu   sync.Mutex
	hook     atomic.Pointer[stepHook]       // tests: asked before each step that changes the host
	killed   atomic.Bool                    // tests: the server is dead: nothing is changed any more
	fail     func(step string, n int) error // tests: makes a step of a cut fail
	skipUndo func(i int) bool               // tests: leaves an undo out
}

var (
	_ p9srv.Backend = (*FS)(nil)
	_ p9srv.Object  = (*node)(nil)
	_ p9srv.File    = (*file)(nil)
)

// Open begins to serve directory dir. It sets the process's umask to 0, so that the
// modes that clients ask for are what files get, and raises the limit of open
// files. It refuses a tree that another server serves, wholly or in part.
func Open(dir string, opt Options) (*FS, error) {
	fs, err := prepare(dir, opt)
	if err != nil {
		return nil, err
	}
	if err := fs.open(); err != nil {
		fs.Close()
		return nil, fmt.Errorf("serve %s: %w", dir, err)
	}
	return fs, nil
}

// prepare makes an FS that has nothing open yet.
func prepare(dir string, opt Options) (*FS, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", dir, err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, fmt.Errorf("serve %s: %w", dir, err)
	}
	fs := &FS{
		opt: opt, dir: abs, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
		mountFD: -1, procFD: -1, maxNodes: opt.MaxNodes,
		byID: map[uint64]*node{}, byKey: map[devIno]*node{}, kept: map[uint64]map[uint64]struct{}{},
	}
	fs.setHook(opt.hook)
	if fs.maxNodes <= 0 {
		fs.maxNodes = 4 << 20
	}
	fs.lru.older, fs.lru.newer = &fs.lru, &fs.lru
	return fs, nil
}

func (fs *FS) open() error {
	if err := fs.openHost(); err != nil {
		return err
	}
	var err error
	if fs.opt.ReadOnly {
		fs.ids = newIDTable(fs.step)
		fs.warnUnrecovered()
	} else {
		if fs.state, err = openState(fs.dir, fs.opt.State, fs.mountFD, fs.dev); err != nil {
			return err
		}
		if fs.ids, err = openIDTable(fs.state.path(""), fs.step); err != nil {
			return fmt.Errorf("open the private directory %s: %w", fs.state.dir, err)
		}
		if fs.sessions, err = openSessions(fs.state, fs.opt.Durability == DurableCut, fs.step, fs.logf); err != nil {
			return fmt.Errorf("open the private directory %s: %w", fs.state.dir, err)
		}
		fs.resumes = len(fs.sessions.Known().Sessions) > 0
	}
	if err := fs.openRoot(); err != nil {
		return err
	}
	return fs.openLog()
}

// openHost opens the directory, and finds out what its file system can do.
func (fs *FS) openHost() error {
	syscall.Umask(0)
	fs.raiseLimit()
	var err error
	if fs.procFD, err = unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /proc/self/fd (is /proc mounted?): %w", err)
	}
	if fs.mountFD, err = unix.Open(fs.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	var st unix.Statx_t
	if err := statFD(fs.mountFD, &st); err != nil {
		return err
	}
	fs.dev = stDev(&st)
	var sfs unix.Statfs_t
	if err := unix.Fstatfs(fs.mountFD, &sfs); err != nil {
		return err
	}
	fs.kind, fs.nameMax = int64(sfs.Type), int(sfs.Namelen)
	fs.probeHandles()
	fs.probeSwitch()
	return nil
}

// openRoot makes the node of the root.
func (fs *FS) openRoot() error {
	var st unix.Statx_t
	if err := statFD(fs.mountFD, &st); err != nil {
		return err
	}
	fd, err := unix.Open(fs.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ident, err := fs.identify(fd, "", &st)
	if err != nil {
		unix.Close(fd)
		return err
	}
	fs.root, err = fs.intern(fd, &st, ident, 0, "")
	return err
}

// warnUnrecovered says when a tree that is only read lacks something that its log has.
func (fs *FS) warnUnrecovered() {
	private := fs.opt.State
	if private == "" {
		private = filepath.Join(fs.dir, privateName)
	}
	report, err := journal.Check(private)
	if err != nil {
		return // there is none, or it is not ours to read
	}
	if n := report.Entries["cut"]; n > 0 || report.Damage != nil {
		fs.logf("the server of %s died, and what it had promised may be missing or there by halves (%d cuts are in the log): serve it once so that it may be written to, or run `echo9 fsck --repair %s`", fs.dir, n, fs.dir)
	}
}

// openLog opens the log of cuts and does what it says is missing in the tree.
func (fs *FS) openLog() error {
	if fs.opt.ReadOnly {
		return nil
	}
	log, entries, err := journal.Open(fs.state.fd, journal.Options{
		Sync: fs.opt.Durability == DurableCut, Logf: fs.opt.Logf, Step: fs.step, SegmentSize: fs.opt.segment,
	})
	if err != nil {
		return fmt.Errorf("open the log of cuts: %w", err)
	}
	var applied map[[16]byte]uint64
	if err = fs.lookAtPrivate(); err == nil {
		applied, err = fs.recover(log, entries)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("recover from the log of cuts: %w", err), log.Close())
	}
	fs.ledger = newLedger(fs, log, fs.opt.Durability == DurableCut, log.Last()+1)
	fs.ledger.mu.Lock()
	fs.ledger.applied = applied
	fs.ledger.mu.Unlock()
	known := fs.sessions.Known()
	fs.ledger.forget(func(s uint64) bool { return s <= known.Last && known.Sessions[s] == nil })
	if err := errors.Join(fs.takeUp(), fs.clearApart()); err != nil {
		return err
	}
	fs.indexAtStart()
	return nil
}

// stepHook is a test's part in the steps. It is called by several goroutines, one after the other.
type stepHook func(step string) error

// setHook has fn asked before each step, or nobody.
func (fs *FS) setHook(fn stepHook) {
	if fn == nil {
		fs.hook.Store(nil)
	} else {
		fs.hook.Store(&fn)
	}
}

// errKilled is what a test's hook gives when the server is to be dead from there on.
var errKilled = errors.New("killed")

// step is asked before each system call that changes the host in a cut, a checkpoint or a recovery:
// tests have it fail, or the server die there.
func (fs *FS) step(name string) error {
	if fs.killed.Load() {
		return errKilled
	}
	hook := fs.hook.Load()
	if hook == nil {
		return nil
	}
	fs.hookMu.Lock()
	defer fs.hookMu.Unlock()
	if fs.killed.Load() {
		return errKilled
	}
	err := (*hook)(name)
	if errors.Is(err, errKilled) {
		fs.killed.Store(true)
	}
	return err
}

// raiseLimit raises the limit of open files as far as it goes and takes half of
// it for the descriptors of nodes.
func (fs *FS) raiseLimit() {
	fs.maxFDs = 256
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		if lim.Cur < lim.Max {
			up := unix.Rlimit{Cur: lim.Max, Max: lim.Max}
			if unix.Setrlimit(unix.RLIMIT_NOFILE, &up) == nil {
				lim = up
			}
		}
		fs.maxFDs = int(min(lim.Cur/2, 64<<10))
	}
	if fs.opt.maxFDs > 0 {
		fs.maxFDs = fs.opt.maxFDs
	}
}

// Close ends the serving. No operation may be under way.
func (fs *FS) Close() error {
	fs.index.end()
	var lerr error
	if fs.ledger != nil {
		lerr = fs.ledger.close()
		fs.ledger = nil
	}
	fs.mu.Lock()
	var fds []int
	for _, n := range fs.byID {
		if n.fd >= 0 {
			fds = append(fds, n.fd)
			n.fd = -1
		}
	}
	for n := fs.lru.newer; n != &fs.lru; n = n.newer {
		if n.fd >= 0 {
			fds = append(fds, n.fd)
			n.fd = -1
		}
	}
	fs.nfds = 0
	fs.mu.Unlock()
	closeFDs(fds...)
	if fs.sessions != nil {
		lerr = errors.Join(lerr, fs.sessions.close())
		fs.sessions = nil
	}
	if fs.ids != nil {
		fs.ids.close()
	}
	var err error
	if fs.state != nil {
		err = fs.state.close()
	}
	for _, fd := range []*int{&fs.mountFD, &fs.procFD} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	return errors.Join(lerr, err)
}

func (fs *FS) logf(format string, args ...any) {
	if fs.opt.Logf != nil {
		fs.opt.Logf(format, args...)
	}
}

// Dir is the directory that is served, with symlinks resolved.
func (fs *FS) Dir() string { return fs.dir }

// readOnly is the error of an update of a read-only export, or nil.
func (fs *FS) readOnly() error {
	if fs.opt.ReadOnly {
		return syscall.EROFS
	}
	return nil
}

// Root is the directory that aname names, beneath the export's root.
func (fs *FS) Root(ctx context.Context, cred *p9srv.Cred, aname string) (p9srv.Object, error) {
	n := fs.root
	n.ref()
	for len(aname) > 0 {
		elem := aname
		aname = ""
		for i := range elem {
			if elem[i] == '/' {
				elem, aname = elem[:i], elem[i+1:]
				break
			}
		}
		if elem == "" || elem == "." {
			continue
		}
		next, err := n.walk(ctx, cred, elem, nil)
		n.Release()
		if err != nil {
			return nil, fmt.Errorf("attach: %s: %w", elem, err)
		}
		n = next
	}
	if !n.isDir() {
		n.Release()
		return nil, fmt.Errorf("attach: %w", syscall.ENOTDIR)
	}
	return n, nil
}

func (n *node) ref() {
	n.fs.mu.Lock()
	n.refs++
	n.fs.mu.Unlock()
}

// Lookup finds an object by its id.
func (fs *FS) Lookup(ctx context.Context, id uint64) (p9srv.Object, error) {
	n, err := fs.lookup(id)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (fs *FS) lookup(id uint64) (*node, error) {
	fs.mu.Lock()
	n := fs.byID[id]
	alive := false
	if n != nil {
		alive = n.refs > 0 || n.keeps > 0 || n.opens > 0
		n.refs++
	}
	fs.mu.Unlock()
	if n == nil {
		return fs.lookupRow(id)
	}
	fd, err := n.pin()
	if err == nil {
		if !alive {
			var st unix.Statx_t
			if err = statFD(fd, &st); err == nil && st.Nlink == 0 {
				err = syscall.ESTALE
			}
		}
		n.unpin()
	}
	if err != nil {
		n.Release()
		return nil, fmt.Errorf("look up object %d: %w", id, err)
	}
	return n, nil
}

// lookupRow finds an object that nobody has come to yet.
func (fs *FS) lookupRow(id uint64) (*node, error) {
	r, ok := fs.ids.row(id)
	if !ok || r.handle == "" || !fs.openHandles {
		ino := id
		if ok {
			ino = r.ino
		} else if id >= firstTableID {
			return nil, fmt.Errorf("look up object %d: %w", id, syscall.ESTALE)
		}
		n, err := fs.find(ino)
		if err == nil && n.id != id {
			n.Release()
			err = syscall.ESTALE
		}
		if err != nil {
			return nil, fmt.Errorf("look up object %d: %w", id, err)
		}
		return n, nil
	}
	fd, err := fs.openHandle(r.handle)
	if err != nil {
		return nil, fmt.Errorf("look up object %d: %w", id, syscall.ESTALE)
	}
	var st unix.Statx_t
	if err = statFD(fd, &st); err == nil && (st.Nlink == 0 || st.Ino != r.ino) {
		err = syscall.ESTALE
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("look up object %d: %w", id, err)
	}
	return fs.intern(fd, &st, identity{tag: r.tag, handle: r.handle}, 0, "")
}

// StatFS tells the space and the limits of the host's file system.
func (fs *FS) StatFS(ctx context.Context) (wire.StatFS, error) {
	fs.letGo()
	var st unix.Statfs_t
	if err := unix.Fstatfs(fs.mountFD, &st); err != nil {
		return wire.StatFS{}, fmt.Errorf("statfs: %w", err)
	}
	return wire.StatFS{
		Type: uint32(st.Type), BlockSize: uint32(st.Bsize),
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail, Files: st.Files, Ffree: st.Ffree,
		FSID: uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32, NameLen: uint32(st.Namelen),
	}, nil
}

// Contains says whether path lies in directory dir or is dir, by what both are
// now: an export must not contain the mount point through which it is used.
func Contains(dir, path string) (bool, error) {
	want, err := os.Stat(dir)
	if err != nil {
		return false, fmt.Errorf("find out whether %s contains %s: %w", dir, path, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return false, err
	}
	// A mount point whose server is gone cannot be looked at; its parents can.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for {
		got, err := os.Stat(path)
		if err == nil && os.SameFile(want, got) {
			return true, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, os.ErrPermission) {
			return false, fmt.Errorf("find out whether %s contains %s: %w", dir, path, err)
		}
		if path == "/" {
			return false, nil
		}
		path = filepath.Dir(path)
	}
}
