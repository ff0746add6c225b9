package wire

import (
	"math/bits"

	"echo9/internal/cut"
)

// What frames of the extension have besides their elements, so that whoever
// fills one knows what else fits an msize.
const (
	// TcommitOverhead is Tcommit's frame without fence and records.
	TcommitOverhead = HeaderSize + 8 + 4 + 4 + 4 + 4
	// RgrantOverhead is Rgrant's frame without tokens.
	RgrantOverhead = HeaderSize + 4 + 4
	// RrecallOverhead is Rrecall's frame without tokens.
	RrecallOverhead = HeaderSize + 4 + 4 + 4
	// TreturnOverhead is Treturn's frame without tokens.
	TreturnOverhead = HeaderSize + 4
	// RreaddirplusOverhead is Rreaddirplus's frame without directories.
	RreaddirplusOverhead = HeaderSize + 4 + 4
	// PlusDirSize is a PlusDir without its entries.
	PlusDirSize = plusDirMin
	// FenceSize is the size of a cut.Fence.
	FenceSize = fenceSize
	// RecallElemSize is the size of a RecallElem.
	RecallElemSize = recallSize
	// ReturnElemSize is the size of a ReturnElem.
	ReturnElemSize = returnSize
	// TgrantOverhead is Tgrant's frame without elements.
	TgrantOverhead = HeaderSize + 4 + 4 + 4
)

// TcommitSize is the size of m's frame.
func TcommitSize(m *Tcommit) int {
	n := TcommitOverhead + len(m.Fence)*FenceSize
	for i := range m.Records {
		n += RecordSize(&m.Records[i])
	}
	return n
}

// RecordSize is the size of r in a Tcommit.
func RecordSize(r *cut.Record) int {
	switch r.Kind {
	case cut.Create:
		return recordMin + 3*4 + 8 + 2 + len(r.Target)
	case cut.Bind:
		return recordMin + 8 + 2 + len(r.Name) + 8
	case cut.Attr:
		small := bits.OnesCount32(r.Valid & (cut.AttrMode | cut.AttrUID | cut.AttrGID))
		large := bits.OnesCount32(r.Valid & (cut.AttrSize | cut.AttrAtime | cut.AttrMtime | cut.AttrCtime))
		return recordMin + 4 + 4*small + 8*large
	case cut.Truncate:
		return recordMin + 8
	case cut.Data:
		return recordMin + 8 + 4 + len(r.Bytes)
	case cut.Zero, cut.Allocate:
		return recordMin + 16
	case cut.SetXattr:
		return recordMin + 2 + len(r.Name) + 4 + len(r.Bytes)
	case cut.RemoveXattr:
		return recordMin + 2 + len(r.Name)
	case cut.Copy:
		return recordMin + 32
	}
	return recordMin
}

// GrantElemSize is the size of e in a Tgrant.
func GrantElemSize(e *GrantElem) int { return grantElemMin + len(e.Name) }

// GrantedSize is the size of g in an Rgrant.
func GrantedSize(g *Granted) int {
	n := grantedMin
	if g.Flags&GrantedAttr != 0 {
		n += attrSize + 2 + len(g.Target)
	}
	if g.Flags&GrantedInline != 0 {
		n += 4 + len(g.Inline)
	}
	return n
}

// PlusEntrySize is the size of e in a PlusDir.
func PlusEntrySize(e *PlusEntry) int {
	return plusEntryMin - grantedMin + len(e.Name) + GrantedSize(&e.Token)
}
