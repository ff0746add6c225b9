package simulate

import (
	"encoding/binary"
	"maps"
	"slices"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/tokens"
)

// client is the model of a client's shell: it performs one task at a time on what it
// has cached, writes behind, and comes back after whatever happened to it.
type client struct {
	n     int
	name  string
	h     *tokens.Holder
	log   *order.Log
	cache map[id]object
	base  map[id]int // the version that the server has, as far as the client knows
	bySeq map[uint64][]*update

	suspect map[id]bool // includes what was lost: given back when nothing is pending on it
	flush   []tokens.HolderOutput

	session sid
	epoch   uint64
	gen     tokens.Gen
	nextID  id
	nextCut uint64
	flying  *flying

	conn     *conn
	former   *conn // that was before
	online   bool  // Rsession came
	ready    bool  // and what follows it is done
	resuming bool  // Tsession is out
	told     bool  // nothing was sent since Rsession
	renewing bool

	stopped bool
	dead    bool

	task   *task
	tag    int
	asked  []tokens.Elem
	waits  bool // for its grant
	again  bool // waits, and nothing is on the way: it must be asked for again
	gotten bool // granted
}

type flying struct {
	cut     uint64
	conn    *conn
	updates []*update
}

func (w *world) newClient(n int) *client {
	w.born++
	return &client{n: n, name: string(rune('A'+n)) + string(rune('0'+w.born%10)), h: tokens.NewHolder(1), log: order.New(order.Object), cache: map[id]object{}, base: map[id]int{},
		bySeq: map[uint64][]*update{}, suspect: map[id]bool{}, nextCut: 1}
}

// dial makes a connection and says Tsession.
func (w *world) dial(c *client) {
	c.conn = &conn{client: c, session: c.session}
	w.say("%s dials", c.name)
	w.resume(c)
}

// resume says Tsession on the present connection.
func (w *world) resume(c *client) {
	c.online, c.ready, c.resuming = false, false, true
	c.conn.toServer(message{kind: msgSession, session: c.session, sent: w.now})
}

// notice: the client sees that its connection is gone.
func (w *world) notice(c *client) {
	w.say("%s sees that its connection is gone", c.name)
	c.conn.broken = true
	c.former, c.conn = c.conn, nil
	c.online, c.ready, c.resuming, c.renewing = false, false, false, false
	c.again = c.waits
}

func (w *world) toServer(c *client, mg message) {
	if c.conn == nil || !c.online {
		return
	}
	mg.told, c.told = c.told, false
	mg.sent, mg.conn = w.now, c.conn
	c.conn.toServer(mg)
}

// receive has c read a message.
func (w *world) receive(c *client) {
	mg := c.conn.s2c[0]
	c.conn.s2c = c.conn.s2c[1:]
	w.say("%s reads %v", c.name, mg.kind)
	at := mg.sent
	if w.broken(leaseFromReply) {
		at = w.now
	}
	if mg.kind != msgResumed {
		c.h.LeaseGranted(at, mg.lease)
	}
	switch mg.kind {
	case msgGrant:
		var install []bool
		if c.waits && mg.tag == c.tag {
			c.waits, c.gotten = false, true
			install = c.h.Granted(w.now, tokens.ReqID(mg.tag), mg.toks)
		} else {
			install = c.h.Offered(w.now, mg.toks)
		}
		for i, t := range mg.toks {
			if install[i] || w.broken(installOver) && t.Mode != tokens.None {
				c.cache[t.ID], c.base[t.ID] = mg.vals[i], mg.vals[i].ver
				delete(c.suspect, t.ID)
			}
		}
	case msgDenied:
		if mg.tag == 0 && c.online && !c.ready { // a reclaim: the lease was over before
			w.resume(c)
		} else if c.waits && mg.tag == c.tag {
			c.h.Drop(tokens.ReqID(c.tag))
			c.waits = false
		}
	case msgRecall:
		for _, r := range mg.recalls {
			c.h.Recalled(r)
		}
		if c.ready {
			w.toServer(c, message{kind: msgPost})
		} else {
			c.conn.posted-- // and again when it is ready
		}
	case msgCommitted:
		if c.flying != nil && c.flying.cut == mg.cut {
			w.landed(c)
		}
	case msgRefused:
		// What was lost is learned from Rsession, which alone decides.
		if c.flying != nil && c.flying.cut == mg.cut {
			c.log.Returned(mg.cut)
			c.flying = nil
		}
		if c.ready {
			w.resume(c)
		}
	case msgRenewed:
		c.renewing = false
	case msgResumed:
		w.resumed(c, mg)
	case msgReclaimGrant:
		w.reclaimed(c, mg)
	case msgCompleted:
		if lost := c.h.ReclaimDone(); len(lost) > 0 {
			w.fail("%s has not reclaimed %v", c.name, lost)
		}
		w.ready(c)
	}
	w.tidy(c)
}

