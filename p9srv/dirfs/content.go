package dirfs

import (
	"fmt"
	"syscall"

	"echo9/internal/cut"

	"golang.org/x/sys/unix"
)

const (
	// bigTail is the size from which what a truncation cuts off is not copied for
	// undo: it is cut off last instead.
	bigTail = 64 << 20
	// maxSaved is how many bytes of one cut are held in memory for undo.
	maxSaved = 16 << 20
)

// contentAll changes the content of files that were there before.
func (a *apply) contentAll() error {
	for _, o := range a.list {
		if o.created() || len(o.content) == 0 && o.attr.Valid&cut.AttrSize == 0 {
			continue
		}
		if err := a.rewrite(o); err != nil {
			return fmt.Errorf("write object %d: %w", o.id, err)
		}
	}
	return nil
}

// fill writes the content of a new file.
func (a *apply) fill(o *cutObj, fd int) error {
	size := int64(0)
	for _, i := range o.content {
		a.rec = i
		r := &a.c.Records[i]
		if err := a.write(fd, r, &size); err != nil {
			return err
		}
	}
	if o.attr.Valid&cut.AttrSize != 0 && int64(o.attr.Size) != size {
		a.rec = o.attrs[0]
		return a.do("set size", func() error { return unix.Ftruncate(fd, int64(o.attr.Size)) })
	}
	return nil
}

// write does one content record; size is the file's, kept up to date.
func (a *apply) write(fd int, r *cut.Record, size *int64) error {
	off, length := int64(r.Off), int64(r.Len)
	switch r.Kind {
	case cut.Truncate:
		if int64(r.Size) >= *size {
			return nil
		}
		*size = int64(r.Size)
		return a.do("truncate", func() error { return unix.Ftruncate(fd, *size) })
	case cut.Data:
		*size = max(*size, off+int64(len(r.Bytes)))
		return a.do("write", func() error { return pwriteAll(fd, r.Bytes, off) })
	case cut.Zero:
		err := a.do("zero", func() error { return zero(fd, off, min(length, max(*size-off, 0))) })
		if err == nil && off+length > *size {
			*size = off + length
			err = a.do("extend", func() error { return unix.Ftruncate(fd, *size) })
		}
		return err
	case cut.Allocate:
		if length == 0 {
			return nil
		}
		return a.do("allocate", func() error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, length) })
	case cut.Copy:
		*size = max(*size, off+length)
		return a.do("copy", func() error { return a.copyFrom(r, fd) })
	}
	return nil
}

func pwriteAll(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		k, err := unix.Pwrite(fd, p, off)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, off = p[k:], off+int64(k)
	}
	return nil
}

// zero makes a range that lies in the file read as zeros.
func zero(fd int, off, length int64) error {
	if length <= 0 {
		return nil
	}
	err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return err
	}
	buf := make([]byte, min(length, 1<<20))
	for length > 0 {
		k := min(length, int64(len(buf)))
		if err := pwriteAll(fd, buf[:k], off); err != nil {
			return err
		}
		off, length = off+k, length-k
	}
	return nil
}

// copyFrom does a copy record.
func (a *apply) copyFrom(r *cut.Record, fd int) error {
	src := a.objs[r.Source]
	return src.with(func(path int) error {
		from, err := a.fs.openQuiet(path, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer unix.Close(from)
		return copyRange(from, int64(r.SourceOff), fd, int64(r.Off), int64(r.Len))
	})
}

// copyRange copies a range of a file; what lies beyond its end is an error.
func copyRange(from int, fromOff int64, to int, toOff, length int64) error {
	for length > 0 {
		k, err := unix.CopyFileRange(from, &fromOff, to, &toOff, int(min(length, 1<<30)), 0)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EXDEV || err == syscall.EINVAL || err == syscall.EOPNOTSUPP || err == syscall.ENOSYS {
			return copySlow(from, fromOff, to, toOff, length)
		}
		if err != nil {
			return err
		}
		if k == 0 {
			return fmt.Errorf("copy beyond the end: %w", syscall.EINVAL)
		}
		length -= int64(k)
	}
	return nil
}

func copySlow(from int, fromOff int64, to int, toOff, length int64) error {
	buf := make([]byte, min(length, 1<<20))
	for length > 0 {
		k, err := preadFull(from, buf[:min(length, int64(len(buf)))], fromOff)
		if err != nil {
			return err
		}
		if k == 0 {
			return fmt.Errorf("copy beyond the end: %w", syscall.EINVAL)
		}
		if err := pwriteAll(to, buf[:k], toOff); err != nil {
			return err
		}
		fromOff, toOff, length = fromOff+int64(k), toOff+int64(k), length-int64(k)
	}
	return nil
}

func preadFull(fd int, p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		k, err := unix.Pread(fd, p[done:], off+int64(done))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		if k == 0 {
			break
		}
		done += k
	}
	return done, nil
}

