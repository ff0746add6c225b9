// Package litmus says what may be seen after a crash, in the manner of Ferrite
// (Bornholt et al., ASPLOS 2016) and of ALICE (Pillai et al., OSDI 2014): small programs of
// system calls, each order and write policy, each point where the client can die.
//
// A program runs on a real cache and server, and the updates that it issues are noted. All order
// ideals of them are enumerated, as the log of package order has it; their net effects, on a tree in memory and in
// whatever cuts they come, are the states that a crash can leave. The table of docs/semantics.md is made
// of that (go test ./tests/litmus -update), and each state that it names is
// then reached by a client that really dies.
package litmus

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"echo9/cachefs"
	"echo9/cachefs/order"
)

var update = flag.Bool("update", false, "write the table into docs/semantics.md")

var policies = []cachefs.Writes{cachefs.Behind, cachefs.OnClose, cachefs.Sync}

// cell is what a crash can show of a program, with the states that show it.
type cell map[string][]state

// key names a cell.
type key struct {
	program *program
	order   order.Policy
	writes  cachefs.Writes
}

// enumerate finds a cell.
func enumerate(h *history, p *program, newLog func(order.Policy) *order.Log) (cell, error) {
	if len(h.ops) > 40 {
		return nil, fmt.Errorf("%d operations are too many", len(h.ops))
	}
	ids := ideals(h.preceding(newLog))
	trees, err := h.trees(ids)
	if err != nil {
		return nil, err
	}
	c := cell{}
	for _, s := range h.crashes(ids) {
		shows := p.judge(trees[s.ops].paths(h.root), s.step)
		if shows == "" {
			return nil, fmt.Errorf("after step %d a crash can leave %v", s.step, trees[s.ops].paths(h.root))
		}
		c[shows] = append(c[shows], s)
	}
	return c, nil
}

// check says what of a cell contradicts the promise.
func (c cell) check(k key) error {
	for shows, how := range c {
		if !k.program.allows(shows, k.order) {
			return fmt.Errorf("%q is not to be seen, but can be after step %d with operations %b", shows, how[0].step, how[0].ops)
		}
	}
	return nil
}

// cells are all, computed once.
var cells = sync.OnceValues(func() (map[key]cell, error) {
	out := map[key]cell{}
	for _, p := range programs {
		for _, o := range all {
			for _, w := range policies {
				k := key{p, o, w}
				h, err := record(p, o, w)
				if err == nil {
					out[k], err = enumerate(h, p, order.New)
				}
				if err != nil {
					return nil, fmt.Errorf("%s, order %v, %v: %w", p.name, orderNames[o], w, err)
				}
			}
		}
	}
	return out, nil
})

var orderNames = map[order.Policy]string{order.Object: "object", order.Causal: "causal", order.Total: "total"}

// No cell contradicts the promise, and what an order is said to allow can be.
func TestPromise(t *testing.T) {
	cells, err := cells()
	if err != nil {
		t.Fatal(err)
	}
	for k, c := range cells {
		name := fmt.Sprintf("%s, order %s, writes %v", k.program.name, orderNames[k.order], k.writes)
		if err := c.check(k); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, o := range k.program.outcomes {
			if _, can := c[o.name]; !can && k.writes == cachefs.Behind && slices.Contains(o.in, k.order) {
				t.Errorf("%s: %q is said to be possible, and is not", name, o.name)
			}
		}
	}
}

// The log itself, with merged writes and bounded cuts, leaves just what the net effect of an ideal leaves.
func TestLogSendsIdeals(t *testing.T) {
	for _, p := range programs {
		for _, o := range all {
			h, err := record(p, o, cachefs.Behind)
			if err != nil {
				t.Fatal(err)
			}
			ids := ideals(h.preceding(order.New))
			trees, err := h.trees(ids)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range ids {
				got, err := h.replay(s)
				if err != nil {
					t.Fatalf("%s, order %s, ideal %b: %v", p.name, orderNames[o], s, err)
				}
				if !maps.Equal(got.paths(h.root), trees[s].paths(h.root)) {
					t.Errorf("%s, order %s, ideal %b: the log sends %v, the net effect is %v", p.name, orderNames[o], s, got.paths(h.root), trees[s].paths(h.root))
				}
			}
		}
	}
}

// The mutant: a rename that does not come after what was written to the file makes cells wrong.
func TestWrongOrderIsNoticed(t *testing.T) {
	noticed := 0
	for _, p := range programs {
		h, err := record(p, order.Object, cachefs.Behind)
		if err != nil {
			t.Fatal(err)
		}
		c, err := enumerate(h, p, order.NewBroken)
		if err == nil {
			err = c.check(key{p, order.Object, cachefs.Behind})
		}
		if err != nil {
			noticed++
			t.Logf("%s: %v", p.name, err)
		}
	}
	if noticed < 3 {
		t.Fatalf("noticed in %d programs only", noticed)
	}
}

// reach runs a program on a real cache and server up to a state, has the client die there, and tells what is left.
func reach(t *testing.T, k key, s state) (string, error) {
	c, err := newClient(k.order, k.writes)
	if err != nil {
		return "", err
	}
	defer c.clean()
	err = reachIn(c, k, s)
	c.die()
	if err != nil {
		return "", err
	}
	return k.program.judge(host(t, c.dir), s.step), nil
}

