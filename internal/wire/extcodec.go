package wire

import (
	"fmt"

	"echo9/internal/cut"
)

// How the extension's messages lie on the wire; docs/protocol.md has the layouts.

// Sizes of the extension's structures; those that vary are at least so large.
const (
	attrSize      = qidSize + 3*4 + 11*8 + 4
	grantedMin    = 8 + 8 + 1 + 1
	grantElemMin  = 8 + 1 + 8 + 2
	recallSize    = 8 + 8 + 1 + 1 + 4
	returnSize    = 8 + 8 + 1 + 1
	fenceSize     = 8 + 8 + 1
	recordMin     = 1 + 4 + 8 + 8
	dirReadSize   = 8 + 8
	plusEntryMin  = 2 + 8 + qidSize + grantedMin
	plusDirMin    = 8 + 8 + 1 + 1 + attrSize + 4
	lostTokenSize = 8 + 1
)

func putExtAttr(b []byte, a *Attr) []byte {
	b = put32(put32(put32(putQID(b, a.QID), a.Mode), a.UID), a.GID)
	b = put64(put64(put64(b, a.Nlink), a.Rdev), a.Size)
	b = put64(put64(b, a.BlockSize), a.Blocks)
	b = put64(put64(put64(put64(b, uint64(a.Atime)), uint64(a.Mtime)), uint64(a.Ctime)), uint64(a.Btime))
	return put32(put64(put64(b, a.Gen), a.DataVersion), a.Flags)
}

func (d *dec) extAttr(a *Attr) {
	a.QID, a.Mode, a.UID, a.GID = d.qid(), d.u32(), d.u32(), d.u32()
	a.Nlink, a.Rdev, a.Size = d.u64(), d.u64(), d.u64()
	a.BlockSize, a.Blocks = d.u64(), d.u64()
	a.Atime, a.Mtime, a.Ctime, a.Btime = d.i64(), d.i64(), d.i64(), d.i64()
	a.Gen, a.DataVersion, a.Flags = d.u64(), d.u64(), d.u32()
}

func putIDs(b []byte, r IDRange) []byte { return put64(put64(put64(b, r.First), r.Count), r.Gen) }
func (d *dec) ids() IDRange             { return IDRange{First: d.u64(), Count: d.u64(), Gen: d.u64()} }

func (m *Tsession) appendTo(b []byte) []byte {
	b = append(append(put32(b, m.Flags), m.Client[:]...), m.Secret[:]...)
	b = putString(putString(put64(put64(b, m.Epoch), m.LastCut), m.Aname), m.Name)
	b = put32(b, uint32(len(m.Users)))
	for _, u := range m.Users {
		b = put32(b, u)
	}
	return b
}
func (m *Tsession) decode(d *dec) {
	m.Flags = d.u32()
	copy(m.Client[:], d.take(len(m.Client)))
	copy(m.Secret[:], d.take(len(m.Secret)))
	m.Epoch, m.LastCut, m.Aname, m.Name = d.u64(), d.u64(), d.string(), d.string()
	m.Users = m.Users[:0]
	for range d.count(d.u32(), 4) {
		m.Users = append(m.Users, d.u32())
	}
}

func (m *Rsession) appendTo(b []byte) []byte {
	b = put32(put64(put64(put32(b, m.Flags), m.Session), m.Epoch), m.Lease)
	b = put32(put32(put64(put64(b, uint64(m.Time)), m.LastCut), m.UID), m.GID)
	b = put32(put32(putQID(b, m.Root), m.MaxCutBytes), m.MaxCutRecords)
	b = put32(putIDs(b, m.IDs), uint32(len(m.Lost)))
	for _, l := range m.Lost {
		b = append(put64(b, l.ID), l.Left)
	}
	return b
}
func (m *Rsession) decode(d *dec) {
	m.Flags, m.Session, m.Epoch, m.Lease = d.u32(), d.u64(), d.u64(), d.u32()
	m.Time, m.LastCut, m.UID, m.GID = d.i64(), d.u64(), d.u32(), d.u32()
	m.Root, m.MaxCutBytes, m.MaxCutRecords, m.IDs = d.qid(), d.u32(), d.u32(), d.ids()
	m.Lost = m.Lost[:0]
	for range d.count(d.u32(), lostTokenSize) {
		m.Lost = append(m.Lost, LostToken{ID: d.u64(), Left: d.u8()})
	}
}

