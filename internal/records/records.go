// Package records is how files of small records are written: a head, and then records, each with its length and
// checksum before it, in the order in which they became true; and the fields of which a record is made.
//
// It promises that of a file that was cut off at any byte, or in which a byte is not what it was, exactly the whole
// records before that are read. A file whose end is zeros ends before them.
//
// It never does I/O, and knows nothing of what the records say.
//
// # Concurrency
//
// Everything here is plain data.
package records

import (
	"encoding/binary"
	"hash/crc32"
)

// frame is the length and the checksum before each record.
const frame = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Begin appends what comes before a record. The record is to be appended behind it, and then End called.
func Begin(b []byte) []byte { return append(b, make([]byte, frame)...) }

// End ends the record that Begin began when its argument had at bytes. It may not be empty.
func End(b []byte, at int) []byte {
	body := b[at+frame:]
	if len(body) == 0 {
		panic("records: an empty record")
	}
	binary.LittleEndian.PutUint32(b[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(body, castagnoli))
	return b
}

// Read gives take the records of a file that begins with head, one after the other, until one is not whole, is longer
// than most, or take says that it is none. It returns how many bytes were read: 0 when it is no such file.
func Read(b []byte, head string, most int, take func(record []byte) bool) (n int) {
	if len(b) < len(head) || string(b[:len(head)]) != head {
		return 0
	}
	n = len(head)
	for {
		body := next(b[n:], most)
		if body == nil || !take(body) {
			return n
		}
		n += frame + len(body)
	}
}

// next is the first record; nil: there is no whole one.
func next(b []byte, most int) []byte {
	if len(b) < frame {
		return nil
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	if n == 0 || n > uint64(most) || n > uint64(len(b)-frame) {
		return nil
	}
	body := b[frame : frame+n]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return nil
	}
	return body
}
