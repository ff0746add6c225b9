package wire

// How 9P2000.L's messages lie on the wire. Each appendTo stands beside its decode.

func (m *Rlerror) appendTo(b []byte) []byte { return put32(b, m.Errno) }
func (m *Rlerror) decode(d *dec)            { m.Errno = d.u32() }

func (m *Tversion) appendTo(b []byte) []byte { return putString(put32(b, m.Msize), m.Version) }
func (m *Tversion) decode(d *dec)            { m.Msize, m.Version = d.u32(), d.string() }
func (m *Rversion) appendTo(b []byte) []byte { return putString(put32(b, m.Msize), m.Version) }
func (m *Rversion) decode(d *dec)            { m.Msize, m.Version = d.u32(), d.string() }

func (m *Tauth) appendTo(b []byte) []byte {
	return put32(putString(putString(put32(b, m.Afid), m.Uname), m.Aname), m.UID)
}
func (m *Tauth) decode(d *dec) {
	m.Afid, m.Uname, m.Aname, m.UID = d.u32(), d.string(), d.string(), d.u32()
}
func (m *Rauth) appendTo(b []byte) []byte { return putQID(b, m.QID) }
func (m *Rauth) decode(d *dec)            { m.QID = d.qid() }

func (m *Tattach) appendTo(b []byte) []byte {
	return put32(putString(putString(put32(put32(b, m.Fid), m.Afid), m.Uname), m.Aname), m.UID)
}
func (m *Tattach) decode(d *dec) {
	m.Fid, m.Afid = d.u32(), d.u32()
	m.Uname, m.Aname, m.UID = d.string(), d.string(), d.u32()
}
func (m *Rattach) appendTo(b []byte) []byte { return putQID(b, m.QID) }
func (m *Rattach) decode(d *dec)            { m.QID = d.qid() }

func (m *Tflush) appendTo(b []byte) []byte { return put16(b, m.OldTag) }
func (m *Tflush) decode(d *dec)            { m.OldTag = d.u16() }
func (m *Rflush) appendTo(b []byte) []byte { return b }
func (m *Rflush) decode(*dec)              {}

func (m *Twalk) appendTo(b []byte) []byte {
	return putStrings(put32(put32(b, m.Fid), m.NewFid), m.Names)
}
func (m *Twalk) decode(d *dec) {
	m.Fid, m.NewFid, m.Names = d.u32(), d.u32(), d.strings(m.Names)
}
func (m *Rwalk) appendTo(b []byte) []byte { return putQIDs(b, m.QIDs) }
func (m *Rwalk) decode(d *dec)            { m.QIDs = d.qids(m.QIDs) }

func (m *Tlopen) appendTo(b []byte) []byte { return put32(put32(b, m.Fid), m.Flags) }
func (m *Tlopen) decode(d *dec)            { m.Fid, m.Flags = d.u32(), d.u32() }
func (m *Rlopen) appendTo(b []byte) []byte { return put32(putQID(b, m.QID), m.Iounit) }
func (m *Rlopen) decode(d *dec)            { m.QID, m.Iounit = d.qid(), d.u32() }

func (m *Tlcreate) appendTo(b []byte) []byte {
	return put32(put32(put32(putString(put32(b, m.Fid), m.Name), m.Flags), m.Mode), m.GID)
}
func (m *Tlcreate) decode(d *dec) {
	m.Fid, m.Name, m.Flags, m.Mode, m.GID = d.u32(), d.string(), d.u32(), d.u32(), d.u32()
}
func (m *Rlcreate) appendTo(b []byte) []byte { return put32(putQID(b, m.QID), m.Iounit) }
func (m *Rlcreate) decode(d *dec)            { m.QID, m.Iounit = d.qid(), d.u32() }

func (m *Tsymlink) appendTo(b []byte) []byte {
	return put32(putString(putString(put32(b, m.Dfid), m.Name), m.Target), m.GID)
}
func (m *Tsymlink) decode(d *dec) {
	m.Dfid, m.Name, m.Target, m.GID = d.u32(), d.string(), d.string(), d.u32()
}
func (m *Rsymlink) appendTo(b []byte) []byte { return putQID(b, m.QID) }
func (m *Rsymlink) decode(d *dec)            { m.QID = d.qid() }

