package cachefs

import (
	"context"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/tokens"
)

// Somebody opens a file under a token that he was granted and that is on its way back by then: the file stays
// usable, though the one who wants the token removes its name.
func TestOpenWhileTheTokenGoesBack(t *testing.T) {
	w := newWorld(t)
	ok(t, w.direct().WriteFile(bg, "f", make([]byte, 200<<10), 0o666)) // too large to come along with the attributes
	opener, other := w.cache(), w.plain()
	o, a, err := opener.walk(bg, []string{"f"}, true)
	ok(t, err)
	defer o.Release()
	ok(t, other.Chmod(bg, "f", 0o600)) // and the opener has no token of it
	removed := make(chan error, 1)
	waits := 0
	h, err := o.Open(disturbed{bg, func() {
		if waits++; waits > 1 {
			return
		}
		// The grant comes; then it is wanted back, and all is prepared for that, before the opener goes on.
		for opener.locked(func() bool { return opener.holder.Mode(a.QID.Path) == tokens.None }) {
			time.Sleep(time.Millisecond)
		}
		go func() { removed <- other.Remove(bg, "f") }()
		read := []tokens.Elem{{ID: a.QID.Path, Mode: tokens.Read}}
		for opener.locked(func() bool {
			pinned := opener.holder.Pin(opener.clock(), read)
			if pinned {
				opener.holder.Unpin(read)
			}
			return pinned
		}) {
			time.Sleep(time.Millisecond)
		}
	}}, &opener.opt.Cred, wire.ORdonly)
	ok(t, err)
	ok(t, <-removed)
	ctx, cancel := context.WithTimeout(bg, patience)
	defer cancel()
	n, err := h.ReadAt(ctx, make([]byte, 300<<10), 0)
	if n != 200<<10 {
		t.Errorf("%d bytes, %v", n, err)
	}
	ok(t, h.Close(bg))
}

// locked gives what fn says under f.mu.
func (f *FS) locked(fn func() bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.settle()
	return fn()
}
