package spool

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	entryFile = "entry.json"
	bytesFile = "bytes"
	// staging is where entries are written before they have their place, in the spool's directory.
	staging = ".new"
	// abandoned is the age from which what lies there is of nobody who still writes.
	abandoned = time.Hour
)

// Store is a spool directory.
type Store struct {
	dir   string
	limit int64 // of each user's directory
}

// DefaultDir is where the spool of this user's daemons is: $XDG_STATE_HOME/echo9/lost, ~/.local/state without it, and for root
// /var/lib, where others may look for what is theirs.
func DefaultDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "echo9", "lost"), nil
	}
	if os.Geteuid() == 0 {
		return SystemDir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("where the spool of lost changes is: %w", err)
	}
	return filepath.Join(home, ".local", "state", "echo9", "lost"), nil
}

// SystemDir is the spool of root's daemons.
const SystemDir = "/var/lib/echo9/lost"

// Open opens a spool, which is made when the first entry is put there. limit bounds each user's directory in bytes.
func Open(dir string, limit int64) *Store { return &Store{dir: dir, limit: limit} }

// Dir is the directory.
func (s *Store) Dir() string { return s.dir }

// Put keeps an entry, which gets its ID, and says which older ones had to go for it. When it returns the entry is in stable storage.
func (s *Store) Put(e *Entry) (dropped []string, err error) {
	if w := e.Weight(); w > s.limit {
		return nil, fmt.Errorf("%d bytes are more than the spool may have: %w", w, syscall.EFBIG)
	}
	owner := e.UID
	if os.Geteuid() != 0 {
		owner = uint32(os.Geteuid()) // cannot give anything to others
	}
	home, err := s.home(owner)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	dropped, err = s.trim(home, e.Weight())
	if err != nil {
		return dropped, fmt.Errorf("spool: making room in %s: %w", home, err)
	}
	e.ID = newID()
	for exists(filepath.Join(home, e.ID)) {
		e.ID = newID()
	}
	// It is made where only we can do anything, for a user might put links into what is his.
	tmp, err := os.MkdirTemp(filepath.Join(s.dir, staging), e.ID+"-")
	if err != nil {
		return dropped, fmt.Errorf("spool: %w", err)
	}
	if err = s.write(tmp, e, int(owner)); err == nil {
		err = os.Rename(tmp, filepath.Join(home, e.ID))
	}
	if err != nil {
		os.RemoveAll(tmp)
		return dropped, fmt.Errorf("spool: %w", err)
	}
	return dropped, syncDir(home)
}

// home makes the directory of a user.
func (s *Store) home(uid uint32) (string, error) {
	// Users must get through to what is theirs.
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return "", err
	}
	if err := mkdirOwn(filepath.Join(s.dir, staging), os.Geteuid()); err != nil {
		return "", err
	}
	s.sweep()
	home := filepath.Join(s.dir, strconv.FormatUint(uint64(uid), 10))
	if err := mkdirOwn(home, int(uid)); err != nil {
		return "", err
	}
	return home, errors.Join(syncDir(s.dir), syncDir(filepath.Dir(s.dir)))
}

// mkdirOwn makes a directory that only its owner can enter, or sees that it is one.
func mkdirOwn(dir string, owner int) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil && owner != os.Geteuid():
		return os.Chown(dir, owner, -1)
	case err == nil || !errors.Is(err, fs.ErrExist):
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || fi.Mode().Perm() != 0o700 || !ok || int(st.Uid) != owner {
		return fmt.Errorf("%s is not a directory of user %d with mode 0700: nothing is kept there", dir, owner)
	}
	return nil
}

// sweep removes what others have left half made.
func (s *Store) sweep() {
	list, err := os.ReadDir(filepath.Join(s.dir, staging))
	if err != nil {
		return
	}
	for _, d := range list {
		if fi, err := d.Info(); err == nil && time.Since(fi.ModTime()) > abandoned {
			os.RemoveAll(filepath.Join(s.dir, staging, d.Name()))
		}
	}
}

