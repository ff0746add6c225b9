package tokens

import (
	"fmt"
	"slices"
	"strings"
)

// A world is a server with a real Manager, a few clients with real Holders that
// cache and write behind, plain clients, and the connections between them; small
// enough that every state it can get into is visited. Time does not pass in it:
// that a lease ends, or a recall becomes overdue, is a move like any other.
//
// Values are numbers of updates: an object has the value of the last update that
// wrote it, 0 at first.

// The objects of a world. D is a directory in which the name n is bound to X or
// Y: each update that writes D binds it to the one or the other.
const (
	objX ID = 'X' - 'A'
	objY ID = 'Y' - 'A'
	objD ID = 'D' - 'A'
)

var objects = [...]ID{objX, objY, objD}

func slot(id ID) int { return slices.Index(objects[:], id) }

// bound is what n is bound to in D when D has value v.
func bound(v uint8) ID {
	if v%2 == 0 {
		return objX
	}
	return objY
}

// scenario is what a world is about.
type scenario struct {
	name    string
	large   bool     // left out under the race detector
	seldom  bool     // walked with ECHO9_FULL: what goes wrong in it without its rule is found every day
	progs   []string // of the clients: operations separated by commas
	plain   []string // of the plain clients
	setup   []string // what each client begins with: "w:X r:Y"
	bypass  int
	record  bool
	fetch   bool // data does not ride on grants
	slow    bool // applying a cut takes time
	behind  bool // cuts are sent unasked, too
	pipe    bool // a cut may follow one that is not answered
	returns int  // how many times each client may give a token back unasked
	renews  int  // how many Trenew each client may send unasked

	unwilling int // this client (from 1) answers no recall
	loop      int // this client's program begins anew for ever
	overtakes int // a waiting request must not be overtaken more often

	// How often each of these may happen, in all: to A, with anybody to all.
	anybody                                     bool
	breaks, stops, ends, deaths, slows, flushes int
	crashes                                     int  // of the server
	slowly                                      bool // what was taken is not recorded at once

	off   rulesOff
	shell shellOff
}

// shellOff switches off rules that the shells keep.
type shellOff struct {
	fifo          bool // 2: the manager is told Sent before the reply is on the FIFO
	readFence     bool // 6: the fence names read tokens
	readFlush     bool // 6: a read token waits for what read under it
	oldConn       bool // 10: what lay unread on the old connection is thrown away
	lossFirst     bool // 11: the last cut is looked at before the losses
	leaseFromSend bool // 13: the lease counts from before the request
	shortGrace    bool // 13: the grace period lasts at least a lease
	volatile      bool // 16: what was taken is on record before it is granted
	doneAlone     bool // 22: that all is reclaimed is said by who knows what he did not get
	doneVolatile  bool // 22: and is on record before it is answered
}

// op is an operation of a program: its elements, named by the update's number.
type op struct {
	text  string
	elems []Elem
	write bool
	offer bool
}

func parseOps(prog string) []op {
	var ops []op
	for _, text := range strings.FieldsFunc(prog, func(r rune) bool { return r == ',' }) {
		text = strings.TrimSpace(text)
		o := op{text: text}
		for _, f := range strings.Fields(text) {
			if f == "offer" {
				o.offer = true
				continue
			}
			o.elems = append(o.elems, parseElem(f))
		}
		o.write = isUpdate(o.elems) && !o.offer
		ops = append(ops, o)
	}
	return ops
}

// fate is what became of an update.
type fate uint8

const (
	performed fate = 1 << iota
	applied
	lostOp
	doomed  // somebody saw or changed what it wrote or read without it: it must never be applied
	excused // a token that it needs was taken away
	unsure  // and that is not on record yet
	mayLose // nor will be, but its client may have been told
)

type msgKind uint8

const (
	msgAsk msgKind = iota // client to server
	msgReturn
	msgCommit
	msgRead
	msgRenew
	msgSession
	msgReclaim
	msgComplete
	msgGrant // server to client
	msgDenied
	msgRecall
	msgCommitted
	msgRefused
	msgData
	msgRenewed
	msgResumed
	msgReclaimed
	msgCompleted
)

// msg is a message on a connection. It is never changed, but for its age.
type msg struct {
	kind  msgKind
	tag   int // of the request
	op    int // msgAsk: of the program
	offer bool
	elems []Elem
	toks  []Token
	vals  []uint8
	rec   []Recall
	ret   HolderOutput
	id    ID
	gen   Gen
	cut   uint64
	ops   []uint8
	fence []Held
	lost  []Lost
	lease bool // carries lease
	told  bool // the first after Rsession
	old   bool // answers, or asks, from before a lease ended
	epoch uint8
}

