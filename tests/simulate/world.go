package simulate

import (
	"fmt"
	"maps"
	"slices"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/tokens"
)

const lease = 1000

// Config says what worlds are like.
type Config struct {
	Clients int // 2 to 9
	Steps   int // until the faults end
	Faults  bool
	Broken  string // a mechanism that is broken, see Mutants
}

// The mechanisms that can be broken.
const (
	resendBlind       = "resend-blind"        // a cut is sent again though Rsession says it was applied
	lossBeforeCut     = "loss-before-cut"     // losses are taken in before the last cut
	oldConnection     = "old-connection"      // the server reads on from a connection that was replaced
	leaseFromReply    = "lease-from-reply"    // the lease counts from the reply
	serveOver         = "serve-over"          // a client past its lease serves
	grantBeforeRecord = "grant-before-record" // what was taken is granted before that is durable
	missedUnrecorded  = "missed-unrecorded"   // who missed a grace period may reclaim in a later one
	noGrace           = "no-grace"            // a server that comes back grants at once
	keepOverEpoch     = "keep-over-epoch"     // a client goes on with its tokens in a new epoch
	versionUnchecked  = "version-unchecked"   // what was changed while the server was away is taken for unchanged
	ackBeforeLog      = "ack-before-log"      // a cut is acknowledged before it is durable
	tornCut           = "torn-cut"            // a crash leaves half a cut
	lastCutVolatile   = "last-cut-volatile"   // the last cut's number is not stable
	completeVolatile  = "complete-volatile"   // that a late client has reclaimed all is answered before it is durable
	silentLoss        = "silent-loss"         // lost work is not reported
	installOver       = "install-over"        // what comes along is installed over what is held
	noFence           = "no-fence"            // cuts are applied whatever was taken
	noFlush           = "no-flush"            // a token goes back before what was done under it
	noReadFlush       = "no-read-flush"       // a read token does
)

// Mutants are the values of Config.Broken.
func Mutants() []string {
	return []string{resendBlind, lossBeforeCut, oldConnection, leaseFromReply, serveOver, grantBeforeRecord, missedUnrecorded, noGrace, keepOverEpoch, completeVolatile,
		versionUnchecked, ackBeforeLog, tornCut, lastCutVolatile, silentLoss, installOver, noFence, noFlush, noReadFlush}
}

// world is everything there is.
type world struct {
	cfg     Config
	now     int64
	srv     server
	clients []*client // those of the present; killed ones are in ghosts
	ghosts  []*client
	born    int

	updates []*update
	live    []*update // neither applied nor lost
	ids     []id
	edited  map[id]uint64 // on the host, after which epoch
	editor  map[id]int    // and by which update

	counts Counts
	bad    string
	talk   bool
	story  []string
}

// Counts is what happened in a world.
type Counts struct {
	Steps, Updates, Reads, Lost, Unknown      int
	Breaks, Stops, Kills, Crashes, Edits, End int
}

func newWorld(cfg Config) *world {
	w := &world{cfg: cfg, srv: server{tree: newTree(), known: map[sid]*known{}}, edited: map[id]uint64{}, editor: map[id]int{}, ids: []id{dirA, dirB, firstFile, firstFile + 1, firstFile + 2}}
	for i := range cfg.Clients {
		w.clients = append(w.clients, w.newClient(i))
	}
	w.start()
	for i, c := range w.clients {
		w.dial(c)
		w.try(step{kind: stTake, who: uint8(i)})
		w.receive(c)
	}
	return w
}

func (w *world) broken(what string) bool { return w.cfg.Broken == what }

func (w *world) say(format string, args ...any) {
	if w.talk {
		w.story = append(w.story, fmt.Sprintf("%6d  ", w.now)+fmt.Sprintf(format, args...))
	}
}

func (w *world) fail(format string, args ...any) {
	if w.bad == "" {
		w.bad = fmt.Sprintf(format, args...)
		w.say("%s", w.bad)
	}
}

type msgKind uint8

const (
	msgAsk msgKind = iota // client to server
	msgReturn
	msgCommit
	msgRenew
	msgSession
	msgReclaim
	msgReclaimed
	msgPost
	msgGrant // server to client
	msgReclaimGrant
	msgDenied
	msgRecall
	msgCommitted
	msgRefused
	msgRenewed
	msgResumed
	msgCompleted
)

var msgNames = [...]string{"Tgrant", "Treturn", "Tcommit", "Trenew", "Tsession", "Tgrant (reclaim)", "Tgrant (complete)", "Trecall",
	"Rgrant", "Rgrant (reclaim)", "Rlerror", "Rrecall", "Rcommit", "Rcommit (refused)", "Rrenew", "Rsession", "Rgrant (complete)"}

func (k msgKind) String() string { return msgNames[k] }

