package badinput

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/cut"
	"echo9/internal/wire"
)

const (
	readMode, writeMode = uint8(1), uint8(2)
	noObject            = uint64(1)<<52 + 12345
)

func want(id uint64, mode uint8) wire.GrantElem { return wire.GrantElem{ID: id, Mode: mode} }

// badSessions: sessions that are opened twice, stolen, ended by others, and left behind by hundreds.
func badSessions(t *testing.T, v victim) {
	p := plain(t, v.addr) // without the extension its messages are unknown
	for _, m := range []wire.Message{opening("p"), &wire.Tgrant{}, &wire.Trecall{}, &wire.Treturn{}, &wire.Tcommit{Flags: wire.CommitLast}, &wire.Treaddirplus{}, &wire.Trenew{}, &wire.Tbind{Fid: 9}} {
		p.refused(m, syscall.EOPNOTSUPP, syscall.ENOSYS)
	}
	c := dial(t, v.addr, 1<<16, wire.ExtVersion) // before Tsession
	for _, m := range []wire.Message{
		&wire.Tgrant{Elems: []wire.GrantElem{want(1, readMode)}}, &wire.Tgrant{}, &wire.Trecall{}, &wire.Treturn{}, &wire.Tcommit{Flags: wire.CommitLast},
		&wire.Treaddirplus{Dirs: []wire.DirRead{{ID: 1}}}, &wire.Trenew{}, &wire.Tsession{Flags: wire.SessionEnd}, &wire.Tsession{Flags: 1 << 31},
	} {
		c.refused(m)
	}
	owner := session(t, v.addr, "owner", 0)
	root := owner.s.Root.Path
	held := owner.grant(want(root, writeMode))
	owner.refused(opening("owner", 0), syscall.EBUSY)
	owner.refused(opening("another", 0), syscall.EBUSY)
	for _, flags := range []uint32{0, wire.SessionResume, wire.SessionResume | wire.SessionAnyUser} { // without its secret
		thief := opening("owner", 0)
		thief.Secret[3] ^= 1
		thief.Flags = flags
		c.refused(thief, syscall.EPERM)
	}
	many := opening("many", make([]uint32, 10_000)...)
	if r := c.do(many); r.Type() == wire.TypeRsession {
		c.ok(&wire.Tsession{Flags: wire.SessionEnd})
	}
	c.refused(&wire.Tsession{Name: strings.Repeat("n", 1000), Aname: "../../etc"})
	// The owner has what it had.
	id := owner.s.IDs.First
	if r := owner.commit(1, fence(held), cut.Record{Kind: cut.Attr, ID: root, Valid: cut.AttrAtime, Atime: 1e18}); r.Status != wire.CommitApplied {
		t.Errorf("the owner's cut: %v", r)
	}
	if owner.s.IDs.Count == 0 || id == 0 {
		t.Errorf("no ids: %+v", owner.s.IDs)
	}
	owner.ok(&wire.Tsession{Flags: wire.SessionEnd})
	for i := range 300 { // and are left
		c := session(t, v.addr, fmt.Sprint("left ", i), 0)
		c.send(1, &wire.Trecall{})
		c.send(2, &wire.Tgrant{Elems: []wire.GrantElem{want(root, readMode)}})
		c.nc.Close()
	}
	plain(t, v.addr).ok(&wire.Tgetattr{Fid: 0, Mask: wire.GetBasic})
}

