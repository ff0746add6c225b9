package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
)

func put16(b []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(b, v) }
func put32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func put64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func putString(b []byte, s string) []byte {
	if len(s) > MaxString {
		panic(fmt.Sprintf("wire: a string of %d bytes does not fit a message", len(s)))
	}
	return append(put16(b, uint16(len(s))), s...)
}

func putBytes(b, p []byte) []byte { return append(put32(b, uint32(len(p))), p...) }

func putQID(b []byte, q QID) []byte {
	return put64(put32(append(b, q.Type), q.Version), q.Path)
}

func putStrings(b []byte, ss []string) []byte {
	b = put16(b, uint16(len(ss)))
	for _, s := range ss {
		b = putString(b, s)
	}
	return b
}

func putQIDs(b []byte, qs []QID) []byte {
	b = put16(b, uint16(len(qs)))
	for _, q := range qs {
		b = putQID(b, q)
	}
	return b
}

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// putTime puts a time as 9P2000.L has it: sec[8] nsec[8].
func putTime(b []byte, ns int64) []byte {
	sec, nsec := ns/1e9, ns%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return put64(put64(b, uint64(sec)), uint64(nsec))
}

// dec takes a body apart. After the first failure every value is zero.
type dec struct {
	b    []byte
	rule string // that was broken, or empty
}

// decoders spares an allocation a frame: a dec escapes through Message.decode.
var decoders = sync.Pool{New: func() any { return new(dec) }}

func (d *dec) fail(rule string) {
	if d.rule == "" {
		d.rule = rule
	}
	d.b = nil
}

// take gives the next n bytes, or nil.
func (d *dec) take(n int) []byte {
	if n > len(d.b) {
		d.fail(fmt.Sprintf("truncated, %d bytes are due and %d left", n, len(d.b)))
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *dec) u8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *dec) u16() uint16 {
	if p := d.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (d *dec) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *dec) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *dec) i64() int64 { return int64(d.u64()) }

func (d *dec) bool() bool {
	v := d.u8()
	if v > 1 {
		d.fail(fmt.Sprintf("%d is neither true nor false", v))
	}
	return v == 1
}

func (d *dec) string() string { return string(d.take(int(d.u16()))) }

// bytes gives count[4] data[count], aliasing the body; nil when there are none.
func (d *dec) bytes() []byte {
	n := d.u32()
	if uint64(n) > uint64(len(d.b)) {
		d.fail(fmt.Sprintf("a count of %d bytes, %d are left", n, len(d.b)))
		return nil
	}
	if n == 0 {
		return nil
	}
	return d.take(int(n))
}

func (d *dec) qid() QID {
	return QID{Type: d.u8(), Version: d.u32(), Path: d.u64()}
}

// count checks a count of things that take at least size bytes each.
func (d *dec) count(n uint32, size int) int {
	if uint64(n)*uint64(size) > uint64(len(d.b)) {
		d.fail(fmt.Sprintf("a count of %d, the %d bytes left cannot hold it", n, len(d.b)))
		return 0
	}
	return int(n)
}

func (d *dec) strings(into []string) []string {
	into = into[:0]
	for range d.count(uint32(d.u16()), 2) {
		into = append(into, d.string())
	}
	return into
}

func (d *dec) qids(into []QID) []QID {
	into = into[:0]
	for range d.count(uint32(d.u16()), qidSize) {
		into = append(into, d.qid())
	}
	return into
}

// time takes sec[8] nsec[8]. Peers leave times that are not valid unset, so
// what no int64 of nanoseconds can hold is clamped, not refused.
func (d *dec) time() int64 {
	sec, nsec := d.i64(), d.u64()
	const most = math.MaxInt64 / 1_000_000_000
	if nsec > 999_999_999 {
		nsec = 999_999_999
	}
	switch {
	case sec >= most:
		return math.MaxInt64 / 1_000_000_000 * 1_000_000_000
	case sec <= -most:
		return -most * 1_000_000_000
	}
	return sec*1_000_000_000 + int64(nsec)
}

const qidSize = 13

// The attributes as Rgetattr and Rwalkgetattr have them, without the qid.
func putAttr(b []byte, a *Attr) []byte {
	b = put32(put32(put32(b, a.Mode), a.UID), a.GID)
	b = put64(put64(put64(b, a.Nlink), a.Rdev), a.Size)
	b = put64(put64(b, a.BlockSize), a.Blocks)
	b = putTime(putTime(putTime(putTime(b, a.Atime), a.Mtime), a.Ctime), a.Btime)
	return put64(put64(b, a.Gen), a.DataVersion)
}

func (d *dec) attr(a *Attr) {
	a.Mode, a.UID, a.GID = d.u32(), d.u32(), d.u32()
	a.Nlink, a.Rdev, a.Size = d.u64(), d.u64(), d.u64()
	a.BlockSize, a.Blocks = d.u64(), d.u64()
	a.Atime, a.Mtime, a.Ctime, a.Btime = d.time(), d.time(), d.time(), d.time()
	a.Gen, a.DataVersion = d.u64(), d.u64()
	a.Flags = 0
}