func (m *Tgrant) appendTo(b []byte) []byte {
	b = put32(put32(put32(b, m.Flags), m.Inline), uint32(len(m.Elems)))
	for i := range m.Elems {
		e := &m.Elems[i]
		b = putString(put64(append(put64(b, e.ID), e.Mode), e.Version), e.Name)
	}
	return b
}
func (m *Tgrant) decode(d *dec) {
	m.Flags, m.Inline = d.u32(), d.u32()
	m.Elems = m.Elems[:0]
	for range d.count(d.u32(), grantElemMin) {
		m.Elems = append(m.Elems, GrantElem{ID: d.u64(), Mode: d.u8(), Version: d.u64(), Name: d.string()})
	}
}

func putGranted(b []byte, g *Granted) []byte {
	b = append(put64(put64(b, g.ID), g.Gen), g.Mode, g.Flags)
	if g.Flags&GrantedAttr != 0 {
		b = putString(putExtAttr(b, &g.Attr), g.Target)
	}
	if g.Flags&GrantedInline != 0 {
		b = putBytes(b, g.Inline)
	}
	return b
}
func (d *dec) granted(g *Granted) {
	g.ID, g.Gen, g.Mode, g.Flags = d.u64(), d.u64(), d.u8(), d.u8()
	if g.Flags&GrantedAttr != 0 {
		d.extAttr(&g.Attr)
		g.Target = d.string()
	}
	if g.Flags&GrantedInline != 0 {
		g.Inline = d.bytes()
	}
}

func (m *Rgrant) appendTo(b []byte) []byte {
	b = put32(put32(b, m.Lease), uint32(len(m.Tokens)))
	for i := range m.Tokens {
		b = putGranted(b, &m.Tokens[i])
	}
	return b
}
func (m *Rgrant) decode(d *dec) {
	m.Lease, m.Tokens = d.u32(), m.Tokens[:0]
	for range d.count(d.u32(), grantedMin) {
		m.Tokens = append(m.Tokens, Granted{})
		d.granted(&m.Tokens[len(m.Tokens)-1])
	}
}

func (m *Trecall) appendTo(b []byte) []byte { return b }
func (m *Trecall) decode(*dec)              {}

func (m *Rrecall) appendTo(b []byte) []byte {
	b = put32(put32(put32(b, m.Lease), m.Any), uint32(len(m.Tokens)))
	for i := range m.Tokens {
		e := &m.Tokens[i]
		b = put32(append(put64(put64(b, e.ID), e.Gen), e.Keep, e.Why), e.Deadline)
	}
	return b
}
func (m *Rrecall) decode(d *dec) {
	m.Lease, m.Any, m.Tokens = d.u32(), d.u32(), m.Tokens[:0]
	for range d.count(d.u32(), recallSize) {
		m.Tokens = append(m.Tokens, RecallElem{ID: d.u64(), Gen: d.u64(), Keep: d.u8(), Why: d.u8(), Deadline: d.u32()})
	}
}