// badCommits: cuts with ids, tokens, users and values that their session has no right to.
func badCommits(t *testing.T, v victim) {
	p := plain(t, v.addr)
	file, sub := p.walk(0, 1, "sub", "file"), p.walk(0, 2, "sub")
	other := session(t, v.addr, "other", 0)
	theirs := other.grant(want(file, writeMode))
	c := session(t, v.addr, "liar", 0, 1000)
	root := c.s.Root.Path
	mine := c.grant(want(root, writeMode), want(sub, writeMode))
	f, id := fence(mine), c.s.IDs.First
	reg := cut.Record{Kind: cut.Create, ID: id, Mode: syscall.S_IFREG | 0o644}
	bind := func(dir uint64, name string, id, before uint64) cut.Record {
		return cut.Record{Kind: cut.Bind, Dir: dir, Name: name, ID: id, Before: before}
	}
	born := func(r ...cut.Record) []cut.Record { return append([]cut.Record{reg, bind(root, "new", id, 0)}, r...) }
	forged := func(change func(*cut.Fence)) []cut.Fence {
		g := append([]cut.Fence{}, f...)
		change(&g[1])
		return g
	}
	as := func(uid uint32, r cut.Record) cut.Record { r.UID = uid; return r }
	number := uint64(1)
	for _, bad := range []struct {
		what    string
		fence   []cut.Fence
		records []cut.Record
	}{
		{"an id of another session", f, []cut.Record{{Kind: cut.Create, ID: other.s.IDs.First, Mode: syscall.S_IFREG}}},
		{"an id that nobody was given", f, []cut.Record{{Kind: cut.Create, ID: noObject, Mode: syscall.S_IFREG}}},
		{"an id past the range", f, []cut.Record{{Kind: cut.Create, ID: id + c.s.IDs.Count, Mode: syscall.S_IFREG}}},
		{"the id of an object", f, []cut.Record{{Kind: cut.Create, ID: sub, Mode: syscall.S_IFREG}}},
		{"id 0", f, []cut.Record{{Kind: cut.Create, ID: 0, Mode: syscall.S_IFREG}}},
		{"created twice", f, []cut.Record{reg, reg}},
		{"of no type", f, []cut.Record{{Kind: cut.Create, ID: id, Mode: 0o644}, bind(root, "x", id, 0)}},
		{"of a type that there is not", f, []cut.Record{{Kind: cut.Create, ID: id, Mode: 0o170000}, bind(root, "x", id, 0)}},
		{"a socket of a directory", f, []cut.Record{{Kind: cut.Create, ID: id, Mode: syscall.S_IFREG}, bind(id, "x", id, 0)}},
		{"a symlink without a target", f, []cut.Record{{Kind: cut.Create, ID: id, Mode: syscall.S_IFLNK}, bind(root, "x", id, 0)}},
		{"a bound object that there is not", append([]cut.Fence{{ID: noObject, Gen: 1, Mode: 2}}, f...), []cut.Record{bind(root, "x", noObject, 0)}},
		{"a name that was another", f, born(bind(root, "sub", 0, noObject))},
		{"a name that was not there", f, born(bind(root, "nope", 0, sub))},
		{"a name that is there, said not to be", f, []cut.Record{reg, bind(root, "sub", id, 0)}},
		{"a directory that is not empty", f, []cut.Record{bind(root, "sub", 0, sub)}},
		{"a directory into itself", append([]cut.Fence{{ID: 0, Gen: 1, Mode: 2}}, f...), []cut.Record{bind(root, "sub", 0, sub), bind(sub, "sub", sub, 0)}},
		{"without dirmove", f, []cut.Record{{Kind: cut.Create, ID: id, Mode: syscall.S_IFDIR | 0o755}, bind(root, "d", id, 0), bind(root, "sub", 0, sub), bind(id, "sub", sub, 0)}},
		{"a name with a slash", f, []cut.Record{reg, bind(root, "a/b", id, 0)}},
		{"a name ..", f, []cut.Record{reg, bind(root, "..", id, 0)}},
		{"a name with NUL", f, []cut.Record{reg, bind(root, "a\x00b", id, 0)}},
		{"no name", f, []cut.Record{reg, bind(root, "", id, 0)}},
		{"a long name", f, []cut.Record{reg, bind(root, strings.Repeat("n", 256), id, 0)}},
		{"the private directory", f, []cut.Record{reg, bind(root, ".echo9", id, 0)}},
		{"a user that may not", f, []cut.Record{as(1001, reg), bind(root, "x", id, 0)}},
		{"no user", f, []cut.Record{as(wire.NoUID, reg), bind(root, "x", id, 0)}},
		{"a user without the right", f, []cut.Record{as(1000, reg), as(1000, bind(root, "x", id, 0))}},
		{"no fence", nil, born()},
		{"another's token", append([]cut.Fence{{ID: file, Gen: theirs[0].Gen, Mode: 2}}, f...), []cut.Record{{Kind: cut.Data, ID: file, Bytes: []byte("lie")}}},
		{"a generation to come", forged(func(x *cut.Fence) { x.Gen += 1 << 40 }), born(bind(sub, "y", id, 0))},
		{"generation 0", forged(func(x *cut.Fence) { x.Gen = 0 }), born(bind(sub, "y", id, 0))},
		{"the last generation", forged(func(x *cut.Fence) { x.Gen = math.MaxUint64 }), born(bind(sub, "y", id, 0))},
		{"a mode that there is not", forged(func(x *cut.Fence) { x.Mode = 255 }), born(bind(sub, "y", id, 0))},
		{"a token for reading only", forged(func(x *cut.Fence) { x.Mode = 1 }), born(bind(sub, "y", id, 0))},
		{"data of a directory", f, []cut.Record{{Kind: cut.Data, ID: sub, Bytes: []byte("x")}}},
		{"data past the end of the world", f, born(cut.Record{Kind: cut.Data, ID: id, Off: math.MaxUint64 - 1, Bytes: []byte("xyz")})},
		{"data at a negative place", f, born(cut.Record{Kind: cut.Data, ID: id, Off: 1 << 63, Bytes: []byte("xyz")})},
		{"zeros for ever", f, born(cut.Record{Kind: cut.Zero, ID: id, Off: 1, Len: math.MaxUint64})},
		{"space for everything", f, born(cut.Record{Kind: cut.Allocate, ID: id, Len: math.MaxInt64})},
		{"a negative size", f, born(cut.Record{Kind: cut.Truncate, ID: id, Size: 1 << 63})},
		{"a negative final size", f, born(cut.Record{Kind: cut.Attr, ID: id, Valid: cut.AttrSize, Size: math.MaxUint64})},
		{"a copy of another's", append([]cut.Fence{{ID: file, Gen: 1, Mode: 1}}, f...), born(cut.Record{Kind: cut.Copy, ID: id, Source: file, Len: 4})},
		{"a copy of what there is not", append([]cut.Fence{{ID: noObject, Gen: 1, Mode: 1}}, f...), born(cut.Record{Kind: cut.Copy, ID: id, Source: noObject, Len: math.MaxUint64})},
		{"an attribute with NUL", f, born(cut.Record{Kind: cut.SetXattr, ID: id, Name: "user.\x00"})},
		{"an attribute without a name", f, born(cut.Record{Kind: cut.SetXattr, ID: id, Bytes: []byte("x")})},
		{"an attribute that is too large", f, born(cut.Record{Kind: cut.SetXattr, ID: id, Name: "user.x", Bytes: make([]byte, 1<<17)})},
		{"attributes of what there is not", append([]cut.Fence{{ID: noObject, Gen: 1, Mode: 2}}, f...), []cut.Record{{Kind: cut.Attr, ID: noObject, Valid: cut.AttrMode}}},
	} {
		r := c.commit(number, bad.fence, bad.records...)
		if r.Status != wire.CommitRefused && r.Status != wire.CommitFenced || r.Errno == 0 || syscall.Errno(r.Errno) == syscall.EIO {
			t.Errorf("%s: %v", bad.what, r)
			if r.Status == wire.CommitApplied {
				number++
			}
		}
	}
	for _, n := range []uint64{number + 1, math.MaxUint64} {
		if r := c.commit(n, f, born()...); r.Status == wire.CommitApplied {
			t.Errorf("cut %d is applied, %d is the next one", n, number)
		}
	}
	// It did no harm to itself either.
	if r := c.commit(number, f, cut.Record{Kind: cut.Attr, ID: root, Valid: cut.AttrAtime, Atime: 1e18}); r.Status != wire.CommitApplied {
		t.Errorf("a good cut: %v", r)
	}
	if r := other.commit(1, fence(theirs), cut.Record{Kind: cut.Attr, ID: file, Valid: cut.AttrAtime, Atime: 1e18}); r.Status != wire.CommitApplied {
		t.Errorf("the other session's cut: %v", r)
	}
}

