package faces

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"echo9/tests/internal/need"
	"echo9/tests/internal/treehash"
	"echo9/tests/internal/uml"
)

// guestScript mounts the server with the kernel's client, and acts on it.
const guestScript = `
mount9 ` + hostIP + ` 5640 cache=none,msize=65536 /mnt/9 || exit 1
"$ACTOR" /mnt/9 ` + hostIP + `:5641 || exit 1
umount /mnt/9
`

// scripted are operations of every kind, each after one that gives it something to work on.
var scripted = []op{
	{Do: "create", Name: "f1", Text: "one\n"},
	{Do: "append", Name: "f1", Text: strings.Repeat("more\n", 2000)},
	{Do: "write", Name: "f1", Text: "two"},
	{Do: "chmod", Name: "f1", N: 0o600},
	{Do: "link", Name: "f1", To: "f2"},
	{Do: "truncate", Name: "f2", N: 5000},
	{Do: "mkdir", Name: "d1"},
	{Do: "rename", Name: "f1", To: "d1/f1"},
	{Do: "create", Name: "f3", Text: "three\n"},
	{Do: "rename", Name: "f3", To: "d1/f1"},
	{Do: "symlink", Name: "f3", To: "d1/f1"},
	{Do: "unlink", Name: "f2"},
	{Do: "overwrite", Name: "d1/f1", Text: "again\n"},
	{Do: "rmdir", Name: "d1"}, // it is not empty
	{Do: "chmod", Name: "d1", N: 0o700},
	{Do: "rename", Name: "d1", To: "d2"},
	{Do: "unlink", Name: "f3"},
	{Do: "unlink", Name: "d2/f1"},
	{Do: "rmdir", Name: "d2"},
}

// names are all that operations are about.
var names = []string{"f1", "f2", "f3", "d1", "d2", "d1/f1", "d1/f2", "d2/f1", "d2/f2"}

// anyOp is an operation that may be possible or not.
func anyOp(r *rand.Rand) op {
	pick := func() string { return names[r.IntN(len(names))] }
	dir := func() string { return []string{"d1", "d2"}[r.IntN(2)] }
	text := strings.Repeat(fmt.Sprintf("%d ", r.IntN(1000)), 1+r.IntN(300))
	switch r.IntN(14) {
	case 0, 1, 2:
		return op{Do: "create", Name: pick(), Text: text}
	case 3:
		return op{Do: "write", Name: pick(), Text: text}
	case 4:
		return op{Do: "overwrite", Name: pick(), Text: text}
	case 5:
		return op{Do: "append", Name: pick(), Text: text}
	case 6:
		return op{Do: "truncate", Name: pick(), N: int64(r.IntN(3000))}
	case 7:
		return op{Do: "chmod", Name: pick(), N: int64(0o700 + r.IntN(0o100))}
	case 8, 9:
		return op{Do: "rename", Name: pick(), To: pick()}
	case 10:
		return op{Do: "unlink", Name: pick()}
	case 11:
		return op{Do: "mkdir", Name: dir()}
	case 12:
		return op{Do: "rmdir", Name: dir()}
	}
	return op{Do: "link", Name: pick(), To: pick()}
}

