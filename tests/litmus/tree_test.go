package litmus

import (
	"fmt"
	"maps"
	"slices"

	"echo9/internal/cut"
)

// isDirectory stands for a directory where others have a content.
const isDirectory = "/"

// tree is a file system in memory that takes cuts: what a server has, as far as the programs show it.
type tree map[uint64]object

type object struct {
	content string // or a symlink's target after "-> ", or isDirectory
	entries map[string]uint64
}

// after gives the tree that a cut makes of t, which is not changed.
func (t tree) after(records []cut.Record) (tree, error) {
	n := tree{}
	for id, o := range t {
		o.entries = maps.Clone(o.entries)
		n[id] = o
	}
	const typeMask, typeDir, typeLink = 0o170000, 0o040000, 0o120000
	for _, r := range records {
		switch {
		case r.Kind != cut.Create:
		case r.Mode&typeMask == typeDir:
			n[r.ID] = object{content: isDirectory, entries: map[string]uint64{}}
		case r.Mode&typeMask == typeLink:
			n[r.ID] = object{content: "-> " + r.Target}
		default:
			n[r.ID] = object{}
		}
	}
	resize := func(id, size uint64) {
		o := n[id]
		for uint64(len(o.content)) < size {
			o.content += "\x00"
		}
		o.content = o.content[:size]
		n[id] = o
	}
	for _, r := range records {
		if r.Kind == cut.Truncate && uint64(len(n[r.ID].content)) > r.Size {
			resize(r.ID, r.Size)
		}
	}
	for _, r := range records {
		if end := r.Off + uint64(len(r.Bytes)); r.Kind == cut.Data {
			if uint64(len(n[r.ID].content)) < end {
				resize(r.ID, end)
			}
			o := n[r.ID]
			o.content = o.content[:r.Off] + string(r.Bytes) + o.content[end:]
			n[r.ID] = o
		}
	}
	for _, r := range records {
		switch r.Kind {
		case cut.Create, cut.Truncate, cut.Data, cut.Keep, cut.Release:
		case cut.Attr:
			if r.Valid&cut.AttrSize != 0 {
				resize(r.ID, r.Size)
			}
		case cut.Bind:
			d := n[r.Dir]
			if d.entries == nil || d.entries[r.Name] != r.Before {
				return nil, fmt.Errorf("(%d, %q) is bound to %d, not to %d", r.Dir, r.Name, d.entries[r.Name], r.Before)
			}
			if _, there := n[r.ID]; r.ID != 0 && !there {
				return nil, fmt.Errorf("(%d, %q) is to be bound to %d, which is not there", r.Dir, r.Name, r.ID)
			}
			if d.entries[r.Name] = r.ID; r.ID == 0 {
				delete(d.entries, r.Name)
			}
		default:
			return nil, fmt.Errorf("the programs do nothing that makes records of kind %d", r.Kind)
		}
	}
	return n, nil
}

// paths tells what the tree has, by path, as host does of a directory.
func (t tree) paths(root uint64) map[string]string {
	seen := map[string]string{}
	var walk func(id uint64, at string)
	walk = func(id uint64, at string) {
		for _, name := range slices.Sorted(maps.Keys(t[id].entries)) {
			child := t[id].entries[name]
			seen[at+name] = t[child].content
			walk(child, at+name+"/")
		}
	}
	walk(root, "")
	return seen
}
