package p9srv

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
)

// dialStatus is a plain client on the status tree, as fid 0.
func dialStatus(t testing.TB, s *Server) *rawClient {
	t.Helper()
	c := dialServer(t, s)
	c.version(1<<16, wire.Version9P)
	c.ok(&wire.Tattach{Fid: 0, Afid: wire.NoFid, UID: wire.NoUID, Aname: StatusAname}, &wire.Rattach{})
	return c
}

// readFile reads a file of the root, fid 0, whole.
func (c *rawClient) readFile(name string) string {
	c.t.Helper()
	c.walk(0, 9, name)
	c.ok(&wire.Tlopen{Fid: 9}, &wire.Rlopen{})
	var all bytes.Buffer
	for {
		var r wire.Rread
		c.ok(&wire.Tread{Fid: 9, Offset: uint64(all.Len()), Count: 4096}, &r)
		if len(r.Data) == 0 {
			c.clunk(9)
			return all.String()
		}
		all.Write(r.Data)
	}
}

// Who waits for whom, for what and for how long can be read by a plain client, while it lasts.
func TestStatusTreeTellsWhoWaits(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	f := fs.put("f", "old")
	w := dialExt(t, s, "writer")
	w.start(1, &wire.Trecall{})
	w.grant(writeElem(f))
	p := dialRaw(t, s)
	p.walk(0, 1, "f")
	p.sendTag(5, &wire.Tlopen{Fid: 1})
	rec := recallOf(t, w.reply(1))

	c := dialStatus(t, s)
	var st Status
	if err := json.Unmarshal([]byte(c.readFile("status.json")), &st); err != nil {
		t.Fatal(err)
	}
	if len(st.Sessions) != 1 || st.Sessions[0].Name != "writer" || !st.Sessions[0].Connected || st.Sessions[0].Left <= 0 || st.Sessions[0].Left > st.Lease || st.Sessions[0].Writes != 1 || st.Sessions[0].Recalled != 1 {
		t.Errorf("sessions: %+v", st.Sessions)
	}
	if len(st.Waiting) != 1 || len(st.Waiting[0].For) != 1 || st.Waiting[0].For[0] != w.s.Session ||
		len(st.Waiting[0].Wants) != 1 || st.Waiting[0].Wants[0].Object != f || st.Waiting[0].Wants[0].Path != "/f" || st.Waiting[0].Since <= 0 {
		t.Errorf("waiting: %+v", st.Waiting)
	}
	text := c.readFile("status")
	for _, want := range []string{"for read of /f: session 1 (writer) has it", "1 wanted back for", "1 tokens, 1 for writing"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	w.giveBack(rec)
	p.recv(5, &wire.Rlopen{})
	if text := c.readFile("status"); strings.Contains(text, "waiting") {
		t.Errorf("nobody waits any more:\n%s", text)
	}
}

// The tree can be listed, is read-only, and leads nowhere else.
func TestStatusTreeIsReadOnly(t *testing.T) {
	s, _, fs := newAuthorityServer(t, AuthorityConfig{})
	fs.put("f", "")
	c := dialStatus(t, s)
	c.walk(0, 1)
	c.ok(&wire.Tlopen{Fid: 1, Flags: wire.ODirectory}, &wire.Rlopen{})
	var r wire.Rreaddir
	c.ok(&wire.Treaddir{Fid: 1, Count: 4096}, &r)
	for _, name := range []string{"status", "status.json", "events", "deaths"} {
		if !bytes.Contains(r.Data, []byte(name)) {
			t.Errorf("%q is not listed", name)
		}
	}
	c.ok(&wire.Treaddir{Fid: 1, Offset: 6, Count: 4096}, &r)
	if len(r.Data) != 0 {
		t.Errorf("entries after the last: %q", r.Data)
	}
	c.walk(0, 2, "..", "status")
	c.fails(&wire.Tlopen{Fid: 2, Flags: wire.OWronly}, syscall.EROFS)
	c.fails(&wire.Tlopen{Fid: 2, Flags: wire.OTrunc}, syscall.EROFS)
	c.fails(&wire.Twalk{Fid: 0, NewFid: 3, Names: []string{"f"}}, syscall.ENOENT)
	c.fails(&wire.Tmkdir{Dfid: 0, Name: "d"}, syscall.EROFS)
	c.fails(&wire.Tunlinkat{Dfid: 0, Name: "status"}, syscall.EROFS)
	c.fails(&wire.Tsetattr{Fid: 2, SetAttr: wire.SetAttr{Valid: wire.SetMode}}, syscall.EROFS)
	// Nothing of it gets into an export, nor the other way round.
	c.ok(&wire.Tattach{Fid: 4, Afid: wire.NoFid, UID: wire.NoUID}, &wire.Rattach{})
	for _, m := range []wire.Message{
		&wire.Tlink{Dfid: 4, Fid: 2, Name: "l"}, &wire.Tlink{Dfid: 0, Fid: 4, Name: "l"},
		&wire.Trenameat{OldDfid: 0, OldName: "status", NewDfid: 4, NewName: "s"},
		&wire.Trenameat{OldDfid: 4, OldName: "f", NewDfid: 0, NewName: "f"},
	} {
		c.sendTag(7, m)
		if _, reply := c.next(); rlerrno(reply) == 0 {
			t.Errorf("%v is answered %v", m, reply)
		}
	}
}

// A session that ends with work pending is an event, for its user and those who see all.
func TestStatusTreeEvents(t *testing.T) {
	s, a, _ := newAuthorityServer(t, AuthorityConfig{})
	w := dialExt(t, s, "writer")
	w.ok(&wire.Trenew{Flags: wire.RenewPending}, &wire.Rrenew{})
	w.nc.Close()
	dialExt(t, s, "writer") // its client begins anew
	quiet := dialExt(t, s, "quiet")
	quiet.ok(&wire.Tsession{Flags: wire.SessionEnd}, &wire.Rsession{})
	c := dialStatus(t, s)
	if text := c.readFile("events"); strings.Count(text, "\n") != 1 || !strings.Contains(text, "session 1 (writer) died with work pending") {
		t.Errorf("events:\n%s", text)
	}
	for uid, want := range map[uint32]int{0: 1, uint32(os.Geteuid()): 1, 54321: 0} {
		if n := len(a.StatusFor(context.Background(), &Cred{UID: uid}).Events); n != want {
			t.Errorf("user %d sees %d events, want %d", uid, n, want)
		}
	}
}

// Users see their own sessions and who is in the way of those; of others only how many they are.
func TestStatusIsForWhomItConcerns(t *testing.T) {
	st := Status{
		Sessions: []SessionStatus{{ID: 1, UID: 1000, Name: "mine"}, {ID: 2, UID: 1001, Name: "secret"}},
		Waiting: []WaitStatus{
			{Session: 1, Who: "mine", Since: time.Second, Wants: []WantStatus{{Object: 7, Mode: "write"}}, For: []uint64{2}},
			{Session: 2, Who: "secret", Since: time.Second, Wants: []WantStatus{{Object: 8, Mode: "write"}}, For: []uint64{1}},
			{Who: "secret", Wants: []WantStatus{{Object: 9, Mode: "read"}}, For: []uint64{2}},
		},
	}
	st.only(1000)
	if len(st.Sessions) != 1 || st.Sessions[0].Name != "mine" || st.Others != 1 {
		t.Errorf("sessions: %+v, %d others", st.Sessions, st.Others)
	}
	text := st.String()
	if strings.Contains(text, "secret") || !strings.Contains(text, "object 7: session 2 has it") {
		t.Errorf("of others:\n%s", text)
	}
}

// What clients call themselves does nothing to a terminal.
func TestStatusTextIsPrintable(t *testing.T) {
	evil := "\x1b[2J\nno. 9"
	st := Status{
		Sessions: []SessionStatus{{ID: 1, Name: evil}},
		Waiting:  []WaitStatus{{Session: 1, Who: evil, For: []uint64{1}, Wants: []WantStatus{{Object: 7, Path: evil, Name: evil}}}},
		Events:   []Event{{Text: evil}},
	}
	for line := range strings.Lines(st.String()) {
		if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\n") || strings.HasPrefix(line, "no. 9") {
			t.Errorf("line %q", line)
		}
	}
}

