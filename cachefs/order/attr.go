package order

import "echo9/internal/cut"

// allAttrs are the bits of Attr.Valid.
const allAttrs = cut.AttrMode | cut.AttrUID | cut.AttrGID | cut.AttrSize | cut.AttrAtime | cut.AttrMtime | cut.AttrCtime

// attrTimes are those of times.
const attrTimes = cut.AttrAtime | cut.AttrMtime | cut.AttrCtime

// lay takes over the attributes of b that bits names.
func (a *Attr) lay(b Attr, bits uint32) {
	a.Valid |= bits
	if bits&cut.AttrMode != 0 {
		a.Mode = b.Mode
	}
	if bits&cut.AttrUID != 0 {
		a.UserID = b.UserID
	}
	if bits&cut.AttrGID != 0 {
		a.GroupID = b.GroupID
	}
	if bits&cut.AttrSize != 0 {
		a.Size = b.Size
	}
	if bits&cut.AttrAtime != 0 {
		a.Atime = b.Atime
	}
	if bits&cut.AttrMtime != 0 {
		a.Mtime = b.Mtime
	}
	if bits&cut.AttrCtime != 0 {
		a.Ctime = b.Ctime
	}
}
