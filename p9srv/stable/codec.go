package stable

import (
	"encoding/binary"
	"hash/crc32"
)

// Head begins every file.
const Head = "echo9 sessions 1\n"

// frame is the length and the checksum before each record.
const frame = 8

// maxRecord bounds a record that is read.
const maxRecord = 16 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the record as it is in a file. Fields that do not count for its kind take a byte each.
func (r *Record) Append(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, frame)...)
	b = append(b, byte(r.Kind))
	dead := uint64(0)
	if r.Dead {
		dead = 1
	}
	for _, v := range []uint64{r.Session, r.Epoch, r.ID, r.Count, r.Gen, uint64(r.Time), dead, uint64(r.Flags), uint64(r.UID)} {
		b = binary.AppendUvarint(b, v)
	}
	if r.Kind == Open {
		b = append(append(b, r.Client[:]...), r.Secret[:]...)
	}
	for _, s := range []string{r.Aname, r.Name, r.Peer, r.Proc} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Users)))
	for _, u := range r.Users {
		b = binary.AppendUvarint(b, uint64(u))
	}
	b = binary.AppendUvarint(b, uint64(len(r.Lost)))
	for _, l := range r.Lost {
		b = append(binary.AppendUvarint(b, l.ID), l.Left)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Sessions)))
	for _, s := range r.Sessions {
		b = binary.AppendUvarint(b, s)
	}
	body := b[at+frame:]
	binary.LittleEndian.PutUint32(b[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(body, castagnoli))
	return b
}

// Read reads a file as far as it is whole. It gives what its records come to, and how many bytes were read: fewer
// than there are when the last write was cut short, 0 when it is no such file.
func Read(b []byte) (s *State, n int) {
	s = NewState()
	if len(b) < len(Head) || string(b[:len(Head)]) != Head {
		return s, 0
	}
	n = len(Head)
	for {
		r, size := next(b[n:])
		if size == 0 {
			return s, n
		}
		s.Apply(&r)
		n += size
	}
}

// next takes the first record; size 0: there is no whole one.
func next(b []byte) (r Record, size int) {
	if len(b) < frame {
		return r, 0
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxRecord || uint64(len(b)) < frame+uint64(n) {
		return r, 0
	}
	body := b[frame : frame+n]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return r, 0
	}
	d := decoder{b: body}
	r = d.record()
	if d.bad || len(d.b) > 0 {
		return Record{}, 0
	}
	return r, frame + int(n)
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if p := d.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) string() string { return string(d.bytes(d.uint())) }

// list reads how many elements follow, each of a byte at least.
func (d *decoder) list() uint64 {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return n
}

func (d *decoder) record() (r Record) {
	r.Kind = Kind(d.byte())
	if r.Kind == 0 || r.Kind >= lastKind {
		d.bad = true
		return r
	}
	r.Session, r.Epoch, r.ID, r.Count, r.Gen = d.uint(), d.uint(), d.uint(), d.uint(), d.uint()
	r.Time, r.Dead, r.Flags, r.UID = int64(d.uint()), d.uint() != 0, uint32(d.uint()), uint32(d.uint())
	if r.Kind == Open {
		copy(r.Client[:], d.bytes(16))
		copy(r.Secret[:], d.bytes(16))
	}
	r.Aname, r.Name, r.Peer, r.Proc = d.string(), d.string(), d.string(), d.string()
	for range d.list() {
		r.Users = append(r.Users, uint32(d.uint()))
	}
	for range d.list() {
		r.Lost = append(r.Lost, Lost{d.uint(), d.byte()})
	}
	for range d.list() {
		r.Sessions = append(r.Sessions, d.uint())
	}
	return r
}