// badParts: counts that are lies, parts out of order, cuts that are never whole, too large, too many.
func badParts(t *testing.T, v victim) {
	p := plain(t, v.addr)
	file := p.walk(0, 1, "sub", "file")
	c := session(t, v.addr, "parts", 0)
	f := fence(c.grant(want(file, writeMode)))
	frame := wire.AppendFrame(nil, 7, &wire.Tcommit{Cut: 1, Flags: wire.CommitLast, Fence: f, Records: []cut.Record{{Kind: cut.Data, ID: file, Bytes: []byte("lie")}}})
	counts := wire.HeaderSize + 8 + 4 + 4
	for _, at := range []int{counts - 4, counts, counts + 4 + 17*len(f), len(frame) - 7} { // the flags, and how many: of fences, records, bytes
		for _, n := range []uint32{math.MaxUint32, 1<<31 + 1, 100_001} {
			b := append([]byte{}, frame...)
			binary.LittleEndian.PutUint32(b[at:], n)
			must(t, c.bytes(b))
			if r, ok := c.reply(7).(*wire.Rcommit); ok && r.Status == wire.CommitApplied {
				t.Fatalf("applied with the bytes from %d on being %#x", at, n)
			}
		}
	}
	part := func(number uint64, part, flags uint32, size int) wire.Message {
		return c.do(&wire.Tcommit{Cut: number, Part: part, Flags: flags, Fence: f, Records: []cut.Record{{Kind: cut.Data, ID: file, Bytes: make([]byte, size)}}})
	}
	refused := func(what string, m wire.Message) {
		t.Helper()
		if r, ok := m.(*wire.Rcommit); ok && (r.Status == wire.CommitApplied || r.Status == wire.CommitAccepted) {
			t.Errorf("%s: %v", what, r)
		}
	}
	refused("part 1 first", part(1, 1, wire.CommitLast, 4))
	refused("the last possible part", part(1, math.MaxUint32, wire.CommitLast, 4))
	part(1, 0, 0, 4)
	refused("part 2 after 0", part(1, 2, 0, 4))
	refused("the last after a gap", part(1, 1, wire.CommitLast, 4))
	refused("flags that there are not", part(1, 0, 1<<31|wire.CommitLast, 4))
	// Cuts by thousands, none of which becomes whole.
	before := memory(t, v.pid)
	taken := 0
	for i := range uint64(200) {
		if r, ok := part(1+i, 0, 0, 900_000).(*wire.Rcommit); ok && r.Status == wire.CommitAccepted {
			taken++
		}
	}
	if m := memory(t, v.pid); m > memoryCap {
		t.Errorf("200 cuts that are not whole: from %d to %d MiB", before>>20, m>>20)
	}
	t.Logf("%d of 200 unfinished cuts of 900 kB were taken; from %d to %d MiB", taken, before>>20, memory(t, v.pid)>>20)
	// One that is too large.
	number, accepted := uint64(1), 0
	for i := range uint32(100) {
		r, ok := part(number, i, 0, 900_000).(*wire.Rcommit)
		if !ok || r.Status != wire.CommitAccepted {
			break
		}
		accepted++
	}
	if uint64(accepted)*900_000 > uint64(c.s.MaxCutBytes) {
		t.Errorf("%d parts of 900 kB were taken, the limit is %d", accepted, c.s.MaxCutBytes)
	}
	plain(t, v.addr).ok(&wire.Tgetattr{Fid: 0, Mask: wire.GetBasic})
}

