package p9srv

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
)

// extClient is a raw client with a session. Replies are sorted by tag, so that
// posted Trecalls and waiting requests can be told apart.
type extClient struct {
	*rawClient
	s     wire.Rsession
	got   map[uint16]wire.Message
	order []wire.Message // all replies in the order in which they came
}

func newAuthorityServer(t testing.TB, cfg AuthorityConfig) (*Server, *Authority, *memCommitter) {
	fs := newMemCommitter()
	cfg.Backend = fs
	if cfg.Lease == 0 {
		cfg.Lease = time.Hour // however little the machine lets a client run, it renews in time
	}
	if cfg.Logf == nil {
		cfg.Logf = t.Logf
	}
	a := NewAuthority(cfg)
	t.Cleanup(a.Close)
	return New(Config{Backend: fs, Authority: a, Logf: t.Logf}), a, fs
}

func dialExt(t testing.TB, s *Server, name string) *extClient {
	t.Helper()
	c := &extClient{rawClient: dialServer(t, s), got: map[uint16]wire.Message{}}
	if v := c.version(1<<16, wire.ExtVersion); v.Version != wire.ExtVersion {
		t.Fatalf("version: %v", v)
	}
	m := &wire.Tsession{Name: name, Users: []uint32{0}}
	copy(m.Client[:], name)
	copy(m.Secret[:], "secret of "+name)
	c.ok(m, &c.s)
	return c
}

// start sends a request whose reply may come late.
func (c *extClient) start(tag uint16, m wire.Message) {
	c.t.Helper()
	c.sendTag(tag, m)
}

// reply waits for the reply to tag, keeping others.
func (c *extClient) reply(tag uint16) wire.Message {
	c.t.Helper()
	for c.got[tag] == nil {
		got, m := c.next()
		c.got[got] = m
		c.order = append(c.order, m)
	}
	m := c.got[tag]
	delete(c.got, tag)
	return m
}

// quiet checks that no reply to tag has come, by one more round trip.
func (c *extClient) quiet(tag uint16) {
	c.t.Helper()
	c.start(60000, &wire.Trenew{})
	c.reply(60000)
	if m := c.got[tag]; m != nil {
		c.t.Fatalf("tag %d is answered too early: %v", tag, m)
	}
}

func (c *extClient) do(m wire.Message) wire.Message {
	c.t.Helper()
	c.start(50000, m)
	return c.reply(50000)
}

func (c *extClient) grant(elems ...wire.GrantElem) *wire.Rgrant {
	c.t.Helper()
	r, ok := c.do(&wire.Tgrant{Inline: 1000, Elems: elems}).(*wire.Rgrant)
	if !ok || len(r.Tokens) != len(elems) {
		c.t.Fatalf("grant of %v: %v", elems, r)
	}
	return r
}

func (c *extClient) commit(number uint64, fence []cut.Fence, records ...cut.Record) *wire.Rcommit {
	c.t.Helper()
	r, ok := c.do(&wire.Tcommit{Cut: number, Flags: wire.CommitLast, Fence: fence, Records: records}).(*wire.Rcommit)
	if !ok {
		c.t.Fatal("commit is not answered by Rcommit")
	}
	return r
}

func (c *extClient) giveBack(r *wire.Rrecall) {
	c.t.Helper()
	m := &wire.Treturn{}
	for _, e := range r.Tokens {
		m.Tokens = append(m.Tokens, wire.ReturnElem{ID: e.ID, Gen: e.Gen, Keep: e.Keep})
	}
	if _, ok := c.do(m).(*wire.Rreturn); !ok {
		c.t.Fatal("return refused")
	}
}

func recallOf(t testing.TB, m wire.Message) *wire.Rrecall {
	t.Helper()
	r, ok := m.(*wire.Rrecall)
	if !ok {
		t.Fatalf("%v is no recall", m)
	}
	return r
}

func readElem(id uint64) wire.GrantElem  { return wire.GrantElem{ID: id, Mode: 1} }
func writeElem(id uint64) wire.GrantElem { return wire.GrantElem{ID: id, Mode: 2} }

func fenceOf(g *wire.Rgrant) (f []cut.Fence) {
	for _, t := range g.Tokens {
		if t.Mode != 0 {
			f = append(f, cut.Fence{ID: t.ID, Gen: t.Gen, Mode: t.Mode})
		}
	}
	return f
}