func (m *Tmknod) appendTo(b []byte) []byte {
	b = put32(putString(put32(b, m.Dfid), m.Name), m.Mode)
	return put32(put32(put32(b, m.Major), m.Minor), m.GID)
}
func (m *Tmknod) decode(d *dec) {
	m.Dfid, m.Name, m.Mode = d.u32(), d.string(), d.u32()
	m.Major, m.Minor, m.GID = d.u32(), d.u32(), d.u32()
}
func (m *Rmknod) appendTo(b []byte) []byte { return putQID(b, m.QID) }
func (m *Rmknod) decode(d *dec)            { m.QID = d.qid() }

func (m *Trename) appendTo(b []byte) []byte {
	return putString(put32(put32(b, m.Fid), m.Dfid), m.Name)
}
func (m *Trename) decode(d *dec)            { m.Fid, m.Dfid, m.Name = d.u32(), d.u32(), d.string() }
func (m *Rrename) appendTo(b []byte) []byte { return b }
func (m *Rrename) decode(*dec)              {}

func (m *Treadlink) appendTo(b []byte) []byte { return put32(b, m.Fid) }
func (m *Treadlink) decode(d *dec)            { m.Fid = d.u32() }
func (m *Rreadlink) appendTo(b []byte) []byte { return putString(b, m.Target) }
func (m *Rreadlink) decode(d *dec)            { m.Target = d.string() }

func (m *Tgetattr) appendTo(b []byte) []byte { return put64(put32(b, m.Fid), m.Mask) }
func (m *Tgetattr) decode(d *dec)            { m.Fid, m.Mask = d.u32(), d.u64() }
func (m *Rgetattr) appendTo(b []byte) []byte {
	return putAttr(putQID(put64(b, m.Valid), m.Attr.QID), &m.Attr)
}
func (m *Rgetattr) decode(d *dec) {
	m.Valid, m.Attr.QID = d.u64(), d.qid()
	d.attr(&m.Attr)
}

func (m *Tsetattr) appendTo(b []byte) []byte {
	s := &m.SetAttr
	b = put32(put32(put32(b, m.Fid), s.Valid), s.Mode)
	b = put64(put32(put32(b, s.UID), s.GID), s.Size)
	return putTime(putTime(b, s.Atime), s.Mtime)
}
func (m *Tsetattr) decode(d *dec) {
	s := &m.SetAttr
	m.Fid, s.Valid, s.Mode = d.u32(), d.u32(), d.u32()
	s.UID, s.GID, s.Size = d.u32(), d.u32(), d.u64()
	s.Atime, s.Mtime = d.time(), d.time()
}
func (m *Rsetattr) appendTo(b []byte) []byte { return b }
func (m *Rsetattr) decode(*dec)              {}

func (m *Txattrwalk) appendTo(b []byte) []byte {
	return putString(put32(put32(b, m.Fid), m.NewFid), m.Name)
}
func (m *Txattrwalk) decode(d *dec)            { m.Fid, m.NewFid, m.Name = d.u32(), d.u32(), d.string() }
func (m *Rxattrwalk) appendTo(b []byte) []byte { return put64(b, m.Size) }
func (m *Rxattrwalk) decode(d *dec)            { m.Size = d.u64() }

func (m *Txattrcreate) appendTo(b []byte) []byte {
	return put32(put64(putString(put32(b, m.Fid), m.Name), m.Size), m.Flags)
}
func (m *Txattrcreate) decode(d *dec) {
	m.Fid, m.Name, m.Size, m.Flags = d.u32(), d.string(), d.u64(), d.u32()
}
func (m *Rxattrcreate) appendTo(b []byte) []byte { return b }
func (m *Rxattrcreate) decode(*dec)              {}

func (m *Treaddir) appendTo(b []byte) []byte {
	return put32(put64(put32(b, m.Fid), m.Offset), m.Count)
}
func (m *Treaddir) decode(d *dec)            { m.Fid, m.Offset, m.Count = d.u32(), d.u64(), d.u32() }
func (m *Rreaddir) appendTo(b []byte) []byte { return putBytes(b, m.Data) }
func (m *Rreaddir) decode(d *dec) {
	m.Data = d.bytes()
	for p := m.Data; len(p) > 0; {
		n := direntFixed
		if len(p) >= n {
			n += int(p[n-2]) | int(p[n-1])<<8
		}
		if len(p) < n {
			d.fail("its last entry is truncated")
			m.Data = nil
			return
		}
		p = p[n:]
	}
}

