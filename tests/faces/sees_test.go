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
mount9 ` + hostIP + ` 5640 "cache=$CACHE,msize=65536" /mnt/9 || exit 1
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
	steps := 60
	if need.Full() {
		steps = 600
	}
	var plan []op
	for range 3 { // each actor does each of them
		plan = append(plan, scripted...)
	}
	r := rand.New(rand.NewPCG(2, 3))
	for range steps {
		plan = append(plan, anyOp(r))
	}
	s := newStage(t, "none")
	began := time.Now()
	refused, wrong := s.play(t, plan)
	if wrong != "" {
		t.Fatal(wrong)
	}
	t.Logf("%d steps, %d of them refused, in %v", len(plan), refused, time.Since(began).Round(time.Millisecond))
	if refused > 2*len(plan)/3 {
		t.Errorf("%d of %d steps could not be done: that shows little", refused, len(plan))
	}
	s.hangUp()
	s.host.noneEvicted(t)
	s.a.noneLost(t)
	s.b.noneLost(t)
	sameEverywhere(t, s.host.dir, s.a, s.b)
}

// A kernel that caches without asking anybody (cache=loose) is found out.
func TestOneAfterTheOtherFindsACarelessClient(t *testing.T) {
	s := newStage(t, "loose")
	_, wrong := s.play(t, scripted)
	if !strings.Contains(wrong, "v9fs") {
		t.Errorf("found: %q", wrong)
	}
	s.hangUp()
}

// stage is a server, its mounts, and a directory that is not its.
type stage struct {
	host      *host
	a, b      *daemon
	reference *actor
	actors    []*actor
	hangUp    func() // ends the guest
}

// newStage mounts a new server twice by FUSE and once by the kernel's own client, caching as it is told.
func newStage(t *testing.T, cache string) *stage {
	t.Helper()
	setUp(t)
	uml.Need(t)
	ns, tap := newNetwork(t)
	calls := listenIn(t, ns, "5641")
	t.Cleanup(func() { calls.Close() })
	s := &stage{host: newHost(t, listenIn(t, ns, "5640"))}
	local := t.TempDir()
	for _, dir := range []string{s.host.dir, local} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.a, s.b = mount(t, "mount", s.host.addr, t.TempDir()), mount(t, "mount", s.host.addr, t.TempDir())
	guest, hangUp := startGuest(t, ns, tap, cache, calls)
	s.hangUp = hangUp
	s.reference = newActor(t, "a local file system", local)
	s.actors = []*actor{newActor(t, "mount A", s.a.mnt), newActor(t, "mount B", s.b.mnt), guest}
	return s
}

// play has the actors do the plan, in turn, and all of them look after each step. It ends when something is
// wrong, and tells what.
func (s *stage) play(t *testing.T, plan []op) (refused int, wrong string) {
	t.Helper()
	ask := func(a *actor, r request) answer {
		ans, err := a.do(r)
		if err != nil {
			t.Fatal(err)
		}
		return ans
	}
	for i, o := range plan {
		var w strings.Builder
		who := s.actors[i%len(s.actors)]
		want := ask(s.reference, request{Op: &o, Look: true, Ask: names})
		got := ask(who, request{Op: &o})
		if got.Errno != want.Errno || (got.Err == "") != (want.Err == "") {
			fmt.Fprintf(&w, "%s: %q; should be %q\n", who.name, got.Err, want.Err)
		}
		if want.Err != "" {
			refused++
		}
		var first answer
		for k := 1; k <= len(s.actors); k++ { // the others first: they have not seen it yet
			other := s.actors[(i+k)%len(s.actors)]
			sees := ask(other, request{Look: true, Ask: names})
			if k == 1 {
				first = sees
			}
			if sees.Err != "" {
				fmt.Fprintf(&w, "%s cannot look: %s\n", other.name, sees.Err)
			}
			if d := treehash.Diff(timeless(want.Tree), timeless(sees.Tree), 10); d != "" {
				fmt.Fprintf(&w, "a local file system (first) and %s (second):\n%s\n", other.name, d)
			} else if d := treehash.Diff(first.Tree, sees.Tree, 10); d != "" {
				fmt.Fprintf(&w, "another one (first) and %s (second):\n%s\n", other.name, d)
			}
			if !maps.Equal(want.Found, sees.Found) {
				fmt.Fprintf(&w, "%s finds %v; should be %v\n", other.name, sees.Found, want.Found)
			}
		}
		if w.Len() > 0 {
			return refused, fmt.Sprintf("step %d, %v on %s:\n%s", i, o, who.name, w.String())
		}
	}
	return refused, ""
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
func startGuest(t *testing.T, ns, tap, cache string, calls net.Listener) (a *actor, hangUp func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan *uml.Result, 1)
	go func() {
		over <- uml.Run(t, uml.Guest{Script: guestScript, NetNS: ns, Tap: tap, IP: guestIP, Limit: 30 * time.Minute,
			Env: map[string]string{"ACTOR": self, roleVar: "actor", "CACHE": cache}})
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
