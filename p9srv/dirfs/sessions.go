package dirfs

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"echo9/p9srv"
	"echo9/p9srv/stable"

	"golang.org/x/sys/unix"
)

// sessionsName is the file of what is known of sessions, in the private directory.
const sessionsName = "sessions"

// sessionFile keeps records of sessions. One goroutine writes: all that came while it was busy
// is written, and made durable, together.
type sessionFile struct {
	path string // of the file; through the descriptor of the private directory
	dir  int
	sync bool // durable means: on the disk
	step func(string) error
	logf func(string, ...any)

	mu     sync.Mutex
	cond   sync.Cond // queue is not empty, or closed
	queue  []noted
	closed bool
	known  *stable.State
	ended  sync.WaitGroup

	// The writer's.
	f        *os.File // nil: must be written anew before anything else
	size     int64
	anew     int64 // size when it was written anew
	unsynced bool
	room     int64 // up to here the host has set space aside
}

// noted are records on their way.
type noted struct {
	records []stable.Record
	durable bool
	done    func(error)
}

// openSessions reads the file and writes it anew, without what is out of date.
func openSessions(s *state, sync bool, step func(string) error, logf func(string, ...any)) (*sessionFile, error) {
	f := &sessionFile{path: s.path(sessionsName), dir: s.fd, sync: sync, step: step, logf: logf}
	f.cond.L = &f.mu
	b, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	known, n := stable.Read(b)
	if n < len(b) {
		logf("the file of sessions ends with %d bytes that were not written wholly: nobody was promised what they say", len(b)-n)
	}
	f.known = known
	err = f.rewrite()
	if errors.Is(err, syscall.ENOSPC) && n > 0 {
		err = f.goOn(int64(n)) // without room for another one
	}
	if err != nil {
		return nil, fmt.Errorf("write the file of sessions: %w", err)
	}
	f.ended.Add(1)
	go f.loop()
	return f, nil
}

// rewrite puts a file in place that has what is known, and nothing else.
func (f *sessionFile) rewrite() error {
	f.mu.Lock()
	b := f.known.Encode()
	f.mu.Unlock()
	if err := f.step("rewrite sessions"); err != nil {
		return err
	}
	tmp := f.path + ".new"
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err == nil && f.sync {
		err = file.Sync()
	}
	if err == nil {
		err = f.step("replace sessions")
	}
	if err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err == nil && f.sync {
		err = eintr(func() error { return unix.Fsync(f.dir) })
	}
	if err != nil {
		file.Close()
		return err
	}
	if f.f != nil {
		f.f.Close()
	}
	f.f, f.size, f.anew, f.unsynced, f.room = file, int64(len(b)), int64(len(b)), false, 0
	f.reserve()
	return nil
}

// goOn goes on with the file as it is, up to size.
func (f *sessionFile) goOn(size int64) error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if err := file.Truncate(size); err != nil {
		file.Close()
		return err
	}
	f.f, f.size, f.anew, f.unsynced = file, size, size, true
	f.reserve()
	return nil
}

// spare is how much room the file has for what is to come, so that a full disk stops nobody at once.
const spare = 64 << 10

// reserve sees to the spare room, as far as there is any.
func (f *sessionFile) reserve() {
	if f.size+spare/2 > f.room && unix.Fallocate(int(f.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, f.size, spare) == nil {
		f.room = f.size + spare
	}
}

// put queues records.
func (f *sessionFile) put(n noted) {
	f.mu.Lock()
	closed := f.closed
	if !closed {
		f.queue = append(f.queue, n)
		f.cond.Signal()
	}
	f.mu.Unlock()
	if closed && n.done != nil {
		go n.done(os.ErrClosed)
	}
}

// Note implements p9srv.Sessions.
func (f *sessionFile) Note(done func(error), records ...stable.Record) {
	f.put(noted{records, done != nil, done})
}

// record waits until the records, and all before them, are in the host's hands, or durable.
func (f *sessionFile) record(durable bool, records ...stable.Record) error {
	done := make(chan error, 1)
	f.put(noted{records, durable, func(err error) { done <- err }})
	return <-done
}

// Known implements p9srv.Sessions.
func (f *sessionFile) Known() *stable.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known.Clone()
}

// knows says whether a session is to be there after a restart.
func (f *sessionFile) knows(session uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known.Sessions[session] != nil
}

// close ends the writer when all that is queued is written.
func (f *sessionFile) close() error {
	f.mu.Lock()
	f.closed = true
	f.cond.Signal()
	f.mu.Unlock()
	f.ended.Wait()
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}

func (f *sessionFile) loop() {
	defer f.ended.Done()
	for {
		f.mu.Lock()
		for len(f.queue) == 0 && !f.closed {
			f.cond.Wait()
		}
		batch := f.queue
		f.queue = nil
		f.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		err := f.write(batch)
		if err != nil {
			f.logf("what is to be known of sessions after a restart cannot be written: %v", err)
		}
		for _, n := range batch {
			if n.done != nil {
				n.done(err)
			}
		}
	}
}

// minCompact is the size from which the file may be written anew while it is in use.
const minCompact = 1 << 20

// write writes a batch wholly or, as far as a later reader can see, not at all.
func (f *sessionFile) write(batch []noted) error {
	var b []byte
	durable := false
	for _, n := range batch {
		for i := range n.records {
			b = n.records[i].Append(b)
		}
		durable = durable || n.durable
	}
	if f.f == nil {
		if err := f.rewrite(); err != nil {
			return err
		}
	}
	if err := f.append(b); err != nil {
		return err
	}
	if durable && f.sync && f.unsynced {
		err := f.step("sync sessions")
		if err == nil {
			err = eintr(func() error { return unix.Fdatasync(int(f.f.Fd())) })
		}
		if err != nil {
			f.fail() // what the host still has of the file is not known
			return fmt.Errorf("make it durable: %w", err)
		}
		f.unsynced = false
	}
	f.mu.Lock()
	for _, n := range batch {
		for i := range n.records {
			f.known.Apply(&n.records[i])
		}
	}
	f.mu.Unlock()
	if f.size > minCompact && f.size > 4*f.anew {
		if err := f.rewrite(); err != nil {
			f.logf("the file of sessions cannot be written anew: %v", err)
			f.anew = f.size // and it is not tried again at once
		}
	}
	return nil
}

// append appends to the file.
func (f *sessionFile) append(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := f.step("write sessions"); err != nil {
		return err
	}
	if _, err := f.f.Write(b); err != nil {
		if f.f.Truncate(f.size) != nil {
			f.fail()
		}
		return err
	}
	f.size += int64(len(b))
	f.unsynced = true
	f.reserve()
	return nil
}

// fail gives the file up: the next batch begins with a new one, of what is known.
func (f *sessionFile) fail() {
	f.f.Close()
	f.f = nil
	if err := f.rewrite(); err != nil {
		f.logf("the file of sessions cannot be written anew: %v", err)
	}
}

// Sessions implements p9srv.Durable.
func (fs *FS) Sessions() p9srv.Sessions {
	if fs.sessions == nil {
		return nil
	}
	return keeper{fs.sessions, fs}
}

// keeper is the file, with the last cuts, which the log of cuts has.
type keeper struct {
	*sessionFile
	fs *FS
}

// LastCut implements p9srv.Sessions.
func (k keeper) LastCut(client [16]byte) uint64 { return k.fs.LastCut(client) }