func (m *Tfsync) appendTo(b []byte) []byte { return put32(put32(b, m.Fid), m.DataSync) }
func (m *Tfsync) decode(d *dec) {
	m.Fid, m.DataSync = d.u32(), 0
	if len(d.b) > 0 {
		m.DataSync = d.u32()
	}
}
func (m *Rfsync) appendTo(b []byte) []byte { return b }
func (m *Rfsync) decode(*dec)              {}

func (m *Tlock) appendTo(b []byte) []byte {
	l := &m.Lock
	b = put32(append(put32(b, m.Fid), l.Type), l.Flags)
	return putString(put32(put64(put64(b, l.Start), l.Length), l.ProcID), l.ClientID)
}
func (m *Tlock) decode(d *dec) {
	l := &m.Lock
	m.Fid, l.Type, l.Flags = d.u32(), d.u8(), d.u32()
	l.Start, l.Length, l.ProcID, l.ClientID = d.u64(), d.u64(), d.u32(), d.string()
}
func (m *Rlock) appendTo(b []byte) []byte { return append(b, uint8(m.Status)) }
func (m *Rlock) decode(d *dec)            { m.Status = LockStatus(d.u8()) }

func (m *Tgetlock) appendTo(b []byte) []byte { return putGetlock(put32(b, m.Fid), &m.Lock) }
func (m *Tgetlock) decode(d *dec)            { m.Fid, m.Lock = d.u32(), d.getlock() }
func (m *Rgetlock) appendTo(b []byte) []byte { return putGetlock(b, &m.Lock) }
func (m *Rgetlock) decode(d *dec)            { m.Lock = d.getlock() }

func putGetlock(b []byte, l *Lock) []byte {
	b = put64(put64(append(b, l.Type), l.Start), l.Length)
	return putString(put32(b, l.ProcID), l.ClientID)
}
func (d *dec) getlock() Lock {
	return Lock{Type: d.u8(), Start: d.u64(), Length: d.u64(), ProcID: d.u32(), ClientID: d.string()}
}

func (m *Tlink) appendTo(b []byte) []byte {
	return putString(put32(put32(b, m.Dfid), m.Fid), m.Name)
}
func (m *Tlink) decode(d *dec)            { m.Dfid, m.Fid, m.Name = d.u32(), d.u32(), d.string() }
func (m *Rlink) appendTo(b []byte) []byte { return b }
func (m *Rlink) decode(*dec)              {}

func (m *Tmkdir) appendTo(b []byte) []byte {
	return put32(put32(putString(put32(b, m.Dfid), m.Name), m.Mode), m.GID)
}
func (m *Tmkdir) decode(d *dec) {
	m.Dfid, m.Name, m.Mode, m.GID = d.u32(), d.string(), d.u32(), d.u32()
}
func (m *Rmkdir) appendTo(b []byte) []byte { return putQID(b, m.QID) }
func (m *Rmkdir) decode(d *dec)            { m.QID = d.qid() }

func (m *Trenameat) appendTo(b []byte) []byte {
	b = putString(put32(b, m.OldDfid), m.OldName)
	return putString(put32(b, m.NewDfid), m.NewName)
}
func (m *Trenameat) decode(d *dec) {
	m.OldDfid, m.OldName, m.NewDfid, m.NewName = d.u32(), d.string(), d.u32(), d.string()
}
func (m *Rrenameat) appendTo(b []byte) []byte { return b }
func (m *Rrenameat) decode(*dec)              {}

func (m *Tunlinkat) appendTo(b []byte) []byte {
	return put32(putString(put32(b, m.Dfid), m.Name), m.Flags)
}
func (m *Tunlinkat) decode(d *dec)            { m.Dfid, m.Name, m.Flags = d.u32(), d.string(), d.u32() }
func (m *Runlinkat) appendTo(b []byte) []byte { return b }
func (m *Runlinkat) decode(*dec)              {}

