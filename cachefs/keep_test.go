package cachefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"echo9/cachefs/order"
	"echo9/cachefs/spool"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
)

// keeper gives a cache that keeps what it loses, and where. Each event that names an entry finds it there; what does not is in early.
type keeper struct {
	*FS
	store *spool.Store

	telling sync.Mutex // not mu, which is FS's
	early   []string
}

func (w *world) keeper(change ...func(*Options)) *keeper {
	w.t.Helper()
	return w.keepingOver(w.cache, change...)
}

// keeperOver is keeper over a line that can be cut.
func (w *world) keeperOver(l *line, change ...func(*Options)) *keeper {
	w.t.Helper()
	return w.keepingOver(func(change ...func(*Options)) *FS { return w.over(l, change...) }, change...)
}

func (w *world) keepingOver(cache func(...func(*Options)) *FS, change ...func(*Options)) *keeper {
	w.t.Helper()
	k := &keeper{store: spool.Open(filepath.Join(w.t.TempDir(), "lost"), 1<<30)}
	k.FS = cache(append([]func(*Options){func(o *Options) {
		o.Spool, o.Server, o.Mountpoint = k.store, "here", "/mnt"
		o.Logf = func(format string, args ...any) {
			text := fmt.Sprintf(format, args...)
			if _, id, ok := strings.Cut(text, "echo9 lost show "); ok {
				if _, err := k.store.Get(id); err != nil {
					k.telling.Lock()
					k.early = append(k.early, fmt.Sprintf("%s: %v", text, err))
					k.telling.Unlock()
				}
			}
		}
	}}, change...)...)
	return k
}

// entries are what is kept, which is all there when a call has told of the loss.
func (k *keeper) entries() ([]*spool.Kept, error) {
	k.telling.Lock()
	defer k.telling.Unlock()
	if len(k.early) > 0 {
		return nil, fmt.Errorf("told before it was kept: %v", k.early)
	}
	return k.store.List()
}

// kept checks that an entry has the whole content of a file.
func keptFile(e *spool.Kept, path, want string) error {
	i := slices.IndexFunc(e.Objects, func(o spool.Object) bool { return string(o.Path) == path && o.Type == "file" })
	if i < 0 {
		return fmt.Errorf("%s is not in %+v", path, e.Objects)
	}
	var b bytes.Buffer
	whole, err := e.Cat(&b, &e.Objects[i])
	if err != nil || !whole || b.String() != want {
		return fmt.Errorf("%s has %d bytes, whole %v, %v; not %d", path, b.Len(), whole, err, len(want))
	}
	return nil
}

// refuseBytes makes a backend refuse data of so many bytes.
func (r *refuser) refuseBytes(n int, err error) {
	fn := func(rec *cut.Record) error {
		if rec.Kind == cut.Data && len(rec.Bytes) == n {
			return err
		}
		return nil
	}
	r.refuse.Store(&fn)
}

// keepNewFile loses a file that was written under a temporary name, renamed into place over an old one, and more: what is kept
// gives all of it back.
func keepNewFile(t *testing.T, change ...func(*Options)) error {
	w, r := refusing(t)
	a := w.keeper(change...)
	ok(t, a.WriteFile(bg, "final", []byte("old"), 0o644))
	ok(t, a.Sync(bg))
	r.refuseBytes(3000, syscall.EDQUOT)
	text := strings.Repeat("abc", 1000)
	ok(t, a.WriteFile(bg, "tmp", []byte(text), 0o640))
	ok(t, a.Rename(bg, "tmp", "final"))
	fails(t, a.Sync(bg), syscall.EIO)
	hasContent(t, w.direct(), "final", "old")
	list, err := a.entries()
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return fmt.Errorf("%d entries for one loss", len(list))
	}
	e := list[0]
	if e.Cause != spool.Refused || e.Errno != int(syscall.EDQUOT) || e.Server != "here" || e.Mount != "/mnt" || e.UID != a.opt.Cred.UID {
		return fmt.Errorf("the entry is %+v", e.Entry)
	}
	if err := keptFile(e, "/final", text); err != nil {
		return err
	}
	// The server has the old one as it was: it may be replaced.
	_, err = e.Restore(w.dir, spool.RestoreOptions{})
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(w.dir, "final"))
	if err == nil && string(b) != text {
		err = fmt.Errorf("restored %d bytes", len(b))
	}
	return err
}

