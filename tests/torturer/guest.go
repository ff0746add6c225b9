package main

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"echo9/tests/internal/faultproxy"
	"echo9/tests/internal/uml"
)

// guest is another kernel, whose v9fs client is a plain one: it looks at files all the time, and mounts again when its
// connection is gone. It writes down when it began to look, and what it saw.
type guest struct {
	running *uml.Running
	proxy   *faultproxy.Proxy
	ns      *os.File
	seen    string    // the directory where it writes down what it sees, a file for each time that it looked at all of them
	next    int       // the first that was not judged
	last    time.Time // when there was one to judge
}

const (
	guestHost, guestAddr, guestTap = "10.9.9.1", "10.9.9.2", "tap1"
	// guestClock is by how much its clock may differ from ours.
	guestClock = 100 * time.Millisecond
)

const guestScript = `
n=0
while :; do
	if [ -z "$up" ]; then
		mount9 "$SERVER" "$PORT" "msize=65536,cache=none" /mnt/t 2>/dev/null && up=1 || { sleep 0.3; continue; }
	fi
	for f in $FILES; do
		t=$(date +%s%N)
		if b=$(base64 -w0 < "/mnt/t/$f" 2>/dev/null) && [ -n "$b" ]; then
			echo "$t $f $b"
		else
			echo "$t $f -"
			up=
			break
		fi
	done > "$SEEN/part"
	[ -n "$up" ] || umount -l /mnt/t
	sync "$SEEN/part"
	mv "$SEEN/part" "$SEEN/$n"
	n=$((n + 1))
done
`

// newGuest boots it, in a network of its own.
func newGuest(t *torture) (*guest, error) {
	dir := filepath.Join(t.o.dir, "guest")
	g := &guest{seen: filepath.Join(dir, "seen")}
	if err := os.MkdirAll(g.seen, 0o755); err != nil {
		return nil, err
	}
	var files []string
	for _, c := range t.cells {
		if !c.isDir() {
			files = append(files, c.path)
		}
	}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		if g.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		for _, args := range [][]string{
			{"link", "set", "lo", "up"}, {"tuntap", "add", guestTap, "mode", "tap"},
			{"addr", "add", guestHost + "/24", "dev", guestTap}, {"link", "set", guestTap, "up"},
		} {
			if err := ip(args...); err != nil {
				return err
			}
		}
		ln, err := net.Listen("tcp", guestHost+":0")
		if err != nil {
			return fmt.Errorf("listening for the guest: %w", err)
		}
		g.proxy = faultproxy.On(ln, t.addr)
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		g.running, err = uml.Boot(dir, uml.Guest{
			Script: guestScript, Tap: guestTap, IP: guestAddr, Mem: "256M", Limit: t.o.length + time.Hour,
			Env: map[string]string{"SERVER": guestHost, "PORT": port, "SEEN": g.seen, "FILES": strings.Join(files, " ")},
		})
		return err
	})
	if err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// watch judges what the guest sees until all is over. One that has ended, or hangs, sees nothing.
func (g *guest) watch(t *torture) {
	cells := map[string]*cell{}
	for _, c := range t.cells {
		cells[c.path] = c
	}
	g.last = time.Now()
	for {
		select {
		case <-t.done:
			return
		case <-time.After(100 * time.Millisecond):
		}
		for g.judgeNext(t, cells) {
			g.last = time.Now()
		}
		if time.Since(g.last) > restTime {
			t.bad("the guest has said nothing for %v; its console: %s", restTime, tail(g.running.Power().Console, 3000))
			g.running = nil
			return
		}
	}
}

// judgeNext judges the next file that the guest has written, if there is one, and removes it: they would fill the disk.
func (g *guest) judgeNext(t *torture, cells map[string]*cell) bool {
	name := filepath.Join(g.seen, strconv.Itoa(g.next))
	b, err := os.ReadFile(name)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		g.judge(t, cells, line)
	}
	g.next++
	return os.Remove(name) == nil
}

// judge holds one look against the book.
func (g *guest) judge(t *torture, cells map[string]*cell, line string) {
	w := strings.Fields(line)
	if len(w) != 3 || cells[w[1]] == nil {
		t.bad("the guest says %q", line)
		return
	}
	c := cells[w[1]]
	if w[2] == "-" {
		t.count(&t.guestCut, 1)
		return
	}
	ns, err := strconv.ParseInt(w[0], 10, 64)
	b, err2 := base64.StdEncoding.DecodeString(w[2])
	if err != nil || err2 != nil {
		t.bad("the guest says %q", line)
		return
	}
	t.count(&t.guestLooks, 1)
	floor := c.floorAt(time.Unix(0, ns).Add(-guestClock))
	switch n, err := c.parse(b); {
	case err != nil:
		t.bad("the guest looking at %s: %v", c.id(), err)
	case n < floor:
		t.count(&t.stale, 1)
		t.bad("stale: the guest shows %s at %d, and %d was seen or acknowledged before", c.id(), n, floor)
	default:
		t.acknowledge(c, n)
	}
}

func (g *guest) close() {
	if g.running != nil {
		g.running.Power()
	}
	if g.proxy != nil {
		g.proxy.Close()
	}
	if g.ns != nil {
		g.ns.Close()
	}
}