func TestGrantCarriesWhatIsNeeded(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	f := fs.put("d/f", "hello")
	c := dialExt(t, s, "a")
	if c.s.Root.Path != 1 || c.s.IDs.Count == 0 || c.s.Lease == 0 || c.s.UID != uint32(os.Geteuid()) {
		t.Errorf("session: %+v", c.s)
	}
	d := fs.nodes[1].ents["d"]
	g := c.grant(readElem(1), readElem(d), wire.GrantElem{ID: d, Name: "f", Mode: 1}, wire.GrantElem{ID: d, Name: "none", Mode: 1})
	if g.Tokens[2].ID != f || string(g.Tokens[2].Inline) != "hello" || g.Tokens[2].Attr.Size != 5 || g.Tokens[2].Gen == 0 {
		t.Errorf("by name: %+v", g.Tokens[2])
	}
	if g.Tokens[3].Flags != wire.GrantedAbsent || g.Tokens[3].Mode != 0 {
		t.Errorf("absent: %+v", g.Tokens[3])
	}
	if m, ok := c.do(&wire.Tgrant{Elems: []wire.GrantElem{readElem(999)}}).(*wire.Rlerror); !ok || syscall.Errno(m.Errno) != syscall.ESTALE {
		t.Errorf("an object that is not: %v", m)
	}
	if m, ok := c.do(&wire.Tgrant{Elems: []wire.GrantElem{{ID: 1, Mode: 7}}}).(*wire.Rlerror); !ok || syscall.Errno(m.Errno) != syscall.EINVAL {
		t.Errorf("mode 7: %v", m)
	}
}

// Raised is only what the session holds, is not asked to give back, and what nobody else has; the answer does not wait, and nobody is asked for anything.
func TestRaise(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	var id [6]uint64
	for i := range id {
		id[i] = fs.put(fmt.Sprint("f", i), "x")
	}
	const mine, shared, others, wanted, nobodys, written = 0, 1, 2, 3, 4, 5
	c, h := dialExt(t, s, "a"), dialExt(t, s, "b")
	g := c.grant(readElem(id[mine]), readElem(id[shared]), readElem(id[wanted]), writeElem(id[written]))
	h.grant(readElem(id[shared]), writeElem(id[others]))
	c.start(1, &wire.Trecall{})
	h.start(1, &wire.Trecall{})
	h.start(2, &wire.Tgrant{Elems: []wire.GrantElem{writeElem(id[wanted])}})
	recallOf(t, c.reply(1))
	var set []wire.GrantElem
	for _, x := range id {
		set = append(set, writeElem(x))
	}
	r, ok := c.do(&wire.Tgrant{Flags: wire.GrantRaise, Elems: set}).(*wire.Rgrant)
	if !ok || len(r.Tokens) != len(set) {
		t.Fatalf("raise: %v", r)
	}
	for i, tok := range r.Tokens {
		switch {
		case i == mine:
			if tok.Mode != 2 || tok.Gen <= g.Tokens[0].Gen || tok.Flags != 0 || tok.ID != id[i] {
				t.Errorf("raised: %+v", tok)
			}
		case tok.Mode != 0:
			t.Errorf("object %d: %+v", i, tok)
		}
	}
	h.quiet(1)
	// It is held to be written: who reads it has it recalled, at the new generation.
	c.start(3, &wire.Trecall{})
	h.start(4, &wire.Tgrant{Elems: []wire.GrantElem{readElem(id[mine])}})
	if rec := recallOf(t, c.reply(3)); len(rec.Tokens) != 1 || rec.Tokens[0].ID != id[mine] || rec.Tokens[0].Gen != r.Tokens[mine].Gen {
		t.Errorf("recall: %+v", rec)
	}
	if m, ok := c.do(&wire.Tgrant{Flags: wire.GrantRaise, Elems: []wire.GrantElem{{ID: 1, Name: "f1", Mode: 2}}}).(*wire.Rlerror); !ok || syscall.Errno(m.Errno) != syscall.EINVAL {
		t.Errorf("a name: %v", m)
	}
}

// A plain client's read waits until the writer has sent its cut and given the token back.
func TestPlainReadRecalls(t *testing.T) {
	s, a, fs := newAuthorityServer(t, AuthorityConfig{})
	f := fs.put("f", "old")
	w := dialExt(t, s, "writer")
	w.start(1, &wire.Trecall{})
	g := w.grant(writeElem(f))
	p := dialRaw(t, s)
	p.walk(0, 1, "f")
	p.sendTag(5, &wire.Tlopen{Fid: 1})
	rec := recallOf(t, w.reply(1))
	if len(rec.Tokens) != 1 || rec.Tokens[0].ID != f || rec.Tokens[0].Keep != 1 || rec.Tokens[0].Gen != g.Tokens[0].Gen {
		t.Fatalf("recall: %+v", rec)
	}
	if st := a.Status(); len(st.Waiting) != 1 || len(st.Waiting[0].For) != 1 || st.Waiting[0].For[0] != w.s.Session {
		t.Errorf("who waits: %+v", st.Waiting)
	}
	if r := w.commit(1, fenceOf(g), cut.Record{Kind: cut.Data, ID: f, Bytes: []byte("new")}); r.Status != wire.CommitApplied {
		t.Fatalf("commit: %v", r)
	}
	w.giveBack(rec)
	p.recv(5, &wire.Rlopen{})
	var r wire.Rread
	p.ok(&wire.Tread{Fid: 1, Count: 10}, &r)
	if string(r.Data) != "new" {
		t.Errorf("the plain client reads %q", r.Data)
	}
	// The writer keeps reading: a plain write takes that, too.
	p.walk(0, 2, "f")
	w.start(2, &wire.Trecall{})
	p.ok(&wire.Tlopen{Fid: 2, Flags: wire.ORdwr}, &wire.Rlopen{})
	p.sendTag(6, &wire.Twrite{Fid: 2, Data: []byte("x")})
	rec = recallOf(t, w.reply(2))
	if rec.Tokens[0].Keep != 0 {
		t.Errorf("recall for a write: %+v", rec.Tokens)
	}
	w.giveBack(rec)
	p.recv(6, &wire.Rwrite{})
}

