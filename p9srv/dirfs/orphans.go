package dirfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"echo9/p9srv/stable"

	"golang.org/x/sys/unix"
)

// What a session keeps alive lives on after a restart of the server, until the session ends. That it keeps an
// object is written when it says so, and is durable before the object's last name goes.

// keeping has it written that a session is about to keep an object.
func (fs *FS) keeping(session, id uint64) error {
	if fs.sessions == nil || !fs.sessions.knows(session) || fs.opt.mutant == forgetKept {
		return nil
	}
	return fs.sessions.record(false, stable.Record{Kind: stable.Kept, Session: session, ID: id})
}

// keepDurably makes durable who keeps what, before an object of those loses its last name.
func (fs *FS) keepDurably(records ...stable.Record) error {
	if fs.sessions == nil {
		return nil
	}
	if err := fs.step("keep"); err != nil {
		return err
	}
	if err := fs.sessions.record(true, records...); err != nil {
		return fmt.Errorf("write who keeps an object: %w", err)
	}
	return nil
}

// recordKept makes durable who keeps objects that the cut may leave without a name.
func (a *apply) recordKept() error {
	if a.fs.sessions == nil {
		return nil
	}
	var records []stable.Record
	some := false
	for _, o := range a.list {
		a.fs.mu.Lock()
		kept := o.n != nil && o.n.keeps > 0
		a.fs.mu.Unlock()
		some = some || kept && len(o.loses) > 0
		if o.keep || o.created() && len(o.gains) == 0 {
			records = append(records, stable.Record{Kind: stable.Kept, Session: a.cred.Session, ID: o.id})
		}
	}
	if len(records) > 0 && !a.fs.sessions.knows(a.cred.Session) {
		records = nil
	}
	if len(records) == 0 && !some {
		return nil
	}
	for i := range records {
		a.keeps = append(a.keeps, records[i].ID)
	}
	return a.fs.keepDurably(records...)
}

// dropKept takes back what recordKept said, when the cut is refused.
func (a *apply) dropKept() {
	fs := a.fs
	for _, id := range a.keeps {
		fs.mu.Lock()
		_, kept := fs.kept[a.cred.Session][id]
		fs.mu.Unlock()
		if !kept {
			fs.sessions.Note(nil, stable.Record{Kind: stable.Dropped, Session: a.cred.Session, ID: id})
		}
	}
}

// takeUp finds what known sessions keep alive, and clears the private directory of everything else,
// when nothing in there is wanted any more for a recovery.
func (fs *FS) takeUp() error {
	keepers := map[uint64][]uint64{}
	for _, s := range fs.sessions.Known().Sessions {
		for id := range s.Kept {
			keepers[id] = append(keepers[id], s.ID)
		}
	}
	for _, place := range []struct {
		name string
		fd   int
	}{{"orphans", fs.state.orphans}, {"tmp", fs.state.tmp}} {
		entries, err := os.ReadDir(fs.state.path(place.name))
		for _, e := range entries {
			kept, kerr := fs.takeUpOne(place.fd, e.Name(), keepers)
			err = errors.Join(err, kerr)
			if !kept && kerr == nil {
				err = errors.Join(err, os.RemoveAll(fs.state.path(place.name)+"/"+e.Name()))
			}
		}
		if err != nil {
			return fmt.Errorf("clear the private directory: %w", err)
		}
	}
	fs.mu.Lock()
	fs.owed = keepers // they have names: found when somebody comes to them
	fs.mu.Unlock()
	return nil
}

// takeUpOne makes what is at a private name an orphan, if somebody keeps it.
func (fs *FS) takeUpOne(dirfd int, name string, keepers map[uint64][]uint64) (bool, error) {
	if len(keepers) == 0 {
		return false, nil
	}
	fd, err := openPath(dirfd, name)
	if err != nil {
		return false, err
	}
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		unix.Close(fd)
		return false, err
	}
	ident, err := fs.identify(fd, "", &st)
	if err != nil {
		unix.Close(fd)
		return false, err
	}
	id := fs.ids.find(st.Ino, ident.tag)
	if id == 0 {
		id = st.Ino
	}
	sessions, ok := keepers[id]
	if !ok || st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		unix.Close(fd)
		return false, nil // it has a name besides, if it is kept
	}
	if own := strconv.FormatUint(id, 10); dirfd != fs.state.orphans || name != own {
		// A recovery, or a cut that was under way, had it elsewhere.
		err := unix.Renameat2(dirfd, name, fs.state.orphans, own, unix.RENAME_NOREPLACE)
		if err != nil && err != syscall.EEXIST {
			unix.Close(fd)
			return false, err
		}
	}
	n, err := fs.intern(fd, &st, ident, 0, "")
	if err != nil {
		return false, err
	}
	fs.mu.Lock()
	n.orphan = true
	for _, s := range sessions {
		fs.keepLocked(s, n)
	}
	fs.mu.Unlock()
	n.Release()
	delete(keepers, id)
	return true, nil
}

// paysLocked has sessions keep an object that they kept before the restart, now that it is found.
func (fs *FS) paysLocked(n *node) {
	for _, s := range fs.owed[n.id] {
		fs.keepLocked(s, n)
	}
	delete(fs.owed, n.id)
}

// owes says whether there is anything that sessions kept before the restart and that was not found yet.
func (fs *FS) owes() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.owed) > 0
}

// forgive ends what is owed to a session.
func (fs *FS) forgive(session uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for id, sessions := range fs.owed {
		left := sessions[:0]
		for _, s := range sessions {
			if s != session {
				left = append(left, s)
			}
		}
		if fs.owed[id] = left; len(left) == 0 {
			delete(fs.owed, id)
		}
	}
}