// landed: the cut that is flying is applied.
func (w *world) landed(c *client) {
	f := c.flying
	c.flying = nil
	c.nextCut = f.cut + 1
	c.log.Applied(f.cut)
	for _, u := range f.updates {
		if !u.applied {
			w.fail("update %d is acknowledged and was not applied", u.n)
		}
		u.acked = true
		for _, k := range u.objects(nil) {
			c.base[k] = u.n
		}
	}
}

// resumed takes Rsession.
func (w *world) resumed(c *client, mg message) {
	restarted := c.epoch != 0 && c.epoch != mg.epoch
	c.resuming, c.told = false, true
	if mg.begun || c.session == 0 {
		c.nextID = idsOf(mg.session)
	}
	c.session, c.epoch, c.gen = mg.session, mg.epoch, mg.gen
	if c.flying != nil && w.broken(lossBeforeCut) && len(mg.lost) > 0 {
		c.log.Returned(c.flying.cut)
		c.flying = nil
		w.lostTokens(c, mg.lost)
	}
	if f := c.flying; f != nil {
		if f.cut <= mg.cut && !w.broken(resendBlind) {
			w.landed(c)
		} else {
			c.log.Returned(f.cut)
			c.flying = nil
		}
	}
	c.nextCut = mg.cut + 1
	if (restarted || c.h.Reclaiming()) && !w.broken(keepOverEpoch) {
		c.h.NewEpoch(func(k id) bool { return c.fresh(k) })
	}
	w.lostTokens(c, mg.lost)
	at := mg.sent
	if w.broken(leaseFromReply) {
		at = w.now
	}
	c.h.LeaseGranted(at, mg.lease)
	c.online = true
	w.reclaim(c)
}

// lostTokens takes in what went to others.
func (w *world) lostTokens(c *client, lost []tokens.Lost) {
	var seqs []uint64
	for _, l := range lost {
		c.h.Lost(l.ID, l.Left)
		touch := order.ByWrite
		if l.Left == tokens.None {
			touch |= order.ByRead
			w.forget(c, l.ID)
		}
		seqs = append(seqs, c.log.Touching(touch, l.ID)...)
	}
	w.lose(c, seqs)
}

// forget: what is cached of k is not used any more.
func (w *world) forget(c *client, k id) {
	delete(c.cache, k)
	if c.h.Mode(k) != tokens.None {
		c.suspect[k] = true
	}
}

// lose drops operations, and all that come after them.
func (w *world) lose(c *client, seqs []uint64) {
	seqs = c.log.Successors(seqs...)
	if len(seqs) == 0 {
		return
	}
	for _, op := range c.log.Drop(seqs...) {
		for _, u := range c.bySeq[op.Seq] {
			if u.applied {
				w.fail("update %d was applied, and is treated as lost", u.n)
			}
			u.lost = !w.broken(silentLoss)
			w.say("%s loses update %d", c.name, u.n)
			for _, k := range u.objects(nil) {
				w.forget(c, k)
				w.excuseSuccessors(c, k)
			}
			if !u.excused {
				w.fail("update %d is lost, though nobody took a token that it needs", u.n)
			}
			if u.kind == order.Create {
				if _, there := c.base[u.file]; !there {
					c.h.Forget(u.file)
					delete(c.suspect, u.file)
				}
			}
		}
	}
}

// reclaim asks for what was held in the epoch before, and says when that is all.
func (w *world) reclaim(c *client) {
	switch held := c.h.Unreclaimed(nil); {
	case !c.h.Reclaiming():
		w.ready(c)
	case len(held) == 0:
		w.toServer(c, message{kind: msgReclaimed})
	default:
		var set []reclaim
		for _, t := range held {
			set = append(set, reclaim{tokens.Elem{ID: t.ID, Mode: t.Mode}, c.base[t.ID]})
		}
		w.toServer(c, message{kind: msgReclaim, reclaim: set})
	}
}

// ready: from now on c takes recalls, and asks and sends what it likes.
func (w *world) ready(c *client) {
	c.ready = true
	for c.conn.posted < 2 {
		c.conn.posted++
		w.toServer(c, message{kind: msgPost})
	}
	if c.again {
		w.ask(c)
	}
}

// ask asks for what c waits for, or asks again under the same request: the connection ended before the answer came.
func (w *world) ask(c *client) {
	c.again = false
	w.toServer(c, message{kind: msgAsk, tag: c.tag, elems: c.asked})
}

// reclaimed takes the answer.
func (w *world) reclaimed(c *client, mg message) {
	var seqs []uint64
	for i, t := range mg.toks {
		k := mg.reclaim[i].ID
		t.ID = k
		changed := mg.changed[i] && !w.broken(versionUnchecked)
		if changed {
			c.h.Lost(k, tokens.None)
			c.h.Offered(w.now, mg.toks[i:i+1])
		}
		c.h.Reclaimed(t)
		switch {
		case changed || t.Mode == tokens.None:
			w.forget(c, k)
			seqs = append(seqs, c.log.Touching(order.ByWrite|order.ByRead, k)...)
		case t.Mode < mg.reclaim[i].Mode:
			seqs = append(seqs, c.log.Touching(order.ByWrite, k)...)
		}
	}
	w.lose(c, seqs)
	w.toServer(c, message{kind: msgReclaimed})
}