// A plain operation that waits for a token can be flushed, and holds nothing up.
func TestFlushWhileParked(t *testing.T) {
	s, a, fs := newAuthorityServer(t, AuthorityConfig{})
	f := fs.put("f", "old")
	w := dialExt(t, s, "writer")
	w.start(1, &wire.Trecall{})
	g := w.grant(writeElem(f))
	p := dialRaw(t, s)
	p.walk(0, 1, "f")
	p.sendTag(5, &wire.Tgetattr{Fid: 1})
	recallOf(t, w.reply(1))
	p.ok(&wire.Tstatfs{Fid: 0}, &wire.Rstatfs{}) // others go on
	p.sendTag(6, &wire.Tflush{OldTag: 5})
	p.recv(6, &wire.Rflush{})
	if st := a.Status(); len(st.Waiting) != 0 {
		t.Errorf("still waits: %+v", st.Waiting)
	}
	if r := w.commit(1, fenceOf(g), cut.Record{Kind: cut.Data, ID: f, Bytes: []byte("new")}); r.Status != wire.CommitApplied {
		t.Errorf("commit: %v", r)
	}
	// So does a connection that ends.
	w.start(2, &wire.Trecall{})
	p.sendTag(7, &wire.Tgetattr{Fid: 1})
	eventually(t, "it waits", func() bool { return len(a.Status().Waiting) == 1 })
	p.nc.Close()
	eventually(t, "it waits no more", func() bool { return len(a.Status().Waiting) == 0 })
}

// Two sessions and a plain client: nobody sees a cut half applied.
func TestHalfACutIsNeverSeen(t *testing.T) {
	s, a, fs := newAuthorityServer(t, AuthorityConfig{})
	fs.put("d/x", "old")
	d := fs.nodes[1].ents["d"]
	w, o := dialExt(t, s, "writer"), dialExt(t, s, "other")
	g := w.grant(writeElem(d))
	started, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	a.beforeApply = func(uint64, uint64) {}
	fs.setHook(func(_ context.Context, what string, n uint64) error {
		if what == "apply" && n == 2 { // two files of three are there
			once.Do(func() { close(started); <-goOn })
		}
		return nil
	})
	id := w.s.IDs.First
	var recs []cut.Record
	for i := range uint64(3) {
		recs = append(recs, cut.Record{Kind: cut.Create, ID: id + i, Mode: syscall.S_IFREG | 0o644})
	}
	for i := range uint64(3) {
		recs = append(recs, cut.Record{Kind: cut.Bind, Dir: d, Name: fmt.Sprintf("n%d", i), ID: id + i})
	}
	w.start(9, &wire.Tcommit{Cut: 1, Flags: wire.CommitLast, Fence: fenceOf(g), Records: recs})
	<-started
	p := dialRaw(t, s)
	p.walk(0, 1)
	o.start(3, &wire.Tgrant{Elems: []wire.GrantElem{readElem(d), {ID: d, Name: "n0", Mode: 1}}})
	p.sendTag(7, &wire.Twalk{Fid: 1, NewFid: 2, Names: []string{"d", "n0"}})
	w.start(1, &wire.Trecall{})
	eventually(t, "both wait", func() bool { return len(a.Status().Waiting) == 2 })
	o.quiet(3)
	close(goOn)
	if r := w.reply(9).(*wire.Rcommit); r.Status != wire.CommitApplied {
		t.Fatalf("commit: %v", r)
	}
	w.giveBack(recallOf(t, w.reply(1)))
	w.start(2, &wire.Trecall{})
	// The new files are the writer's: it is asked for the one that is wanted.
	if rec := recallOf(t, w.reply(2)); rec.Tokens[0].ID != id {
		t.Errorf("recall: %+v", rec)
	} else {
		w.giveBack(rec)
	}
	if gr, ok := o.reply(3).(*wire.Rgrant); !ok || gr.Tokens[1].ID != id {
		t.Errorf("the other session: %v", gr)
	}
	var wk wire.Rwalk
	p.recv(7, &wk)
	if len(wk.QIDs) != 2 || wk.QIDs[1].Path != id {
		t.Errorf("the plain client: %v", wk)
	}
}