// rewriting is a file that was there before, while its content is changed.
type rewriting struct {
	a    *apply
	o    *cutObj
	fd   int
	old  int64 // its size before the cut
	size int64 // now, as the records see it
	// cut is set when a big tail is cut off last: from there on the old content
	// does not count, except where written has it.
	cut     int64
	written []span
}

type span struct{ off, end int64 }

// rewrite changes the content of a file that was there before.
func (a *apply) rewrite(o *cutObj) error {
	a.rec = o.contentRecord()
	if err := a.touching(o); err != nil {
		return err
	}
	fd, err := a.openToWrite(o)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	w := &rewriting{a: a, o: o, fd: fd, old: int64(o.st.Size), size: int64(o.st.Size), cut: -1}
	w.begin()
	for _, i := range o.content {
		a.rec = i
		if err := w.record(&a.c.Records[i]); err != nil {
			return err
		}
	}
	return w.finish()
}

// contentRecord is the record to name when o cannot be opened for writing.
func (o *cutObj) contentRecord() int {
	if len(o.content) > 0 {
		return o.content[0]
	}
	return o.attrs[0]
}

// openToWrite opens a file as the server itself.
func (a *apply) openToWrite(o *cutObj) (fd int, err error) {
	err = o.with(func(path int) error {
		return a.do("open to write", func() error {
			return a.fs.forced(path, func() (err error) {
				fd, err = a.fs.openQuiet(path, unix.O_RDWR)
				return err
			})
		})
	})
	return fd, err
}

// forced runs fn, which works on the file that fd refers to. Where only the file's own mode
// forbids it to a server that is an ordinary user, and the owner, the mode makes way for a moment.
func (fs *FS) forced(fd int, fn func() error) error {
	err := fn()
	if err != syscall.EACCES {
		return err
	}
	var st unix.Statx_t
	if statFD(fd, &st) != nil || st.Uid != fs.uid || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return err
	}
	mode := uint32(st.Mode & 0o7777)
	if mode&0o700 == 0o700 || chmodFD(fd, mode|0o700) != nil {
		return err
	}
	err = fn()
	if back := chmodFD(fd, mode); err == nil {
		err = back
	}
	return err
}

