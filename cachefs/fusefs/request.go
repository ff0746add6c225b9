package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// request is the context of one request of the kernel. The kernel says "interrupt" for
// every signal that the waiting thread gets, SIGCHLD and the preemption signals
// of Go programs among them, and programs do not expect stat(2) to fail with EINTR because
// a child ended. So an interrupt ends the request only when the thread is about to die; with
// anySignal (F_SETLKW, where programs do expect it) always.
type request struct {
	fs        *fileSystem
	cancel    <-chan struct{}
	pid       uint32
	anySignal bool

	mu   sync.Mutex
	done chan struct{} // made when somebody asks
	over chan struct{}
	err  error
}

var _ context.Context = (*request)(nil)

func (f *fileSystem) begin(cancel <-chan struct{}, h *fuse.InHeader) *request {
	f.stats.requests.Add(1)
	return &request{fs: f, cancel: cancel, pid: h.Pid}
}

// end must be called before the answer is given.
func (r *request) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over != nil {
		close(r.over)
		r.over = nil
	}
}

func (r *request) Deadline() (time.Time, bool) { return time.Time{}, false }
func (r *request) Value(any) any               { return nil }

func (r *request) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *request) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done, r.over = make(chan struct{}), make(chan struct{})
		go r.watch(r.over)
	}
	return r.done
}

// fatalPoll is how often an interrupted request looks whether its thread is to die: the
// kernel does not tell a second time.
const fatalPoll = 50 * time.Millisecond

func (r *request) watch(over <-chan struct{}) {
	select {
	case <-over:
		return
	case <-r.cancel:
	}
	began := time.Now()
	for !r.anySignal && r.fs.notify.alive() {
		if d := doomOf(r.pid); d == dies || d == asked && time.Since(began) > askedPatience {
			break
		}
		t := time.NewTimer(fatalPoll)
		select {
		case <-over:
			t.Stop()
			return
		case <-t.C:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = context.Canceled
	close(r.done)
}

// doom says what the signals that a thread has pending mean for it.
type doom int

const (
	lives doom = iota
	asked      // to end, by a signal that it handles (as Go programs do): it cannot do so while it waits for us
	dies
)

// askedPatience is how long a thread that is asked to end waits on.
const askedPatience = time.Second

func doomOf(tid uint32) doom {
	if tid == 0 {
		return dies // the kernel itself, or somebody whom we cannot see
	}
	b, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(tid), 10) + "/status")
	if err != nil {
		return dies
	}
	return doomIn(b)
}

// doomIn reads it from /proc/TID/status.
func doomIn(status []byte) doom {
	set := func(field string) uint64 {
		_, s, _ := bytes.Cut(status, []byte("\n"+field+":"))
		s, _, _ = bytes.Cut(s, []byte("\n"))
		v, _ := strconv.ParseUint(string(bytes.TrimSpace(s)), 16, 64)
		return v
	}
	bits := func(sigs ...syscall.Signal) (m uint64) {
		for _, s := range sigs {
			m |= 1 << (s - 1)
		}
		return m
	}
	pending := set("SigPnd") | set("ShdPnd")
	if pending&bits(syscall.SIGKILL) != 0 {
		return dies
	}
	pending &^= set("SigBlk") | set("SigIgn")
	harmless := bits(syscall.SIGCHLD, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGCONT,
		syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	switch {
	case pending&^set("SigCgt")&^harmless != 0:
		return dies
	case pending&bits(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT) != 0:
		return asked
	}
	return lives
}

// cred says who asks.
func (f *fileSystem) cred(h *fuse.InHeader) *p9srv.Cred {
	c := &p9srv.Cred{UID: h.Uid, GID: h.Gid}
	switch h.Uid {
	case f.uid:
		c.Groups = f.groups
	case 0:
	default:
		c.Groups = f.groupCache.of(h.Pid, h.Uid, h.Gid)
	}
	return c
}

// groupCache remembers the supplementary groups of threads, for a second.
type groupCache struct {
	mu sync.Mutex
	m  map[groupKey]groupsAt
}

type groupKey struct{ pid, uid, gid uint32 }

type groupsAt struct {
	at     time.Time
	groups []uint32
}

const groupsLast = time.Second

func (g *groupCache) of(pid, uid, gid uint32) []uint32 {
	if pid == 0 {
		return nil
	}
	k, now := groupKey{pid, uid, gid}, time.Now()
	g.mu.Lock()
	e, ok := g.m[k]
	g.mu.Unlock()
	if ok && now.Sub(e.at) < groupsLast {
		return e.groups
	}
	e = groupsAt{now, readGroups(pid)}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.m == nil || len(g.m) > 1000 {
		g.m = map[groupKey]groupsAt{}
	}
	g.m[k] = e
	return e.groups
}

func readGroups(pid uint32) []uint32 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	i := bytes.Index(b, []byte("\nGroups:"))
	if i < 0 {
		return nil
	}
	line, _, _ := bytes.Cut(b[i+len("\nGroups:"):], []byte("\n"))
	var gs []uint32
	for _, w := range bytes.Fields(line) {
		if v, err := strconv.ParseUint(string(w), 10, 32); err == nil {
			gs = append(gs, uint32(v))
		}
	}
	return gs
}

// status maps an error to what the kernel is told. It is the only place that does.
func (f *fileSystem) status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	var e syscall.Errno
	switch {
	case errors.As(err, &e):
		switch {
		case e == 0:
			return fuse.EIO
		case e == syscall.ENOSYS:
			// The kernel would never ask again, for no file.
			return fuse.Status(syscall.EOPNOTSUPP)
		case e >= 512: // internal to kernels
			return fuse.EIO
		}
		return fuse.Status(e)
	case errors.Is(err, context.Canceled):
		return fuse.EINTR
	case errors.Is(err, context.DeadlineExceeded):
		return fuse.Status(syscall.ETIMEDOUT)
	case errors.Is(err, fs.ErrNotExist):
		return fuse.ENOENT
	}
	f.logf("fuse: an error without a number, told as EIO: %v", err)
	return fuse.EIO
}
