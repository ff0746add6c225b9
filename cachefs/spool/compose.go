package spool

import (
	"slices"
	"sort"
)

// Part is a run of a file's bytes.
type Part struct {
	Off, Len int64
	// At is where the bytes lie in the entry's "bytes", or zeros or unknown.
	At int64
}

const (
	zeros   = -1
	unknown = -2 // copied at the server, or would have been
)

func (p Part) end() int64 { return p.Off + p.Len }

// Composed is what lost operations make of a file.
type Composed struct {
	// Parts are the bytes that are known, in order, within Size. When Whole, all that is not in them is zeros; else it is as in the file
	// without the operations.
	Parts []Part
	Whole bool
	// Sized: the operations set the size, not only by writing beyond it.
	Sized bool
	Size  int64
	// Missing is how many bytes should have been copied at the server: they are not here.
	Missing int64
}

const endless = 1<<63 - 1

// Compose says what the operations of an entry make of a file.
func Compose(e *Entry, id uint64) Composed {
	var c Composed
	o := e.Object(id)
	if o == nil {
		return c
	}
	c.Whole, c.Sized, c.Size = o.Created, o.Created, int64(o.Size)
	for i := range e.Ops {
		op := &e.Ops[i]
		if op.Object != id {
			continue
		}
		off, n := int64(op.Offset), int64(op.Length)
		switch op.What {
		case "write":
			c.lay(Part{off, op.Bytes, op.At})
		case "punch":
			c.lay(Part{off, n, zeros})
		case "copy":
			c.lay(Part{off, n, unknown})
		case "truncate":
			c.Sized = true
			if op.Size == 0 {
				c.Whole, c.Parts = true, nil
				continue
			}
			c.lay(Part{int64(op.Size), endless - int64(op.Size), zeros})
		}
	}
	c.clip()
	return c
}

// lay puts a part over what is there.
func (c *Composed) lay(p Part) {
	if p.Len <= 0 {
		return
	}
	i := sort.Search(len(c.Parts), func(i int) bool { return c.Parts[i].end() > p.Off })
	j := sort.Search(len(c.Parts), func(j int) bool { return c.Parts[j].Off >= p.end() })
	with := make([]Part, 0, 3)
	if i < j && c.Parts[i].Off < p.Off {
		q := c.Parts[i]
		with = append(with, Part{q.Off, p.Off - q.Off, q.At})
	}
	with = append(with, p)
	if i < j && c.Parts[j-1].end() > p.end() {
		with = append(with, c.Parts[j-1].from(p.end()))
	}
	c.Parts = slices.Replace(c.Parts, i, j, with...)
}

// from is the rest of a part from off on.
func (p Part) from(off int64) Part {
	at := p.At
	if at >= 0 {
		at += off - p.Off
	}
	return Part{off, p.end() - off, at}
}

// clip takes away what is beyond the size, and what is not known.
func (c *Composed) clip() {
	var out []Part
	for _, p := range c.Parts {
		if p.Off >= c.Size {
			continue
		}
		p.Len = min(p.Len, c.Size-p.Off)
		switch {
		case p.At == unknown:
			c.Missing += p.Len
		case p.At == zeros && c.Whole: // as all that is in no part
		default:
			out = append(out, p)
		}
	}
	c.Parts = out
}