func (m *Treturn) appendTo(b []byte) []byte {
	b = put32(b, uint32(len(m.Tokens)))
	for i := range m.Tokens {
		e := &m.Tokens[i]
		b = append(put64(put64(b, e.ID), e.Gen), e.Keep, e.Flags)
	}
	return b
}
func (m *Treturn) decode(d *dec) {
	m.Tokens = m.Tokens[:0]
	for range d.count(d.u32(), returnSize) {
		m.Tokens = append(m.Tokens, ReturnElem{ID: d.u64(), Gen: d.u64(), Keep: d.u8(), Flags: d.u8()})
	}
}
func (m *Rreturn) appendTo(b []byte) []byte { return put32(b, m.Lease) }
func (m *Rreturn) decode(d *dec)            { m.Lease = d.u32() }

func (m *Tcommit) appendTo(b []byte) []byte {
	b = m.appendHead(b)
	for i := range m.Records {
		b = putRecord(b, &m.Records[i])
	}
	return b
}

// appendHead appends what precedes the records.
func (m *Tcommit) appendHead(b []byte) []byte {
	b = put32(put32(put32(put64(b, m.Cut), m.Part), m.Flags), uint32(len(m.Fence)))
	for _, f := range m.Fence {
		b = append(put64(put64(b, f.ID), f.Gen), f.Mode)
	}
	return put32(b, uint32(len(m.Records)))
}

// AppendTcommit appends a frame like AppendFrame, but for the bytes of data records
// of at least so many: they are given to aside, with the frame up to them, which
// answers where to go on.
func AppendTcommit(dst []byte, tag uint16, m *Tcommit, least int, aside func(frame, payload []byte) []byte) []byte {
	dst = m.appendHead(appendHeader(dst, TcommitSize(m), TypeTcommit, tag))
	for i := range m.Records {
		r := &m.Records[i]
		if r.Kind != cut.Data || len(r.Bytes) < least {
			dst = putRecord(dst, r)
			continue
		}
		head := *r
		head.Bytes = nil
		dst = putRecord(dst, &head)
		dst = aside(put32(dst[:len(dst)-4], uint32(len(r.Bytes))), r.Bytes)
	}
	return dst
}
func (m *Tcommit) decode(d *dec) {
	m.Cut, m.Part, m.Flags, m.Fence = d.u64(), d.u32(), d.u32(), m.Fence[:0]
	for range d.count(d.u32(), fenceSize) {
		m.Fence = append(m.Fence, cut.Fence{ID: d.u64(), Gen: d.u64(), Mode: d.u8()})
	}
	m.Records = m.Records[:0]
	for range d.count(d.u32(), recordMin) {
		m.Records = append(m.Records, cut.Record{})
		d.record(&m.Records[len(m.Records)-1])
	}
}

const attrAll = cut.AttrMode | cut.AttrUID | cut.AttrGID | cut.AttrSize | cut.AttrAtime | cut.AttrMtime | cut.AttrCtime

func putRecord(b []byte, r *cut.Record) []byte {
	return append(AppendRecordHead(b, r), RecordTail(r)...)
}

// AppendRecordHead appends r as Tcommit has it, without the bytes that come last in
// it, RecordTail: so that whoever writes to a file need not copy them.
func AppendRecordHead(b []byte, r *cut.Record) []byte {
	b = put64(put64(put32(append(b, uint8(r.Kind)), r.UID), r.Owner), r.ID)
	switch r.Kind {
	case cut.Create:
		b = put32(put32(put32(b, r.Mode), r.UserID), r.GroupID)
		return putString(put64(b, r.Rdev), r.Target)
	case cut.Bind:
		return put64(putString(put64(b, r.Dir), r.Name), r.Before)
	case cut.Attr:
		return putRecordAttr(put32(b, r.Valid&attrAll), r)
	case cut.Truncate:
		return put64(b, r.Size)
	case cut.Data:
		return put32(put64(b, r.Off), uint32(len(r.Bytes)))
	case cut.Zero, cut.Allocate:
		return put64(put64(b, r.Off), r.Len)
	case cut.SetXattr:
		return put32(putString(b, r.Name), uint32(len(r.Bytes)))
	case cut.RemoveXattr:
		return putString(b, r.Name)
	case cut.Keep, cut.Release:
		return b
	case cut.Copy:
		return put64(put64(put64(put64(b, r.Off), r.Len), r.Source), r.SourceOff)
	}
	panic(fmt.Sprintf("wire: a record of kind %d", r.Kind))
}

