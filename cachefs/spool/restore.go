package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// RestoreOptions say how contents are put back.
type RestoreOptions struct {
	// Elsewhere: the directory is not the tree that was written to. Nothing in it is taken for the file without the lost operations.
	Elsewhere bool
	// Force overwrites what has become different since.
	Force bool
}

// How says what became of an object.
type How string

// What becomes of an object.
const (
	Restored How = "restored"   // it is where it was
	Beside   How = "put beside" // what is there now is something else: it is under another name
	Parts    How = "in parts"   // under another name, and only what was written: the rest is not known, and zeros
	Same     How = "is there"   // as it was
	Skipped  How = "left out"
)

// Result is what became of an object.
type Result struct {
	Path Path `json:"path"`
	How  How  `json:"how"`
	// As is under which path it is now.
	As   Path   `json:"as,omitempty"`
	Note string `json:"note,omitempty"`
}

// String is the result as a line.
func (r Result) String() string {
	s := string(r.How) + " " + r.Path.Quoted()
	if r.As != "" && r.As != r.Path {
		s += " as " + r.As.Quoted()
	}
	if r.Note != "" {
		s += ": " + r.Note
	}
	return s
}

// Restore puts back what the entry knows the content of, below dir, as far as it can, and says what became of each object. What was
// done to names and attributes only is not done again: see Left.
func (k *Kept) Restore(dir string, o RestoreOptions) ([]Result, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	data, err := os.OpenFile(path.Join(k.dir, bytesFile), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	r := &restorer{k: k, root: root, data: data, opt: o}
	objects := make([]*Object, len(k.Objects))
	for i := range k.Objects {
		objects[i] = &k.Objects[i]
	}
	// Directories before what is in them.
	slices.SortStableFunc(objects, func(a, b *Object) int {
		return cmp.Compare(strings.Count(string(a.Path), "/"), strings.Count(string(b.Path), "/"))
	})
	var results []Result
	var errs []error
	for _, obj := range objects {
		res, err := r.object(obj)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", obj.Path.Quoted(), err))
		}
		if res.How != "" {
			res.Path = obj.Path
			results = append(results, res)
		}
	}
	return results, errors.Join(errs...)
}

// Left are the lost operations that Restore does not do again.
func (k *Kept) Left() []*Op {
	var left []*Op
	for i := range k.Ops {
		op := &k.Ops[i]
		o := k.Object(op.Object)
		switch op.What {
		case "create", "mkdir", "symlink", "write", "truncate", "punch", "allocate", "release", "barrier", "tmpfile":
			continue
		case "rename", "setattr":
			if o != nil && o.Created {
				continue
			}
		}
		left = append(left, op)
	}
	return left
}

type restorer struct {
	k    *Kept
	root *os.Root
	data *os.File
	opt  RestoreOptions
}

func (r *restorer) object(o *Object) (Result, error) {
	name := strings.TrimPrefix(string(o.Path), "/")
	switch {
	case o.Type == "file":
		c := Compose(&r.k.Entry, o.ID)
		if !o.Created && len(c.Parts) == 0 && !c.Sized && c.Missing == 0 {
			return Result{}, nil // only its name or its attributes
		}
	case !o.Created:
		return Result{}, nil
	}
	if !r.opt.Elsewhere && (o.Gone || !strings.HasPrefix(string(o.Path), "/")) {
		return Result{How: Skipped, Note: "where it was is not known, or it had no name any more; say into which directory: restore " + r.k.ID + " DIR"}, nil
	}
	if o.Gone {
		name = fmt.Sprintf("object(%d)", o.ID)
	}
	if dir := path.Dir(name); dir != "." {
		if err := r.root.MkdirAll(dir, 0o755); err != nil {
			return Result{}, err
		}
	}
	switch o.Type {
	case "directory":
		return r.directory(o, name)
	case "symlink":
		return r.symlink(o, name)
	case "file":
		return r.file(o, name)
	}
	return Result{How: Skipped, Note: "it is neither file, directory nor symlink"}, nil
}

func (r *restorer) directory(o *Object, name string) (Result, error) {
	fi, err := r.root.Lstat(name)
	switch {
	case err == nil && fi.IsDir():
		return Result{How: Same, As: Path("/" + name)}, nil
	case err == nil:
		return Result{}, fmt.Errorf("something else is there: %w", syscall.ENOTDIR)
	case !errors.Is(err, fs.ErrNotExist):
		return Result{}, err
	}
	if err := r.root.Mkdir(name, 0o700); err != nil {
		return Result{}, err
	}
	r.dress(o, name, false)
	return Result{How: Restored, As: Path("/" + name)}, nil
}

func (r *restorer) symlink(o *Object, name string) (Result, error) {
	for _, as := range []string{name, r.besideName(name)} {
		if target, err := r.root.Readlink(as); err == nil && target == string(o.Target) {
			return Result{How: Same, As: Path("/" + as)}, nil
		}
		err := r.root.Symlink(string(o.Target), as)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		how := Restored
		if as != name {
			how = Beside
		}
		return Result{How: how, As: Path("/" + as)}, err
	}
	return Result{}, fmt.Errorf("%s is there, too: %w", r.besideName(name), syscall.EEXIST)
}

// besideName is the name beside name.
func (r *restorer) besideName(name string) string {
	dir, base := path.Split(name)
	suffix := ".echo9-lost-" + r.k.ID
	return dir + base[:min(len(base), 255-len(suffix))] + suffix
}