func TestRefusedCutLeavesNoTrace(t *testing.T) {
	s, a, fs := newAuthorityServer(t, AuthorityConfig{MaxCutRecords: 10})
	f := fs.put("f", "old")
	w := dialExt(t, s, "writer")
	g := w.grant(writeElem(1), writeElem(f))
	id := w.s.IDs.First
	create := cut.Record{Kind: cut.Create, ID: id, Mode: syscall.S_IFREG | 0o600}
	for _, c := range []struct {
		what   string
		fence  []cut.Fence
		recs   []cut.Record
		status uint8
		record uint32
		errno  syscall.Errno
	}{
		{"the backend's no", fenceOf(g), []cut.Record{create, {Kind: cut.Bind, Dir: 1, Name: "refuse-me", ID: id}}, wire.CommitRefused, 1, syscall.EDQUOT},
		{"a name", fenceOf(g), []cut.Record{create, {Kind: cut.Bind, Dir: 1, Name: "a/b", ID: id}}, wire.CommitRefused, 1, syscall.EINVAL},
		{"somebody else's id", fenceOf(g), []cut.Record{{Kind: cut.Create, ID: id + 1<<40}}, wire.CommitRefused, 0, syscall.EPERM},
		{"created twice", fenceOf(g), []cut.Record{create, create}, wire.CommitRefused, 1, syscall.EINVAL},
		{"no fence", nil, []cut.Record{{Kind: cut.Data, ID: f, Bytes: []byte("x")}}, wire.CommitFenced, wholeCut, syscall.ESTALE},
		{"an old generation", []cut.Fence{{ID: f, Gen: g.Tokens[1].Gen - 1, Mode: 2}}, []cut.Record{{Kind: cut.Data, ID: f}}, wire.CommitFenced, wholeCut, syscall.ESTALE},
		{"too many records", fenceOf(g), make([]cut.Record, 0, 11), wire.CommitRefused, wholeCut, syscall.E2BIG},
	} {
		if cap(c.recs) == 11 {
			for range 11 {
				c.recs = append(c.recs, cut.Record{Kind: cut.Data, ID: f})
			}
		}
		r := w.commit(1, c.fence, c.recs...)
		if r.Status != c.status || r.Record != c.record || syscall.Errno(r.Errno) != c.errno {
			t.Errorf("%s: %v", c.what, r)
		}
	}
	if len(fs.cuts) != 0 || len(fs.nodes) != 2 {
		t.Errorf("traces: %d cuts, %d objects", len(fs.cuts), len(fs.nodes))
	}
	if r := w.commit(2, fenceOf(g), create); r.Status != wire.CommitOutOfOrder {
		t.Errorf("number 2: %v", r)
	}
	if r := w.commit(1, fenceOf(g), create, cut.Record{Kind: cut.Bind, Dir: 1, Name: "good", ID: id}); r.Status != wire.CommitApplied {
		t.Errorf("number 1: %v", r)
	}
	if r := w.commit(1, fenceOf(g), create); r.Status != wire.CommitApplied || len(fs.cuts) != 1 {
		t.Errorf("sent again: %v, %d cuts", r, len(fs.cuts))
	}
	if st := a.Status(); st.CutsApplied != 1 || st.CutsRefused != 5 {
		t.Errorf("counters: %+v", st)
	}
}

func TestCutInParts(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{MaxCutBytes: 1 << 17})
	f := fs.put("f", "")
	w := dialExt(t, s, "writer")
	g := w.grant(writeElem(f))
	send := func(parts, size int) wire.Message {
		for i := range parts {
			m := &wire.Tcommit{Cut: 1, Part: uint32(i), Records: []cut.Record{{Kind: cut.Data, ID: f, Off: uint64(i * size), Bytes: []byte(strings.Repeat(string(rune('a'+i)), size))}}}
			if i == parts-1 {
				m.Flags, m.Fence = wire.CommitLast, fenceOf(g)
			}
			w.start(uint16(100+i), m)
		}
		for i := range parts - 1 {
			r := w.reply(uint16(100 + i)).(*wire.Rcommit)
			if r.Status == wire.CommitRefused {
				for j := i + 1; j < parts; j++ {
					if got := w.reply(uint16(100 + j)).(*wire.Rcommit); got.Status != wire.CommitRefused {
						t.Errorf("part %d after a refused one: %v", j, got)
					}
				}
				return r
			}
			if r.Status != wire.CommitAccepted {
				t.Errorf("part %d: %v", i, r)
			}
		}
		return w.reply(uint16(100 + parts - 1))
	}
	if r := send(6, 40_000).(*wire.Rcommit); r.Status != wire.CommitRefused || syscall.Errno(r.Errno) != syscall.E2BIG {
		t.Errorf("too large: %v", r)
	}
	if len(fs.nodes[f].data) != 0 {
		t.Error("a part of a refused cut was applied")
	}
	if r := send(3, 40_000).(*wire.Rcommit); r.Status != wire.CommitApplied {
		t.Errorf("in parts: %v", r)
	}
	if d := fs.nodes[f].data; len(d) != 120_000 || d[0] != 'a' || d[119_999] != 'c' {
		t.Errorf("%d bytes", len(d))
	}
	if r := w.do(&wire.Tcommit{Cut: 2, Part: 1, Flags: wire.CommitLast}).(*wire.Rcommit); r.Status != wire.CommitRefused {
		t.Errorf("a cut without its first part: %v", r)
	}
}

