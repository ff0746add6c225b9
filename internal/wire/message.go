package wire

import (
	"encoding/binary"
	"fmt"
)

// Message is one message: a pointer to one of the T… or R… structs.
type Message interface {
	// Type is the message's number on the wire.
	Type() uint8
	// String is the message in trace format, without its tag.
	String() string

	appendTo(b []byte) []byte
	decode(d *dec)
}

// Sizes. What fits an msize is told by MaxRead, MaxWrite and MaxReaddir.
const (
	// HeaderSize is the size of size[4] type[1] tag[2].
	HeaderSize = 7
	// RreadOverhead is what a frame of Rread or Rreaddir has besides its payload.
	RreadOverhead = HeaderSize + 4
	// TwriteOverhead is what a frame of Twrite has besides its payload.
	TwriteOverhead = HeaderSize + 4 + 8 + 4
	// MinMsize is the smallest msize worth talking with: every message
	// without payload fits it.
	MinMsize = 4096
	// MaxWalk is the largest number of names in a walk.
	MaxWalk = 16
	// MaxString is the longest string on the wire, in bytes.
	MaxString = 1<<16 - 1
)

// Version9P is the version string of plain 9P2000.L, VersionUnknown a server's
// answer to a version that it does not know.
const (
	Version9P      = "9P2000.L"
	VersionUnknown = "unknown"
)

// ProtocolError is the error of a peer that breaks the protocol.
type ProtocolError struct {
	Type uint8  // of the message
	Rule string // that was broken
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("bad %s: %s", TypeName(e.Type), e.Rule)
}

// AppendFrame appends the whole frame of m. It panics when a string of m is
// longer than MaxString, or a cut.Record's kind is none: whoever makes messages
// checks what comes from outside.
func AppendFrame(dst []byte, tag uint16, m Message) []byte {
	start := len(dst)
	dst = appendHeader(dst, 0, m.Type(), tag)
	dst = m.appendTo(dst)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

// AppendRreadHeader appends what precedes the payload in a frame of Rread with
// n bytes. Whoever reads a file straight into buf[RreadOverhead:] puts it in
// place with AppendRreadHeader(buf[:0], tag, n).
func AppendRreadHeader(dst []byte, tag uint16, n int) []byte {
	return put32(appendHeader(dst, RreadOverhead+n, TypeRread, tag), uint32(n))
}

// AppendTwriteHeader appends what precedes the payload in a frame of Twrite
// with n bytes.
func AppendTwriteHeader(dst []byte, tag uint16, fid uint32, off uint64, n int) []byte {
	dst = appendHeader(dst, TwriteOverhead+n, TypeTwrite, tag)
	return put32(put64(put32(dst, fid), off), uint32(n))
}

func appendHeader(b []byte, size int, typ uint8, tag uint16) []byte {
	return put16(append(put32(b, uint32(size)), typ), tag)
}

// Decode decodes the body of a frame of type typ into m, which must be of that
// type. m's slices are used again where they have room; its payloads alias body.
func Decode(typ uint8, body []byte, m Message) error {
	if typ != m.Type() {
		return &ProtocolError{typ, "unexpected, " + TypeName(m.Type()) + " is due"}
	}
	d := decoders.Get().(*dec)
	d.b, d.rule = body, ""
	m.decode(d)
	if d.rule == "" && len(d.b) > 0 {
		d.fail(fmt.Sprintf("%d bytes too many", len(d.b)))
	}
	rule := d.rule
	d.b = nil
	decoders.Put(d)
	if rule != "" {
		return &ProtocolError{typ, rule}
	}
	return nil
}

// MaxRead tells how many bytes an Rread of that msize can carry.
func MaxRead(msize uint32) uint32 { return less(msize, RreadOverhead) }

// MaxWrite tells how many bytes a Twrite of that msize can carry.
func MaxWrite(msize uint32) uint32 { return less(msize, TwriteOverhead) }

// MaxReaddir tells how many bytes of entries an Rreaddir of that msize can carry.
func MaxReaddir(msize uint32) uint32 { return less(msize, RreadOverhead) }

func less(a, b uint32) uint32 {
	if a < b {
		return 0
	}
	return a - b
}