// RecordTail is what follows r's head: the bytes of Data and SetXattr.
func RecordTail(r *cut.Record) []byte {
	if r.Kind == cut.Data || r.Kind == cut.SetXattr {
		return r.Bytes
	}
	return nil
}

// DecodeRecord takes a record from the front of b into r, which is zero, and gives what
// follows it. r.Bytes aliases b.
func DecodeRecord(b []byte, r *cut.Record) (rest []byte, err error) {
	d := dec{b: b}
	d.record(r)
	if d.rule != "" {
		return nil, fmt.Errorf("a record: %s", d.rule)
	}
	return d.b, nil
}

func putRecordAttr(b []byte, r *cut.Record) []byte {
	if r.Valid&cut.AttrMode != 0 {
		b = put32(b, r.Mode)
	}
	if r.Valid&cut.AttrUID != 0 {
		b = put32(b, r.UserID)
	}
	if r.Valid&cut.AttrGID != 0 {
		b = put32(b, r.GroupID)
	}
	if r.Valid&cut.AttrSize != 0 {
		b = put64(b, r.Size)
	}
	if r.Valid&cut.AttrAtime != 0 {
		b = put64(b, uint64(r.Atime))
	}
	if r.Valid&cut.AttrMtime != 0 {
		b = put64(b, uint64(r.Mtime))
	}
	if r.Valid&cut.AttrCtime != 0 {
		b = put64(b, uint64(r.Ctime))
	}
	return b
}

func (d *dec) record(r *cut.Record) {
	r.Kind, r.UID, r.Owner, r.ID = cut.Kind(d.u8()), d.u32(), d.u64(), d.u64()
	switch r.Kind {
	case cut.Create:
		r.Mode, r.UserID, r.GroupID = d.u32(), d.u32(), d.u32()
		r.Rdev, r.Target = d.u64(), d.string()
	case cut.Bind:
		r.Dir, r.Name, r.Before = d.u64(), d.string(), d.u64()
	case cut.Attr:
		d.recordAttr(r)
	case cut.Truncate:
		r.Size = d.u64()
	case cut.Data:
		r.Off, r.Bytes = d.u64(), d.bytes()
	case cut.Zero, cut.Allocate:
		r.Off, r.Len = d.u64(), d.u64()
	case cut.SetXattr:
		r.Name, r.Bytes = d.string(), d.bytes()
	case cut.RemoveXattr:
		r.Name = d.string()
	case cut.Keep, cut.Release:
	case cut.Copy:
		r.Off, r.Len, r.Source, r.SourceOff = d.u64(), d.u64(), d.u64(), d.u64()
	default:
		d.fail(fmt.Sprintf("a record of kind %d, which there is not", r.Kind))
	}
}

func (d *dec) recordAttr(r *cut.Record) {
	r.Valid = d.u32()
	if r.Valid&^attrAll != 0 {
		d.fail(fmt.Sprintf("a record sets attributes %#x, which there are not", r.Valid&^attrAll))
		return
	}
	if r.Valid&cut.AttrMode != 0 {
		r.Mode = d.u32()
	}
	if r.Valid&cut.AttrUID != 0 {
		r.UserID = d.u32()
	}
	if r.Valid&cut.AttrGID != 0 {
		r.GroupID = d.u32()
	}
	if r.Valid&cut.AttrSize != 0 {
		r.Size = d.u64()
	}
	if r.Valid&cut.AttrAtime != 0 {
		r.Atime = d.i64()
	}
	if r.Valid&cut.AttrMtime != 0 {
		r.Mtime = d.i64()
	}
	if r.Valid&cut.AttrCtime != 0 {
		r.Ctime = d.i64()
	}
}