// So does one of a directory that a cut creates which is not applied yet when the move comes in.
func TestMoveOfWhatIsBeingMadeNeedsDirmove(t *testing.T) {
	s, a, fs := newAuthorityServer(t, AuthorityConfig{})
	fs.put("a/f", "")
	fs.put("b/f", "")
	from, to := fs.nodes[1].ents["a"], fs.nodes[1].ents["b"]
	w := dialExt(t, s, "writer")
	g := w.grant(writeElem(from), writeElem(to))
	made := w.s.IDs.First
	hold := make(chan struct{})
	a.beforeApply = func(_, number uint64) {
		if number == 1 {
			<-hold
		}
	}
	w.start(1, &wire.Tcommit{Cut: 1, Flags: wire.CommitLast, Fence: fenceOf(g), Records: []cut.Record{
		{Kind: cut.Create, ID: made, Mode: 0o040755}, {Kind: cut.Bind, Dir: from, Name: "x", ID: made},
	}})
	fence := append(fenceOf(g), cut.Fence{ID: made, Gen: w.s.IDs.Gen, Mode: 2})
	w.start(2, &wire.Tcommit{Cut: 2, Flags: wire.CommitLast, Fence: fence, Records: []cut.Record{
		{Kind: cut.Bind, Dir: from, Name: "x", Before: made}, {Kind: cut.Bind, Dir: to, Name: "x", ID: made},
	}})
	if r, ok := w.do(&wire.Trenew{}).(*wire.Rrenew); !ok { // so that both have come in
		t.Fatalf("renew: %v", r)
	}
	close(hold)
	if r := w.reply(1).(*wire.Rcommit); r.Status != wire.CommitApplied {
		t.Fatalf("the first cut: %v", r)
	}
	if r := w.reply(2).(*wire.Rcommit); r.Status != wire.CommitFenced || r.ID != 0 {
		t.Errorf("the move without dirmove: %v", r)
	}
}

// A rename of a directory into another one needs dirmove.
func TestDirectoryMoveNeedsDirmove(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	fs.put("a/sub/f", "")
	fs.put("b/f", "")
	a, b := fs.nodes[1].ents["a"], fs.nodes[1].ents["b"]
	sub := fs.nodes[a].ents["sub"]
	w := dialExt(t, s, "writer")
	g := w.grant(writeElem(a), writeElem(b), writeElem(sub))
	recs := []cut.Record{{Kind: cut.Bind, Dir: a, Name: "sub", Before: sub}, {Kind: cut.Bind, Dir: b, Name: "sub", ID: sub}}
	if r := w.commit(1, fenceOf(g), recs...); r.Status != wire.CommitFenced || r.ID != 0 {
		t.Errorf("without dirmove: %v", r)
	}
	// A plain move of a directory takes it, from who has it.
	w.start(1, &wire.Trecall{})
	dm := w.grant(writeElem(0))
	p := dialRaw(t, s)
	p.walk(0, 1)
	p.ok(&wire.Tmkdir{Dfid: 0, Name: "x", Mode: 0o755}, &wire.Rmkdir{})
	p.walk(0, 2, "x")
	p.ok(&wire.Tmkdir{Dfid: 2, Name: "y", Mode: 0o755}, &wire.Rmkdir{})
	p.sendTag(8, &wire.Trenameat{OldDfid: 2, OldName: "y", NewDfid: 0, NewName: "y"})
	rec := recallOf(t, w.reply(1))
	if len(rec.Tokens) != 1 || rec.Tokens[0].ID != 0 || rec.Tokens[0].Gen != dm.Tokens[0].Gen {
		t.Errorf("recall: %+v", rec)
	}
	w.giveBack(rec)
	p.recv(8, &wire.Rrenameat{})
	g = w.grant(writeElem(a), writeElem(b), writeElem(sub), writeElem(0))
	if r := w.commit(1, fenceOf(g), recs...); r.Status != wire.CommitApplied {
		t.Errorf("with dirmove: %v", r)
	}
}

