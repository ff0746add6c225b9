package records

import "encoding/binary"

// Decoder takes the fields of a record from its beginning. After anything that is not so it is bad, and gives zeros.
type Decoder struct {
	rest []byte
	bad  bool
}

// Decode begins to take the fields of a record. What they give may be parts of it.
func Decode(record []byte) Decoder { return Decoder{rest: record} }

// Whole says that nothing was bad, and nothing is left.
func (d *Decoder) Whole() bool { return !d.bad && len(d.rest) == 0 }

// Fail makes it bad.
func (d *Decoder) Fail() { d.bad, d.rest = true, nil }

// Uint takes what binary.AppendUvarint wrote.
func (d *Decoder) Uint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.Fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// Uint32 takes a Uint of no more than 32 bits.
func (d *Decoder) Uint32() uint32 {
	v := d.Uint()
	if v > 1<<32-1 {
		d.Fail()
		return 0
	}
	return uint32(v)
}

// Int takes what binary.AppendVarint wrote.
func (d *Decoder) Int() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.Fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// Byte takes one.
func (d *Decoder) Byte() byte {
	if p := d.Bytes(1); p != nil {
		return p[0]
	}
	return 0
}

// Bytes takes n of them: a part of the record.
func (d *Decoder) Bytes(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.Fail()
		return nil
	}
	p := d.rest[:n]
	d.rest = d.rest[n:]
	return p
}

// String takes a string behind its length.
func (d *Decoder) String() string { return string(d.Bytes(d.Uint())) }

// Count takes how many elements follow, each of a byte at least.
func (d *Decoder) Count() uint64 {
	n := d.Uint()
	if n > uint64(len(d.rest)) {
		d.Fail()
		return 0
	}
	return n
}

// List takes Uints behind how many they are.
func (d *Decoder) List() []uint64 {
	var vs []uint64
	for range d.Count() {
		vs = append(vs, d.Uint())
	}
	return vs
}