type clientState uint8

const (
	idle    clientState = iota
	waiting             // asked
	pinned              // granted
	fetches
)

// client is a client with the extension.
type client struct {
	h        *Holder
	borrowed bool // h is another world's, too
	pc       int  // next operation
	state    clientState
	tag      int // of its request; counts round
	cache    [3]int16
	use      []Elem // fetches: the resolved set
	log      []uint8
	cuts     []msg // sent, not answered
	last     uint64

	up      bool // it has a connection
	live    bool // and the server knows that one
	broken  bool // it is broken, which the client has not noticed
	resume  bool // Tsession is out
	told    bool // Rsession came, nothing was sent since
	renewed bool // Trenew is out
	again   bool // waiting, and nothing is on the way: what it waits for must be asked for again
	stopped bool
	dead    bool

	c2s, s2c, old []msg // old: unread by the server, of a connection that is gone
	tasks         []HolderOutput
	epoch         uint8 // in which it has reclaimed what it has
	comes         uint8 // and in which it reclaims
	reclaims      bool  // Rsession came, and not all is reclaimed
	returns       int
	renews        int
	overtaken     int
}

// serverReq is a request at the server.
type serverReq struct {
	client  int // plain clients come after the others
	tag     int
	op      int
	toks    []Token
	read    bool // msgRead: a plain read of the session
	id      ID
	gen     Gen
	val     uint8
	done    bool // msgRead: was read, not answered
	reclaim bool
	old     bool
}

type world struct {
	sc       *scenario
	progs    [][]op
	m        *Manager
	c        []client
	p        []plainClient
	val      [3]uint8
	fates    [40]fate
	targets  [40]ID // of updates by name
	reqs     map[ReqID]*serverReq
	runs     []run // cuts being applied
	names    []Output
	stable   []record
	toRecord []Output // what was taken
	epoch    uint8

	breaks, stops, ends, deaths, slows, flushes, crashes int

	bad  string // the violation
	note []string
	talk bool // write notes

	borrowed bool // m is another world's, too
}

type plainClient struct {
	pc      int
	state   clientState
	toks    []Token
	overtak int
}

type run struct {
	client int
	cut    uint64
	ops    []uint8
}

const (
	worldNow   = int64(1_000_000)
	worldLease = int64(1000)
)

func newWorld(sc *scenario) *world {
	w := &world{sc: sc, reqs: map[ReqID]*serverReq{}}
	w.breaks, w.stops, w.ends, w.deaths, w.slows, w.flushes = sc.breaks, sc.stops, sc.ends, sc.deaths, sc.slows, sc.flushes
	w.crashes, w.stable = sc.crashes, make([]record, len(sc.progs))
	w.m = NewManager(Config{Lease: worldLease, RecallDeadline: 100, RecallLimit: 1 << 40, Bypass: max(1, sc.bypass), Record: sc.record || sc.crashes > 0}, 0)
	w.m.off = sc.off
	for i, prog := range append(slices.Clone(sc.progs), sc.plain...) {
		w.progs = append(w.progs, parseOps(prog))
		if i >= len(sc.progs) {
			w.p = append(w.p, plainClient{})
			continue
		}
		c := client{h: NewHolder(1), up: true, live: true, returns: sc.returns, renews: sc.renews}
		c.h.off = sc.off
		c.h.LeaseGranted(worldNow, worldLease)
		w.c = append(w.c, c)
		w.m.Step(worldNow, Input{Kind: InSessionOpen, Session: SessionID(i + 1)})
		w.m.Step(worldNow, Input{Kind: InPosted, Session: SessionID(i + 1), N: 2})
		if i < len(sc.setup) && sc.setup[i] != "" {
			var elems []Elem
			for _, e := range strings.Fields(sc.setup[i]) {
				elems = append(elems, parseElem(e))
			}
			out := w.m.Step(worldNow, Input{Kind: InRequest, Req: 1, Session: SessionID(i + 1), Elems: elems})
			w.c[i].h.Offered(worldNow, out[0].Tokens)
			w.m.Step(worldNow, Input{Kind: InSent, Req: 1})
			for _, e := range elems {
				w.c[i].cache[slot(e.ID)] = 1
			}
		}
	}
	return w
}

// number is the value that operation pc of client i writes.
func number(i, pc int) uint8 { return uint8(i*8 + pc + 1) }

