package simulate

import (
	"maps"
	"slices"

	"echo9/tokens"
)

// truth is what c must see of k: what the server has, with c's own work on top.
func (w *world) truth(c *client, k id) object {
	o := w.srv.tree[k]
	for _, u := range w.live {
		if u.by == c && !u.applied && !u.lost {
			u.on(k, &o)
		}
	}
	return o
}

func same(a, b object) bool { a.ver, b.ver = 0, 0; return a == b }

// check looks at the whole after a step.
func (w *world) check() {
	for i, a := range w.clients {
		for _, b := range w.clients[:i] {
			if a.dead || b.dead || !w.valid(a) || !w.valid(b) {
				continue
			}
			for _, k := range w.ids {
				if m, n := a.h.Mode(k), b.h.Mode(k); tokens.Conflict(m, n) {
					w.fail("%s (%v) and %s (%v) would both serve %d", a.name, m, b.name, n, k)
				}
			}
		}
	}
}

func (w *world) valid(c *client) bool {
	if w.broken(serveOver) && c.h.LeaseLeft(w.now-lease/2) > 0 {
		return true
	}
	return c.h.Valid(w.now)
}

// checkTree compares the server's tree with what the applied updates come to.
func (w *world) checkTree() {
	t := newTree()
	for _, u := range w.updates {
		if u.applied {
			t.do(u)
		} else if u.acked {
			w.fail("update %d was acknowledged, and the server does not have it", u.n)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(t)) {
		if a, b := t[k], w.srv.tree[k]; !same(a, b) {
			w.fail("the server has %v of %d; the updates that were applied come to %v", b, k, a)
		}
	}
	if len(t) != len(w.srv.tree) {
		w.fail("the server has %d objects, the updates that were applied come to %d", len(w.srv.tree), len(t))
	}
}

// checkEnd: everything pending is applied, or was reported as lost.
func (w *world) checkEnd() {
	w.checkTree()
	for _, u := range w.updates {
		switch {
		case u.applied:
		case u.lost:
			w.counts.Lost++
		case u.by.dead:
			w.counts.Unknown++
		default:
			w.fail("update %d of %s is lost, and nobody was told", u.n, u.by.name)
		}
	}
}
