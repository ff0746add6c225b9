package tokens

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// move is one thing that can happen in a world.
type move struct {
	kind moveKind
	i, k uint8
	bad  bool // a fault: nobody may depend on it
}

type moveKind uint8

const (
	mvBegin moveKind = iota
	mvClaim
	mvRecv
	mvTake
	mvOld
	mvSend
	mvResolve
	mvApply
	mvCommit
	mvResume
	mvGive
	mvRenew
	mvPlain
	mvPlainDo
	mvNotice
	mvGo
	mvEnd
	mvLate
	mvBreak
	mvCut
	mvStop
	mvDie
	mvFlush
	mvPlainFlush
	mvCrash
	mvGrace
	mvPast
	mvRecorded
)

// moveWords say a move in a story: a letter stands for the client or plain client, N for a number.
var moveWords = [...]string{
	mvBegin:   "A begins",
	mvClaim:   "A goes on with what was granted",
	mvRecv:    "A reads a message",
	mvTake:    "server reads a message of A",
	mvOld:     "server reads a message of A from the old connection",
	mvSend:    "server sends grant N to A",
	mvResolve: "server looks name N up",
	mvApply:   "server finishes the cut of A",
	mvCommit:  "A writes back",
	mvResume:  "A sees that its lease is over, and resumes",
	mvGive:    "A gives back object N unasked",
	mvRenew:   "A renews",
	mvPlain:   "plain A begins",
	mvPlainDo: "plain A is done",
	mvNotice:  "A notices that its connection is gone",
	mvGo:      "A goes on after a stop",
	mvEnd:     "the lease of A ends",
	mvLate:    "A becomes overdue with a recall",
	mvBreak:   "the connection of A breaks, seen by A first",
	mvCut:     "the connection of A breaks, seen by the server first",
	mvStop:    "A is stopped",
	mvDie:     "A dies",

	mvFlush:      "what A asked for is flushed",
	mvPlainFlush: "what plain A asked for is flushed",

	mvCrash:    "the server is killed and starts again",
	mvGrace:    "the time of the grace period is over",
	mvPast:     "what lease A had before the restart ends",
	mvRecorded: "what was taken is on record",
}

func (v move) String() string {
	s := moveWords[v.kind]
	out := ""
	for _, f := range strings.Fields(s) {
		a := strings.TrimSuffix(f, ",")
		switch a {
		case "A":
			a = letters.session(SessionID(v.i + 1))
		case "N":
			a = strconv.Itoa(int(v.k))
		}
		if strings.HasSuffix(f, ",") {
			a += ","
		}
		out += " " + a
	}
	return out[1:]
}

// moves are all that can happen now.
func (w *world) moves(vs []move) []move {
	vs = vs[:0]
	add := func(k moveKind, i int, n int) { vs = append(vs, move{kind: k, i: uint8(i), k: uint8(n)}) }
	fault := func(k moveKind, i int) {
		if i > 0 && !w.sc.anybody {
			return
		}
		vs = append(vs, move{kind: k, i: uint8(i), bad: true})
	}
	for i := range w.c {
		c := &w.c[i]
		s := w.m.sessions[SessionID(i+1)]
		runs := !c.stopped && !c.dead
		away := !runs || c.broken || !c.live
		if runs {
			if c.state == idle && c.pc < len(w.progs[i]) && (c.up && !c.resume || w.canPin(i)) {
				add(mvBegin, i, 0)
			}
			if c.state == pinned {
				add(mvClaim, i, 0)
			}
			if len(c.s2c) > 0 {
				add(mvRecv, i, 0)
			}
			if w.sc.behind && len(c.log) > 0 && c.up && !c.resume && (len(c.cuts) == 0 || w.sc.pipe) {
				add(mvCommit, i, 0)
			}
			if c.state == fetches && !c.h.Valid(worldNow) && c.up && !c.resume {
				add(mvResume, i, 0)
			}
			if c.returns > 0 {
				for k, id := range objects {
					if t := c.h.tokens[id]; t != nil && t.mode != None && !t.recalled {
						add(mvGive, i, k)
					}
				}
			}
			if c.renews > 0 && c.up && !c.resume {
				add(mvRenew, i, 0)
			}
			if c.broken {
				add(mvNotice, i, 0)
			}
		}
		if len(c.c2s) > 0 && !c.broken && (c.live || c.c2s[0].kind == msgSession) {
			add(mvTake, i, 0)
		}
		if len(c.old) > 0 && (!c.live || w.sc.shell.oldConn) {
			add(mvOld, i, 0)
		}
		for k := range w.grants(i) {
			add(mvSend, i, k)
		}
		if w.sc.slow && s != nil && s.applying != nil && s.applying.began {
			add(mvApply, i, 0)
		}
		if c.stopped {
			add(mvGo, i, 0)
		}
		over := w.m.over(s)
		if !over {
			if away || !w.m.extends(s) {
				add(mvEnd, i, 0)
			} else if w.ends > 0 {
				fault(mvEnd, i)
			}
		}
		if w.past(i) {
			add(mvPast, i, 0)
		}
		if s.recalls > 0 && !w.m.overdue(s) {
			if away || i+1 == w.sc.unwilling {
				add(mvLate, i, 0)
			} else if w.slows > 0 {
				fault(mvLate, i)
			}
		}
		if runs && w.breaks > 0 && c.up && !c.broken {
			fault(mvBreak, i)
			if c.live {
				fault(mvCut, i)
			}
		}
		if runs && w.stops > 0 {
			fault(mvStop, i)
		}
		if runs && w.deaths > 0 {
			fault(mvDie, i)
		}
		if w.flushes > 0 && c.live && w.flushable(i) {
			vs = append(vs, move{kind: mvFlush, i: uint8(i), bad: true})
		}
	}
	if w.crashes > 0 {
		fault(mvCrash, 0)
	}
	if may, bad := w.mayEndGrace(); may {
		vs = append(vs, move{kind: mvGrace, bad: bad})
	}
	if len(w.toRecord) > 0 {
		add(mvRecorded, 0, 0)
	}
	for k := range w.names {
		add(mvResolve, 0, k)
	}
	for j := range w.p {
		switch {
		case w.p[j].state == pinned:
			add(mvPlainDo, j, 0)
		case w.p[j].state == idle && w.p[j].pc < len(w.progs[len(w.c)+j]):
			add(mvPlain, j, 0)
		}
		if w.flushes > 0 && w.p[j].state == waiting {
			vs = append(vs, move{kind: mvPlainFlush, i: uint8(j), bad: true})
		}
	}
	return vs
}

