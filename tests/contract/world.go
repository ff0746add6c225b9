package contract

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// patience is how long anything may take on a busy machine before it counts as hung.
const patience = 60 * time.Second

// world is a server over a directory of its own.
type world struct {
	dir     string
	backend *guard
	auth    *p9srv.Authority
	srv     *p9srv.Server
	conns   sync.WaitGroup
	graves  sync.Mutex // one at a time
}

// guard is the server's backend. It lets the host's tree be looked at between cuts, and has hooks for what
// is to go wrong.
type guard struct {
	p9srv.Committer
	cuts   sync.RWMutex // held for reading while a cut is applied
	mutant string
	// applied, when set, is called after a cut.
	applied atomic.Pointer[func(session uint64)]
	ended   atomic.Int64 // sessions
	count   atomic.Int64 // cuts

	mu    sync.Mutex
	words []string // for which cuts were refused
}

// EndSession ends a session.
func (g *guard) EndSession(id uint64) {
	g.Committer.EndSession(id)
	g.ended.Add(1)
}

// Apply applies a cut.
func (g *guard) Apply(ctx context.Context, cred *p9srv.Cred, c *cut.Cut) error {
	g.cuts.RLock()
	defer g.cuts.RUnlock()
	if r := g.refusal(c); r != nil {
		return r
	}
	g.count.Add(1)
	err := g.Committer.Apply(ctx, cred, g.broken(c))
	if fn := g.applied.Load(); fn != nil && err == nil {
		(*fn)(cred.Session)
	}
	return err
}

// broken is a cut as a broken server applies it.
func (g *guard) broken(c *cut.Cut) *cut.Cut {
	b := *c
	switch g.mutant {
	case "lostCut": // said to be applied, and is not
		if c.Number%3 == 0 {
			b.Records = nil
		}
	case "tornCut": // data does not go with the names
		if c.Number%2 == 0 {
			b.Records = slices.DeleteFunc(slices.Clone(c.Records), func(r cut.Record) bool { return r.Kind == cut.Data })
		}
	}
	return &b
}

func newWorld(dir, mutant string) (*world, error) {
	if err := os.Chmod(dir, 0o777); err != nil {
		return nil, err
	}
	d, err := dirfs.Open(dir, dirfs.Options{Groups: func(uid uint32) (uint32, []uint32) { return uid, nil }})
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, backend: &guard{Committer: d, mutant: mutant}}
	w.auth = p9srv.NewAuthority(p9srv.AuthorityConfig{Backend: w.backend, Users: p9srv.AsClient(), Lease: patience})
	w.srv = p9srv.New(p9srv.Config{Backend: w.backend, Authority: w.auth, Users: p9srv.AsClient()})
	return w, nil
}

func (w *world) close() {
	w.srv.Close()
	w.conns.Wait()
	w.auth.Close()
	w.backend.Committer.(*dirfs.FS).Close()
}

// link is a client's end of a connection. It notes who its session is, so that it can be buried.
type link struct {
	net.Conn
	mu   sync.Mutex
	head []byte
	who  *wire.Tsession
}

// Write looks for the session's opening, which is the second frame that a client sends.
func (l *link) Write(p []byte) (int, error) {
	l.mu.Lock()
	if l.who == nil && len(l.head) < 4096 {
		l.head = append(l.head, p...)
		rd := wire.NewReader(strings.NewReader(string(l.head)), 1<<20)
		for {
			h, body, err := rd.ReadFrame()
			if err != nil {
				break
			}
			if who := new(wire.Tsession); h.Type == who.Type() && wire.Decode(h.Type, body, who) == nil {
				l.who = who
			}
		}
	}
	l.mu.Unlock()
	return l.Conn.Write(p)
}

// connect gives a connection to the server.
func (w *world) connect() (*link, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if ends[i], err = net.FileConn(f); err != nil {
			return nil, err
		}
		f.Close()
	}
	w.conns.Go(func() { w.srv.ServeConn(context.Background(), ends[1], p9srv.Peer{Addr: "contract"}) })
	return &link{Conn: ends[0]}, nil
}

// bury ends the session of a client that is gone: what the end of its lease would do.
func (w *world) bury(ctx context.Context, who *wire.Tsession) error {
	w.graves.Lock()
	defer w.graves.Unlock()
	nc, err := w.connect()
	if err != nil {
		return err
	}
	c, err := p9client.NewConn(ctx, nc, p9client.Options{Extension: true})
	if err != nil {
		return err
	}
	defer c.Close()
	back := *who
	back.Flags |= wire.SessionResume
	before := w.backend.ended.Load()
	if err := c.RPC(ctx, &back, new(wire.Rsession)); err != nil {
		return fmt.Errorf("coming back: %w", err)
	}
	back.Flags = wire.SessionEnd
	if err := c.RPC(ctx, &back, new(wire.Rsession)); err != nil {
		return fmt.Errorf("ending: %w", err)
	}
	// The backend is told when the last cut of the session is done.
	for w.backend.ended.Load() == before {
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for the end of the session: %w", ctx.Err())
		}
		time.Sleep(50 * time.Microsecond)
	}
	return nil
}

// host is the tree as it is on the host between two cuts.
func (w *world) host() (map[string]entry, error) {
	w.backend.cuts.Lock()
	defer w.backend.cuts.Unlock()
	out := map[string]entry{}
	first := map[int]string{}
	err := filepath.WalkDir(w.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(w.dir, p)
		if err != nil {
			return err
		}
		if rel == ".echo9" {
			return fs.SkipDir
		}
		i, mtime, err := inodeOf(p)
		if err != nil {
			return err
		}
		out[rel] = entry{i.describe(first, rel), mtime}
		return nil
	})
	return out, err
}

// inodeOf is an object of the host as the model has it.
func inodeOf(p string) (*inode, int64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return nil, 0, err
	}
	i := &inode{id: int(st.Ino), mode: st.Mode, uid: st.Uid, gid: st.Gid, nlink: int(st.Nlink), xattrs: map[string]string{}}
	var err error
	switch st.Mode & typeMask {
	case typeReg:
		if i.content, err = os.ReadFile(p); err != nil {
			return nil, 0, err
		}
		if int64(len(i.content)) != st.Size {
			return nil, 0, fmt.Errorf("%s has %d bytes and says %d: %w", p, len(i.content), st.Size, io.ErrUnexpectedEOF)
		}
	case typeLink:
		if i.target, err = os.Readlink(p); err != nil {
			return nil, 0, err
		}
	}
	if takesXattrs(i) {
		buf := make([]byte, 4096)
		n, err := unix.Llistxattr(p, buf)
		if err != nil {
			return nil, 0, err
		}
		for _, name := range strings.Split(string(buf[:n]), "\x00") {
			if !strings.HasPrefix(name, "user.") {
				continue
			}
			v := make([]byte, 256)
			m, err := unix.Lgetxattr(p, name, v)
			if err != nil {
				return nil, 0, err
			}
			i.xattrs[name] = string(v[:m])
		}
	}
	return i, st.Mtim.Nano(), nil
}
