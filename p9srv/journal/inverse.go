package journal

import "echo9/internal/cut"

// Inverse gives the records of the cut that undoes c: names change back, attributes and
// extended attributes are what they were, what was overwritten or cut off is there again. What c
// created has no name after it. A change of times that only came along with something else is undone, too.
func Inverse(c *Cut) []cut.Record {
	written := map[uint64]bool{}
	content := map[uint64]bool{}
	xattrs := map[uint64]bool{}
	var out []cut.Record
	for i := range c.Records {
		r := &c.Records[i]
		switch r.Kind {
		case cut.Bind:
			written[r.Dir] = true
			out = append(out, cut.Record{Kind: cut.Bind, Dir: r.Dir, Name: r.Name, ID: r.Before, Before: r.ID})
			continue
		case cut.Truncate, cut.Data, cut.Zero, cut.Allocate, cut.Copy:
			content[r.ID] = true
		case cut.Attr:
			content[r.ID] = content[r.ID] || r.Valid&cut.AttrSize != 0
		case cut.SetXattr, cut.RemoveXattr:
			xattrs[r.ID] = true
		default:
			continue
		}
		written[r.ID] = true
	}
	for i := range c.Objects {
		o := &c.Objects[i]
		if o.Born || !written[o.ID] {
			continue
		}
		b := &o.Before
		back := cut.Record{
			Kind: cut.Attr, ID: o.ID,
			Valid: cut.AttrMode | cut.AttrUID | cut.AttrGID | cut.AttrAtime | cut.AttrMtime | cut.AttrCtime,
			Mode:  b.Mode & 0o7777, UserID: b.UID, GroupID: b.GID, Atime: b.Atime, Mtime: b.Mtime, Ctime: b.Ctime,
		}
		if content[o.ID] {
			out = append(out, cut.Record{Kind: cut.Truncate, ID: o.ID, Size: b.Size})
			for _, old := range o.Overwritten {
				out = append(out, cut.Record{Kind: cut.Data, ID: o.ID, Off: old.Off, Bytes: old.B})
			}
			back.Valid |= cut.AttrSize
			back.Size = b.Size
		}
		out = append(out, back)
		if !xattrs[o.ID] {
			continue
		}
		for _, x := range o.Xattrs {
			r := cut.Record{Kind: cut.RemoveXattr, ID: o.ID, Name: x.Name}
			if x.Was {
				r.Kind, r.Bytes = cut.SetXattr, x.Value
			}
			out = append(out, r)
		}
	}
	return out
}
