package cachefs

import (
	"os"
	"syscall"
	"testing"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// TestTmpfile: a file without a name is written, gets a name, is written on, and is the same file all the time, whether or not it
// was at the server before it had a name.
func TestTmpfile(t *testing.T) {
	for _, synced := range []bool{false, true} {
		w := newWorld(t)
		a := w.cache()
		ok(t, a.Mkdir(bg, "d", 0o755))
		h, err := a.Tmpfile(bg, "d", wire.ORdwr, 0o640)
		ok(t, err)
		_, err = h.WriteAt(bg, []byte("hello"), 0)
		ok(t, err)
		same(t, "names", names(t, a, "d"), "")
		if synced {
			ok(t, a.Sync(bg))
			same(t, "names at the server", names(t, w.direct(), "d"), "")
		}
		ok(t, h.Link(bg, "d/f"))
		hasContent(t, a, "d/f", "hello")
		attr, err := a.Stat(bg, "d/f")
		ok(t, err)
		same(t, "links", attr.Nlink, 1)
		same(t, "mode", attr.Mode&0o777, 0o640)
		_, err = h.WriteAt(bg, []byte("J"), 0)
		ok(t, err)
		if synced {
			ok(t, a.Sync(bg))
		}
		ok(t, h.Close(bg))
		ok(t, a.Sync(bg))
		hasContent(t, w.direct(), "d/f", "Jello")
		hasContent(t, a, "d/f", "Jello")
		ok(t, a.Remove(bg, "d/f"))
		ok(t, a.Sync(bg))
		same(t, "names at the server", names(t, w.direct(), "d"), "")
		same(t, "updates lost", a.Status().Lost, 0)
	}
}

// TestTmpfileIsNoMore: without a name it goes when it is closed, and sends nothing; with O_EXCL it never gets one.
func TestTmpfileIsNoMore(t *testing.T) {
	w := newWorld(t)
	var sent commits
	a := w.cache(sent.hook)
	h, err := a.Tmpfile(bg, "", wire.OWronly, 0o600)
	ok(t, err)
	_, err = h.WriteAt(bg, make([]byte, 1<<20), 0)
	ok(t, err)
	ok(t, h.Close(bg))
	ok(t, a.Sync(bg))
	same(t, "bytes sent", sent.bytes.Load(), 0)

	h, err = a.Tmpfile(bg, "", wire.OWronly|wire.OExcl, 0o600)
	ok(t, err)
	fails(t, h.Link(bg, "f"), syscall.ENOENT)
	ok(t, a.Sync(bg))
	ok(t, h.Close(bg))
	ok(t, a.Sync(bg))
	same(t, "names at the server", names(t, w.direct(), ""), "")
	_, err = a.Tmpfile(bg, "", wire.ORdonly, 0o600)
	fails(t, err, syscall.EINVAL)
	if os.Geteuid() == 0 { // to a server that is an ordinary user everybody is that user
		_, _, _, err = object(t, a, "").(p9srv.Nameless).Tmpfile(bg, &p9srv.Cred{UID: 1001, GID: 1001}, wire.OWronly, 0o600, 1001)
		fails(t, err, syscall.EACCES)
	}
}
