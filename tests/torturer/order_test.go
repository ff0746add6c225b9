package main

import (
	"fmt"
	"strings"
	"testing"
)

// inTurn is a worker by client i, whose first cell was updated before its second one, which was then updated again and again.
func inTurn(t *testing.T, i int) (w *worker, first, second *cell) {
	t.Helper()
	first, second = &cell{path: "a", owner: i}, &cell{path: "b", owner: i}
	tt := &torture{o: options{clients: 3, apart: true, logf: t.Logf}}
	for n := range 4 {
		tt.workers = append(tt.workers, &worker{t: tt, n: n})
	}
	w = tt.workers[i]
	w.cells = []*cell{first, second}
	for _, c := range []*cell{second, first, second, second} {
		w.turn++
		n := c.next(w.turn)
		c.performed(n, nil)
		if tt.promises(i) == totally {
			c.precedes(n, w.turn)
		}
	}
	return w, first, second
}

// With a state comes what is before it in its owner's order, and nothing else.
func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		client, saw, looked int // the second cell is seen at saw; its owner looked at the first one in turn looked
		want                int // where the first one is, then
	}{
		"total":                               {client: 0, saw: 2, want: 1},
		"total, done later":                   {client: 0, saw: 1, want: 0},
		"total, the last one":                 {client: 0, saw: 3, want: 1},
		"causal, and nothing was read":        {client: 2, saw: 3, want: 0},
		"causal, and it was read before":      {client: 2, saw: 3, looked: 3, want: 1},
		"causal, and it was read later":       {client: 2, saw: 2, looked: 3, want: 0},
		"each object has an order of its own": {client: 1, saw: 3, looked: 3, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			w, first, second := inTurn(t, c.client)
			if c.looked > 0 && w.t.promises(c.client) == causal {
				first.precedes(1, c.looked)
			}
			w.checkOrder(map[*cell]int{first: 0, second: c.saw})
			wrong := w.t.wrongs()
			if len(wrong) != c.want || c.want > 0 && !strings.HasPrefix(wrong[0], outOfOrder) {
				t.Errorf("the first one is not there, the second is at %d: %q", c.saw, wrong)
			}
			w.checkOrder(map[*cell]int{first: 1, second: c.saw})
			w.t.refusing.Store(true)
			w.checkOrder(map[*cell]int{first: 0, second: c.saw})
			w.t.refusing.Store(false)
			if more := w.t.wrongs()[len(wrong):]; len(more) > 0 {
				t.Errorf("what may be is called wrong: %q", more)
			}
			w.life, w.knows = &client{proc: &process{}}, 0
			fmt.Fprintln(w.life.proc, "1 updates were lost")
			w.checkOrder(map[*cell]int{first: 0, second: c.saw})
			if more := w.t.wrongs()[len(wrong):]; len(more) > 0 {
				t.Errorf("what goes on after a loss is called wrong: %q", more)
			}
			w.forgets(w.life)
			w.checkOrder(map[*cell]int{first: 0, second: c.saw})
			if more := w.t.wrongs()[len(wrong):]; len(more) > 0 {
				t.Errorf("what was looked at before is called wrong: %q", more)
			}
		})
	}
}