func (m *Tread) appendTo(b []byte) []byte {
	return put32(put64(put32(b, m.Fid), m.Offset), m.Count)
}
func (m *Tread) decode(d *dec)            { m.Fid, m.Offset, m.Count = d.u32(), d.u64(), d.u32() }
func (m *Rread) appendTo(b []byte) []byte { return putBytes(b, m.Data) }
func (m *Rread) decode(d *dec)            { m.Data = d.bytes() }

func (m *Twrite) appendTo(b []byte) []byte {
	return putBytes(put64(put32(b, m.Fid), m.Offset), m.Data)
}
func (m *Twrite) decode(d *dec)            { m.Fid, m.Offset, m.Data = d.u32(), d.u64(), d.bytes() }
func (m *Rwrite) appendTo(b []byte) []byte { return put32(b, m.Count) }
func (m *Rwrite) decode(d *dec)            { m.Count = d.u32() }

func (m *Tclunk) appendTo(b []byte) []byte  { return put32(b, m.Fid) }
func (m *Tclunk) decode(d *dec)             { m.Fid = d.u32() }
func (m *Rclunk) appendTo(b []byte) []byte  { return b }
func (m *Rclunk) decode(*dec)               {}
func (m *Tremove) appendTo(b []byte) []byte { return put32(b, m.Fid) }
func (m *Tremove) decode(d *dec)            { m.Fid = d.u32() }
func (m *Rremove) appendTo(b []byte) []byte { return b }
func (m *Rremove) decode(*dec)              {}

func (m *Tstatfs) appendTo(b []byte) []byte { return put32(b, m.Fid) }
func (m *Tstatfs) decode(d *dec)            { m.Fid = d.u32() }
func (m *Rstatfs) appendTo(b []byte) []byte {
	s := &m.StatFS
	b = put64(put32(put32(b, s.Type), s.BlockSize), s.Blocks)
	b = put64(put64(put64(put64(b, s.Bfree), s.Bavail), s.Files), s.Ffree)
	return put32(put64(b, s.FSID), s.NameLen)
}
func (m *Rstatfs) decode(d *dec) {
	s := &m.StatFS
	s.Type, s.BlockSize, s.Blocks = d.u32(), d.u32(), d.u64()
	s.Bfree, s.Bavail, s.Files, s.Ffree = d.u64(), d.u64(), d.u64(), d.u64()
	s.FSID, s.NameLen = d.u64(), d.u32()
}

// Google's.

func (m *Tflushf) appendTo(b []byte) []byte { return put32(b, m.Fid) }
func (m *Tflushf) decode(d *dec)            { m.Fid = d.u32() }
func (m *Rflushf) appendTo(b []byte) []byte { return b }
func (m *Rflushf) decode(*dec)              {}

func (m *Twalkgetattr) appendTo(b []byte) []byte {
	return putStrings(put32(put32(b, m.Fid), m.NewFid), m.Names)
}
func (m *Twalkgetattr) decode(d *dec) {
	m.Fid, m.NewFid, m.Names = d.u32(), d.u32(), d.strings(m.Names)
}
func (m *Rwalkgetattr) appendTo(b []byte) []byte {
	return putQIDs(putAttr(put64(b, m.Valid), &m.Attr), m.QIDs)
}
func (m *Rwalkgetattr) decode(d *dec) {
	m.Valid, m.Attr.QID = d.u64(), QID{}
	d.attr(&m.Attr)
	m.QIDs = d.qids(m.QIDs)
}

func (m *Tucreate) appendTo(b []byte) []byte  { return put32(m.Tlcreate.appendTo(b), m.UID) }
func (m *Tucreate) decode(d *dec)             { m.Tlcreate.decode(d); m.UID = d.u32() }
func (m *Tumkdir) appendTo(b []byte) []byte   { return put32(m.Tmkdir.appendTo(b), m.UID) }
func (m *Tumkdir) decode(d *dec)              { m.Tmkdir.decode(d); m.UID = d.u32() }
func (m *Tumknod) appendTo(b []byte) []byte   { return put32(m.Tmknod.appendTo(b), m.UID) }
func (m *Tumknod) decode(d *dec)              { m.Tmknod.decode(d); m.UID = d.u32() }
func (m *Tusymlink) appendTo(b []byte) []byte { return put32(m.Tsymlink.appendTo(b), m.UID) }
func (m *Tusymlink) decode(d *dec)            { m.Tsymlink.decode(d); m.UID = d.u32() }