// tidy does what the Holder wants.
func (w *world) tidy(c *client) {
	for _, k := range slices.Sorted(maps.Keys(c.suspect)) {
		switch ops, _ := c.log.Object(k); {
		case c.h.Mode(k) == tokens.None:
			delete(c.suspect, k)
		case ops == 0 && !c.h.RecallPending(k):
			c.h.GiveBack(k, tokens.None)
		}
	}
	for again := true; again; {
		again = false
		for _, o := range c.h.Outputs() {
			if o.Kind == tokens.HolderRelinquish {
				c.flush = append(c.flush, o)
				continue
			}
			if c.h.Mode(o.ID) == tokens.None {
				delete(c.cache, o.ID)
				delete(c.suspect, o.ID)
			}
			w.say("%s returns %d@%d down to %v", c.name, o.ID, o.Gen, o.Keep)
			w.toServer(c, message{kind: msgReturn, ret: o})
		}
		for i := 0; i < len(c.flush); i++ {
			t := c.flush[i]
			if len(c.log.Touching(w.touch(t), t.ID)) == 0 || w.broken(noFlush) {
				c.flush = slices.Delete(c.flush, i, i+1)
				c.h.Relinquished(t.ID, t.Keep, false)
				again = true
				break
			}
		}
	}
}

// touch is what must be at the server before t.
func (w *world) touch(t tokens.HolderOutput) order.Touch {
	if t.Keep == tokens.None && !w.broken(noReadFlush) {
		return order.ByWrite | order.ByRead
	}
	return order.ByWrite
}

// writeBack sends a cut: what recalls wait for, what is suspect, or (all) whatever there is.
func (w *world) writeBack(c *client, all bool) bool {
	if c.flying != nil || !c.ready {
		return false
	}
	var seqs []uint64
	for _, t := range c.flush {
		seqs = append(seqs, c.log.Touching(w.touch(t), t.ID)...)
	}
	for k := range c.suspect {
		seqs = append(seqs, c.log.Touching(order.ByWrite, k)...)
	}
	set := c.log.IdealOfOps(seqs...).Seqs
	if len(set) == 0 && all {
		set = c.log.Prefix(order.Limit{Ops: 3}).Seqs
	}
	set = c.log.Take(set, 8, 0)
	if len(set) == 0 {
		return false
	}
	ops := c.log.Begin(c.nextCut, set)
	net := order.NetEffect(ops)
	f := &flying{cut: c.nextCut, conn: c.conn}
	for _, op := range ops {
		for _, u := range c.bySeq[op.Seq] {
			if !u.lost { // else only its place in the order is left
				f.updates = append(f.updates, u)
			}
		}
	}
	c.flying = f
	if len(net.Records) == 0 {
		// It comes to nothing: no number is used.
		c.flying = nil
		c.log.Applied(f.cut)
		for _, u := range f.updates {
			u.applied = true
		}
		w.tidy(c)
		return true
	}
	var elems []tokens.Elem
	for _, o := range net.Fence {
		e := tokens.Elem{ID: o.ID, Mode: tokens.Read}
		if o.Write {
			e.Mode = tokens.Write
		}
		elems = append(elems, e)
	}
	fence, ok := c.h.Fence(elems, nil)
	if !ok {
		w.fail("%s has updates without their tokens", c.name)
	}
	w.say("%s sends cut %d", c.name, f.cut)
	w.toServer(c, message{kind: msgCommit, cut: f.cut, updates: f.updates, records: net.Records, fence: fence})
	return true
}

// issue appends u to what is pending.
func (c *client) issue(u *update, now int64) {
	op := &order.Op{Kind: u.kind, ID: u.file, At: now}
	name := func(n int) string { return string(rune('a' + n)) }
	switch u.kind {
	case order.Write:
		op.Bytes = binary.LittleEndian.AppendUint64(nil, uint64(u.n))
		op.Attrs = []order.Attr{{ID: u.file, Valid: cut.AttrSize, Size: 8}}
		if u.read != 0 {
			op.Reads = []uint64{u.read}
		}
	case order.Rename:
		op.Dir2, op.Name2, op.Replaced, op.Last = u.dir2, name(u.name2), u.replaced, u.replaced != 0
		fallthrough
	default:
		op.Dir, op.Name = u.dir, name(u.name)
		op.Last = op.Last || u.kind == order.Unlink
	}
	seq := c.log.Append(op)
	c.bySeq[seq] = append(c.bySeq[seq], u)
}