func (m *Rcommit) appendTo(b []byte) []byte {
	b = append(put64(put32(b, m.Lease), m.Cut), m.Status)
	return putString(put64(put32(put32(b, m.Errno), m.Record), m.ID), m.Reason)
}
func (m *Rcommit) decode(d *dec) {
	m.Lease, m.Cut, m.Status = d.u32(), d.u64(), d.u8()
	m.Errno, m.Record, m.ID, m.Reason = d.u32(), d.u32(), d.u64(), d.string()
}

func (m *Treaddirplus) appendTo(b []byte) []byte {
	b = put32(put32(put32(b, m.Count), m.Inline), uint32(len(m.Dirs)))
	for _, r := range m.Dirs {
		b = put64(put64(b, r.ID), r.Cookie)
	}
	return b
}
func (m *Treaddirplus) decode(d *dec) {
	m.Count, m.Inline, m.Dirs = d.u32(), d.u32(), m.Dirs[:0]
	for range d.count(d.u32(), dirReadSize) {
		m.Dirs = append(m.Dirs, DirRead{ID: d.u64(), Cookie: d.u64()})
	}
}

func (m *Rreaddirplus) appendTo(b []byte) []byte {
	b = put32(put32(b, m.Lease), uint32(len(m.Dirs)))
	for i := range m.Dirs {
		p := &m.Dirs[i]
		b = putBool(append(put64(put64(b, p.ID), p.Gen), p.Mode), p.EOF)
		b = put32(putExtAttr(b, &p.Attr), uint32(len(p.Entries)))
		for j := range p.Entries {
			e := &p.Entries[j]
			b = putGranted(putQID(put64(putString(b, e.Name), e.Offset), e.QID), &e.Token)
		}
	}
	return b
}
func (m *Rreaddirplus) decode(d *dec) {
	m.Lease, m.Dirs = d.u32(), m.Dirs[:0]
	for range d.count(d.u32(), plusDirMin) {
		m.Dirs = append(m.Dirs, PlusDir{})
		p := &m.Dirs[len(m.Dirs)-1]
		p.ID, p.Gen, p.Mode, p.EOF = d.u64(), d.u64(), d.u8(), d.bool()
		d.extAttr(&p.Attr)
		for range d.count(d.u32(), plusEntryMin) {
			p.Entries = append(p.Entries, PlusEntry{Name: d.string(), Offset: d.u64(), QID: d.qid()})
			d.granted(&p.Entries[len(p.Entries)-1].Token)
		}
	}
}

func (m *Trenew) appendTo(b []byte) []byte { return put64(put64(put32(b, m.Flags), m.Space), m.Held) }
func (m *Trenew) decode(d *dec)            { m.Flags, m.Space, m.Held = d.u32(), d.u64(), d.u64() }
func (m *Rrenew) appendTo(b []byte) []byte {
	b = put64(putBool(put32(b, m.Lease), m.Resume), uint64(m.Time))
	return put64(putIDs(b, m.IDs), m.Space)
}
func (m *Rrenew) decode(d *dec) {
	m.Lease, m.Resume, m.Time = d.u32(), d.bool(), d.i64()
	m.IDs, m.Space = d.ids(), d.u64()
}

func (m *Tbind) appendTo(b []byte) []byte {
	return put32(put32(put64(put32(b, m.Fid), m.ID), m.UID), m.Flags)
}
func (m *Tbind) decode(d *dec)            { m.Fid, m.ID, m.UID, m.Flags = d.u32(), d.u64(), d.u32(), d.u32() }
func (m *Rbind) appendTo(b []byte) []byte { return put32(putQID(put32(b, m.Lease), m.QID), m.Iounit) }
func (m *Rbind) decode(d *dec)            { m.Lease, m.QID, m.Iounit = d.u32(), d.qid(), d.u32() }
