package p9srv

import (
	"testing"
	"time"

	"echo9/internal/wire"
)

// A client that lives and renews, but gives nothing back, loses what is recalled when the lease that it had then is
// over: who waits for it waits no longer, what has nothing to do with it never waits, and its cut comes too late.
func TestUnwilling(t *testing.T) {
	l := newLives(t, AuthorityConfig{})
	x, y := l.fs.put("x", ""), l.fs.put("y", "")
	a, b := l.client("a"), l.client("b")
	g := a.grant(writeElem(x))
	a.start(1, &wire.Trecall{})
	b.start(2, &wire.Trecall{})
	b.start(9, &wire.Tgrant{Elems: []wire.GrantElem{writeElem(x)}})
	b.quiet(9)
	plain := l.asks("x")
	if r := recallOf(t, a.reply(1)); r.Tokens[0].ID != x {
		t.Fatalf("recalled: %v", r)
	}
	a.start(1, &wire.Trecall{})
	for range 9 {
		l.pass(time.Second)
		a.do(&wire.Trenew{})
		wantModes(t, "what nobody has", b.grant(writeElem(y)).Tokens, 2)
		b.quiet(9)
		if plain.answered() {
			t.Fatal("a plain client does not wait")
		}
	}
	l.pass(2 * time.Second) // 11 s: a lease and the deadline
	reply := b.reply(9)
	r, ok := reply.(*wire.Rgrant)
	if !ok || r.Tokens[0].Mode != 2 || r.Tokens[0].Gen <= g.Tokens[0].Gen {
		t.Fatalf("who waited: %v", reply)
	}
	if r := a.commit(1, fenceOf(g), dataOf(x, "too late")); r.Status != wire.CommitFenced || r.ID != x {
		t.Errorf("its cut: %v", r)
	}
	if r := b.commit(1, fenceOf(r), dataOf(x, "mine")); string(l.fs.nodes[x].data) != "mine" {
		t.Errorf("the other's: %v, %q", r, l.fs.nodes[x].data)
	}
	b.giveBack(recallOf(t, b.reply(2)))
	eventually(t, "the plain client goes on", plain.answered)
	if st := l.a.Status(); st.CutsFenced != 1 {
		t.Errorf("counted: %d fenced", st.CutsFenced)
	}
}
