package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
)

// A segment file begins with a block of its own, written once, before the segment is used:
//
//	magic[8] version[4] block[4] seq[8] salt[8] size[8] zero[20] crc[4]
//
// Entries follow each other from the second block on, each beginning at a multiple of 8:
//
//	magic[4] version[1] kind[1] zero[2] length[4] crc of the payload[4] lsn[8] durable[8] zero[4] crc[4] payload[length]
//
// The header's crc is begun with the segment's salt and the entry's place. So what a segment had
// before it was recycled is no entry, nor is an entry that lies elsewhere, nor the content of a file that
// looks like one: nobody outside knows the salt.
const (
	blockSize     = 4096
	segmentMagic  = "echo9log"
	formatVersion = 1
	headerSize    = 40
	entryMagic    = "e9en"
	maxPayload    = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// align gives the next multiple of n, a power of two.
func align(v, n int64) int64 { return (v + n - 1) &^ (n - 1) }

// entrySpace is the space that an entry with so much payload takes.
func entrySpace(payload int64) int64 { return align(headerSize+payload, 8) }

// segmentName is the name of the segment with number seq. Among segments with entries,
// those with a higher number have later ones.
func segmentName(seq uint64) string { return fmt.Sprintf("%08d", seq) }

// segmentSeq is the inverse.
func segmentSeq(name string) (uint64, bool) {
	seq, err := strconv.ParseUint(name, 10, 64)
	return seq, err == nil && seq > 0 && segmentName(seq) == name
}

// segmentHead is a segment's first block.
type segmentHead struct {
	seq, salt uint64
	size      int64
}

func (h segmentHead) encode() []byte {
	b := make([]byte, blockSize)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], blockSize)
	binary.LittleEndian.PutUint64(b[16:], h.seq)
	binary.LittleEndian.PutUint64(b[24:], h.salt)
	binary.LittleEndian.PutUint64(b[32:], uint64(h.size))
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// errVersion: whole, but of another version.
type errVersion uint32

func (v errVersion) Error() string {
	return fmt.Sprintf("it has version %d, and this echo9 reads version %d", uint32(v), formatVersion)
}

func decodeSegmentHead(b []byte) (h segmentHead, err error) {
	if len(b) < blockSize {
		return h, fmt.Errorf("it has %d bytes only", len(b))
	}
	if string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return h, fmt.Errorf("its first block is not whole")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return h, errVersion(v)
	}
	h.seq = binary.LittleEndian.Uint64(b[16:])
	h.salt = binary.LittleEndian.Uint64(b[24:])
	h.size = int64(binary.LittleEndian.Uint64(b[32:]))
	return h, nil
}

// entryHead is the header of an entry.
type entryHead struct {
	kind         uint8
	length       uint32
	payloadCRC   uint32
	lsn, durable LSN
}

// seed begins the checksum of the header of an entry at offset off.
func seed(salt uint64, off int64) uint32 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], salt)
	binary.LittleEndian.PutUint64(b[8:], uint64(off))
	return crc32.Checksum(b[:], castagnoli)
}

// put writes the header to the first headerSize bytes of b.
func (h *entryHead) put(b []byte, salt uint64, off int64) {
	b = b[:headerSize]
	clear(b)
	copy(b, entryMagic)
	b[4], b[5] = formatVersion, h.kind
	binary.LittleEndian.PutUint32(b[8:], h.length)
	binary.LittleEndian.PutUint32(b[12:], h.payloadCRC)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.lsn))
	binary.LittleEndian.PutUint64(b[24:], uint64(h.durable))
	binary.LittleEndian.PutUint32(b[36:], crc32.Update(seed(salt, off), castagnoli, b[:36]))
}

// get reads the header of an entry at offset off, and says whether it is whole.
func (h *entryHead) get(b []byte, salt uint64, off int64) bool {
	if len(b) < headerSize || string(b[:4]) != entryMagic {
		return false
	}
	if binary.LittleEndian.Uint32(b[36:]) != crc32.Update(seed(salt, off), castagnoli, b[:36]) {
		return false
	}
	h.kind = b[5]
	h.length = binary.LittleEndian.Uint32(b[8:])
	h.payloadCRC = binary.LittleEndian.Uint32(b[12:])
	h.lsn = LSN(binary.LittleEndian.Uint64(b[16:]))
	h.durable = LSN(binary.LittleEndian.Uint64(b[24:]))
	return true
}
