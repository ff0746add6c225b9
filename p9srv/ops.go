package p9srv

import (
	"encoding/binary"
	"syscall"

	"echo9/internal/wire"
)

// op says how one type of request is treated.
type op struct {
	run  func(*request) error
	fids int // how many fids the message names that must exist
	// second is where the number of the second one lies in the body; <0: behind the string at -second.
	second int
	// update: it changes the tree, and so is refused from sessions with the extension.
	update bool
	// slow: it goes to a worker at once. quick: it never does, but by a hand-off.
	slow, quick bool
	google      int // least N of 9P2000.L.Google.N
	ext         bool
	// ordered ones are done in the order in which they arrived.
	ordered bool
}

// ops is the table of all requests; Tversion and Tflush are the leader's own.
var ops = [256]op{}

func init() {
	for typ, o := range map[uint8]op{
		wire.TypeTauth:        {run: (*request).auth},
		wire.TypeTattach:      {run: (*request).attach},
		wire.TypeTwalk:        {run: (*request).twalk, fids: 1},
		wire.TypeTclunk:       {run: (*request).clunk, fids: 1, quick: true},
		wire.TypeTremove:      {run: (*request).remove, fids: 1, update: true},
		wire.TypeTstatfs:      {run: (*request).statfs, fids: 1},
		wire.TypeTlopen:       {run: (*request).lopen, fids: 1},
		wire.TypeTlcreate:     {run: (*request).lcreate, fids: 1, update: true},
		wire.TypeTsymlink:     {run: (*request).symlink, fids: 1, update: true},
		wire.TypeTmknod:       {run: (*request).mknod, fids: 1, update: true},
		wire.TypeTmkdir:       {run: (*request).mkdir, fids: 1, update: true},
		wire.TypeTlink:        {run: (*request).link, fids: 2, second: 4, update: true},
		wire.TypeTrename:      {run: (*request).rename, fids: 2, second: 4, update: true},
		wire.TypeTrenameat:    {run: (*request).renameat, fids: 2, second: -4, update: true},
		wire.TypeTunlinkat:    {run: (*request).unlinkat, fids: 1, update: true},
		wire.TypeTreadlink:    {run: (*request).readlink, fids: 1},
		wire.TypeTgetattr:     {run: (*request).getattr, fids: 1},
		wire.TypeTsetattr:     {run: (*request).setattr, fids: 1, update: true},
		wire.TypeTxattrwalk:   {run: (*request).xattrwalk, fids: 1},
		wire.TypeTxattrcreate: {run: (*request).xattrcreate, fids: 1, update: true},
		wire.TypeTread:        {run: (*request).read, fids: 1},
		wire.TypeTwrite:       {run: (*request).write, fids: 1, update: true},
		wire.TypeTreaddir:     {run: (*request).readdir, fids: 1},
		wire.TypeTfsync:       {run: (*request).fsync, fids: 1, slow: true},
		wire.TypeTlock:        {run: (*request).lock, fids: 1},
		wire.TypeTgetlock:     {run: (*request).getlock, fids: 1},

		wire.TypeTflushf:      {run: (*request).flushf, fids: 1, google: 1},
		wire.TypeTwalkgetattr: {run: (*request).twalkgetattr, fids: 1, google: 2},
		wire.TypeTucreate:     {run: (*request).ucreate, fids: 1, google: 3, update: true},
		wire.TypeTumkdir:      {run: (*request).umkdir, fids: 1, google: 3, update: true},
		wire.TypeTumknod:      {run: (*request).umknod, fids: 1, google: 3, update: true},
		wire.TypeTusymlink:    {run: (*request).usymlink, fids: 1, google: 3, update: true},
	} {
		ops[typ] = o
	}
}

// named reads the numbers of the fids that a body names; the body has 4 bytes at least.
func (o *op) named(body []byte) (n1, n2 uint32, two bool) {
	n1 = binary.LittleEndian.Uint32(body)
	if o.fids < 2 {
		return n1, 0, false
	}
	at := o.second
	if at < 0 {
		at = -at
		if len(body) < at+2 {
			return n1, 0, false
		}
		at += 2 + int(binary.LittleEndian.Uint16(body[at:]))
	}
	if len(body) < at+4 {
		return n1, 0, false
	}
	return n1, binary.LittleEndian.Uint32(body[at:]), true
}

// errUpdate is the answer to a plain update of a session with the extension: those go by Tcommit.
const errUpdate = syscall.EOPNOTSUPP

// allowed tells whether the message is one of the version that was agreed to.
func (c *conn) allowed(r *request) error {
	switch {
	case c.version == "":
		return syscall.EPROTO
	case r.op.google > 0 && c.google < r.op.google:
		return syscall.EOPNOTSUPP
	case c.version != wire.ExtVersion:
		if r.op.ext {
			return syscall.EOPNOTSUPP
		}
	case r.op.update:
		return errUpdate
	case c.session.Load() == nil && !r.op.ext:
		return syscall.EPROTO
	}
	return nil
}

// iounit is what an open tells: as much as one message carries, in whole pages where that is some.
func (c *conn) iounit() uint32 {
	n := wire.MaxWrite(c.msize)
	if n > 4096 {
		n &^= 4095
	}
	return n
}