// TestLossIsKept: the file as its writer saw it is kept under the name that it had at last, before anybody is told; a cache that
// forgets it first is found out.
func TestLossIsKept(t *testing.T) {
	ok(t, keepNewFile(t))
	if keepNewFile(t, func(o *Options) { o.Mutant = mutantForgetFirst }) == nil {
		t.Fatal("what was forgotten before it was kept is not missed")
	}
}

// TestLossOfAPart: of a file of which a part was changed all is kept that is cached, and what it was without it.
func TestLossOfAPart(t *testing.T) {
	w, r := refusing(t)
	before := strings.Repeat("0123456789", 1000)
	ok(t, w.direct().WriteFile(bg, "f", []byte(before), 0o644))
	a := w.keeper()
	hasContent(t, a.FS, "f", before)
	h := open(t, a.FS, "f", wire.ORdwr)
	// An earlier change survives, and is part of what the file is without the loss.
	_, err := h.WriteAt(bg, []byte("first"), 10)
	ok(t, err)
	ok(t, h.Fsync(bg, false))
	r.refuseBytes(7, syscall.ENOSPC)
	_, err = h.WriteAt(bg, []byte("refused"), 5000)
	ok(t, err)
	fails(t, h.Fsync(bg, false), syscall.EIO)
	list, err := a.entries()
	ok(t, err)
	same(t, "entries", len(list), 1)
	want := before[:10] + "first" + before[15:5000] + "refused" + before[5007:]
	ok(t, keptFile(list[0], "/f", want))
	at, err := w.direct().Stat(bg, "f")
	ok(t, err)
	base := list[0].Objects[0].Base
	if base == nil || base.Ctime != at.Ctime || base.Mtime != at.Mtime || base.Size != at.Size || base.Version != wire.DataVersion(at.Mode, at.Ctime, at.Size) {
		t.Fatalf("without the loss it is %+v, and the entry says %+v", at, base)
	}
	// Somebody else changes it: then it is not overwritten.
	r.refuse.Store(nil)
	ok(t, w.plain().WriteFile(bg, "f", []byte("newer"), 0o644))
	res, err := list[0].Restore(w.dir, spool.RestoreOptions{})
	ok(t, err)
	if len(res) != 1 || res[0].How != spool.Beside {
		t.Fatalf("%v", res)
	}
	hasContent(t, w.direct(), "f", "newer")
	hasContent(t, w.direct(), "f.echo9-lost-"+list[0].ID, want)
	fails(t, h.Close(bg), syscall.EIO)
}

// TestLossOfUsers: what two users lose at once is kept for each alone.
func TestLossOfUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: acts for several users")
	}
	w, r := refusing(t)
	ok(t, os.Chmod(w.dir, 0o777))
	a := w.keeper()
	fn := func(rec *cut.Record) error {
		if rec.Kind == cut.Create {
			return syscall.EDQUOT
		}
		return nil
	}
	r.refuse.Store(&fn)
	for _, uid := range []uint32{1001, 1002} {
		root, err := a.Root(bg, asUser(uid, uid), "")
		ok(t, err)
		o, h, _, err := root.Create(bg, asUser(uid, uid), fmt.Sprintf("of%d", uid), wire.ORdwr, 0o600, uid)
		ok(t, err)
		_, err = h.WriteAt(bg, fmt.Appendf(nil, "secret of %d", uid), 0)
		ok(t, err)
		ok(t, h.Close(bg))
		o.Release()
		root.Release()
	}
	fails(t, a.Sync(bg), syscall.EIO)
	for a.Status().Pending > 0 {
		a.Sync(bg)
	}
	list, err := a.entries()
	ok(t, err)
	same(t, "entries", len(list), 2)
	for _, e := range list {
		ok(t, keptFile(e, fmt.Sprintf("/of%d", e.UID), fmt.Sprintf("secret of %d", e.UID)))
		for _, op := range e.Ops {
			if strings.Contains(string(op.Paths[0]), fmt.Sprint(1001+1002-e.UID)) {
				t.Errorf("user %d gets %v", e.UID, op)
			}
		}
	}
}

