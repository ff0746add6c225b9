package wire

import (
	"encoding/binary"
	"iter"
)

// direntFixed is qid[13] offset[8] type[1] and the length of name[s].
const direntFixed = qidSize + 8 + 1 + 2

// DirentSize is the size of an entry with so long a name in an Rreaddir.
func DirentSize(name int) int { return direntFixed + name }

// AppendDirent appends an entry to the Data of an Rreaddir.
func AppendDirent[S string | []byte](b []byte, qid QID, offset uint64, typ uint8, name S) []byte {
	b = append(put64(putQID(b, qid), offset), typ)
	return append(put16(b, uint16(len(name))), name...)
}

// Entries are the entries of a decoded Rreaddir.
func (m *Rreaddir) Entries() iter.Seq[Dirent] {
	return func(yield func(Dirent) bool) {
		for p := m.Data; len(p) >= direntFixed; {
			n := int(binary.LittleEndian.Uint16(p[direntFixed-2:]))
			if len(p) < direntFixed+n {
				return
			}
			e := Dirent{
				QID:    QID{p[0], binary.LittleEndian.Uint32(p[1:]), binary.LittleEndian.Uint64(p[5:])},
				Offset: binary.LittleEndian.Uint64(p[13:]),
				Type:   p[21],
				Name:   string(p[direntFixed : direntFixed+n]),
			}
			p = p[direntFixed+n:]
			if !yield(e) {
				return
			}
		}
	}
}
