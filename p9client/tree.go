package p9client

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hugelgupf/p9/p9"

	"echo9/internal/netaddr"
	"echo9/internal/wire"
	"echo9/p9srv"
)

// Tree is a tree of a 9P2000.L server, uncached: each call is one or a few
// messages. It is a p9srv.Backend whose objects are fids.
//
// All is done as the user who attached; the Cred of the methods is not looked
// at. What the server does not know is done with older messages (Tremove for
// Tunlinkat, Trename for Trenameat) or gives the server's error. An object is found
// by Lookup only while there is a reference to it. Renames with flags, and
// Allocate, are not in 9P2000.L.
type Tree struct {
	c    *Conn
	root *object

	// What the server has said that it does not know.
	noUnlinkat, noRenameat atomic.Bool

	mu   sync.Mutex
	live map[uint64][]*object // by id; guards their refs as well

	clunkMu sync.Mutex
	clunks  int           // that nobody waits for and that are not answered
	drained chan struct{} // Close waits for it
}

var _ p9srv.Backend = (*Tree)(nil)

// Dial connects to the server at addr and attaches to the tree that the
// options name.
func Dial(ctx context.Context, addr string, o Options) (*Tree, error) {
	c, err := DialConn(ctx, addr, o)
	if err != nil {
		return nil, err
	}
	t, err := Attach(ctx, c, o)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return t, nil
}

// Attach makes a Tree over a connection that is there. Tree.Close closes it.
func Attach(ctx context.Context, c *Conn, o Options) (*Tree, error) {
	t := &Tree{c: c, live: make(map[uint64][]*object)}
	uid := uint32(os.Geteuid())
	if o.UID != nil {
		uid = *o.UID
	}
	fid := c.NewFid()
	var r wire.Rattach
	err := c.RPC(ctx, &wire.Tattach{Fid: fid, Afid: wire.NoFid, Uname: uname(o), Aname: o.Aname, UID: uid}, &r)
	if err != nil {
		c.FreeFid(fid)
		return nil, fmt.Errorf("attaching to %q as uid %d: %w%s", o.Aname, int32(uid), err, attachAdvice(o, err))
	}
	t.root = t.object(fid, r.QID)
	return t, nil
}

func attachAdvice(o Options, err error) string {
	e, _ := errno(err)
	switch {
	case o.Aname == "" && (e == syscall.EPERM || e == syscall.EACCES || e == syscall.ENOENT):
		return ": some servers, diod among them, want an export's path as aname"
	case e == syscall.EPERM || e == syscall.EACCES:
		return ": the server does not let this user in, or not to this tree"
	}
	return ""
}

// uname is the name to attach with: what the options say, or this process's user's.
func uname(o Options) string {
	if o.Uname != "" {
		return o.Uname
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// DialP9 connects hugelgupf/p9's client to the server at addr.
func DialP9(ctx context.Context, addr string, opts ...p9.ClientOpt) (*p9.Client, error) {
	a, err := netaddr.Parse(addr)
	if err != nil {
		return nil, err
	}
	nc, err := a.Dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	c, err := p9.NewClient(nc, opts...)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("%s: agreeing on a version: %w", a, err)
	}
	return c, nil
}

// Conn is the tree's connection.
func (t *Tree) Conn() *Conn { return t.c }

// closeTime bounds the wait of Close for the last replies.
const closeTime = 2 * time.Second

// Close ends the connection, and with it all objects and files. It first waits
// for the answers to what was released: there are servers that a reply to
// somebody who has hung up ends for everybody (diod, by SIGPIPE).
func (t *Tree) Close() error {
	t.clunk(t.root.fid)
	t.clunkMu.Lock()
	drained := make(chan struct{})
	if t.drained = drained; t.clunks == 0 {
		close(drained)
		t.drained = nil
	}
	t.clunkMu.Unlock()
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-drained:
	case <-t.c.Done():
	case <-timer.C:
	}
	return t.c.Close()
}

// Root is the directory aname below the root that was attached to.
func (t *Tree) Root(ctx context.Context, cred *p9srv.Cred, aname string) (p9srv.Object, error) {
	o, err := t.root.clone(ctx)
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(aname, "/") {
		if name == "" || name == "." {
			continue
		}
		fid, qid, err := o.walk(ctx, name)
		o.Release()
		if err != nil {
			return nil, fmt.Errorf("root %q: %w", aname, err)
		}
		o = t.object(fid, qid)
	}
	if o.qid.Type&wire.QTDir == 0 {
		o.Release()
		return nil, fmt.Errorf("root %q: %w", aname, syscall.ENOTDIR)
	}
	return o, nil
}

// Lookup finds an object that somebody has a reference to.
func (t *Tree) Lookup(ctx context.Context, id uint64) (p9srv.Object, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if os := t.live[id]; len(os) > 0 {
		o := os[len(os)-1]
		o.refs++
		return o, nil
	}
	return nil, fmt.Errorf("no reference to object %d is held: %w", id, syscall.ESTALE)
}

// StatFS asks for the space and the limits at the root.
func (t *Tree) StatFS(ctx context.Context) (wire.StatFS, error) {
	var r wire.Rstatfs
	err := t.c.RPC(ctx, &wire.Tstatfs{Fid: t.root.fid}, &r)
	return r.StatFS, err
}

// clunk gives a fid up; nobody waits for it.
func (t *Tree) clunk(fid uint32) {
	t.clunkMu.Lock()
	t.clunks++
	t.clunkMu.Unlock()
	t.c.Go(&wire.Tclunk{Fid: fid}, &wire.Rclunk{}, func(error) {
		t.c.FreeFid(fid)
		t.clunkMu.Lock()
		defer t.clunkMu.Unlock()
		if t.clunks--; t.clunks == 0 && t.drained != nil {
			close(t.drained)
			t.drained = nil
		}
	})
}

// clunkWait gives a fid up and waits for the server's word, which may be the
// error of a write that was put off.
func (t *Tree) clunkWait(ctx context.Context, fid uint32) error {
	done := make(chan error, 1)
	t.c.Go(&wire.Tclunk{Fid: fid}, &wire.Rclunk{}, func(err error) {
		t.c.FreeFid(fid)
		done <- err
	})
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("clunk: %w", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// payload is how many bytes one message of a file's data takes: what every
// server allows, in whole pages.
func (t *Tree) payload() int {
	const ioHeader = 24
	n := int(t.c.msize) - ioHeader
	if n > 4096 {
		n -= n % 4096
	}
	return n
}

// isUnknown tells whether a server says that it does not know a message.
func isUnknown(err error) bool {
	e, ok := errno(err)
	return ok && (e == syscall.EOPNOTSUPP || e == syscall.ENOSYS)
}

// checkName refuses what no server should be asked for.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("the name %q: %w", name, syscall.EINVAL)
	case len(name) > 255:
		return fmt.Errorf("a name of %d bytes: %w", len(name), syscall.ENAMETOOLONG)
	}
	return nil
}
