package litmus

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"echo9/cachefs"
	"echo9/cachefs/order"
)

// history is what a program did in one run: its updates and when they were at the server.
type history struct {
	policy order.Policy
	root   uint64
	base   tree
	ops    []order.Op
	step   []int // in which it was issued, from 1 on
	done   []int // the step at whose end it was at the server for certain; never: math.MaxInt
	steps  int
}

// record runs a program to its end and notes what it does.
func record(p *program, o order.Policy, w cachefs.Writes) (*history, error) {
	c, err := newClient(o, w)
	if err != nil {
		return nil, err
	}
	defer c.clean()
	defer c.die()
	root, err := c.Root(bg, nil, "")
	if err != nil {
		return nil, err
	}
	h := &history{policy: o, root: root.ID(), steps: len(p.steps)}
	root.Release()
	if err := p.prepare(c); err != nil {
		return nil, err
	}
	made, _ := c.operations()
	var ops []*order.Op
	for i := range made {
		ops = append(ops, &made[i])
	}
	if h.base, err = (tree{h.root: {content: isDirectory, entries: map[string]uint64{}}}).after(order.NetEffect(ops).Records); err != nil {
		return nil, err
	}
	for i, s := range p.steps {
		if err := s.do(c); err != nil {
			return nil, fmt.Errorf("%s: %w", s.text, err)
		}
		issued, sent := c.operations()
		for len(h.ops) < len(issued)-len(made) {
			h.ops = append(h.ops, issued[len(made)+len(h.ops)])
			h.step, h.done = append(h.step, i+1), append(h.done, math.MaxInt)
		}
		for j := range h.ops {
			if sent[len(made)+j] && h.done[j] == math.MaxInt {
				h.done[j] = i + 1
			}
		}
	}
	return h, nil
}

// set has a bit for each operation.
type set uint64

func (s set) has(i int) bool { return s>>i&1 != 0 }

// state is what a crash can leave.
type state struct {
	ops  set
	step int // that the crash came after
	// sent is ops counted among those only that are sent: a run that is to reach the
	// state may have read more, and so have ordered more.
	sent set
}

// orders says whether an operation does nothing but order others.
func orders(k order.Kind) bool { return k == order.Barrier || k.String() == "observe" }

// op gives a copy of an operation, for a log to keep.
func (h *history) op(i int) *order.Op {
	op := h.ops[i]
	op.Attrs = slices.Clone(op.Attrs)
	return &op
}

// preceding says for each operation which ones directly precede it, as the log tells.
func (h *history) preceding(newLog func(order.Policy) *order.Log) []set {
	log := newLog(h.policy)
	index := map[uint64]int{}
	before := make([]set, len(h.ops))
	for i := range h.ops {
		seq := log.Append(h.op(i))
		if seq == 0 {
			continue // nothing is before it that it could order
		}
		index[seq] = i
		for _, p := range log.Predecessors(seq) {
			before[i] |= 1 << index[p]
		}
		// What is in flight is not merged with what comes later, and orders it all the same.
		log.Begin(uint64(i+1), []uint64{seq})
	}
	return before
}

// ideals gives each set of operations that has all that precedes its members.
func ideals(before []set) []set {
	all := map[set]bool{0: true}
	for i, b := range before { // what precedes i has been there before
		for s := range maps.Clone(all) {
			if b&^s == 0 {
				all[s|1<<i] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// net gives the net effect of the operations of a set.
func (h *history) net(s set) *order.Net {
	var ops []*order.Op
	for i := range h.ops {
		if s.has(i) {
			op := h.op(i)
			op.Seq = uint64(i + 1)
			ops = append(ops, op)
		}
	}
	return order.NetEffect(ops)
}

// crashes gives what may be there after a crash: the operations at the server and the last step that was over.
func (h *history) crashes(ids []set) []state {
	var out []state
	for step := 0; step <= h.steps; step++ {
		var issued, must set
		for i := range h.ops {
			if h.step[i] <= step+1 { // the step after may be under way
				issued |= 1 << i
			}
			if h.done[i] <= step {
				must |= 1 << i
			}
		}
		for _, s := range ids {
			if s&^issued == 0 && must&^s == 0 {
				out = append(out, state{s, step, h.sent(s)})
			}
		}
	}
	return out
}

// sent renumbers a set without what only orders.
func (h *history) sent(s set) set {
	var out set
	n := 0
	for i := range h.ops {
		if orders(h.ops[i].Kind) {
			continue
		}
		if s.has(i) {
			out |= 1 << n
		}
		n++
	}
	return out
}

// trees gives the tree after each ideal, and makes sure that it does not matter in which cuts it came.
func (h *history) trees(ids []set) (map[set]tree, error) {
	all := map[set]tree{}
	for _, s := range ids {
		t, err := h.base.after(h.net(s).Records)
		if err != nil {
			return nil, fmt.Errorf("ideal %b: %w", s, err)
		}
		all[s] = t
	}
	for _, s := range ids {
		for _, first := range ids {
			if first&^s != 0 || first == s || first == 0 {
				continue
			}
			t, err := all[first].after(h.net(s &^ first).Records)
			if err != nil {
				return nil, fmt.Errorf("ideal %b after %b: %w", s, first, err)
			}
			if !maps.Equal(t.paths(h.root), all[s].paths(h.root)) {
				return nil, fmt.Errorf("ideal %b after %b: %v, at once: %v", s, first, t.paths(h.root), all[s].paths(h.root))
			}
		}
	}
	return all, nil
}

// replay has a log send an ideal in its own cuts, each as soon as something of it is pending, and gives
// the tree that they make. Writes are merged where the log finds that they may be.
func (h *history) replay(s set) (tree, error) {
	log, t, sent := order.New(h.policy), h.base, 0
	for i := range h.ops {
		seq := log.Append(h.op(i))
		if !s.has(i) || seq == 0 {
			continue
		}
		rest := log.IdealOfOps(seq).Seqs
		for len(rest) > 0 {
			taken := log.Take(rest, 3, 0)
			rest = rest[len(taken):]
			sent++
			var err error
			if t, err = t.after(order.NetEffect(log.Begin(uint64(sent), taken)).Records); err != nil {
				return nil, err
			}
			log.Applied(uint64(sent))
		}
	}
	return t, nil
}
