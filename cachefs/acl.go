package cachefs

import (
	"encoding/binary"
	"slices"

	"echo9/cachefs/order"
	"echo9/internal/cut"
)

// POSIX ACLs as Linux's extended attributes carry them: a version, then entries of tag, permissions, id.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"

	aclVersion = 2
	aclEntry   = 8

	aclUserObj  = 0x01
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20
)

// xattrValue is an extended attribute that a new object gets.
type xattrValue struct {
	name  string
	value []byte
}

// inherit works out what a new object in dir has of dir's default ACL: it changes b.mode, and gives the attributes
// to set. Called with fs.mu held, with dir's token pinned.
func (t *turn) inherit(dir *node, b *birth) ([]xattrValue, error) {
	if b.kind == order.Symlink {
		return nil, nil
	}
	if err := t.wantXattr(dir, aclDefault); err != nil {
		return nil, err
	}
	def, exists, _ := dir.xattr(aclDefault)
	if !exists || !aclValid(def) {
		return nil, nil
	}
	acl := slices.Clone(def)
	extended := aclRestrict(acl, b.mode)
	mode, _ := aclMode(acl)
	b.mode = b.mode&^0o777 | mode
	var out []xattrValue
	if extended {
		out = append(out, xattrValue{aclAccess, acl})
	}
	if b.kind == order.Mkdir {
		out = append(out, xattrValue{aclDefault, slices.Clone(def)})
	}
	return out, nil
}

// chmodACL keeps an access ACL that is known in step with the permission bits; one that is not known the
// server keeps so. Called with fs.mu held, with n's token pinned for writing.
func (t *turn) chmodACL(n *node) {
	acl, exists, known := n.xattr(aclAccess)
	if !known || !exists || !aclValid(acl) {
		return
	}
	acl = slices.Clone(acl)
	aclSetMode(acl, n.attr.Mode)
	n.xattrs[aclAccess] = acl
	t.append(&order.Op{Kind: order.SetXattr, ID: n.id, Name: aclAccess, Bytes: acl, Attrs: []order.Attr{n.final(cut.AttrCtime)}})
}

func aclValid(acl []byte) bool {
	return len(acl) >= 4 && (len(acl)-4)%aclEntry == 0 && binary.LittleEndian.Uint32(acl) == aclVersion
}

// aclEach calls fn with the tag and permissions of each entry.
func aclEach(acl []byte, fn func(tag uint16, perm []byte)) {
	for e := acl[4:]; len(e) >= aclEntry; e = e[aclEntry:] {
		fn(binary.LittleEndian.Uint16(e), e[2:4])
	}
}

// aclExtended tells whether an ACL says more than permission bits can.
func aclExtended(acl []byte) (extended bool) {
	aclEach(acl, func(tag uint16, _ []byte) {
		extended = extended || tag != aclUserObj && tag != aclGroupObj && tag != aclOther
	})
	return extended
}

// aclRestrict takes off an inherited ACL what mode does not grant, and tells whether it says more than mode can.
func aclRestrict(acl []byte, mode uint32) (extended bool) {
	masked := false
	aclEach(acl, func(tag uint16, _ []byte) { masked = masked || tag == aclMask })
	aclEach(acl, func(tag uint16, perm []byte) {
		keep := uint32(7)
		switch {
		case tag == aclUserObj:
			keep = mode >> 6
		case tag == aclMask, tag == aclGroupObj && !masked:
			keep = mode >> 3
		case tag == aclOther:
			keep = mode
		}
		perm[0] &= byte(keep & 7)
	})
	return aclExtended(acl)
}

// aclSetMode puts permission bits into an ACL, as chmod does.
func aclSetMode(acl []byte, mode uint32) {
	masked := false
	aclEach(acl, func(tag uint16, _ []byte) { masked = masked || tag == aclMask })
	aclEach(acl, func(tag uint16, perm []byte) {
		switch {
		case tag == aclUserObj:
			perm[0] = byte(mode >> 6 & 7)
		case tag == aclMask, tag == aclGroupObj && !masked:
			perm[0] = byte(mode >> 3 & 7)
		case tag == aclOther:
			perm[0] = byte(mode & 7)
		}
	})
}

// aclMode gives the permission bits that an access ACL means.
func aclMode(acl []byte) (mode uint32, ok bool) {
	if !aclValid(acl) {
		return 0, false
	}
	masked := false
	aclEach(acl, func(tag uint16, _ []byte) { masked = masked || tag == aclMask })
	aclEach(acl, func(tag uint16, perm []byte) {
		p := uint32(perm[0] & 7)
		switch {
		case tag == aclUserObj:
			mode |= p << 6
		case tag == aclMask, tag == aclGroupObj && !masked:
			mode |= p << 3
		case tag == aclOther:
			mode |= p
		}
	})
	return mode, true
}