// TestOneAfterTheOther: two FUSE mounts and one of the kernel's own client, in a guest. What a process on one of
// them has finished, those on the others see; and it is what a local file system shows.
func TestOneAfterTheOther(t *testing.T) {
	setUp(t)
	uml.Need(t)
	ns, tap := newNetwork(t)
	calls := listenIn(t, ns, "5641")
	t.Cleanup(func() { calls.Close() })
	h := newHost(t, listenIn(t, ns, "5640"))
	local := t.TempDir()
	for _, dir := range []string{h.dir, local} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a, b := mount(t, "mount", h.addr, t.TempDir()), mount(t, "mount", h.addr, t.TempDir())
	guest, hangUp := startGuest(t, ns, tap, calls)
	reference := newActor(t, "the local directory", local)
	actors := []*actor{newActor(t, "mount A", a.mnt), newActor(t, "mount B", b.mnt), guest}

	steps := 60
	if need.Full() {
		steps = 600
	}
	var plan []op
	for range actors { // each actor does each of them
		plan = append(plan, scripted...)
	}
	r := rand.New(rand.NewPCG(2, 3))
	for range steps {
		plan = append(plan, anyOp(r))
	}
	began, refused := time.Now(), 0
	for i, o := range plan {
		who := actors[i%len(actors)]
		want, err := reference.do(t, request{Op: &o, Look: true, Ask: names})
		if err != nil {
			t.Fatal(err)
		}
		got, err := who.do(t, request{Op: &o})
		if err != nil {
			t.Fatalf("step %d, %v on %s: %v", i, o, who.name, err)
		}
		if got.Errno != want.Errno || (got.Err == "") != (want.Err == "") {
			t.Errorf("step %d, %v on %s: %q; a local file system says %q", i, o, who.name, got.Err, want.Err)
		}
		if want.Err != "" {
			refused++
		}
		// The others first: they have not seen it yet.
		var first answer
		for k := 1; k <= len(actors); k++ {
			other := actors[(i+k)%len(actors)]
			sees, err := other.do(t, request{Look: true, Ask: names})
			if err != nil {
				t.Fatalf("step %d, %v on %s: %v", i, o, who.name, err)
			}
			if sees.Err != "" {
				t.Errorf("step %d, %v on %s: %s cannot look: %s", i, o, who.name, other.name, sees.Err)
			}
			if d := treehash.Diff(timeless(want.Tree), timeless(sees.Tree), 10); d != "" {
				t.Errorf("step %d, %v on %s: a local file system (first) and %s (second):\n%s", i, o, who.name, other.name, d)
			}
			if !maps.Equal(want.Found, sees.Found) {
				t.Errorf("step %d, %v on %s: %s finds %v; should be %v", i, o, who.name, other.name, sees.Found, want.Found)
			}
			if k == 1 {
				first = sees
			} else if d := treehash.Diff(first.Tree, sees.Tree, 10); d != "" {
				t.Errorf("step %d, %v on %s: %s (second) does not see what another does:\n%s", i, o, who.name, other.name, d)
			}
		}
		if t.Failed() {
			t.Fatalf("after %d steps", i+1)
		}
	}
	t.Logf("%d steps, %d of them refused, in %v", len(plan), refused, time.Since(began).Round(time.Millisecond))
	if refused > 2*len(plan)/3 {
		t.Errorf("%d of %d steps could not be done: that shows little", refused, len(plan))
	}
	hangUp()
	h.noneEvicted(t)
	a.noneLost(t)
	b.noneLost(t)
	sameEverywhere(t, h.dir, a, b)
}

var mtime = regexp.MustCompile(` mtime=\d+\.\d+`)

// timeless is a tree without its times.
func timeless(tree map[string]string) map[string]string {
	out := make(map[string]string, len(tree))
	for name, d := range tree {
		out[name] = mtime.ReplaceAllString(d, "")
	}
	return out
}

// startGuest boots a guest whose actor calls us; hangUp ends both, and checks that they end well.
func startGuest(t *testing.T, ns, tap string, calls net.Listener) (a *actor, hangUp func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan *uml.Result, 1)
	go func() {
		over <- uml.Run(t, uml.Guest{Script: guestScript, NetNS: ns, Tap: tap, IP: guestIP, Limit: 30 * time.Minute,
			Env: map[string]string{"ACTOR": self, roleVar: "actor"}})
	}()
	conns := make(chan net.Conn, 1)
	go func() {
		if c, err := calls.Accept(); err == nil {
			conns <- c
		}
	}()
	var conn net.Conn
	select {
	case conn = <-conns:
	case r := <-over:
		t.Fatalf("the guest ended (%d):\n%s\n%s", r.Code, r.Output, r.Console)
	case <-time.After(5 * time.Minute):
		t.Fatal("the guest does not call")
	}
	ended := false
	hangUp = func() {
		if ended {
			return
		}
		ended = true
		conn.Close()
		if r := <-over; r.Code != 0 {
			t.Errorf("the guest ended with %d:\n%s\n%s", r.Code, r.Output, r.Console)
		}
	}
	t.Cleanup(hangUp)
	return connActor("v9fs", conn), hangUp
}
