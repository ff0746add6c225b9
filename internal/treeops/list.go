package treeops

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"syscall"

	"echo9/internal/wire"
)

// Entry is a name in a directory.
type Entry struct {
	Name string
	// Path is from the tree's root.
	Path string
	// Type is as d_type of readdir(3).
	Type uint8
	// Attr and Target are there where attributes were asked for.
	Attr   wire.Attr
	Target string
	// Sub are a directory's entries, from ReadTree.
	Sub []Entry
}

// Values of Entry.Type.
const (
	TypeDir     uint8 = syscall.DT_DIR
	TypeSymlink uint8 = syscall.DT_LNK
)

func typeOf(mode uint32) uint8 { return uint8(mode & typeMask >> 12) }

// List gives the entries of a directory (or the one of a file) by name, with
// attributes and link targets if attrs is set.
func (t *Tree) List(ctx context.Context, name string, attrs bool) ([]Entry, error) {
	n, err := t.Find(ctx, name, true)
	if isErrno(err, syscall.ENOENT) {
		n, err = t.Find(ctx, name, false) // a link that leads nowhere
	}
	if err != nil {
		return nil, err
	}
	defer n.Release()
	if !n.IsDir() {
		e, err := t.entry(ctx, n)
		e.Name = name
		return []Entry{e}, err
	}
	list, err := t.readDir(ctx, n)
	if err == nil && attrs && len(list) > 0 {
		err = runPool(ctx, min(t.opt.Workers, len(list)), func(_ context.Context, p *pool) error {
			for i := range list {
				p.add(func(ctx context.Context) error { return t.fillAttr(ctx, n, &list[i]) })
			}
			return nil
		})
	}
	return list, err
}

// ReadTree gives what List gives, with all that is below in Sub, down to
// maxDepth (0: all). Links are not followed.
func (t *Tree) ReadTree(ctx context.Context, name string, maxDepth int, attrs bool) ([]Entry, error) {
	n, err := t.Find(ctx, name, true)
	if err != nil {
		return nil, err
	}
	if !n.IsDir() {
		defer n.Release()
		e, err := t.entry(ctx, n)
		return []Entry{e}, err
	}
	var top Entry
	err = runPool(ctx, t.opt.Workers, func(ctx context.Context, p *pool) error {
		return t.readTree(ctx, p, p.own(n), &top, maxDepth, attrs)
	})
	return top.Sub, err
}

// readTree fills in into.Sub and frees n.
func (t *Tree) readTree(ctx context.Context, p *pool, n *Node, into *Entry, depth int, attrs bool) error {
	defer p.free(n)
	var err error
	into.Sub, err = t.readDir(ctx, n)
	if err != nil {
		return err
	}
	for i := range into.Sub {
		e := &into.Sub[i]
		descend := e.Type == TypeDir && depth != 1
		if !attrs && !descend {
			continue
		}
		obj, attr, err := n.Obj.Walk(ctx, t.cred, e.Name)
		if isErrno(err, syscall.ENOENT) {
			continue
		}
		if err != nil {
			return pathErr("stat", e.Path, err)
		}
		sub := &Node{Obj: obj, Attr: attr, Path: e.Path}
		if e.Attr = attr; sub.IsSymlink() {
			e.Target, err = obj.Readlink(ctx, t.cred)
		}
		if err != nil || !sub.IsDir() || depth == 1 {
			sub.Release()
			if err != nil {
				return pathErr("readlink", e.Path, err)
			}
			continue
		}
		p.own(sub)
		p.add(func(ctx context.Context) error { return t.readTree(ctx, p, sub, e, depth-1, attrs) })
	}
	return nil
}

func (t *Tree) entry(ctx context.Context, n *Node) (Entry, error) {
	e := Entry{Name: path.Base(n.Path), Path: n.Path, Type: typeOf(n.Attr.Mode), Attr: n.Attr}
	var err error
	if n.IsSymlink() {
		e.Target, err = n.Obj.Readlink(ctx, t.cred)
	}
	return e, pathErr("readlink", n.Path, err)
}

// Stat gives one path's attributes; of a link itself unless follow is set.
func (t *Tree) Stat(ctx context.Context, name string, follow bool) (Entry, error) {
	n, err := t.Find(ctx, name, follow)
	if err != nil {
		return Entry{}, err
	}
	defer n.Release()
	return t.entry(ctx, n)
}

func (t *Tree) fillAttr(ctx context.Context, dir *Node, e *Entry) error {
	obj, attr, err := dir.Obj.Walk(ctx, t.cred, e.Name)
	if isErrno(err, syscall.ENOENT) {
		return nil // it went away after it was listed
	}
	if err != nil {
		return pathErr("stat", e.Path, err)
	}
	defer obj.Release()
	e.Attr, e.Type = attr, typeOf(attr.Mode)
	if e.Type == TypeSymlink {
		e.Target, err = obj.Readlink(ctx, t.cred)
	}
	return pathErr("readlink", e.Path, err)
}

// readDir lists a directory by name, without "." and "..". A name that no file
// can have is a lie of the server, and an error.
func (t *Tree) readDir(ctx context.Context, n *Node) ([]Entry, error) {
	f, err := n.Obj.Open(ctx, t.cred, wire.ORdonly|wire.ODirectory)
	if err != nil {
		return nil, pathErr("open", n.Path, err)
	}
	var list []Entry
	var bad error
	var cookie uint64
	for more := true; more && err == nil && bad == nil; {
		more = false
		err = f.ReadDir(ctx, cookie, func(d wire.Dirent) bool {
			more = d.Offset != cookie
			cookie = d.Offset
			if d.Name == "." || d.Name == ".." {
				return true
			}
			if !validName(d.Name) {
				bad = errors.New("the server lists a name that no file can have")
				return false
			}
			e := Entry{Name: d.Name, Path: path.Join(n.Path, d.Name), Type: d.Type}
			// Some servers send no d_type, or something else in its place.
			switch {
			case d.QID.Type&wire.QTDir != 0:
				e.Type = TypeDir
			case d.QID.Type&wire.QTSymlink != 0:
				e.Type = TypeSymlink
			}
			list = append(list, e)
			return true
		})
	}
	if cerr := f.Close(ctx); err == nil {
		err = cerr
	}
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, pathErr("read directory", n.Path, err)
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}