// message is one of either direction. Replies carry the time at which the request was sent.
type message struct {
	kind    msgKind
	tag     int
	sent    int64
	lease   int64
	conn    *conn
	session sid
	told    bool // the first after Rsession

	elems   []tokens.Elem
	reclaim []reclaim
	changed []bool
	toks    []tokens.Token
	vals    []object
	recalls []tokens.Recall
	ret     tokens.HolderOutput

	cut     uint64
	updates []*update
	records []cut.Record
	fence   []tokens.Held

	epoch uint64
	gen   tokens.Gen
	lost  []tokens.Lost
	begun bool // a new session
}

// conn is a connection: two FIFOs.
type conn struct {
	client     *client
	session    sid
	c2s, s2c   []message
	broken     bool // nothing more is put on it
	resumeSent int64
	posted     int // Trecalls, by its client
}

func (cn *conn) toServer(mg message) {
	if !cn.broken {
		cn.c2s = append(cn.c2s, mg)
	}
}

func (cn *conn) toClient(mg message) {
	if !cn.broken {
		cn.s2c = append(cn.s2c, mg)
	}
}

// perform notes an update.
func (w *world) perform(c *client, u update) *update {
	u.n, u.by = len(w.updates)+1, c
	v := &u
	w.updates, w.live = append(w.updates, v), append(w.live, v)
	w.counts.Updates++
	return v
}

// pass: c (nil: somebody on the host) uses k. What others have pending on it can no longer be applied.
func (w *world) pass(c *client, k id, write bool) {
	w.live = slices.DeleteFunc(w.live, func(u *update) bool { return u.applied || u.lost })
	for _, u := range w.live {
		if u.by != c && (u.writes(k) || write && u.read == k) {
			u.doomed = true
		}
	}
}

// excuse: c has no more than keep of k now; what needs more may be lost.
func (w *world) excuse(c *client, k id, keep tokens.Mode) {
	for _, u := range w.live {
		if u.by == c && (u.writes(k) && keep < tokens.Write || u.read == k && keep < tokens.Read) {
			u.excused = true
		}
	}
}

// excuseSuccessors: something that used k is lost, and so is what comes after it.
func (w *world) excuseSuccessors(c *client, k id) {
	for _, u := range w.live {
		if u.by == c && (u.writes(k) || u.read == k) {
			u.excused = true
		}
	}
}

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

// what is a task's kind.
type what uint8

const (
	doRead what = iota
	doList
	doWrite
	doWriteRead // a write that depends on its directory
	doCreate
	doUnlink
	doRename
	doSync
)

// task is what a client's application wants.
type task struct {
	what        what
	dir, dir2   id
	name, name2 int
	hint        []tokens.Elem // what it needed when that was last known
	sync        []*update     // doSync: waited for
	syncing     bool
}

func newTask(r uint32) *task {
	t := &task{what: what(r % 8), dir: dirA, dir2: dirB, name: int(r>>3) % names, name2: int(r>>5) % names}
	if r>>8&1 == 1 {
		t.dir = dirB
	}
	if r>>9&1 == 1 {
		t.dir2 = dirA
	}
	return t
}

func (c *client) has(k id) (object, bool) {
	o, ok := c.cache[k]
	return o, ok && c.h.Mode(k) != tokens.None && !c.suspect[k]
}

// elems is what t needs, as far as c knows; whole: it is all. What was known before its directories went
// is asked for with them: who asked for one after the other might be recalled for ever.
func (c *client) elems(t *task) (set []tokens.Elem, whole bool) {
	set, whole = c.known(t)
	if whole {
		t.hint = set
	} else if t.hint != nil {
		set = t.hint
	}
	return set, whole
}

func (c *client) known(t *task) (set []tokens.Elem, whole bool) {
	add := func(k id, m tokens.Mode) {
		for i := range set {
			if set[i].ID == k {
				set[i].Mode = max(set[i].Mode, m)
				return
			}
		}
		set = append(set, tokens.Elem{ID: k, Mode: m})
	}
	mode := tokens.Read
	if t.what == doCreate || t.what == doUnlink || t.what == doRename {
		mode = tokens.Write
	}
	add(t.dir, mode)
	d, ok := c.has(t.dir)
	if t.what == doRename {
		add(t.dir2, tokens.Write)
		d2, ok2 := c.has(t.dir2)
		if !ok || !ok2 {
			return set, false
		}
		for _, f := range []id{d.ents[t.name], d2.ents[t.name2]} {
			if f != 0 {
				add(f, tokens.Write)
			}
		}
		return set, true
	}
	if !ok {
		return set, false
	}
	f := d.ents[t.name]
	if f == 0 || t.what == doList || t.what == doCreate {
		return set, true
	}
	if t.what == doRead || t.what == doSync {
		add(f, tokens.Read)
	} else {
		add(f, tokens.Write)
	}
	return set, true
}