func (w *world) canPin(i int) bool {
	c := &w.c[i]
	o := &w.progs[i][c.pc]
	return !o.offer && w.byID(o) && w.cached(c, o.elems) && len(c.h.Missing(worldNow, o.elems, nil)) == 0
}

// play makes a move.
func (w *world) play(v move) {
	i := int(v.i)
	if v.kind == mvResolve {
		w.resolve(int(v.k))
		w.check()
		return
	}
	switch v.kind {
	case mvCrash:
		w.crashes--
		w.restart()
		w.check()
		return
	case mvRecorded:
		w.recorded()
		w.check()
		return
	case mvGrace:
		w.endGrace()
		w.check()
		return
	case mvPlain:
		w.plainBegin(i)
		w.check()
		return
	case mvPlainDo:
		w.plainDo(i)
		w.check()
		return
	case mvPlainFlush:
		w.flushes--
		w.flush(len(w.c) + i)
		w.check()
		return
	}
	c := &w.c[i]
	me := SessionID(i + 1)
	server := v.kind == mvTake || v.kind == mvOld || v.kind == mvSend || v.kind == mvApply || v.kind == mvFlush
	if !server {
		c.own()
	}
	switch v.kind {
	case mvBegin:
		w.begin(i)
	case mvClaim:
		w.claim(i)
	case mvRecv:
		w.receive(i)
	case mvTake:
		w.take(i, false)
	case mvOld:
		w.take(i, true)
	case mvSend:
		w.send(w.grants(i)[v.k])
	case mvApply:
		w.apply(i)
	case mvCommit:
		w.commit(i, len(c.log))
	case mvResume:
		w.tsession(i)
	case mvGive:
		c.returns--
		c.h.GiveBack(objects[v.k], None)
	case mvRenew:
		c.renews--
		c.renewed = true
		w.toServer(i, msg{kind: msgRenew})
	case mvNotice:
		c.broken = false
		w.reconnect(i)
	case mvGo:
		c.stopped = false
	case mvEnd:
		if v.bad {
			w.ends--
		}
		w.own()
		w.m.sessions[me].until = worldNow
		c.h.until, c.h.next = min(c.h.until, worldNow), min(c.h.next, worldNow)
		for _, q := range [][]msg{c.c2s, c.s2c, c.old} {
			for k := range q {
				q[k].old = true
			}
		}
		for _, r := range w.reqs {
			if r.client == i {
				r.old = true
			}
		}
		w.step(Input{Kind: InTick})
	case mvPast:
		w.endPast(i)
	case mvLate:
		if v.bad {
			w.slows--
		}
		w.own()
		w.m.sessions[me].progress = worldNow - 1000
		w.step(Input{Kind: InTick})
	case mvBreak:
		w.breaks--
		if c.live {
			c.old, c.live = c.c2s, false
		}
		w.reconnect(i)
	case mvCut:
		w.breaks--
		c.live, c.broken = false, true
		w.step(Input{Kind: InDisconnected, Session: me})
		w.forget(i)
	case mvStop:
		w.stops--
		c.stopped = true
	case mvDie:
		w.deaths--
		c.dead, c.up = true, false
		c.c2s, c.s2c = nil, nil
	case mvFlush:
		w.flushes--
		w.flush(i)
	default:
		panic(fmt.Sprint("what is ", v.kind))
	}
	if !server {
		w.tidyUp(i)
	}
	w.check()
}

