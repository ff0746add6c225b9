package backlog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// ErrBusy says that another process has the backlog.
var ErrBusy = errors.New("another process has it")

// Store is a backlog in a directory, which is this process's until Close.
type Store struct {
	path string
	lock *os.File

	io   sync.Mutex // held for I/O
	file *os.File   // nil: nothing was written since the last Clear
	size int64      // of what is whole in the file
	err  error      // why nothing more goes into the file

	shown atomic.Int64 // size, for who holds no lock

	mu  sync.Mutex
	buf []byte // appended, and not in the file
}

// Open takes the backlog of a client in dir, which is made if it is not there. What it has is read; what was cut off at its end goes.
func Open(dir, server, aname, place string) (*Store, *State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("the directory of backlogs: %w", err)
	}
	s := &Store{path: filepath.Join(dir, name(server, aname, place))}
	state, err := s.open()
	if err != nil {
		s.Close()
		return nil, nil, fmt.Errorf("backlog %s: %w", s.path, err)
	}
	return s, state, nil
}

// name is that of the file of a client: readable, and another one for each.
func name(server, aname, place string) string {
	sum := sha256.Sum256([]byte(server + "\x00" + aname + "\x00" + place))
	base := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, filepath.Base(place))
	return fmt.Sprintf("%.32s-%x.backlog", strings.TrimLeft(base, "-"), sum[:8])
}

func (s *Store) open() (*State, error) {
	lock, err := os.OpenFile(s.path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, err
	}
	_ = os.Remove(s.path + ".new") // of a Rewrite that did not end
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return NewState(), nil
	}
	if err != nil {
		return nil, err
	}
	state, n := Read(text)
	if n == 0 && len(text) >= len(head) {
		return nil, fmt.Errorf("it is no backlog of this version of echo9: %w", syscall.EINVAL)
	}
	if n == 0 { // cut off within its head
		return state, os.Remove(s.path)
	}
	if s.file, err = os.OpenFile(s.path, os.O_RDWR|syscall.O_NOFOLLOW, 0); err != nil {
		return nil, err
	}
	s.sized(int64(n))
	return state, s.file.Truncate(s.size)
}

// Path is the file's name.
func (s *Store) Path() string { return s.path }

// Append takes records on, in the order of the calls; Flush has them in the file.
func (s *Store) Append(records ...Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range records {
		s.buf = records[i].append(s.buf)
	}
}

// Flush returns when all that was appended before is in the file, or with why it is not: then nothing goes into it any more
// until Rewrite succeeds.
func (s *Store) Flush() error {
	s.io.Lock()
	defer s.io.Unlock()
	return s.flush()
}

// flush is Flush, with io held.
func (s *Store) flush() error {
	s.mu.Lock()
	buf := s.buf
	s.buf = nil
	s.mu.Unlock()
	if s.err != nil || len(buf) == 0 {
		return s.err
	}
	return s.write(buf)
}

func (s *Store) write(buf []byte) error {
	if s.file == nil {
		file, err := create(s.path)
		if err != nil {
			return s.failed(err)
		}
		s.file = file
		s.sized(int64(len(head)))
	}
	if _, err := s.file.WriteAt(buf, s.size); err != nil {
		return s.failed(err)
	}
	s.sized(s.size + int64(len(buf)))
	return nil
}

// create makes an empty backlog.
func create(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := file.WriteAt([]byte(head), 0); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// failed gives the file up: what it has grows out of date, and must not be taken for true later.
func (s *Store) failed(err error) error {
	s.err = fmt.Errorf("backlog: %w", err)
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
	_ = os.Remove(s.path)
	s.sized(0)
	return s.err
}

func (s *Store) sized(n int64) {
	s.size = n
	s.shown.Store(n)
}

// Size is how long the file is. It waits for nothing.
func (s *Store) Size() int64 { return s.shown.Load() }

// Rewrite puts a new file in the place of the old one: what records gives, and then what is appended after it was called. It
// is called once, with l held: the lock under which Append is called. When Rewrite fails the old file goes on.
func (s *Store) Rewrite(l sync.Locker, records func() []Record) error {
	s.io.Lock()
	defer s.io.Unlock()
	l.Lock()
	s.mu.Lock()
	before := s.buf
	s.buf = nil
	s.mu.Unlock()
	all := records()
	l.Unlock()
	if err := s.rewrite(all); err != nil {
		if s.err == nil && len(before) > 0 {
			_ = s.write(before)
		}
		return fmt.Errorf("writing the backlog anew: %w", err)
	}
	return nil
}

func (s *Store) rewrite(all []Record) error {
	tmp := s.path + ".new"
	file, err := create(tmp)
	if err != nil {
		return err
	}
	size, err := writeAll(file, all)
	if err == nil {
		err = os.Rename(tmp, s.path)
	}
	if err != nil {
		file.Close()
		_ = os.Remove(tmp)
		return err
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.err = file, nil
	s.sized(size)
	return nil
}

// writeAll writes records behind the head, and gives the size of the file.
func writeAll(file *os.File, all []Record) (int64, error) {
	const chunk = 1 << 20
	at, buf := int64(len(head)), []byte(nil)
	for i := range all {
		buf = all[i].append(buf)
		if len(buf) < chunk && i < len(all)-1 {
			continue
		}
		if _, err := file.WriteAt(buf, at); err != nil {
			return 0, err
		}
		at += int64(len(buf))
		buf = buf[:0]
	}
	return at, nil
}

// Clear forgets everything: nothing is pending, and there is no session.
func (s *Store) Clear() error {
	s.io.Lock()
	defer s.io.Unlock()
	s.mu.Lock()
	s.buf = nil
	s.mu.Unlock()
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
	s.err = nil
	s.sized(0)
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the backlog: %w", err)
	}
	return nil
}

// Close lets the backlog go; it stays as it is.
func (s *Store) Close() error {
	s.io.Lock()
	defer s.io.Unlock()
	var err error
	if s.lock != nil {
		err = s.flush()
	}
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
	return err
}

// Fail is for tests: the file fails, once.
func (s *Store) Fail(err error) {
	s.io.Lock()
	defer s.io.Unlock()
	_ = s.failed(err)
}