// write makes the files of an entry in dir.
func (s *Store) write(dir string, e *Entry, owner int) error {
	at := int64(0)
	err := writeFile(filepath.Join(dir, bytesFile), owner, func(f *os.File) error {
		for i := range e.Ops {
			op := &e.Ops[i]
			if op.Bytes = int64(len(op.Data)); op.Bytes == 0 {
				continue
			}
			op.At = at
			if _, err := f.Write(op.Data); err != nil {
				return err
			}
			at += op.Bytes
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range e.Objects {
		o := &e.Objects[i]
		if o.Pieces == nil {
			continue
		}
		o.Content = fmt.Sprintf("content-%d", o.ID)
		err := writeFile(filepath.Join(dir, o.Content), owner, func(f *os.File) error {
			for _, p := range o.Pieces {
				if _, err := f.WriteAt(p.Bytes, p.Off); err != nil {
					return err
				}
			}
			return f.Truncate(int64(o.Size))
		})
		if err != nil {
			return err
		}
	}
	err = writeFile(filepath.Join(dir, entryFile), owner, func(f *os.File) error {
		enc := json.NewEncoder(f)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(e)
	})
	if err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return os.Chown(dir, owner, -1)
}

func writeFile(name string, owner int, fill func(*os.File) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Chown(owner, -1)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// trim removes the oldest entries of a user until there is room for need bytes more.
func (s *Store) trim(home string, need int64) (dropped []string, err error) {
	type sized struct {
		id    string
		bytes int64
		when  time.Time
	}
	list, err := os.ReadDir(home)
	if err != nil {
		return nil, err
	}
	var all []sized
	total := need
	for _, d := range list {
		fi, err := d.Info()
		if err != nil {
			continue
		}
		e := sized{d.Name(), size(filepath.Join(home, d.Name())), fi.ModTime()}
		all, total = append(all, e), total+e.bytes
	}
	slices.SortFunc(all, func(a, b sized) int { return cmp.Or(a.when.Compare(b.when), cmp.Compare(a.id, b.id)) })
	for _, e := range all {
		if total <= s.limit {
			break
		}
		if err := os.RemoveAll(filepath.Join(home, e.id)); err != nil {
			return dropped, err
		}
		total -= e.bytes
		dropped = append(dropped, e.id)
	}
	return dropped, nil
}

// size is how many bytes of the disk a tree takes.
func size(dir string) int64 {
	var n int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if fi, err := d.Info(); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				n += st.Blocks * 512
			}
		}
		return nil
	})
	return n
}

// idAlphabet has no letters that look alike, and none that make words.
const idAlphabet = "23456789bcdfghjkmnpqrstvwxz"

// newID gives an ID: short, for people type it.
func newID() string {
	var b [6]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = idAlphabet[int(b[i])%len(idAlphabet)]
	}
	return string(b[:])
}

func validID(id string) bool {
	return len(id) == 6 && strings.Trim(id, idAlphabet) == ""
}

// ErrNone says that there is no such entry.
var ErrNone = errors.New("nothing lost is kept under that ID")

// Kept is an entry in a Store.
type Kept struct {
	Entry
	dir string
}

// List gives all entries that this user may see, the oldest first. Those that cannot be read are left out, and why is
// among the errors.
func (s *Store) List() ([]*Kept, error) {
	users, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		// Not ours: only what is this user's.
		return s.listUser(strconv.Itoa(os.Geteuid()))
	}
	if err != nil {
		return nil, err
	}
	var all []*Kept
	var errs []error
	for _, u := range users {
		if _, err := strconv.ParseUint(u.Name(), 10, 32); err != nil {
			continue
		}
		list, err := s.listUser(u.Name())
		all, errs = append(all, list...), append(errs, err)
	}
	slices.SortStableFunc(all, func(a, b *Kept) int { return a.When.Compare(b.When) })
	return all, errors.Join(errs...)
}

func (s *Store) listUser(uid string) ([]*Kept, error) {
	home := filepath.Join(s.dir, uid)
	list, err := os.ReadDir(home)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []*Kept
	var errs []error
	for _, d := range list {
		if !validID(d.Name()) {
			continue
		}
		k, err := read(filepath.Join(home, d.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, k)
	}
	slices.SortStableFunc(all, func(a, b *Kept) int { return a.When.Compare(b.When) })
	return all, errors.Join(errs...)
}

// Get gives the entry with that ID.
func (s *Store) Get(id string) (*Kept, error) {
	if !validID(id) {
		return nil, ErrNone
	}
	all, err := s.List()
	for _, k := range all {
		if k.ID == id {
			return k, nil
		}
	}
	return nil, errors.Join(ErrNone, err)
}

// maxEntry bounds what is read of an entry.json.
const maxEntry = 256 << 20

func read(dir string) (*Kept, error) {
	f, err := os.OpenFile(filepath.Join(dir, entryFile), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	k := &Kept{dir: dir}
	if err := json.NewDecoder(io.LimitReader(f, maxEntry)).Decode(&k.Entry); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	k.ID = filepath.Base(dir)
	return k, nil
}

// Drop removes the entry for good.
func (k *Kept) Drop() error { return os.RemoveAll(k.dir) }

// Bytes is how much of the disk it takes.
func (k *Kept) Bytes() int64 { return size(k.dir) }
