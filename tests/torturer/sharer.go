package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// sharer works by one mount on what all mounts write.
type sharer struct {
	t     *torture
	n     int
	tree  mounted
	rng   *rand.Rand
	seq   int
	told  int64 // losses of the mount that were already given as a reason
	life  *client
	locks int   // lost ones, of which the same is true
	end   int64 // of the common log, as far as it can not be lost any more

	idle sync.Mutex // held while it works
}

func (s *sharer) run() {
	for {
		select {
		case <-s.t.done:
			return
		default:
		}
		s.idle.Lock()
		s.step()
		s.idle.Unlock()
		time.Sleep(time.Duration(s.rng.IntN(60)) * time.Millisecond)
	}
}

func (s *sharer) step() {
	c := s.t.clients[s.n].Load()
	if c != s.life {
		s.life, s.told, s.locks = c, 0, 0
	}
	s.seq++
	path, do := counterPath, s.increment
	if s.rng.IntN(2) == 0 {
		path, do = logPath, s.append
	}
	s.t.count(&s.t.ops, 1)
	err := s.locked(path, do)
	var torn *torn
	switch {
	case err == nil:
		return
	case errors.As(err, &torn):
		s.t.bad("mount %d under the lock: %v", s.n, err)
	case c.dead.Load():
		s.t.count(&s.t.cutOff, 1)
	case errors.Is(err, syscall.ENOSPC) && s.t.filled.Load() > 0:
		s.t.count(&s.t.full, 1)
	case errors.Is(err, syscall.EIO) && s.lockLost(c):
		s.t.count(&s.t.unlocked, 1)
	default:
		if losses := s.t.losses(c); losses > s.told {
			s.told = losses
			s.t.count(&s.t.told, 1)
			return
		}
		s.t.bad("mount %d on %s: %v", s.n, path, err)
	}
	time.Sleep(20 * time.Millisecond)
}

// locked does something with a file under a lock on all of it.
func (s *sharer) locked(path string, do func(*os.File) error) error {
	f, err := os.OpenFile(filepath.Join(s.tree.dir, path), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if !s.t.o.unlocked {
		err = lock(f, syscall.F_WRLCK)
	}
	if err == nil {
		err = do(f)
		if uerr := lock(f, syscall.F_UNLCK); err == nil {
			err = uerr
		}
	}
	return errors.Join(err, f.Close())
}

func lock(f *os.File, typ int16) error {
	for {
		err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLKW, &syscall.Flock_t{Type: typ})
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fcntl lock", err)
		}
	}
}

// dwell keeps the lock for a while, now and then for longer than a lease.
func (s *sharer) dwell() {
	most := 5 * time.Millisecond
	if s.rng.IntN(15) == 0 {
		most = s.t.o.lease * 2
	}
	time.Sleep(time.Duration(s.rng.Int64N(int64(most))))
}

// increment is done under the lock.
func (s *sharer) increment(f *os.File) error {
	floor := int(s.t.counter.Load())
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	was, err := parseCount(b)
	if err != nil {
		return err
	}
	if was.n < floor {
		s.t.count(&s.t.stale, 1)
		s.t.bad("stale: mount %d has the lock and reads %d, when %d was acknowledged before", s.n, was.n, floor)
	}
	s.dwell()
	next := count{was.n + 1, fmt.Sprintf("w%d.%d", s.n, s.seq), was.by}
	s.t.ledger.note(entry{isTried, next.n, next.by, next.from}, nil)
	if _, err := f.WriteAt(next.bytes(), 0); err != nil {
		return err
	}
	if s.rng.IntN(4) == 0 {
		s.dwell()
	}
	if err := f.Sync(); err != nil {
		return err
	}
	s.t.count(&s.t.synced, 1)
	s.t.count(&s.t.increments, 1)
	s.t.ledger.note(entry{isCounted, next.n, next.by, next.from}, func() {
		s.t.counter.Store(max(s.t.counter.Load(), int64(next.n))) // only the ledger's writer stores
	})
	return nil
}

// append is done under the lock.
func (s *sharer) append(f *os.File) error {
	b, err := io.ReadAll(io.NewSectionReader(f, s.end, 1<<40))
	if err != nil {
		return err
	}
	all, err := parseRecords(b)
	if err != nil {
		return err
	}
	me := fmt.Sprint("w", s.n)
	at := s.end + int64(len(b))
	// What is before somebody else's is there for good.
	sure := len(all)
	for sure > 0 && all[sure-1].writer == me {
		sure--
	}
	s.sure(all[:sure])
	s.dwell()
	mine := record{me, s.seq}
	if _, err := f.WriteAt(mine.bytes(), at); err != nil {
		return err
	}
	s.t.count(&s.t.appends, 1)
	if s.rng.IntN(3) > 0 {
		return nil
	}
	if err := f.Sync(); err != nil {
		return err
	}
	s.t.count(&s.t.synced, 1)
	s.sure(append(all[sure:], mine))
	return nil
}

// sure: these records, the next ones, are there for good.
func (s *sharer) sure(all []record) {
	for _, r := range all {
		s.t.ledger.note(entry{isRecord, r.n, r.writer, nobody}, nil)
		s.end += size
	}
}

// lockLost reports whether the mount has said of another lock that it is lost.
func (s *sharer) lockLost(c *client) bool {
	n := strings.Count(c.proc.said(), "a file lock of object")
	if s.t.o.deaf || n <= s.locks {
		return false
	}
	s.locks = n
	return true
}
