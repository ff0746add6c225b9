package p9srv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"

	"github.com/hugelgupf/p9/linux"
	"github.com/hugelgupf/p9/p9"
)

// The client of hugelgupf/p9 works with the server: it asks for Google's newest version.
func TestHugelgupfClient(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	a, b := socketPair(t)
	done := make(chan struct{})
	go func() { s.ServeConn(context.Background(), b, PeerOf(b)); close(done) }()
	c, err := p9.NewClient(a, p9.WithMessageSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	if c.Version() != 7 {
		t.Errorf("version %d", c.Version())
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := c.Attach("")
	must(err)
	_, err = root.Mkdir("d", 0o755, p9.NoUID, p9.NoGID)
	must(err)
	_, dir, err := root.Walk([]string{"d"})
	must(err)
	_, clone, err := dir.Walk(nil)
	must(err)
	f, _, _, err := clone.Create("f", p9.ReadWrite, 0o644, p9.NoUID, p9.NoGID)
	must(err)
	big := make([]byte, 200_000)
	for i := range big {
		big[i] = byte(i * 7)
	}
	n, err := f.WriteAt(big, 0)
	must(err)
	got := make([]byte, len(big))
	m, err := f.ReadAt(got, 0)
	must(err)
	if n != len(big) || m != n || string(got) != string(big) {
		t.Errorf("wrote %d, read %d", n, m)
	}
	must(f.FSync())
	must(f.SetAttr(p9.SetAttrMask{Permissions: true}, p9.SetAttr{Permissions: 0o600}))
	_, walked, _, attr, err := root.WalkGetAttr([]string{"d", "f"})
	must(err)
	if attr.Size != uint64(len(big)) || attr.Mode.Permissions() != 0o600 {
		t.Errorf("attributes: %+v", attr)
	}
	if _, _, _, _, err = root.WalkGetAttr([]string{"d", "none"}); !errors.Is(err, linux.ENOENT) {
		t.Errorf("a name that is not there: %v", err)
	}
	_, err = dir.Symlink("f", "s", p9.NoUID, p9.NoGID)
	must(err)
	must(dir.Link(walked, "hard"))
	must(dir.RenameAt("hard", root, "moved"))
	must(root.UnlinkAt("moved", 0))
	_, open, err := dir.Walk(nil)
	must(err)
	_, _, err = open.Open(p9.ReadOnly)
	must(err)
	ents, err := open.Readdir(0, 8192)
	must(err)
	if len(ents) != 4 {
		t.Errorf("readdir: %v", ents)
	}
	if _, err := root.StatFS(); err != nil {
		t.Error(err)
	}
	for _, f := range []p9.File{open, walked, f, dir, root} {
		must(f.Close())
	}
	c.Close()
	<-done
	if refs, files := fs.out(); refs != 0 || files != 0 {
		t.Errorf("%d objects and %d files are left", refs, files)
	}
}

// A tool on a network: credentials come from the policy, not from the kernel.
func TestUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		if u, err := AsClient().uidFor(Peer{}, 0, ""); err != nil || u != uint32(os.Geteuid()) {
			t.Errorf("an ordinary user's server acts as %d, %v", u, err)
		}
		return
	}
	tcp, root, user := Peer{}, Peer{HasCred: true}, Peer{HasCred: true, UID: 1000}
	for _, c := range []struct {
		u     Users
		p     Peer
		uid   uint32
		uname string
		want  uint32
	}{
		{AsSelf(), tcp, 1234, "", 0}, {AsSelf(), tcp, wire.NoUID, "daemon", 0},
		{AsUID(77), tcp, 1234, "", 77}, {AsClient(), tcp, 1234, "", 1234},
		{AsClient(), tcp, wire.NoUID, "daemon", 1}, {AsClient(), tcp, wire.NoUID, "55", 55}, {AsClient(), tcp, wire.NoUID, "", 0},
		{AsSelf(), root, 1234, "", 1234}, {AsSelf(), root, wire.NoUID, "", 0},
		{AsClient(), user, 1234, "", 1000}, {AsUID(77), user, 0, "root", 1000},
	} {
		if got, err := c.u.uidFor(c.p, c.uid, c.uname); err != nil || got != c.want {
			t.Errorf("%v %+v as %d %q: %d, %v", c.u, c.p, c.uid, c.uname, got, err)
		}
	}
	if _, err := AsClient().uidFor(tcp, wire.NoUID, "no such user at all"); !errors.Is(err, syscall.EPERM) {
		t.Errorf("an unknown name: %v", err)
	}
	for s, want := range map[string]string{"": "self", "self": "self", "client": "client", "0": "0", "12": "12"} {
		if u, err := ParseUsers(s); err != nil || u.String() != want {
			t.Errorf("%q: %v, %v", s, u, err)
		}
	}
	for _, s := range []string{"me", "-1", "4294967295"} {
		if _, err := ParseUsers(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

const childEnv = "P9SRV_TEST_CHILD"

// TestMain lets the test binary be the client that is killed.
func TestMain(m *testing.M) {
	if addr := os.Getenv(childEnv); addr != "" {
		holdAndWait(addr)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holdAndWait takes the write token of the root and waits to be killed.
func holdAndWait(addr string) {
	nc, err := net.Dial("unix", addr)
	if err != nil {
		panic(err)
	}
	rd := wire.NewReader(nc, 1<<20)
	for _, m := range []wire.Message{
		&wire.Tversion{Msize: 8192, Version: wire.ExtVersion}, &wire.Tsession{Name: "child"},
		&wire.Tgrant{Elems: []wire.GrantElem{{ID: 1, Mode: 2}}},
	} {
		if _, err := nc.Write(wire.AppendFrame(nil, 1, m)); err != nil {
			panic(err)
		}
		if _, _, err := rd.ReadFrame(); err != nil {
			panic(err)
		}
	}
	fmt.Println("holds")
	select {}
}

// What a killed client held is free at once, not when its lease is over.
func TestKilledClient(t *testing.T) {
	s, a, _ := newAuthorityServer(t, AuthorityConfig{Lease: time.Hour})
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(context.Background(), l)
	defer s.Close()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), childEnv+"="+l.Addr().String())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "holds\n" {
		t.Fatalf("%q, %v", line, err)
	}
	p := dialRaw(t, s)
	p.sendTag(5, &wire.Tgetattr{Fid: 0})
	eventually(t, "the plain client waits", func() bool { return len(a.Status().Waiting) == 1 })
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.recv(5, &wire.Rgetattr{})
	child.Wait()
	eventually(t, "no session is left", func() bool { return len(a.Status().Sessions) == 0 })
}

// The tests above notice when a rule is broken.

func TestMutantNoAdmission(t *testing.T) {
	s, a, fs := newAuthorityServer(t, AuthorityConfig{})
	a.mutant = mutantNoAdmit
	f := fs.put("f", "old")
	w := dialExt(t, s, "writer")
	w.grant(writeElem(f))
	p := dialRaw(t, s)
	p.walk(0, 1, "f")
	p.ok(&wire.Tgetattr{Fid: 1}, &wire.Rgetattr{}) // is not let wait: two clients at once
	if st := a.Status(); st.PlainWaited != 0 || st.Recalls != 0 {
		t.Errorf("the mutant is none: %+v", st)
	}
}

// halfSeen tells whether another client sees a cut half applied.
func halfSeen(t *testing.T, m mutant) bool {
	s, a, fs := newAuthorityServer(t, AuthorityConfig{})
	a.mutant = m
	d := uint64(1)
	w := dialExt(t, s, "writer")
	w.start(1, &wire.Trecall{})
	w.start(2, &wire.Trecall{})
	g := w.grant(writeElem(d))
	half, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fs.setHook(func(_ context.Context, what string, n uint64) error {
		if what == "apply" && n == 2 {
			once.Do(func() { close(half); <-goOn })
		}
		return nil
	})
	id := w.s.IDs.First
	w.start(9, &wire.Tcommit{Cut: 1, Flags: wire.CommitLast, Fence: fenceOf(g), Records: []cut.Record{
		{Kind: cut.Create, ID: id, Mode: syscall.S_IFREG}, {Kind: cut.Create, ID: id + 1, Mode: syscall.S_IFREG},
		{Kind: cut.Bind, Dir: d, Name: "one", ID: id}, {Kind: cut.Bind, Dir: d, Name: "two", ID: id + 1},
	}})
	<-half
	p := dialRaw(t, s)
	p.sendTag(7, &wire.Twalk{Fid: 0, NewFid: 3, Names: []string{"two"}})
	// The writer gives back what is recalled; with the rule that waits for the cut.
	w.giveBack(recallOf(t, w.reply(1)))
	answered := make(chan wire.Message, 1)
	go func() {
		_, m := p.next()
		answered <- m
	}()
	var seen wire.Message
	select {
	case seen = <-answered:
		close(goOn)
	case <-time.After(m.during()):
		close(goOn)
		seen = <-answered
	}
	w.reply(9)
	_, found := seen.(*wire.Rwalk)
	return !found
}

func TestMutantNoBusy(t *testing.T) {
	if halfSeen(t, mutantNone) {
		t.Error("a cut is seen half applied")
	}
	if !halfSeen(t, mutantNoBusy) {
		t.Error("a server that does not keep a cut's operands busy passes")
	}
}

func TestMutantSkipFence(t *testing.T) {
	for _, m := range []mutant{mutantNone, mutantSkipFence} {
		s, a, fs := newAuthorityServer(t, AuthorityConfig{})
		a.mutant = m
		f := fs.put("f", "old")
		w := dialExt(t, s, "writer")
		r := w.commit(1, nil, cut.Record{Kind: cut.Data, ID: f, Bytes: []byte("new")})
		if broke := r.Status == wire.CommitApplied; broke != (m == mutantSkipFence) {
			t.Errorf("mutant %d: %v", m, r)
		}
	}
}
