package p9srv

import (
	"testing"
	"time"

	"echo9/internal/wire"
)

// How long recalls take is measured: while one is not answered, and after.
func TestLongestRecall(t *testing.T) {
	now := newClock()
	s, a, fs := newAuthorityServer(t, AuthorityConfig{Clock: now.Load})
	f := fs.put("f", "old")
	w := dialExt(t, s, "writer")
	w.start(1, &wire.Trecall{})
	w.grant(writeElem(f))
	if got := a.Status().LongestRecall; got != 0 {
		t.Errorf("before any recall: %v", got)
	}
	p := dialRaw(t, s)
	p.walk(0, 1, "f")
	p.sendTag(5, &wire.Tlopen{Fid: 1})
	rec := recallOf(t, w.reply(1))
	now.Add(int64(20 * time.Millisecond))
	if got := a.Status().LongestRecall; got != 20*time.Millisecond {
		t.Errorf("of a recall that is not answered: %v", got)
	}
	now.Add(int64(10 * time.Millisecond))
	w.giveBack(rec)
	p.recv(5, &wire.Rlopen{})
	now.Add(int64(time.Second))
	if got := a.Status().LongestRecall; got != 30*time.Millisecond {
		t.Errorf("afterwards: %v", got)
	}
}