// Sessions with the extension make no plain updates; their reads are let in by what they hold.
func TestSessionsPlainMessages(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	f := fs.put("f", "hello")
	c := dialExt(t, s, "a")
	var b wire.Rbind
	c.ok(&wire.Tbind{Fid: 1, ID: 1, Flags: wire.BindNoOpen}, &b)
	c.ok(&wire.Tbind{Fid: 2, ID: f, Flags: wire.ORdwr}, &b)
	if b.QID.Path != f || b.Lease == 0 {
		t.Errorf("bind: %+v", b)
	}
	for _, m := range []wire.Message{
		&wire.Tmkdir{Dfid: 1, Name: "x"}, &wire.Twrite{Fid: 2, Data: []byte("x")}, &wire.Tunlinkat{Dfid: 1, Name: "f"},
		&wire.Tsetattr{Fid: 2}, &wire.Tlcreate{Fid: 1, Name: "x"}, &wire.Txattrcreate{Fid: 1, Name: "user.x"}, &wire.Tremove{Fid: 1},
		&wire.Tlopen{Fid: 1, Flags: wire.OTrunc}, &wire.Tbind{Fid: 9, ID: f, Flags: wire.OTrunc},
	} {
		c.fails(m, syscall.EOPNOTSUPP)
	}
	c.fails(&wire.Tbind{Fid: 2, ID: f, Flags: wire.BindNoOpen}, syscall.EINVAL)
	c.fails(&wire.Tbind{Fid: 3, ID: 12345, Flags: wire.BindNoOpen}, syscall.ESTALE)
	c.grant(writeElem(f))
	var r wire.Rread
	c.ok(&wire.Tread{Fid: 2, Count: 9}, &r) // its own write token does not stand in the way
	if string(r.Data) != "hello" {
		t.Errorf("read %q", r.Data)
	}
	// Before Tsession nothing goes.
	raw := dialServer(t, s)
	raw.version(1<<16, wire.ExtVersion)
	raw.fails(&wire.Tattach{Fid: 0, Afid: wire.NoFid}, syscall.EPROTO)
	raw.fails(&wire.Trenew{}, syscall.ESTALE)
}

func TestReaddirplus(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	for i := range 100 {
		fs.put(fmt.Sprintf("d/f%03d", i), strings.Repeat("x", i))
	}
	d := fs.nodes[1].ents["d"]
	h, c := dialExt(t, s, "holder"), dialExt(t, s, "reader")
	held := fs.nodes[d].ents["f007"]
	h.grant(writeElem(held)) // is in the way of one entry, which is listed without a token
	cookie, seen, rounds := uint64(0), map[string]bool{}, 0
	for eof := false; !eof; rounds++ {
		r, ok := c.do(&wire.Treaddirplus{Count: 8192, Inline: 64, Dirs: []wire.DirRead{{ID: d, Cookie: cookie}}}).(*wire.Rreaddirplus)
		if !ok || len(r.Dirs) != 1 || r.Dirs[0].Gen == 0 || len(wire.AppendFrame(nil, 1, r)) > 8192 {
			t.Fatalf("readdirplus: %v", r)
		}
		for _, e := range r.Dirs[0].Entries {
			n := 0
			fmt.Sscanf(e.Name, "f%03d", &n)
			switch {
			case e.QID.Path == held:
				if e.Token.Gen != 0 || e.Token.Flags != 0 {
					t.Errorf("a token that another holds: %+v", e)
				}
			case e.Token.Mode != 1 || e.Token.Gen == 0 || e.Token.Flags&wire.GrantedAttr == 0 || e.Token.Attr.Size != uint64(n):
				t.Errorf("%s: %+v", e.Name, e.Token)
			case e.Token.Flags&wire.GrantedInline != 0 && len(e.Token.Inline) != n:
				t.Errorf("%s: %d bytes inline", e.Name, len(e.Token.Inline))
			}
			seen[e.Name], cookie = true, e.Offset
		}
		eof = r.Dirs[0].EOF
	}
	if len(seen) != 100 || rounds < 2 {
		t.Errorf("%d entries in %d rounds", len(seen), rounds)
	}
}