// badGrants: tokens of nothing, of nonsense, and thousands of requests that wait.
func badGrants(t *testing.T, v victim) {
	p := plain(t, v.addr)
	file := p.walk(0, 1, "sub", "file")
	holder := session(t, v.addr, "holder", 0)
	root := holder.s.Root.Path
	held := holder.grant(want(file, writeMode))
	holder.send(1, &wire.Trecall{})
	holder.send(2, &wire.Trecall{})
	c := session(t, v.addr, "greedy", 0)
	many := make([]wire.GrantElem, 5000)
	for i := range many {
		many[i] = want(root, readMode)
	}
	for _, elems := range [][]wire.GrantElem{
		{want(noObject, readMode)}, {want(noObject, writeMode)}, {want(math.MaxUint64, writeMode)}, {want(1<<53, readMode)},
		{want(c.s.IDs.First+1, readMode)}, {want(holder.s.IDs.First, writeMode)},
		{want(root, 0)}, {want(root, 3)}, {want(root, 255)}, many,
		{{ID: root, Mode: readMode, Name: "a/b"}}, {{ID: root, Mode: readMode, Name: ".."}}, {{ID: root, Mode: readMode, Name: "a\x00"}},
		{{ID: root, Mode: readMode, Name: strings.Repeat("n", 1000)}},
		{want(root, readMode), want(noObject, readMode)},
	} {
		c.refused(&wire.Tgrant{Inline: math.MaxUint32, Elems: elems})
	}
	c.ok(&wire.Tgrant{Flags: wire.GrantTry, Elems: []wire.GrantElem{want(root, readMode), want(root, readMode)}})
	c.refused(&wire.Tgrant{Flags: wire.GrantTry, Elems: []wire.GrantElem{want(file, readMode)}}, syscall.EAGAIN)
	// Thousands that wait, on several connections, for what the holder does not return.
	before := memory(t, v.pid)
	for i := range 4 {
		w := session(t, v.addr, fmt.Sprint("waiter ", i), 0)
		go w.drain()
		var b []byte
		for tag := range uint16(5000) {
			b = wire.AppendFrame(b, tag, &wire.Tgrant{Elems: []wire.GrantElem{want(file, writeMode), want(root, readMode)}})
		}
		must(t, w.bytes(b))
		if i%2 == 0 {
			w.nc.Close() // and goes away
		}
	}
	if m := memory(t, v.pid); m > memoryCap {
		t.Errorf("20,000 requests wait: from %d to %d MiB", before>>20, m>>20)
	}
	// Who wants nothing of it is not in their way; who is asked is asked.
	others := plain(t, v.addr)
	others.walk(0, 1, "dirs", "7", "file")
	others.ok(&wire.Tgetattr{Fid: 1, Mask: wire.GetBasic})
	r, ok := holder.reply(1).(*wire.Rrecall)
	if !ok || len(r.Tokens) != 1 || r.Tokens[0].ID != file {
		t.Errorf("the holder is asked for %v", r)
	}
	holder.ok(&wire.Treturn{Tokens: []wire.ReturnElem{{ID: file, Gen: held[0].Gen}}})
	t.Logf("20,000 waiting requests: from %d to %d MiB", before>>20, memory(t, v.pid)>>20)
}