// The status can be read while an update waits for a session that does not answer, and while the
// object that is read is what somebody waits for: nothing of it needs a token.
func TestStatusNeedsNoToken(t *testing.T) {
	s, a, _ := newAuthorityServer(t, AuthorityConfig{})
	w := dialExt(t, s, "writer")
	w.grant(wire.GrantElem{ID: 1, Mode: 2}) // the root, and it posts no Trecall
	before := a.Status().PlainAsked
	c := dialStatus(t, s)
	c.readFile("status")
	var r wire.Rgetattr
	c.ok(&wire.Tgetattr{Fid: 0, Mask: wire.GetAll}, &r)
	if n := a.Status().PlainAsked; n != before {
		t.Errorf("%d tokens were asked for", n-before)
	}
}

// PathOf implements Pather, for what lies in the root.
func (m *memCommitter) PathOf(_ context.Context, id uint64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, have := range m.nodes[1].ents {
		if have == id {
			return "/" + name
		}
	}
	return ""
}

// A user learns which of his sessions died with work pending, until he has said that he knows; others learn nothing of it.
func TestStatusTreeDeaths(t *testing.T) {
	now := newClock()
	s, a, _ := newAuthorityServer(t, AuthorityConfig{Lease: 10 * time.Second, RecallDeadline: 10 * time.Millisecond, Clock: now.Load})
	w := dialExt(t, s, "writer")
	w.ok(&wire.Trenew{Flags: wire.RenewPending}, &wire.Rrenew{})
	w.nc.Close()
	now.Add(int64(11 * time.Second))
	eventually(t, "its lease is over", func() bool { return len(a.Deaths(w.s.UID)) == 1 })
	c := dialStatus(t, s)
	var d Death
	if err := json.Unmarshal([]byte(c.readFile("deaths")), &d); err != nil || d.Session != w.s.Session || d.Name != "writer" {
		t.Fatalf("deaths: %+v, %v", d, err)
	}
	told := func(line string, want syscall.Errno) {
		t.Helper()
		c.walk(0, 7, "deaths")
		c.ok(&wire.Tlopen{Fid: 7, Flags: wire.OWronly}, &wire.Rlopen{})
		c.sendTag(8, &wire.Twrite{Fid: 7, Data: []byte(line)})
		if _, m := c.next(); syscall.Errno(rlerrno(m)) != want {
			t.Errorf("%q is answered %v", line, m)
		}
		c.clunk(7)
	}
	told("17\n", syscall.ENOENT)
	told("x\n", syscall.EINVAL)
	if err := deathTold(a, &Cred{UID: 54321}, "1"); err != syscall.ENOENT {
		t.Errorf("another user says that he knows: %v", err)
	}
	if text := deathsText(context.Background(), a, &Cred{UID: 54321}); len(text) > 0 {
		t.Errorf("another user learns %s", text)
	}
	if c.readFile("deaths") == "" {
		t.Error("it is forgotten though nobody was told")
	}
	told("1\n", 0)
	if text := c.readFile("deaths"); text != "" {
		t.Errorf("it is told again: %s", text)
	}
}