// A session ends at its client's wish, when it begins anew, and when its lease is over and somebody wants what it holds.
func TestSessionEnds(t *testing.T) {
	now := newClock()
	s, a, fs := newAuthorityServer(t, AuthorityConfig{
		Lease: 10 * time.Second, RecallDeadline: 20 * time.Millisecond, Courtesy: time.Minute, Clock: now.Load,
	})
	f := fs.put("f", "old")
	p := dialRaw(t, s)
	p.walk(0, 1, "f")

	w := dialExt(t, s, "clean")
	w.grant(writeElem(f))
	p.sendTag(5, &wire.Tgetattr{Fid: 1})
	if r, ok := w.do(&wire.Tsession{Flags: wire.SessionEnd}).(*wire.Rsession); !ok {
		t.Errorf("end: %v", r)
	}
	p.recv(5, &wire.Rgetattr{})
	if m, ok := w.do(&wire.Trenew{}).(*wire.Rlerror); !ok || syscall.Errno(m.Errno) != syscall.ESTALE {
		t.Errorf("renew after the end: %v", m)
	}

	w = dialExt(t, s, "deaf")
	w.grant(writeElem(f))
	p.sendTag(6, &wire.Tgetattr{Fid: 1}) // the lease is waited out
	eventually(t, "the plain client waits", func() bool { return len(a.Status().Waiting) == 1 })
	now.Add(int64(9 * time.Second))
	if p.comes() {
		t.Error("taken within the lease")
	}
	now.Add(int64(2 * time.Second))
	p.recv(6, &wire.Rgetattr{})
	if r := w.commit(1, []cut.Fence{{ID: f, Gen: 1, Mode: 2}}, cut.Record{Kind: cut.Data, ID: f, Bytes: []byte("late")}); r.Status != wire.CommitFenced {
		t.Errorf("a cut under a lost token: %v", r)
	}
	if r, ok := w.do(&wire.Trenew{}).(*wire.Rrenew); !ok || !r.Resume || r.Lease != 0 {
		t.Errorf("renew after the lease: %v", r)
	}
	// It resumes, and learns what it lost.
	m := &wire.Tsession{Flags: wire.SessionResume, Name: "deaf"}
	copy(m.Client[:], "deaf")
	if r, ok := w.do(m).(*wire.Rlerror); !ok || syscall.Errno(r.Errno) != syscall.EPERM {
		t.Errorf("resume with a wrong secret: %v", r)
	}
	copy(m.Secret[:], "secret of deaf")
	r, ok := w.do(m).(*wire.Rsession)
	if !ok || r.Flags&wire.SessionResume == 0 || len(r.Lost) != 1 || r.Lost[0].ID != f || r.Lost[0].Left != 1 {
		t.Fatalf("resume: %v", r)
	}
	w.nc.Close()
	eventually(t, "its client is away", func() bool { return !a.Status().Sessions[0].Connected })
	now.Add(int64(2 * time.Minute))
	eventually(t, "the session is forgotten", func() bool { return len(a.Status().Sessions) == 0 })
	eventually(t, "the backend knows", func() bool { fs.mu.Lock(); defer fs.mu.Unlock(); return len(fs.ended) == 2 })
	if a.gate.managed.Load() {
		t.Error("plain operations still ask the manager")
	}
}

// A session resumes on another connection; the old one is thrown away.
func TestResumeElsewhere(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	f := fs.put("f", "old")
	w := dialExt(t, s, "mover")
	g := w.grant(writeElem(f))
	if r := w.commit(1, fenceOf(g), cut.Record{Kind: cut.Data, ID: f, Bytes: []byte("one")}); r.Status != wire.CommitApplied {
		t.Fatal(r)
	}
	n := &extClient{rawClient: dialServer(t, s), got: map[uint16]wire.Message{}}
	n.version(1<<16, wire.ExtVersion)
	m := &wire.Tsession{Flags: wire.SessionResume, Name: "mover"}
	copy(m.Client[:], "mover")
	copy(m.Secret[:], "secret of mover")
	r, ok := n.do(m).(*wire.Rsession)
	if !ok || r.Session != w.s.Session || r.LastCut != 1 || len(r.Lost) != 0 {
		t.Fatalf("resume: %v", r)
	}
	w.hungUp()
	if r := n.commit(2, fenceOf(g), cut.Record{Kind: cut.Data, ID: f, Bytes: []byte("two")}); r.Status != wire.CommitApplied {
		t.Errorf("under the token held all the time: %v", r)
	}
}

// Returning a token with "open here" keeps the object when somebody unlinks it.
func TestReturnOpenKeeps(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	f := fs.put("f", "kept")
	c := dialExt(t, s, "opener")
	c.ok(&wire.Tbind{Fid: 1, ID: f, Flags: wire.ORdonly}, &wire.Rbind{})
	c.clunk(1)
	c.grant(readElem(f))
	c.start(1, &wire.Trecall{})
	p := dialRaw(t, s)
	p.sendTag(5, &wire.Tunlinkat{Dfid: 0, Name: "f"})
	rec := recallOf(t, c.reply(1))
	if len(rec.Tokens) != 1 || rec.Tokens[0].Why != wire.WhyUnlink {
		t.Fatalf("recall: %+v", rec)
	}
	if _, ok := c.do(&wire.Treturn{Tokens: []wire.ReturnElem{{ID: f, Gen: rec.Tokens[0].Gen, Flags: wire.ReturnOpen}}}).(*wire.Rreturn); !ok {
		t.Fatal("return refused")
	}
	p.recv(5, &wire.Runlinkat{})
	g := c.grant(readElem(f))
	if string(g.Tokens[0].Inline) != "kept" {
		t.Errorf("after the unlink: %+v", g.Tokens[0])
	}
	c.do(&wire.Tsession{Flags: wire.SessionEnd})
	eventually(t, "the object is gone with the session", func() bool { fs.mu.Lock(); defer fs.mu.Unlock(); return fs.nodes[f] == nil })
}

