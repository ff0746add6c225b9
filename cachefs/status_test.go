package cachefs

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"echo9/internal/wire"
)

// TestStatusOfWaiting: who has to wait for somebody else's cut says for what and for how long; who sends it says what.
func TestStatusOfWaiting(t *testing.T) {
	w := newWorld(t)
	var blocked atomic.Bool
	goOn := make(chan struct{})
	a := w.cache(func(o *Options) {
		o.Hooks.BeforeReturn = func(context.Context, []uint64) {
			if blocked.Load() {
				<-goOn
			}
		}
	})
	b := w.cache(func(*Options) {})
	ok(t, a.WriteFile(bg, "f", []byte("old"), 0o644))
	ok(t, a.Sync(bg))
	same(t, "names", names(t, b, ""), "f")
	hasContent(t, b, "f", "old")
	mine, theirs := open(t, a, "f", wire.OWronly), open(t, b, "f", wire.ORdonly)
	_, err := mine.WriteAt(bg, []byte("new"), 0)
	ok(t, err)
	blocked.Store(true)
	got := make(chan error, 1)
	go func() { _, err := theirs.ReadAt(bg, make([]byte, 3), 0); got <- err }()
	var s Status
	soon(func() bool { s = b.Status(); return len(s.Asking) > 0 })
	if len(s.Asking) != 1 || len(s.Asking[0].Names) != 1 || s.Asking[0].Names[0] != "/f" {
		t.Errorf("asking: %+v", s.Asking)
	}
	if text := s.String(); !strings.Contains(text, "\nasking   to read /f, for ") {
		t.Errorf("in words:\n%s", text)
	}
	close(goOn)
	ok(t, <-got)
	same(t, "questions", len(b.Status().Asking), 0)
}

// TestStatusOfSending: a cut on its way is told of, with what it has.
func TestStatusOfSending(t *testing.T) {
	w := newWorld(t)
	sending := make(chan Status, 1)
	var a *FS
	a = w.cache(func(o *Options) {
		o.Hooks.Commit = func(CutInfo) {
			select {
			case sending <- a.Status():
			default:
			}
		}
	})
	ok(t, a.WriteFile(bg, "f", []byte("content"), 0o644))
	ok(t, a.Sync(bg))
	s := <-sending
	if len(s.Sending) != 1 || s.Sending[0].Updates != s.InFlight || s.Sending[0].Bytes != 7 {
		t.Errorf("sending %+v, %d in flight", s.Sending, s.InFlight)
	}
	if text := s.String(); !strings.Contains(text, "\nsending  cut 1: ") || !strings.Contains(text, ", 7 bytes") {
		t.Errorf("in words:\n%s", text)
	}
	same(t, "afterwards", len(a.Status().Sending), 0)
}
