package stable

import (
	"encoding/binary"

	"echo9/internal/records"
)

// Head begins every file.
const Head = "echo9 sessions 1\n"

// maxRecord bounds a record that is read.
const maxRecord = 16 << 20

// Append appends the record as it is in a file. Fields that do not count for its kind take a byte each.
func (r *Record) Append(b []byte) []byte {
	at := len(b)
	b = append(records.Begin(b), byte(r.Kind))
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
	return records.End(b, at)
}

// Read reads a file as far as it is whole. It gives what its records come to, and how many bytes were read: fewer
// than there are when the last write was cut short, 0 when it is no such file.
func Read(b []byte) (s *State, n int) {
	s = NewState()
	n = records.Read(b, Head, maxRecord, func(record []byte) bool {
		r, ok := decode(record)
		if ok {
			s.Apply(&r)
		}
		return ok
	})
	return s, n
}

func decode(record []byte) (r Record, ok bool) {
	d := records.Decode(record)
	r.Kind = Kind(d.Byte())
	if r.Kind == 0 || r.Kind >= lastKind {
		return r, false
	}
	r.Session, r.Epoch, r.ID, r.Count, r.Gen = d.Uint(), d.Uint(), d.Uint(), d.Uint(), d.Uint()
	r.Time, r.Dead, r.Flags, r.UID = int64(d.Uint()), d.Uint() != 0, d.Uint32(), d.Uint32()
	if r.Kind == Open {
		copy(r.Client[:], d.Bytes(16))
		copy(r.Secret[:], d.Bytes(16))
	}
	r.Aname, r.Name, r.Peer, r.Proc = d.String(), d.String(), d.String(), d.String()
	for range d.Count() {
		r.Users = append(r.Users, d.Uint32())
	}
	for range d.Count() {
		r.Lost = append(r.Lost, Lost{d.Uint(), d.Byte()})
	}
	r.Sessions = d.List()
	return r, d.Whole()
}
