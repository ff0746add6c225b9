package treeops

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// Options of a Tree. The zero value is usable.
type Options struct {
	// Workers bounds the operations in flight of one recursive operation; 0: 32.
	Workers int
	// Chunk is the size of one read or write; 0: 512 KiB.
	Chunk int
	// Ahead is how many chunks of one file are in flight; 0: 8.
	Ahead int
	// Umask takes permissions from the files that Touch and Truncate make.
	Umask uint32
	// Progress, if not nil, is told of every file and byte copied, from many goroutines.
	Progress func(files, bytes int64)
	// Warn, if not nil, is told what a recursive copy left out.
	Warn func(name, why string)
}

// Tree is a root directory of a Backend and the user who works on it.
type Tree struct {
	b    p9srv.Backend
	cred *p9srv.Cred
	root p9srv.Object
	opt  Options
}

// New gives the tree below aname. Close gives its root back.
func New(ctx context.Context, b p9srv.Backend, cred *p9srv.Cred, aname string, opt Options) (*Tree, error) {
	root, err := b.Root(ctx, cred, aname)
	if err != nil {
		return nil, pathErr("attach", aname, err)
	}
	t := &Tree{b: b, cred: cred, root: root}
	return t.With(opt), nil
}

// With gives the same tree with other options. Close only one of them.
func (t *Tree) With(opt Options) *Tree {
	if opt.Workers <= 0 {
		opt.Workers = 32
	}
	if opt.Chunk <= 0 {
		opt.Chunk = 512 << 10
	}
	if opt.Ahead <= 0 {
		opt.Ahead = 8
	}
	if opt.Progress == nil {
		opt.Progress = func(int64, int64) {}
	}
	if opt.Warn == nil {
		opt.Warn = func(string, string) {}
	}
	return &Tree{b: t.b, cred: t.cred, root: t.root, opt: opt}
}

// Close gives the root back; the Backend stays open.
func (t *Tree) Close() { t.root.Release() }

// StatFS tells the space and the limits of the tree.
func (t *Tree) StatFS(ctx context.Context) (wire.StatFS, error) {
	st, err := t.b.StatFS(ctx)
	return st, pathErr("df", "/", err)
}

// Node is an object that was found. Release it.
type Node struct {
	Obj  p9srv.Object
	Attr wire.Attr
	// Path is the name by which it was found, clean, from the root.
	Path string
}

// Release gives the object's reference back.
func (n *Node) Release() {
	if n != nil && n.Obj != nil {
		n.Obj.Release()
	}
}

// The file types of Attr.Mode.
const (
	typeMask    = syscall.S_IFMT
	typeDir     = syscall.S_IFDIR
	typeRegular = syscall.S_IFREG
	typeSymlink = syscall.S_IFLNK
)

// IsDir says whether it is a directory.
func (n *Node) IsDir() bool { return n.Attr.Mode&typeMask == typeDir }

// IsSymlink says whether it is a symbolic link.
func (n *Node) IsSymlink() bool { return n.Attr.Mode&typeMask == typeSymlink }

// IsRegular says whether it is a regular file.
func (n *Node) IsRegular() bool { return n.Attr.Mode&typeMask == typeRegular }

// maxLinks is how many symbolic links one look-up follows, as on Linux.
const maxLinks = 40

// Find looks a path up. A symbolic link as its last element is found itself
// unless follow is set or the path ends in a slash.
func (t *Tree) Find(ctx context.Context, name string, follow bool) (*Node, error) {
	n, err := t.find(ctx, name, follow || strings.HasSuffix(name, "/"))
	return n, pathErr("find", name, err)
}

func clean(name string) string { return path.Clean("/" + name) }

func elements(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

// find walks element by element, since links are for the client to follow. The
// stack of directories is what ".." after a link goes back on.
func (t *Tree) find(ctx context.Context, name string, follow bool) (*Node, error) {
	var stack []*Node
	defer func() {
		for _, n := range stack {
			n.Release()
		}
	}()
	pop := func() {
		if len(stack) > 0 {
			stack[len(stack)-1].Release()
			stack = stack[:len(stack)-1]
		}
	}
	todo := elements(name)
	links := 0
	for len(todo) > 0 {
		elem := todo[0]
		todo = todo[1:]
		switch elem {
		case ".":
			continue
		case "..":
			pop()
			continue
		}
		dir := &Node{Obj: t.root, Path: "/"}
		if len(stack) > 0 {
			dir = stack[len(stack)-1]
		}
		if dir.Path != "/" && !dir.IsDir() {
			return nil, syscall.ENOTDIR
		}
		obj, attr, err := dir.Obj.Walk(ctx, t.cred, elem)
		if err != nil {
			return nil, err
		}
		n := &Node{Obj: obj, Attr: attr, Path: path.Join(dir.Path, elem)}
		if n.IsSymlink() && (follow || len(todo) > 0) {
			target, err := obj.Readlink(ctx, t.cred)
			n.Release()
			if err != nil {
				return nil, err
			}
			if links++; links > maxLinks {
				return nil, syscall.ELOOP
			}
			if strings.HasPrefix(target, "/") {
				for len(stack) > 0 {
					pop()
				}
			}
			todo = append(elements(target), todo...)
			continue
		}
		stack = append(stack, n)
	}
	if len(stack) == 0 {
		return t.rootNode(ctx)
	}
	n := stack[len(stack)-1]
	stack = stack[:len(stack)-1]
	return n, nil
}

// rootNode is the root as a node like any other.
func (t *Tree) rootNode(ctx context.Context) (*Node, error) {
	attr, err := t.root.GetAttr(ctx, t.cred)
	if err != nil {
		return nil, err
	}
	return &Node{Obj: borrowed{t.root}, Attr: attr, Path: "/"}, nil
}

// borrowed is the tree's own root, which a Node must not release.
type borrowed struct{ p9srv.Object }

func (borrowed) Release() {}

// unwrap gives the Backend's own object, which it may insist on as an operand.
func unwrap(o p9srv.Object) p9srv.Object {
	if b, ok := o.(borrowed); ok {
		return b.Object
	}
	return o
}

// parent finds the directory of a path's last element.
func (t *Tree) parent(ctx context.Context, name string) (*Node, string, error) {
	p := clean(name)
	if p == "/" {
		return nil, "", syscall.EBUSY
	}
	// The elements before the last go through links, so they are not cleaned by text.
	elems := elements(name)
	last := elems[len(elems)-1]
	if last == "." || last == ".." {
		return nil, "", syscall.EINVAL
	}
	dir, err := t.find(ctx, strings.Join(elems[:len(elems)-1], "/"), true)
	if err != nil {
		return nil, "", err
	}
	if !dir.IsDir() {
		dir.Release()
		return nil, "", syscall.ENOTDIR
	}
	return dir, last, nil
}

// pathErr adds what was tried and on what. nil stays nil.
func pathErr(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return err
	}
	if name == "" {
		name = "/"
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// isErrno says whether err is this answer of the file system.
func isErrno(err error, want syscall.Errno) bool {
	var e syscall.Errno
	return errors.As(err, &e) && e == want
}
