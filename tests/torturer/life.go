package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"echo9/p9client"
	"echo9/p9srv"
)

// client is a life of a mount, or of a cache.
type client struct {
	n     int
	mnt   string // "": it is a cache
	proc  *process
	dead  atomic.Bool
	died  time.Time              // once dead
	told  int64                  // losses that it had reported when all was last at rest
	seen  atomic.Int64           // and when its cells were last looked at
	heir  atomic.Pointer[client] // the next life
	fresh atomic.Bool            // its cells were not looked at: those before it may have lost something
}

func name(c *client) string {
	if c == nil {
		return "a plain client"
	}
	if c.mnt == "" {
		return fmt.Sprintf("the cache (process %d)", c.proc.pid())
	}
	return fmt.Sprintf("mount %d (process %d)", c.n, c.proc.pid())
}

// socket is where the echo9 cache listens.
func (t *torture) socket() string { return filepath.Join(t.o.dir, "cache.sock") }

// mnt is where client i is mounted.
func (t *torture) mnt(i int) mounted {
	return mounted{filepath.Join(t.o.dir, fmt.Sprint("mnt", i)), t.o.bounds().kernel}
}

// One of the mounts keeps a journal, and one is in a network namespace.
func (t *torture) keepsJournal(i int) bool { return i == 1 }
func (t *torture) isApart(i int) bool      { return t.o.apart && i == 2 }

func (t *torture) journal() string { return filepath.Join(t.o.dir, "journal") }

// begin begins a life of client i.
func (t *torture) begin(i int) error {
	says, args := "is mounted on", []string{t.o.echo9, "mount"}
	mnt := ""
	if i == t.o.clients {
		says, args = "try: ", []string{t.o.echo9, "cache", "--listen", "unix!" + t.socket()}
	} else {
		mnt = t.mnt(i).dir
	}
	if !t.o.jumbled {
		args = append(args, "--order", orderNames[t.promises(i)])
	}
	if t.keepsJournal(i) {
		args = append(args, "--journal", t.journal())
		if t.o.shredded {
			_ = os.RemoveAll(t.journal())
		}
	}
	args = append(args, "-v", "--write-behind", "1500ms", "--spool", filepath.Join(t.o.dir, fmt.Sprint("spool", i)), "--connect-timeout", "50s", dial(t.links[i].Addr()))
	if mnt != "" {
		args = append(args, mnt)
	}
	n, _ := t.links[i].(*network)
	p, err := spawn(n, says, args...)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.logs = append(t.logs, p)
	t.mu.Unlock()
	c := &client{n: i, mnt: mnt, proc: p}
	c.fresh.Store(true)
	if before := t.clients[i].Swap(c); before != nil {
		before.heir.Store(c)
	}
	return nil
}

// control is the cache's own tree.
func (t *torture) control() *plain {
	return &plain{addr: "unix!" + t.socket(), aname: p9srv.StatusAname}
}

// sync has a client send everything.
func (t *torture) sync(c *client) error {
	if c.mnt == "" {
		control := t.control()
		defer control.close()
		return control.put("ctl", os.O_WRONLY, []byte("sync\n"), false)
	}
	if out, err := exec.Command(t.o.echo9, "sync", c.mnt).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// losses asks a mount how many updates it has lost.
func (t *torture) losses(c *client) int64 {
	if t.o.deaf {
		return 0
	}
	type status struct{ Lost int64 }
	if c.mnt == "" {
		var s status
		control := t.control()
		defer control.close()
		b, err := control.readSome("status.json", 1<<20)
		if err != nil || json.Unmarshal(b, &s) != nil {
			return 0
		}
		return s.Lost
	}
	out, _ := exec.Command(t.o.echo9, "status", "--json", c.mnt).Output()
	var s struct{ Status status }
	if json.Unmarshal(out, &s) != nil {
		return 0
	}
	return s.Status.Lost
}

// retriable reports whether a mount may fail like that just now.
func (t *torture) retriable(c *client, err error) bool {
	return c.dead.Load() || t.losses(c) > c.seen.Load() || errors.Is(err, syscall.ENOSPC) && t.filled.Load() > 0
}

// serverTrouble reports whether a plain client may fail like that: its connection, or its server, is gone.
func (t *torture) serverTrouble(err error) bool {
	var ne net.Error
	return errors.Is(err, p9client.ErrEnded) || errors.As(err, &ne) || errors.Is(err, syscall.ECONNREFUSED)
}