func (w *world) op(n uint8) *op { return &w.progs[(n-1)/8][(n-1)%8] }

func (w *world) name(n uint8) string {
	if n == 0 {
		return "initial"
	}
	return fmt.Sprintf("%s%d", letters.session(SessionID((n-1)/8+1)), (n-1)%8+1)
}

func (w *world) say(format string, args ...any) {
	if w.talk {
		w.note = append(w.note, fmt.Sprintf(format, args...))
	}
}

func (w *world) fail(format string, args ...any) {
	if w.bad == "" {
		w.bad = fmt.Sprintf(format, args...)
	}
}

// clone copies w, which must not be changed any more: the cores are copied
// when they are first changed.
func (w *world) clone() *world {
	n := *w
	n.borrowed = true
	n.c = slices.Clone(w.c)
	for i := range n.c {
		c := &n.c[i]
		c.borrowed = true
		c.log, c.cuts, c.tasks, c.use = slices.Clone(c.log), slices.Clone(c.cuts), slices.Clone(c.tasks), slices.Clone(c.use)
		c.c2s, c.s2c, c.old = slices.Clone(c.c2s), slices.Clone(c.s2c), slices.Clone(c.old)
	}
	n.stable, n.toRecord = slices.Clone(w.stable), slices.Clone(w.toRecord)
	n.p, n.runs, n.names = slices.Clone(w.p), slices.Clone(w.runs), slices.Clone(w.names)
	n.reqs = make(map[ReqID]*serverReq, len(w.reqs))
	for id, r := range w.reqs {
		q := *r
		n.reqs[id] = &q
	}
	n.note = nil
	return &n
}

// own makes the Manager w's own, to be changed.
func (w *world) own() {
	if w.borrowed {
		w.m, w.borrowed = w.m.clone(), false
	}
}

// own makes the Holder c's own.
func (c *client) own() {
	if c.borrowed {
		c.h, c.borrowed = c.h.clone(), false
	}
}

func (w *world) write(k *ink) {
	w.m.write(k)
	for i := range w.c {
		w.c[i].write(k)
	}
	for i := range w.p {
		p := &w.p[i]
		k.n(p.pc, int(p.state), p.overtak, len(p.toks))
		for _, t := range p.toks {
			k.n(int(t.ID), int(t.Mode))
		}
	}
	k.n(int(w.val[0]), int(w.val[1]), int(w.val[2]), w.breaks, w.stops, w.ends, w.deaths, w.slows, w.flushes, w.crashes)
	for _, o := range w.toRecord {
		k.n(int(o.Kind), int(o.Session), int(o.Req), int(o.ID), int(o.Keep), len(o.Lost))
		for _, l := range o.Lost {
			k.n(int(l.ID))
		}
	}
	for i := range w.stable {
		r := &w.stable[i]
		k.n(int(r.lost[0]), int(r.lost[1]), int(r.lost[2]), int(w.epoch-w.c[i].epoch), int(w.epoch-w.c[i].comes))
		k.flags(r.missed)
	}
	for i := range w.progs {
		for pc := range w.progs[i] {
			k.n(int(w.fates[number(i, pc)]), int(w.targets[number(i, pc)]))
		}
	}
	for _, id := range sortedIDs(w.reqs) {
		r := w.reqs[id]
		k.n(int(id), r.client, r.tag, r.op, int(r.id), int(r.val), len(r.toks))
		k.flags(r.read, r.old, r.done, r.reclaim)
		k.gen(r.gen)
		for _, t := range r.toks {
			k.n(int(t.ID), int(t.Mode))
			k.gen(t.Gen)
		}
	}
	k.n(-4)
	for _, r := range w.runs {
		k.n(r.client, int(r.cut), len(r.ops))
	}
	k.n(-5)
	for _, o := range w.names {
		k.n(int(o.Req), o.Elem)
	}
	k.n(-6, len(w.bad))
}

func (c *client) write(k *ink) {
	c.h.write(k, worldNow)
	k.n(c.pc, int(c.state), c.tag, int(c.last), c.returns, c.renews, c.overtaken)
	k.n(int(c.cache[0]), int(c.cache[1]), int(c.cache[2]), len(c.log))
	for _, o := range c.log {
		k.n(int(o))
	}
	k.n(len(c.use), len(c.tasks))
	for _, e := range c.use {
		k.n(int(e.ID), int(e.Mode))
	}
	for _, t := range c.tasks {
		k.n(int(t.ID), int(t.Keep))
	}
	k.flags(c.up, c.live, c.broken, c.resume, c.told, c.renewed, c.stopped, c.dead, c.reclaims, c.again)
	for _, q := range [...][]msg{c.cuts, c.c2s, c.s2c, c.old} {
		k.n(len(q))
		for i := range q {
			q[i].write(k)
		}
	}
}