// begin notes how size and mode come back, and the bytes that prepare read.
func (w *rewriting) begin() {
	a, o, old := w.a, w.o, w.old
	var capability []byte
	if o.st.Mode&0o111 != 0 {
		// A write takes these away.
		capability, _ = getXattr(procPath(w.fd), "security.capability")
	}
	a.undoBy(func() error {
		return o.with(func(fd int) error {
			err := a.reopened(o, func(fd int) error {
				if err := unix.Ftruncate(fd, old); err != nil {
					return err
				}
				for _, b := range o.overwritten {
					if err := pwriteAll(fd, b.B, int64(b.Off)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if o.st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
				if err := chmodFD(fd, uint32(o.st.Mode&0o7777)); err != nil {
					return err
				}
			}
			if capability != nil {
				return unix.Setxattr(procPath(fd), "security.capability", capability, 0)
			}
			return nil
		})
	})
}

// save notes how the old bytes of a range come back that prepare did not read.
func (w *rewriting) save(off, end int64) error {
	end = min(end, w.old)
	a, o := w.a, w.o
	if off >= end || o.bytesRead {
		return nil
	}
	at := a.tmpPlace()
	if err := a.fs.step("save"); err != nil {
		return err
	}
	copyFD, err := openat2(at.fd, at.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("save what is overwritten: %w", err)
	}
	a.trash = append(a.trash, trashed{at: at})
	defer unix.Close(copyFD)
	a.undoBy(func() error { return unix.Unlinkat(at.fd, at.name, 0) })
	if err := copyRange(w.fd, off, copyFD, 0, end-off); err != nil {
		return fmt.Errorf("save what is overwritten: %w", err)
	}
	a.undoBy(func() error {
		return a.reopened(o, func(fd int) error {
			from, err := openat2(at.fd, at.name, unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			defer unix.Close(from)
			return copyRange(from, 0, fd, off, end-off)
		})
	})
	return nil
}

// reopened runs fn on a file opened for writing.
func (a *apply) reopened(o *cutObj, fn func(fd int) error) error {
	fd, err := a.openToWrite(o)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fn(fd)
}

// record does one content record on a file that was there before.
func (w *rewriting) record(r *cut.Record) error {
	off, end := int64(r.Off), int64(r.Off)+max(int64(r.Len), int64(len(r.Bytes)))
	switch r.Kind {
	case cut.Truncate:
		return w.truncate(int64(r.Size))
	case cut.Allocate:
		return w.a.write(w.fd, r, &w.size)
	case cut.Zero:
		if w.cut >= 0 && end > w.cut {
			// What is to be cut off, or made a hole, last.
			if off >= w.cut {
				w.size = max(w.size, end)
				w.unwrite(off, end)
				return nil
			}
			split := *r
			split.Len = uint64(w.cut - off)
			if err := w.record(&split); err != nil {
				return err
			}
			w.size = max(w.size, end)
			w.unwrite(w.cut, end)
			return nil
		}
	}
	if err := w.save(off, end); err != nil {
		return err
	}
	w.written = append(w.written, span{off, end})
	return w.a.write(w.fd, r, &w.size)
}

// truncate cuts the file off; a big tail later.
func (w *rewriting) truncate(to int64) error {
	if to >= w.size {
		return nil
	}
	if w.cut >= 0 {
		w.unwrite(to, 1<<63-1)
		w.size = to
		w.cut = min(w.cut, to)
		return nil
	}
	if min(w.size, w.old)-to >= w.a.fs.bigTail() {
		w.cut, w.size = to, to
		w.unwrite(to, 1<<63-1)
		return nil
	}
	if err := w.save(to, w.size); err != nil {
		return err
	}
	w.size = to
	return w.a.do("truncate", func() error { return unix.Ftruncate(w.fd, to) })
}

// unwrite takes a range out of those that are written.
func (w *rewriting) unwrite(off, end int64) {
	var left []span
	for _, s := range w.written {
		if s.off < min(s.end, off) {
			left = append(left, span{s.off, min(s.end, off)})
		}
		if max(s.off, end) < s.end {
			left = append(left, span{max(s.off, end), s.end})
		}
	}
	w.written = left
}

// finish sets the final size.
func (w *rewriting) finish() error {
	a, o := w.a, w.o
	size := w.size
	if o.attr.Valid&cut.AttrSize != 0 {
		a.rec = o.attrs[0]
		size = int64(o.attr.Size)
		if size < w.size {
			if err := w.truncate(size); err != nil {
				return err
			}
		}
	}
	if w.cut < 0 {
		if size == w.size {
			return nil
		}
		return a.do("set size", func() error { return unix.Ftruncate(w.fd, size) })
	}
	// The holes between what was written beyond the cut, and the end, come last.
	holes := w.holes(w.cut, min(size, w.old))
	at := a.rec
	a.final = append(a.final, func() error {
		a.rec = at
		return a.reopened(o, func(fd int) error {
			return a.do("cut off", func() error {
				for _, h := range holes {
					if err := zero(fd, h.off, h.end-h.off); err != nil {
						return err
					}
				}
				return unix.Ftruncate(fd, size)
			})
		})
	})
	return nil
}

// holes gives the parts of a range that were not written.
func (w *rewriting) holes(off, end int64) []span {
	left := []span{{off, end}}
	for _, s := range w.written {
		var next []span
		for _, h := range left {
			if h.off < min(h.end, s.off) {
				next = append(next, span{h.off, min(h.end, s.off)})
			}
			if max(h.off, s.end) < h.end {
				next = append(next, span{max(h.off, s.end), h.end})
			}
		}
		left = next
	}
	var out []span
	for _, h := range left {
		if h.off < h.end {
			out = append(out, h)
		}
	}
	return out
}

func (fs *FS) bigTail() int64 {
	if fs.opt.bigTail > 0 {
		return fs.opt.bigTail
	}
	return bigTail
}