// A flushed Trecall is not answered, and the recall goes to the next one.
func TestFlushOfTrecall(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	f := fs.put("f", "")
	c := dialExt(t, s, "a")
	c.grant(writeElem(f))
	c.start(1, &wire.Trecall{})
	c.start(2, &wire.Tflush{OldTag: 1})
	if _, ok := c.reply(2).(*wire.Rflush); !ok {
		t.Fatal("no Rflush")
	}
	p := dialRaw(t, s)
	p.walk(0, 1, "f")
	p.sendTag(5, &wire.Tgetattr{Fid: 1})
	c.quiet(1)
	c.start(3, &wire.Trecall{})
	c.giveBack(recallOf(t, c.reply(3)))
	p.recv(5, &wire.Rgetattr{})
	// A Tgrant that waits is withdrawn by Tflush.
	d := dialExt(t, s, "b")
	c.grant(writeElem(f))
	d.start(7, &wire.Tgrant{Elems: []wire.GrantElem{writeElem(f)}})
	d.quiet(7)
	d.start(8, &wire.Tflush{OldTag: 7})
	if _, ok := d.reply(8).(*wire.Rflush); !ok || d.got[7] != nil {
		t.Error("a flushed Tgrant is answered")
	}
}

// partsKeepOrder sends cuts in parts, while the lead is handed on as often as can be: who has the lead with one of the parts is kept from going on
// until another has done the next one, or waits for it.
func partsKeepOrder(t *testing.T, noTurns bool) bool {
	fs := newMemCommitter()
	a := NewAuthority(AuthorityConfig{Backend: fs, Lease: time.Hour})
	defer a.Close()
	s := New(Config{Backend: fs, Authority: a, HandOff: 10 * time.Microsecond})
	s.noTurns = noTurns
	f := fs.put("f", "")
	w := dialExt(t, s, "writer")
	g := w.grant(writeElem(f))
	const parts = 8
	sc := s.snapshot(nil)[0]
	ok := true
	for n := uint64(1); n <= 100 && ok; n++ {
		late := 100 + uint16(n)%parts
		sc.mu.Lock()
		next := sc.turns + uint64(late-100) + 2
		goOn := make(chan struct{})
		s.atTurn = func(tag uint16) {
			if tag == late {
				<-goOn
			}
		}
		sc.mu.Unlock()
		var b []byte
		for i := range uint32(parts) {
			m := &wire.Tcommit{Cut: n, Part: i, Records: []cut.Record{{Kind: cut.Data, ID: f, Off: uint64(i), Bytes: []byte(strings.Repeat("x", 4000))}}}
			if i == parts-1 {
				m.Flags, m.Fence = wire.CommitLast, fenceOf(g)
			}
			b = wire.AppendFrame(b, uint16(100+i), m)
		}
		w.sendRaw(b)
		if late < 100+parts-1 {
			eventually(t, "the next part is done, or waits", func() bool {
				sc.mu.Lock()
				defer sc.mu.Unlock()
				return sc.turnsDone >= next || sc.waiting > 0
			})
		}
		close(goOn)
		for i := range uint16(parts) {
			r := w.reply(100 + i).(*wire.Rcommit)
			ok = ok && (r.Status == wire.CommitAccepted || r.Status == wire.CommitApplied)
		}
	}
	return ok
}

// The lead may be handed on in the middle of a part: parts are taken in the order of their arrival all the same.
func TestPartsKeepTheirOrder(t *testing.T) {
	if !partsKeepOrder(t, false) {
		t.Error("a part overtook another")
	}
	if partsKeepOrder(t, true) {
		t.Error("a server that does not keep the order passes")
	}
}

// doubtful is a Committer whose log fails.
type doubtful struct{ *memCommitter }

func (doubtful) Apply(context.Context, *Cred, *cut.Cut) error {
	return fmt.Errorf("%w: %w", ErrInDoubt, syscall.EIO)
}

// A cut of which nobody knows whether it will be there is not answered: not as applied, and not as refused.
func TestCutInDoubt(t *testing.T) {
	fs := newMemCommitter()
	fs.put("f", "old")
	a := NewAuthority(AuthorityConfig{Backend: doubtful{fs}, Logf: t.Logf})
	t.Cleanup(a.Close)
	s := New(Config{Backend: fs, Authority: a, Logf: t.Logf})
	w := dialExt(t, s, "writer")
	f := fs.nodes[1].ents["f"]
	g := w.grant(writeElem(f))
	w.start(1, &wire.Tcommit{Cut: 1, Flags: wire.CommitLast, Fence: fenceOf(g), Records: []cut.Record{{Kind: cut.Data, ID: f, Bytes: []byte("new")}}})
	if err := w.nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(w.nc); err != nil || len(b) > 0 {
		t.Errorf("the answer is %x, %v; want the end of the connection", b, err)
	}
}