func (m *msg) write(k *ink) {
	k.n(int(m.kind), m.tag, m.op, int(m.id), int(m.cut), int(m.epoch), len(m.toks))
	for i, t := range m.toks {
		k.n(int(t.ID), int(t.Mode))
		k.gen(t.Gen)
		if m.kind == msgGrant {
			k.n(int(m.vals[i]))
		}
	}
	if m.kind == msgData {
		k.n(int(m.vals[0]))
	}
	if m.kind == msgReclaim {
		for _, e := range m.elems {
			k.n(int(e.ID), int(e.Mode))
		}
	}
	for _, r := range m.rec {
		k.n(int(r.ID), int(r.Keep))
		k.gen(r.Gen)
	}
	k.n(int(m.ret.ID), int(m.ret.Keep), len(m.ops), len(m.fence))
	k.gen(m.ret.Gen, m.gen)
	for _, o := range m.ops {
		k.n(int(o))
	}
	for _, f := range m.fence {
		k.n(int(f.ID), int(f.Mode))
		k.gen(f.Gen)
	}
	for _, l := range m.lost {
		k.n(int(l.ID), int(l.Left))
	}
	k.flags(m.lease, m.old, m.offer, m.told)
}

// check looks at the whole after a move.
func (w *world) check() {
	if w.sc.off == (rulesOff{}) && w.sc.shell == (shellOff{}) {
		if err := w.m.Check(); err != nil {
			w.fail("Check: %v", err)
		}
	}
	for _, id := range objects {
		for i := range w.c {
			for j := range i {
				a, b := w.serves(j, id), w.serves(i, id)
				if Conflict(a, b) {
					w.fail("I1: %s (%v) and %s (%v) would both serve %s", letters.session(SessionID(j+1)), a,
						letters.session(SessionID(i+1)), b, letters.object(id))
				}
			}
		}
	}
	if w.sc.overtakes > 0 {
		for i := range w.c {
			if w.c[i].overtaken > w.sc.overtakes {
				w.fail("starved: %s was overtaken %d times", letters.session(SessionID(i+1)), w.c[i].overtaken)
			}
		}
		for i := range w.p {
			if w.p[i].overtak > w.sc.overtakes {
				w.fail("starved: plain client %d was overtaken %d times", i+1, w.p[i].overtak)
			}
		}
	}
}

// serves is the mode in which client i would serve id now.
func (w *world) serves(i int, id ID) Mode {
	c := &w.c[i]
	if c.dead || !c.h.Valid(worldNow) {
		return None
	}
	return c.h.Mode(id)
}

// pass: somebody (client i, or -1) reads id, or updates it, as the server or he knows it. What
// others have pending on it can no longer be applied.
func (w *world) pass(i int, id ID, write bool) {
	for j := range w.c {
		if j == i {
			continue
		}
		for pc := range w.progs[j] {
			n := number(j, pc)
			if f := w.fates[n]; f&performed == 0 || f&(applied|lostOp) != 0 {
				continue
			}
			for _, e := range w.op(n).elems {
				if w.object(n, e) == id && (e.Mode == Write || write) {
					w.fates[n] |= doomed
				}
			}
		}
	}
}

// object is the object that element e of update n is about.
func (w *world) object(n uint8, e Elem) ID {
	if e.Name != "" {
		return w.targets[n]
	}
	return e.ID
}

// finished reports whether all programs have run to their ends.
func (w *world) finished() bool { return w.finishedBut(w.sc.loop) }

// finishedBut leaves a client (from 1) out.
func (w *world) finishedBut(but int) bool {
	for i := range w.c {
		if c := &w.c[i]; !c.dead && i+1 != but && (c.pc < len(w.progs[i]) || c.state != idle) {
			return false
		}
	}
	for i := range w.p {
		if w.p[i].pc < len(w.progs[len(w.c)+i]) {
			return false
		}
	}
	return true
}

// quiet reports whether, besides, nothing is left to write back or being applied.
func (w *world) quiet() bool {
	if !w.finished() || len(w.runs) > 0 {
		return false
	}
	for i := range w.c {
		if c := &w.c[i]; !c.dead && len(c.log)+len(c.cuts) > 0 {
			return false
		}
	}
	return true
}