// act goes on with c's task: it does it, or asks for what it needs. False: there is nothing to be done now.
func (w *world) act(c *client) bool {
	t := c.task
	if t.syncing {
		if slices.ContainsFunc(t.sync, func(u *update) bool { return !u.acked && !u.lost && !u.applied }) {
			return w.writeBack(c, true)
		}
		c.task = nil
		return true
	}
	if c.waits {
		return false
	}
	if c.gotten {
		c.gotten = false
		set, ok := c.h.Claim(w.now, tokens.ReqID(c.tag))
		if ok {
			if cached := w.cached(c, set); !cached {
				// They are given back, to be had with what they contain.
			} else if need, whole := c.elems(t); whole && c.covers(set, need) {
				w.doTask(c, set)
			}
			c.h.Unpin(set)
			w.tidy(c)
		}
		return true
	}
	set, whole := c.elems(t)
	at := w.now
	if w.broken(serveOver) {
		at -= lease / 2
	}
	if whole && w.cached(c, set) && c.h.Pin(at, set) {
		w.doTask(c, set)
		c.h.Unpin(set)
		w.tidy(c)
		return true
	}
	if !c.ready || !c.h.Valid(w.now) {
		return false
	}
	for _, e := range set {
		if c.suspect[e.ID] {
			return w.writeBack(c, true)
		}
	}
	set = slices.DeleteFunc(slices.Clone(set), func(e tokens.Elem) bool { return c.fresh(e.ID) })
	if len(set) == 0 {
		return false
	}
	c.tag = c.tag%1000 + 1
	c.waits = true
	c.h.Ask(tokens.ReqID(c.tag), set)
	w.toServer(c, message{kind: msgAsk, tag: c.tag, elems: set})
	return true
}

// fresh: k was created here, and the server does not know it.
func (c *client) fresh(k id) bool {
	_, there := c.base[k]
	return !there && c.h.Mode(k) == tokens.Write
}

func (c *client) covers(set, need []tokens.Elem) bool {
	for _, e := range need {
		if !c.fresh(e.ID) && !slices.ContainsFunc(set, func(h tokens.Elem) bool { return h.ID == e.ID && h.Mode >= e.Mode }) {
			return false
		}
	}
	return true
}

// behind: k was edited on the host while the server was away, and c does not know it yet.
func (w *world) behind(c *client, k id) bool {
	return c.base[k] < w.editor[k] && (w.edited[k] >= c.epoch || c.h.Reclaiming())
}

// cached reports whether all of set is cached. What is held and not cached is given back: then it comes along with a grant again.
func (w *world) cached(c *client, set []tokens.Elem) bool {
	all := true
	for _, e := range set {
		if _, ok := c.has(e.ID); !ok {
			all = false
			if c.h.Mode(e.ID) != tokens.None {
				c.suspect[e.ID] = true
			}
		}
	}
	return all
}

// doTask performs c's task on what is cached, under the pins of set.
func (w *world) doTask(c *client, set []tokens.Elem) {
	t := c.task
	for _, e := range set {
		if w.behind(c, e.ID) {
			continue // as long as its lease lasts a client knows nothing of what is done behind the server's back
		}
		if has, is := c.cache[e.ID], w.truth(c, e.ID); !same(has, is) {
			w.fail("%s sees %v of %d, but it is %v", c.name, has, e.ID, is)
		}
	}
	d := c.cache[t.dir]
	f := d.ents[t.name]
	u := update{file: f, dir: t.dir, name: t.name}
	switch {
	case t.what == doCreate && f == 0 && c.nextID != 0:
		u.kind, u.file = order.Create, c.nextID
		c.nextID++
		c.h.Born(u.file, c.gen)
		w.ids = append(w.ids, u.file)
	case f == 0 || t.what == doCreate || t.what == doRead || t.what == doList:
		w.counts.Reads++
	case t.what == doWrite:
		u.kind, u.dir = order.Write, 0
	case t.what == doWriteRead:
		u.kind, u.dir, u.read = order.Write, 0, t.dir
	case t.what == doUnlink:
		u.kind = order.Unlink
	case t.what == doRename:
		g := c.cache[t.dir2].ents[t.name2]
		if g != f && (t.dir != t.dir2 || t.name != t.name2) {
			u.kind, u.dir2, u.name2, u.replaced = order.Rename, t.dir2, t.name2, g
		}
	case t.what == doSync:
		for _, v := range w.live {
			if v.by == c && v.writes(f) {
				t.sync = append(t.sync, v)
			}
		}
		t.syncing = len(t.sync) > 0
	}
	for _, e := range set {
		w.pass(c, e.ID, e.Mode == tokens.Write && u.kind != 0)
	}
	if u.kind != 0 {
		v := w.perform(c, u)
		for _, k := range v.objects(nil) {
			v.doomed = v.doomed || w.behind(c, k)
		}
		w.say("%s performs update %d: %v of %d, %d/%d to %d/%d", c.name, v.n, v.kind, v.file, v.dir, v.name, v.dir2, v.name2)
		for _, k := range v.objects(nil) {
			o := c.cache[k]
			v.on(k, &o)
			c.cache[k] = o
		}
		c.issue(v, w.now)
	} else {
		w.say("%s has read %d/%d: %d", c.name, t.dir, t.name, f)
	}
	if !t.syncing {
		c.task = nil
	}
}
