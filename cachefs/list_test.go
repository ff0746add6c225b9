package cachefs

import (
	"context"
	"testing"

	"echo9/internal/wire"
)

// disturbed is the context of somebody who is so slow that others always are quicker: each time that he is
// about to wait, disturb runs before he can see whether what he waits for is there.
type disturbed struct {
	context.Context
	disturb func()
}

func (d disturbed) Done() <-chan struct{} {
	d.disturb()
	return d.Context.Done()
}

// A listing is used once at least: who changes the directory all the time does not keep others from listing it.
func TestListingOfABusyDirectory(t *testing.T) {
	w := newWorld(t)
	ok(t, w.direct().Mkdir(bg, "d", 0o777))
	ok(t, w.direct().WriteFile(bg, "d/f", nil, 0o666))
	lister, other := w.cache(), w.plain()
	o, _, err := lister.walk(bg, []string{"d"}, true)
	ok(t, err)
	defer o.Release()
	h, err := o.Open(bg, &lister.opt.Cred, wire.ORdonly|wire.ODirectory)
	ok(t, err)
	defer h.Close(bg)
	ok(t, other.Chmod(bg, "d", 0o700)) // and the lister has no token of it
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	waits := 0
	list, err := lister.list(disturbed{ctx, func() {
		if waits++; waits > 5 {
			cancel()
		}
		for n := o.(*node); ; {
			lister.mu.Lock()
			l := n.listing
			lister.mu.Unlock()
			if l == nil {
				break
			}
			<-l.done
		}
		ok(t, other.Chmod(bg, "d", uint32(0o701+waits%2)))
	}}, h.(*file))
	ok(t, err)
	if len(list) != 1 || list[0].Name != "f" || waits != 1 {
		t.Errorf("%v after %d waits", list, waits)
	}
}