// badRecalls: floods of Trecall, and returns of what is not held.
func badRecalls(t *testing.T, v victim) {
	p := plain(t, v.addr)
	file := p.walk(0, 1, "sub", "file")
	holder := session(t, v.addr, "holder", 0)
	held := holder.grant(want(file, writeMode))
	c := session(t, v.addr, "flood", 0)
	root := c.s.Root.Path
	var b []byte
	for tag := range uint16(10_000) {
		b = wire.AppendFrame(b, tag, &wire.Trecall{})
	}
	must(t, c.bytes(b))
	refused := 0
	for tag := uint16(9_999); ; tag-- { // the last ones at least
		if e, ok := c.reply(tag).(*wire.Rlerror); !ok || syscall.Errno(e.Errno) != syscall.EAGAIN {
			t.Fatalf("Trecall %d", tag)
		}
		if refused++; refused == 9_000 {
			break
		}
	}
	b = b[:0]
	for tag := range uint16(10_000) { // and takes them all back, at once
		b = wire.AppendFrame(b, 20_000+tag, &wire.Tflush{OldTag: tag})
	}
	must(t, c.bytes(b))
	for tag := range uint16(10_000) {
		if m := c.reply(20_000 + tag); m.Type() != wire.TypeRflush {
			t.Fatalf("flush %d: %v", tag, m)
		}
	}
	mine := c.grant(want(root, readMode))[0]
	for _, e := range []wire.ReturnElem{
		{ID: noObject}, {ID: noObject, Gen: math.MaxUint64, Flags: wire.ReturnOpen}, {ID: 0, Gen: 1}, {ID: file, Gen: held[0].Gen},
		{ID: file, Gen: held[0].Gen, Keep: readMode, Flags: wire.ReturnOpen}, {ID: root, Gen: mine.Gen + 1000}, {ID: root, Gen: 0}, {ID: root, Gen: mine.Gen, Keep: writeMode},
		{ID: root, Gen: mine.Gen, Keep: readMode, Flags: 0xff}, {ID: root, Gen: mine.Gen, Keep: 255},
	} {
		many := make([]wire.ReturnElem, 500)
		for i := range many {
			many[i] = e
		}
		c.do(&wire.Treturn{Tokens: many}) // whatever it answers
	}
	// The holder's token is its own.
	if r := holder.commit(1, fence(held), cut.Record{Kind: cut.Attr, ID: file, Valid: cut.AttrAtime, Atime: 1e18}); r.Status != wire.CommitApplied {
		t.Errorf("the holder's cut: %v", r)
	}
	c.ok(&wire.Trenew{Flags: math.MaxUint32, Space: math.MaxUint64})
	for range 100 { // ids without end
		c.do(&wire.Trenew{Flags: wire.RenewIDs})
	}
	for _, m := range []wire.Message{
		&wire.Tbind{Fid: 5, ID: noObject}, &wire.Tbind{Fid: 5, ID: 0}, &wire.Tbind{Fid: 5, ID: c.s.IDs.First}, &wire.Tbind{Fid: 5, ID: root, UID: 4_000_000, Flags: wire.OWronly},
	} {
		c.refused(m)
	}
}