func (r *restorer) file(o *Object, name string) (Result, error) {
	c := Compose(&r.k.Entry, o.ID)
	whole := c.Whole && c.Missing == 0 || o.Content != ""
	note := ""
	if !whole && c.Missing > 0 {
		note = fmt.Sprintf("%d bytes that were to be copied at the server are not here", c.Missing)
	}
	fi, err := r.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && (whole || o.Created):
		return Result{How: Restored, As: Path("/" + name), Note: note}, r.create(o, &c, name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return Result{}, err
	case err == nil && whole && r.same(o, &c, name, fi):
		return Result{How: Same, As: Path("/" + name)}, nil
	case err == nil && fi.Mode().IsRegular() && (whole || !o.Created && !o.Moved) && (r.opt.Force || !r.opt.Elsewhere && o.Base.is(fi)):
		return Result{How: Restored, As: Path("/" + name), Note: note}, r.overwrite(o, &c, name, whole)
	}
	how := Beside
	if !whole {
		how = Parts
	}
	if err == nil && !r.opt.Elsewhere {
		note = strings.TrimPrefix(note+"; what is there now is not what was changed (--force overwrites it)", "; ")
	}
	as := r.besideName(name)
	if fi, err := r.root.Lstat(as); err == nil && r.same(o, &c, as, fi) {
		return Result{How: Same, As: Path("/" + as), Note: note}, nil
	}
	return Result{How: how, As: Path("/" + as), Note: note}, r.create(o, &c, as)
}

// is says whether a file is as it was: its change time is the same, or its size and modification time are.
func (b *Base) is(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return b != nil && ok && (st.Ctim.Nano() == b.Ctime || st.Mtim.Nano() == b.Mtime && uint64(st.Size) == b.Size)
}

// create makes a file; nothing is there under its name.
func (r *restorer) create(o *Object, c *Composed, name string) error {
	f, err := r.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = r.fill(f, o, c)
	if err == nil {
		err = f.Truncate(int64(o.Size))
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		r.root.Remove(name) // a half one is worth nothing: the entry has it
		return err
	}
	r.dress(o, name, true)
	return nil
}

// overwrite changes a file that is there.
func (r *restorer) overwrite(o *Object, c *Composed, name string, whole bool) error {
	f, err := r.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if whole {
		err = f.Truncate(0)
	}
	if err == nil {
		err = r.fill(f, o, c)
	}
	if err == nil && (whole || c.Sized) {
		err = f.Truncate(int64(o.Size))
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// dress gives what was made the owner, mode and times that it had, as far as this user may; privileges do not come back.
func (r *restorer) dress(o *Object, name string, times bool) {
	if os.Geteuid() == 0 {
		r.root.Lchown(name, int(o.UID), int(o.GID))
	}
	r.root.Chmod(name, fs.FileMode(o.Mode&0o777))
	if t := time.Unix(0, o.Mtime); times {
		r.root.Chtimes(name, t, t)
	}
}

// source gives where the bytes of a file are, and which. Its close closes it.
func (r *restorer) source(o *Object, c *Composed) (*os.File, []Part, func() error, error) {
	if o.Content == "" {
		return r.data, c.Parts, func() error { return nil }, nil
	}
	f, err := os.OpenFile(path.Join(r.k.dir, path.Base(o.Content)), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	return f, []Part{{0, int64(o.Size), 0}}, f.Close, nil
}

// fill writes what is known of a file.
func (r *restorer) fill(f *os.File, o *Object, c *Composed) error {
	src, parts, done, err := r.source(o, c)
	if err != nil {
		return err
	}
	defer done()
	for _, p := range parts {
		if err := copyPart(io.NewOffsetWriter(f, p.Off), src, p); err != nil {
			return err
		}
	}
	return nil
}

// copyPart writes the bytes of a part.
func copyPart(w io.Writer, src io.ReaderAt, p Part) error {
	var from io.Reader = io.NewSectionReader(src, p.At, p.Len)
	if p.At == zeros {
		from = io.LimitReader(zeroReader{}, p.Len)
	}
	n, err := io.Copy(w, from)
	if err == nil && n < p.Len {
		return fmt.Errorf("the entry lacks bytes: %w", io.ErrUnexpectedEOF)
	}
	return err
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// same says whether a file has the whole content of the object already.
func (r *restorer) same(o *Object, c *Composed, name string, fi fs.FileInfo) bool {
	if !fi.Mode().IsRegular() || uint64(fi.Size()) != o.Size {
		return false
	}
	f, err := r.root.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(r.cat(pw, o, c)) }()
	defer pr.Close()
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(pr, a)
		m, _ := io.ReadFull(f, b)
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
	}
}

// cat writes the file's content from its start, zeros where nothing is known.
func (r *restorer) cat(w io.Writer, o *Object, c *Composed) error {
	src, parts, done, err := r.source(o, c)
	if err != nil {
		return err
	}
	defer done()
	at := int64(0)
	for _, p := range append(slices.Clone(parts), Part{int64(o.Size), 0, zeros}) {
		if err := copyPart(w, src, Part{at, p.Off - at, zeros}); err != nil {
			return err
		}
		if err := copyPart(w, src, p); err != nil {
			return err
		}
		at = p.end()
	}
	return nil
}

// Cat writes a file's content as the writer saw it, and says whether all of it is known; where it is not there are zeros.
func (k *Kept) Cat(w io.Writer, o *Object) (whole bool, err error) {
	data, err := os.OpenFile(path.Join(k.dir, bytesFile), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false, err
	}
	defer data.Close()
	c := Compose(&k.Entry, o.ID)
	r := &restorer{k: k, data: data}
	return c.Whole && c.Missing == 0 || o.Content != "", r.cat(w, o, &c)
}