// reconnect: client i has a new connection and sends Tsession.
func (w *world) reconnect(i int) {
	c := &w.c[i]
	c.c2s, c.s2c = nil, nil
	c.resume, c.reclaims, c.renewed = false, false, false
	c.again = c.state == waiting // asked again, under the same request, when Rsession came
	w.tsession(i)
}

const tooMany = "too many states"

// explored is what a walk through all states of a world found.
type explored struct {
	states, edges int
	path          []move // to the violation
	bad           string
}

type node struct {
	parent int32
	by     move
}

// explore visits every state of sc's world: up to limit states, 0: all.
// The first violation ends it. Breadth first its story is the shortest; deep, hardly any states are in memory.
func explore(sc *scenario, limit int, deep bool) explored {
	var (
		k     ink
		nodes []node
		seen  = map[[2]uint64]int32{}
		queue []*world
		ahead []int32 // of the queue
		back  [][2]int32
		good  []int32
		vs    []move
	)
	visit := func(w *world, parent int32, by move) int32 {
		key := hash(k.write(w.write))
		if n, ok := seen[key]; ok {
			return n
		}
		n := int32(len(nodes))
		seen[key] = n
		nodes = append(nodes, node{parent, by})
		if w.finished() {
			good = append(good, n)
		}
		queue, ahead = append(queue, w), append(ahead, n)
		return n
	}
	path := func(n int32) []move {
		var p []move
		for ; n > 0; n = nodes[n].parent {
			p = append(p, nodes[n].by)
		}
		slices.Reverse(p)
		return p
	}
	root := newWorld(sc)
	visit(root, -1, move{})
	edges := 0
	for len(queue) > 0 {
		at := 0
		if deep {
			at = len(queue) - 1
		}
		w, n := queue[at], ahead[at]
		queue[at] = nil
		if deep {
			queue, ahead = queue[:at], ahead[:at]
		} else {
			queue, ahead = queue[1:], ahead[1:]
		}
		if limit > 0 && len(nodes) > limit {
			return explored{states: len(nodes), edges: edges, bad: tooMany, path: path(n)}
		}
		if w.quiet() {
			continue
		}
		vs = w.moves(vs)
		for _, v := range vs {
			next := w.clone()
			bad := next.try(v)
			edges++
			if bad != "" {
				return explored{len(nodes), edges, append(path(n), v), bad}
			}
			to := visit(next, n, v)
			if !v.bad {
				back = append(back, [2]int32{to, n})
			}
		}
	}
	// I6: from every state all can be finished, without a fault's help.
	slices.SortFunc(back, func(a, b [2]int32) int { return int(a[0]) - int(b[0]) })
	start := make([]int32, len(nodes)+1)
	for i, j := 0, 0; i <= len(nodes); i++ {
		for j < len(back) && int(back[j][0]) < i {
			j++
		}
		start[i] = int32(j)
	}
	can := make([]bool, len(nodes))
	for _, g := range good {
		can[g] = true
	}
	for i := 0; i < len(good); i++ {
		for _, e := range back[start[good[i]]:start[good[i]+1]] {
			if !can[e[1]] {
				can[e[1]] = true
				good = append(good, e[1])
			}
		}
	}
	for n := range nodes {
		if !can[n] {
			return explored{len(nodes), edges, path(int32(n)), "stuck: from here nothing but a fault can finish what waits (I6)"}
		}
	}
	return explored{states: len(nodes), edges: edges}
}

// try plays v; a panic of a core is a violation, too.
func (w *world) try(v move) (bad string) {
	defer func() {
		if r := recover(); r != nil {
			if e, ok := r.(error); ok {
				panic(e) // a mistake of the test, or of the core's arithmetic
			}
			bad = fmt.Sprint("panic: ", r)
		}
	}()
	w.play(v)
	return w.bad
}

// hash is FNV-1a in two lanes.
func hash(b []byte) [2]uint64 {
	h := [2]uint64{14695981039346656037, 1099511628211 * 31}
	for _, c := range b {
		h[0] = (h[0] ^ uint64(c)) * 1099511628211
		h[1] = (h[1] ^ uint64(c)) * 0x9E3779B97F4A7C15
		h[1] ^= h[1] >> 29
	}
	return h
}