// badListings: Treaddirplus of what is no directory, of thousands of them, and of replies that cannot be.
func badListings(t *testing.T, v victim) {
	p := plain(t, v.addr)
	file := p.walk(0, 1, "sub", "file")
	dirs := p.walk(0, 2, "dirs")
	c := session(t, v.addr, "lister", 0)
	var ids []uint64
	r := c.ok(&wire.Treaddirplus{Count: 1 << 19, Dirs: []wire.DirRead{{ID: dirs}}}).(*wire.Rreaddirplus)
	for _, e := range r.Dirs[0].Entries {
		ids = append(ids, e.QID.Path)
	}
	if len(ids) != 100 {
		t.Fatalf("%d directories are listed", len(ids))
	}
	for _, list := range [][]wire.DirRead{{{ID: file}}, {{ID: noObject}}, {{ID: math.MaxUint64}}, {{ID: c.s.IDs.First}}, {{ID: 0}}} {
		c.refused(&wire.Treaddirplus{Count: 8192, Dirs: list})
	}
	most := make([]wire.DirRead, 10_000)
	for i := range most {
		most[i] = wire.DirRead{ID: ids[i%len(ids)], Cookie: uint64(i % 3)}
	}
	for _, m := range []*wire.Treaddirplus{
		{}, {Count: 0, Dirs: []wire.DirRead{{ID: dirs}}}, {Count: 1, Dirs: []wire.DirRead{{ID: dirs}}}, {Count: math.MaxUint32, Inline: math.MaxUint32, Dirs: most},
		{Count: 8192, Dirs: most}, {Count: 1 << 20, Inline: 1 << 20, Dirs: []wire.DirRead{{ID: dirs, Cookie: math.MaxUint64}, {ID: dirs, Cookie: 1 << 63}}},
		{Count: 1 << 20, Dirs: append(most[:100:100], wire.DirRead{ID: noObject}, wire.DirRead{ID: file})},
	} {
		for range 3 {
			answer := c.do(m)
			if n := len(wire.AppendFrame(nil, 0, answer)); n > 1<<20 {
				t.Errorf("the reply to %d directories, count %d, has %d bytes, more than the msize", len(m.Dirs), m.Count, n)
			}
		}
	}
	plain(t, v.addr).ok(&wire.Tgetattr{Fid: 0, Mask: wire.GetBasic})
}
