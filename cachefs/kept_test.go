package cachefs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// forgetful is a backend that keeps nothing alive for a session that did not say itself that it has it open.
type forgetful struct{ p9srv.Committer }

func (forgetful) KeepOpen(uint64, uint64) error { return nil }

// orphans are the objects without a name that the server keeps.
func (w *world) orphans() int {
	w.t.Helper()
	list, err := os.ReadDir(filepath.Join(w.dir, ".echo9", "orphans"))
	ok(w.t, err)
	return len(list)
}

// openWhileAway: a client has files open and others cached, and is away past its lease. Somebody else writes to one, and unlinks all. When the
// client is back what it has open works on until it is closed. It gives how much the server keeps after that, and the error of it.
func openWhileAway(t *testing.T, durable bool, mutant string, change ...func(*p9srv.AuthorityConfig)) (left int, err error) {
	w, clock, skew := skewed(t, change...)
	if durable {
		w.stop()
		w.durable = true
		w.start()
	}
	a, l := w.lined(func(o *Options) { o.Clock, o.Mutant = clock, mutant })
	for _, name := range []string{"open", "written", "closed"} {
		ok(t, a.WriteFile(bg, name, []byte("text"), 0o644))
	}
	ok(t, a.Sync(bg))
	h, k := open(t, a, "open", wire.ORdwr), open(t, a, "written", wire.ORdonly)
	hasContent(t, a, "closed", "text")
	l.down()
	skew.Store(int64(time.Hour))
	b := w.cache(func(o *Options) { o.Clock = clock })
	ok(t, b.WriteFile(bg, "written", []byte("theirs"), 0o644))
	ok(t, b.Sync(bg))
	for _, name := range []string{"open", "written", "closed"} {
		ok(t, b.Remove(bg, name))
	}
	ok(t, b.Sync(bg))
	l.up()
	err = func() error {
		p := make([]byte, 20)
		for h, want := range map[*File]string{h: "text", k: "theirs"} {
			n, err := h.ReadAt(bg, p, 0)
			if err != nil {
				return err
			}
			same(t, "what an open file has", string(p[:n]), want)
			attr, err := inner(h).(*file).n.GetAttr(bg, &a.opt.Cred)
			if err != nil {
				return err
			}
			same(t, "its names", attr.Nlink, 0)
		}
		if _, err := h.WriteAt(bg, []byte("more"), 0); err != nil {
			return err
		}
		return h.Fsync(bg, false)
	}()
	_, serr := a.Stat(bg, "open")
	fails(t, serr, syscall.ENOENT)
	same(t, "lost", a.Status().Lost, 0)
	if err == nil {
		same(t, "kept while open", w.orphans(), 2+map[bool]int{true: 1}[mutant == mutantTellNothing])
	}
	ok(t, h.Close(bg))
	ok(t, k.Close(bg))
	ok(t, a.Sync(bg))
	return w.orphans(), err
}

// TestOpenWhileAway: what a client has open outlives that it is away and somebody else unlinks it, and what it has not open is not kept for it.
func TestOpenWhileAway(t *testing.T) {
	for _, durable := range []bool{false, true} {
		left, err := openWhileAway(t, durable, "")
		ok(t, err)
		same(t, "kept after all is closed", left, 0)
	}
	_, err := openWhileAway(t, false, "", func(c *p9srv.AuthorityConfig) { c.Backend = forgetful{c.Backend} })
	fails(t, err, syscall.ESTALE)
	left, err := openWhileAway(t, false, mutantTellNothing)
	ok(t, err)
	same(t, "kept for a client that does not tell", left, 1)
}