func reachIn(c *client, k key, s state) error {
	if err := k.program.prepare(c); err != nil {
		return err
	}
	made, _ := c.operations()
	for _, step := range k.program.steps[:s.step] {
		if err := step.do(c); err != nil {
			return fmt.Errorf("%s: %w", step.text, err)
		}
		if k.writes != cachefs.Behind {
			continue // they send by themselves
		}
		// Whoever asks now for an object gets what the state is to have of it.
		for i := 0; ; i++ {
			issued, sent := c.operations()
			issued, sent = issued[len(made):], sent[len(made):]
			for j := len(issued) - 1; j >= 0; j-- {
				if orders(issued[j].Kind) {
					issued, sent = slices.Delete(issued, j, j+1), slices.Delete(sent, j, j+1)
				}
			}
			if i == len(issued) {
				break
			}
			if !s.sent.has(i) || sent[i] {
				continue
			}
			at := issued[i].ID
			if issued[i].Dir != 0 {
				at = issued[i].Dir
			}
			if err := c.force(at); err != nil {
				return fmt.Errorf("forcing %v of object %d: %w", issued[i].Kind, at, err)
			}
		}
	}
	return nil
}

// What the table names is reached by clients that die: each outcome of each cell of the write-behind columns.
func TestReached(t *testing.T) {
	cells, err := cells()
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	for _, k := range keys() {
		if k.writes != cachefs.Behind {
			continue
		}
		name := fmt.Sprintf("%s, order %s", k.program.name, orderNames[k.order])
		for shows, states := range cells[k] {
			reached := ""
			for _, s := range states {
				if reached, err = reach(t, k, s); err != nil {
					t.Fatalf("%s: %q: %v", name, shows, err)
				}
				runs++
				if cells[k][reached] == nil {
					t.Errorf("%s: there is %q, which is not in the cell", name, reached)
				}
				if reached == shows {
					break
				}
			}
			if reached != shows {
				t.Errorf("%s: %q is in the cell, but was not reached", name, shows)
			}
		}
	}
	t.Logf("%d clients died", runs)
}

// With the other write policies what the server has after each step, which is what a death there leaves, is in the cell.
func TestOtherPolicies(t *testing.T) {
	cells, err := cells()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys() {
		if k.writes == cachefs.Behind || k.order != order.Object && os.Getenv("ECHO9_FULL") == "" {
			continue
		}
		c, err := newClient(k.order, k.writes)
		if err == nil {
			err = k.program.prepare(c)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(k.program.steps) + 1 {
			if i > 0 {
				if err := k.program.steps[i-1].do(c); err != nil {
					t.Fatalf("%s: %s: %v", k.program.name, k.program.steps[i-1].text, err)
				}
			}
			if got := k.program.judge(host(t, c.dir), i); cells[k][got] == nil {
				t.Errorf("%s, order %s, writes %v: after step %d there is %q, which is not in the cell", k.program.name, orderNames[k.order], k.writes, i, got)
			}
		}
		c.die()
		c.clean()
	}
}

// keys are those of the cells, in the order of the table.
func keys() []key {
	var ks []key
	for _, p := range programs {
		for _, o := range all {
			for _, w := range policies {
				ks = append(ks, key{p, o, w})
			}
		}
	}
	return ks
}

const (
	begins = "<!-- litmus: made by go test ./tests/litmus -update -->\n"
	ends   = "<!-- litmus: end -->\n"
)

// shown gives a cell's text: its outcomes in the program's order, those that a log in the order of issue would not show in bold.
func shown(k key, cells map[key]cell) string {
	var names []string
	for _, o := range k.program.outcomes {
		if cells[k][o.name] == nil {
			continue
		}
		if cells[key{k.program, order.Total, cachefs.Behind}][o.name] == nil {
			names = append(names, "**"+o.name+"**")
		} else {
			names = append(names, o.name)
		}
	}
	return strings.Join(names, ", ")
}

// table has "same" where a cell is as the program's first, or a whole policy as write-behind.
func table(cells map[key]cell) string {
	var b strings.Builder
	b.WriteString("| program | object | causal | total | close | sync |\n|---|---|---|---|---|---|\n")
	for _, p := range programs {
		fmt.Fprintf(&b, "| %s", p.name)
		var behind []string
		for _, o := range all {
			text := shown(key{p, o, cachefs.Behind}, cells)
			if behind = append(behind, text); o != order.Object && text == behind[0] {
				text = "same"
			}
			fmt.Fprintf(&b, " | %s", text)
		}
		for _, w := range policies[1:] {
			var texts []string
			for _, o := range all {
				texts = append(texts, shown(key{p, o, w}, cells))
			}
			switch {
			case slices.Equal(texts, behind):
				texts = []string{"same"}
			case len(slices.Compact(slices.Clone(texts))) == 1:
				texts = texts[:1]
			default:
				for i, o := range all {
					texts[i] = orderNames[o] + ": " + texts[i]
				}
			}
			fmt.Fprintf(&b, " | %s", strings.Join(texts, "; "))
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// The table in docs/semantics.md is what is true.
func TestTable(t *testing.T) {
	cells, err := cells()
	if err != nil {
		t.Fatal(err)
	}
	const name = "../../docs/semantics.md"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(text, []byte(begins))
	_, tail, ok2 := bytes.Cut(rest, []byte(ends))
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", name)
	}
	want := slices.Concat(head, []byte(begins), []byte(table(cells)), []byte(ends), tail)
	if bytes.Equal(text, want) {
		return
	}
	if !*update {
		t.Fatalf("the table in docs/semantics.md is not what is true now: see what changed, and go test ./tests/litmus -update")
	}
	if err := os.WriteFile(name, want, 0o644); err != nil {
		t.Fatal(err)
	}
}
