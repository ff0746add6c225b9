package litmus

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/cachefs"
	"echo9/cachefs/order"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

var (
	bg   = context.Background()
	cred = &p9srv.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
)

// client is a cache over a server of its own, in this process. Its connection can be cut.
type client struct {
	*cachefs.FS
	dir   string // what the server exports
	conn  net.Conn
	stop  func()
	files map[string]*cachefs.File // open, until close

	mu     sync.Mutex
	issued []order.Op      // by the program, unmerged
	sent   map[uint64]bool // the operations of cuts that were sent
}

// newClient starts both. Nothing is sent unasked.
func newClient(p order.Policy, w cachefs.Writes) (*client, error) {
	c := &client{files: map[string]*cachefs.File{}, sent: map[uint64]bool{}}
	var err error
	if c.dir, err = os.MkdirTemp("", "litmus"); err != nil {
		return nil, err
	}
	backend, err := dirfs.Open(c.dir, dirfs.Options{})
	if err != nil {
		return nil, err
	}
	auth := p9srv.NewAuthority(p9srv.AuthorityConfig{Backend: backend, Users: p9srv.AsClient(), Lease: 30 * time.Second})
	srv := p9srv.New(p9srv.Config{Backend: backend, Authority: auth, Users: p9srv.AsClient()})
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socketpair")
		if ends[i], err = net.FileConn(file); err != nil {
			return nil, err
		}
		file.Close()
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.ServeConn(bg, ends[1], p9srv.Peer{Addr: "litmus"})
	}()
	c.conn = ends[0]
	c.stop = func() {
		ends[0].Close()
		<-served
		srv.Close()
		auth.Close()
		backend.Close()
	}
	conn, err := p9client.NewConn(bg, ends[0], p9client.Options{Extension: true})
	if err != nil {
		return nil, err
	}
	o := cachefs.Options{WriteBehind: time.Hour, Order: p, Writes: w}
	o.Hooks.Issued = func(op order.Op) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.issued = append(c.issued, op)
	}
	o.Hooks.Commit = func(i cachefs.CutInfo) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, op := range i.Ops {
			c.sent[op.Seq] = true
		}
	}
	c.FS, err = cachefs.OpenConn(bg, conn, o)
	return c, err
}

// die cuts the connection, as the death of the client's machine does, and stops the server too.
// What was not sent is lost.
func (c *client) die() { c.stop() }

// clean removes what the server had.
func (c *client) clean() { os.RemoveAll(c.dir) }

// operations gives what the program has issued so far, and which of it was sent.
func (c *client) operations() (issued []order.Op, sent []bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range c.issued {
		issued = append(issued, op)
		sent = append(sent, c.sent[op.Seq])
	}
	return issued, sent
}

// force has an object, and all that precedes what was done to it, at the server: what a recall or an fsync does.
func (c *client) force(id uint64) error {
	o, err := c.Lookup(bg, id)
	if err != nil {
		return err
	}
	defer o.Release()
	h, err := o.Open(bg, cred, wire.ORdonly)
	if err != nil {
		return err
	}
	defer h.Close(bg)
	return h.Fsync(bg, false)
}

func (c *client) open(name string, flags uint32) (*cachefs.File, error) {
	if h := c.files[name]; h != nil {
		return h, nil
	}
	h, err := c.OpenFile(bg, name, wire.ORdwr|flags, 0o644)
	if err == nil {
		c.files[name] = h
	}
	return h, err
}

// The system calls of the programs. A file that is created or written stays open until close.

func create(name string) step {
	return step{"create " + name, func(c *client) error { _, err := c.open(name, wire.OCreat|wire.OExcl); return err }}
}

func truncate(name string) step {
	return step{"open " + name + " with O_TRUNC", func(c *client) error { _, err := c.open(name, wire.OTrunc); return err }}
}

func write(name string, off int64, data string) step {
	return step{fmt.Sprintf("write %q at %d of %s", data, off, name), func(c *client) error {
		h, err := c.open(name, 0)
		if err == nil {
			_, err = h.WriteAt(bg, []byte(data), off)
		}
		return err
	}}
}

func closes(name string) step {
	return step{"close " + name, func(c *client) error {
		h := c.files[name]
		delete(c.files, name)
		return h.Close(bg)
	}}
}

func fsync(name string) step {
	return step{"fsync " + name, func(c *client) error { return c.Fsync(bg, name) }}
}

func barrier(name string) step {
	return step{"barrier " + name, func(c *client) error { return c.BarrierAt(bg, name) }}
}

func read(name string) step {
	return step{"read " + name, func(c *client) error { _, err := c.ReadFile(bg, name); return err }}
}

func rename(from, to string) step {
	return step{"rename " + from + " " + to, func(c *client) error { return c.Rename(bg, from, to) }}
}

// exchange is of two names in the root.
func exchange(a, b string) step {
	return step{"exchange " + a + " " + b, func(c *client) error {
		root, err := c.Root(bg, nil, "")
		if err != nil {
			return err
		}
		defer root.Release()
		return root.Rename(bg, cred, a, root, b, wire.RenameExchange)
	}}
}

func mkdir(name string) step {
	return step{"mkdir " + name, func(c *client) error { return c.Mkdir(bg, name, 0o755) }}
}

func symlink(target, name string) step {
	return step{"symlink " + target + " " + name, func(c *client) error { return c.Symlink(bg, target, name) }}
}

func link(old, name string) step {
	return step{"link " + old + " " + name, func(c *client) error { return c.Link(bg, old, name) }}
}

func unlink(name string) step {
	return step{"unlink " + name, func(c *client) error { return c.Remove(bg, name) }}
}

// save makes a file with a content, and closes it.
func save(name, data string) []step { return []step{create(name), write(name, 0, data), closes(name)} }

// host tells what the server's directory has, by path.
func host(t testing.TB, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		switch {
		case err != nil || rel == ".":
			return err
		case rel == ".echo9":
			return filepath.SkipDir
		case d.IsDir():
			seen[rel] = isDirectory
		case d.Type() == os.ModeSymlink:
			target, err := os.Readlink(p)
			seen[rel] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(p)
			seen[rel] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}
