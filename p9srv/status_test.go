package p9srv

import (
	"context"
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

// slowNames is a Committer that looks a name up only when it is let.
type slowNames struct {
	*memCommitter
	asked, goOn chan struct{}
}

func (s *slowNames) ResolveName(ctx context.Context, dir uint64, name string) (uint64, error) {
	s.asked <- struct{}{}
	<-s.goOn
	return s.memCommitter.ResolveName(ctx, dir, name)
}

// Who waits does so from the moment on when he asked, whatever is done for him since then.
func TestWaitingBeginsWithTheRequest(t *testing.T) {
	now := newClock()
	fs := &slowNames{newMemCommitter(), make(chan struct{}), make(chan struct{})}
	fs.put("f", "old")
	fs.put("g", "old")
	a := NewAuthority(AuthorityConfig{Backend: fs, Clock: now.Load, Logf: t.Logf})
	t.Cleanup(a.Close)
	s := New(Config{Backend: fs, Authority: a, Logf: t.Logf})
	c, p := dialExt(t, s, "client"), dialRaw(t, s)
	waits := func(who string) {
		t.Helper()
		<-fs.asked
		now.Add(int64(3 * time.Second))
		if w := a.Status().Waiting; len(w) != 1 || w[0].Since != 3*time.Second {
			t.Errorf("%s has waited for 3 s: %+v", who, w)
		}
		fs.goOn <- struct{}{}
	}
	p.sendTag(9, &wire.Tunlinkat{Dfid: 0, Name: "f"})
	waits("a plain client")
	p.recv(9, &wire.Runlinkat{})
	c.start(9, &wire.Tgrant{Elems: []wire.GrantElem{readElem(1), {ID: 1, Name: "g", Mode: 1}}})
	waits("a client")
	if r, ok := c.reply(9).(*wire.Rgrant); !ok {
		t.Errorf("a client's request: %v", r)
	}
}
