package cachefs

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"strings"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// maxSymlinks is how many symlinks one path may lead through.
const maxSymlinks = 40

// The methods of this file are the conveniences of the Go API: like those of package os, by path,
// as the user of Options.Cred. Paths are slash-separated and start at the root, with or without a
// leading slash. Errors are *fs.PathError and wrap a syscall.Errno.

// ReadFile returns the content of a file.
func (f *FS) ReadFile(ctx context.Context, name string) ([]byte, error) {
	var b []byte
	err := f.onPath(ctx, "read", name, true, func(o p9srv.Object, a wire.Attr) error {
		h, err := o.Open(ctx, &f.opt.Cred, wire.ORdonly)
		if err != nil {
			return err
		}
		defer h.Close(ctx)
		b = make([]byte, 0, min(a.Size, 1<<30)+1)
		for {
			if len(b) == cap(b) {
				b = append(b, 0)[:len(b)]
			}
			n, err := h.ReadAt(ctx, b[len(b):cap(b)], int64(len(b)))
			b = b[:len(b)+n]
			if n == 0 || errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	return b, err
}

// WriteFile writes a file, which is created with perm if it is not there and truncated if it is.
func (f *FS) WriteFile(ctx context.Context, name string, data []byte, perm uint32) error {
	h, err := f.OpenFile(ctx, name, wire.OWronly|wire.OCreat|wire.OTrunc, perm)
	if err != nil {
		return err
	}
	_, err = h.WriteAt(ctx, data, 0)
	if cerr := h.Close(ctx); err == nil {
		err = cerr
	}
	return pathError("write", name, err)
}

// OpenFile opens a file with wire.O… flags; with wire.OCreat it is created if it is not there.
func (f *FS) OpenFile(ctx context.Context, name string, flags, perm uint32) (*File, error) {
	var h *File
	for range maxSymlinks {
		err := f.onPath(ctx, "open", name, flags&(wire.OExcl|wire.ONofollow) == 0, func(o p9srv.Object, _ wire.Attr) error {
			if flags&wire.OCreat != 0 && flags&wire.OExcl != 0 {
				return syscall.EEXIST
			}
			file, err := o.Open(ctx, &f.opt.Cred, flags)
			if err == nil {
				h = &File{file}
			}
			return err
		})
		if err == nil || flags&wire.OCreat == 0 || !errors.Is(err, syscall.ENOENT) {
			return h, err
		}
		err = f.inParent(ctx, "open", name, func(dir p9srv.Object, base string) error {
			o, file, _, err := dir.Create(ctx, &f.opt.Cred, base, flags, perm, f.opt.Cred.GID)
			if err != nil {
				return err
			}
			o.Release()
			h = &File{file}
			return nil
		})
		// A symlink that points nowhere, or a file that came meanwhile: look again.
		if err == nil || flags&wire.OExcl != 0 || !errors.Is(err, syscall.EEXIST) {
			return h, err
		}
	}
	return nil, pathError("open", name, syscall.ELOOP)
}

// Stat tells the attributes of an object, following symlinks.
func (f *FS) Stat(ctx context.Context, name string) (attr wire.Attr, err error) {
	err = f.onPath(ctx, "stat", name, true, func(_ p9srv.Object, a wire.Attr) error { attr = a; return nil })
	return attr, err
}

// Lstat tells the attributes of an object; of a symlink, its own.
func (f *FS) Lstat(ctx context.Context, name string) (attr wire.Attr, err error) {
	err = f.onPath(ctx, "lstat", name, false, func(_ p9srv.Object, a wire.Attr) error { attr = a; return nil })
	return attr, err
}

// ReadDir lists a directory, without "." and "..".
func (f *FS) ReadDir(ctx context.Context, name string) ([]wire.Dirent, error) {
	var all []wire.Dirent
	err := f.onPath(ctx, "readdir", name, true, func(o p9srv.Object, _ wire.Attr) error {
		h, err := o.Open(ctx, &f.opt.Cred, wire.ORdonly|wire.ODirectory)
		if err != nil {
			return err
		}
		defer h.Close(ctx)
		var cookie uint64
		for {
			n := 0
			err := h.ReadDir(ctx, cookie, func(d wire.Dirent) bool {
				n++
				cookie = d.Offset
				if d.Name != "." && d.Name != ".." {
					all = append(all, d)
				}
				return true
			})
			if err != nil || n == 0 {
				return err
			}
		}
	})
	return all, err
}

// Mkdir makes a directory.
func (f *FS) Mkdir(ctx context.Context, name string, perm uint32) error {
	return f.inParent(ctx, "mkdir", name, func(dir p9srv.Object, base string) error {
		o, _, err := dir.Mkdir(ctx, &f.opt.Cred, base, perm, f.opt.Cred.GID)
		if err == nil {
			o.Release()
		}
		return err
	})
}

// MkdirAll makes a directory and those above it that are not there.
func (f *FS) MkdirAll(ctx context.Context, name string, perm uint32) error {
	elems := split(name)
	for i := range elems {
		err := f.Mkdir(ctx, strings.Join(elems[:i+1], "/"), perm)
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	a, err := f.Stat(ctx, name)
	if err == nil && !isDir(a.Mode) {
		return pathError("mkdir", name, syscall.ENOTDIR)
	}
	return err
}

// Remove removes a file or an empty directory.
func (f *FS) Remove(ctx context.Context, name string) error {
	return f.inParent(ctx, "remove", name, func(dir p9srv.Object, base string) error {
		err := dir.Unlink(ctx, &f.opt.Cred, base, 0)
		if errors.Is(err, syscall.EISDIR) {
			err = dir.Unlink(ctx, &f.opt.Cred, base, wire.AtRemoveDir)
		}
		return err
	})
}

// RemoveAll removes an object and all below it; it is no error if it is not there.
func (f *FS) RemoveAll(ctx context.Context, name string) error {
	err := f.Remove(ctx, name)
	for errors.Is(err, syscall.ENOTEMPTY) {
		list, lerr := f.ReadDir(ctx, name)
		if lerr != nil {
			return lerr
		}
		for _, d := range list {
			if err := f.RemoveAll(ctx, name+"/"+d.Name); err != nil {
				return err
			}
		}
		err = f.Remove(ctx, name)
	}
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// Rename moves an object; what the new name stood for is replaced.
func (f *FS) Rename(ctx context.Context, oldName, newName string) error {
	return f.inParent(ctx, "rename", oldName, func(from p9srv.Object, oldBase string) error {
		return f.inParentOnce(ctx, "rename", newName, func(to p9srv.Object, newBase string) error {
			return from.Rename(ctx, &f.opt.Cred, oldBase, to, newBase, 0)
		})
	})
}

// Symlink makes newName a symlink to target.
func (f *FS) Symlink(ctx context.Context, target, newName string) error {
	return f.inParent(ctx, "symlink", newName, func(dir p9srv.Object, base string) error {
		o, _, err := dir.Symlink(ctx, &f.opt.Cred, base, target, f.opt.Cred.GID)
		if err == nil {
			o.Release()
		}
		return err
	})
}

// Readlink tells what a symlink points to.
func (f *FS) Readlink(ctx context.Context, name string) (target string, err error) {
	err = f.onPath(ctx, "readlink", name, false, func(o p9srv.Object, _ wire.Attr) error {
		target, err = o.Readlink(ctx, &f.opt.Cred)
		return err
	})
	return target, err
}

// Link makes newName another name of an object.
func (f *FS) Link(ctx context.Context, oldName, newName string) error {
	return f.onPath(ctx, "link", oldName, false, func(o p9srv.Object, _ wire.Attr) error {
		return f.inParentOnce(ctx, "link", newName, func(dir p9srv.Object, base string) error {
			return dir.Link(ctx, &f.opt.Cred, o, base)
		})
	})
}

// Truncate sets the size of a file.
func (f *FS) Truncate(ctx context.Context, name string, size uint64) error {
	return f.setattr(ctx, "truncate", name, wire.SetAttr{Valid: wire.SetSize, Size: size})
}

// Chmod sets the permission bits of an object.
func (f *FS) Chmod(ctx context.Context, name string, mode uint32) error {
	return f.setattr(ctx, "chmod", name, wire.SetAttr{Valid: wire.SetMode, Mode: mode})
}

// Chtimes sets the times of an object, in nanoseconds since 1970.
func (f *FS) Chtimes(ctx context.Context, name string, atime, mtime int64) error {
	return f.setattr(ctx, "chtimes", name, wire.SetAttr{
		Valid: wire.SetAtime | wire.SetAtimeSet | wire.SetMtime | wire.SetMtimeSet, Atime: atime, Mtime: mtime})
}

// Fsync waits until all that has been done to the object, and what precedes that, is durable at the server.
func (f *FS) Fsync(ctx context.Context, name string) error {
	return f.onPath(ctx, "fsync", name, true, func(o p9srv.Object, _ wire.Attr) error {
		h, err := o.Open(ctx, &f.opt.Cred, wire.ORdonly)
		if err != nil {
			return err
		}
		defer h.Close(ctx)
		return h.Fsync(ctx, false)
	})
}

func (f *FS) setattr(ctx context.Context, op, name string, set wire.SetAttr) error {
	return f.onPath(ctx, op, name, true, func(o p9srv.Object, _ wire.Attr) error {
		return o.SetAttr(ctx, &f.opt.Cred, nil, set)
	})
}

func split(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

func pathError(op, name string, err error) error {
	var pe *iofs.PathError
	if err == nil || errors.As(err, &pe) {
		return err
	}
	return &iofs.PathError{Op: op, Path: name, Err: err}
}

// maxStalePath is how often a path is walked again because an object on it vanished meanwhile, as a kernel does.
const maxStalePath = 20

// onPath calls fn with the object at a path.
func (f *FS) onPath(ctx context.Context, op, name string, follow bool, fn func(p9srv.Object, wire.Attr) error) error {
	return f.atPath(ctx, op, name, split(name), follow, fn)
}

// inParent calls fn with the directory that a path's last element is in.
func (f *FS) inParent(ctx context.Context, op, name string, fn func(dir p9srv.Object, base string) error) error {
	elems := split(name)
	if len(elems) == 0 {
		return pathError(op, name, syscall.EEXIST)
	}
	return f.atPath(ctx, op, name, elems[:len(elems)-1], true, func(o p9srv.Object, _ wire.Attr) error {
		return fn(o, elems[len(elems)-1])
	})
}

// inParentOnce is inParent for who has walked another path, too, and walks both again when something vanished meanwhile.
func (f *FS) inParentOnce(ctx context.Context, op, name string, fn func(dir p9srv.Object, base string) error) error {
	elems := split(name)
	if len(elems) == 0 {
		return pathError(op, name, syscall.EEXIST)
	}
	o, _, err := f.walk(ctx, elems[:len(elems)-1], true)
	if err == nil {
		err = fn(o, elems[len(elems)-1])
		o.Release()
	}
	return pathError(op, name, err)
}

func (f *FS) atPath(ctx context.Context, op, name string, elems []string, follow bool, fn func(p9srv.Object, wire.Attr) error) error {
	for try := 0; ; try++ {
		o, a, err := f.walk(ctx, elems, follow)
		if err == nil {
			err = fn(o, a)
			o.Release()
		}
		if try == maxStalePath || !errors.Is(err, syscall.ESTALE) {
			return pathError(op, name, err)
		}
	}
}

// walk finds the object at a path. Symlinks on the way are followed, the last one if follow says so.
func (f *FS) walk(ctx context.Context, elems []string, follow bool) (p9srv.Object, wire.Attr, error) {
	cred := &f.opt.Cred
	root, err := f.Root(ctx, cred, "")
	if err != nil {
		return nil, wire.Attr{}, err
	}
	return f.walkFrom(ctx, cred, root, elems, follow)
}

// walkFrom is walk from a directory, whose reference it takes over.
func (f *FS) walkFrom(ctx context.Context, cred *p9srv.Cred, at p9srv.Object, elems []string, follow bool) (p9srv.Object, wire.Attr, error) {
	attr, err := at.GetAttr(ctx, cred)
	links := 0
	for err == nil && len(elems) > 0 {
		var next p9srv.Object
		if elems[0] == "." {
			elems = elems[1:]
			continue
		}
		next, attr, err = at.Walk(ctx, cred, elems[0])
		if err != nil {
			break
		}
		elems = elems[1:]
		if attr.Mode&modeType == modeSymlink && (follow || len(elems) > 0) {
			var target string
			target, err = next.Readlink(ctx, cred)
			next.Release()
			if links++; links > maxSymlinks {
				err = syscall.ELOOP
			}
			if err != nil {
				break
			}
			elems = append(split(target), elems...)
			if strings.HasPrefix(target, "/") {
				at.Release()
				if at, err = f.Root(ctx, cred, ""); err != nil {
					return nil, wire.Attr{}, err
				}
			}
			attr, err = at.GetAttr(ctx, cred)
			continue
		}
		at.Release()
		at = next
	}
	if err != nil {
		at.Release()
		return nil, wire.Attr{}, err
	}
	return at, attr, nil
}