// TestTakenIsKept: what goes because its token was taken, with all that comes after it.
func TestTakenIsKept(t *testing.T) {
	w := newWorld(t)
	a := w.keeper()
	ok(t, a.WriteFile(bg, "a", []byte("aaa"), 0o644))
	ok(t, a.WriteFile(bg, "other", nil, 0o644))
	ok(t, a.Sync(bg))
	id := object(t, a.FS, "a").ID()
	ok(t, a.WriteFile(bg, "a", []byte("changed"), 0o644))
	ok(t, a.Rename(bg, "a", "b"))
	a.mu.Lock()
	a.taken(a.log.Touching(order.ByWrite, id), []uint64{id})
	a.mu.Unlock()
	fails(t, a.Sync(bg), syscall.EIO)
	list, err := a.entries()
	ok(t, err)
	same(t, "entries", len(list), 1)
	same(t, "cause", list[0].Cause, spool.Taken)
	ok(t, keptFile(list[0], "/b", "changed"))
	hasContent(t, a.FS, "a", "aaa")
}

// stuck is a backend that does not answer, and applies nothing.
type stuck struct {
	p9srv.Committer
	asked, free chan struct{}
}

func (s *stuck) Apply(ctx context.Context, cred *p9srv.Cred, c *cut.Cut) error {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.free
	return syscall.EIO
}

// TestInDoubt: what was on its way when the server was heard of for the last time is in doubt; all that was pending is kept.
func TestInDoubt(t *testing.T) {
	s := &stuck{asked: make(chan struct{}, 1), free: make(chan struct{})}
	w := newWorld(t, func(c *p9srv.AuthorityConfig) { s.Committer, c.Backend = c.Backend, s })
	defer close(s.free)
	a := w.keeper()
	same(t, "names", names(t, a.FS, ""), "") // what is not there is known
	ok(t, a.WriteFile(bg, "sent", []byte("1"), 0o644))
	done := make(chan error)
	go func() { done <- a.Sync(bg) }()
	<-s.asked
	h, err := a.OpenFile(bg, "later", wire.OCreat|wire.OWronly, 0o644)
	ok(t, err)
	_, err = h.WriteAt(bg, []byte("2"), 0)
	ok(t, err)
	a.conn.NetConn().Close()
	fails(t, <-done, syscall.EIO)
	if err := a.Close(bg); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	list, err := a.entries()
	ok(t, err)
	same(t, "entries", len(list), 1)
	e := list[0]
	same(t, "cause", e.Cause, spool.Doubt)
	ok(t, keptFile(e, "/sent", "1"))
	ok(t, keptFile(e, "/later", "2"))
	for _, op := range e.Ops {
		if op.Sent != (op.Paths[0] == "/sent") {
			t.Errorf("%v: sent is %v", op, op.Sent)
		}
	}
	if text := fmt.Sprint(a.Events()); !strings.Contains(text, "in doubt") {
		t.Fatalf("the events are %s", text)
	}
}

// TestGivenUp: a cache that is closed before it could send keeps what is left.
func TestGivenUp(t *testing.T) {
	s := &stuck{asked: make(chan struct{}, 1), free: make(chan struct{})}
	w := newWorld(t, func(c *p9srv.AuthorityConfig) { s.Committer, c.Backend = c.Backend, s })
	defer close(s.free)
	a := w.keeper()
	ok(t, a.WriteFile(bg, "f", []byte("text"), 0o644))
	ctx, cancel := context.WithCancel(bg)
	go func() { <-s.asked; cancel() }()
	if a.Close(ctx) == nil {
		t.Fatal("closed, and nothing was sent")
	}
	list, err := a.entries()
	ok(t, err)
	same(t, "entries", len(list), 1)
	ok(t, keptFile(list[0], "/f", "text"))
}

// TestUnkept: when the spool cannot be written to the loss is told all the same, and that it is not kept.
func TestUnkept(t *testing.T) {
	w, r := refusing(t)
	a := w.keeper()
	ok(t, os.WriteFile(a.store.Dir(), nil, 0o600)) // no directory
	r.refuseBytes(4, syscall.ENOSPC)
	ok(t, a.WriteFile(bg, "f", []byte("text"), 0o644))
	fails(t, a.Sync(bg), syscall.EIO)
	text := fmt.Sprint(a.Events())
	if !strings.Contains(text, "could not be kept") || !strings.Contains(text, "lost: write 4 bytes at 0 of /f") {
		t.Fatalf("the events are %s", text)
	}
}
