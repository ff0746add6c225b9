package tokens

import "slices"

// The client's shell: it caches, performs operations under pins, writes behind,
// flushes for recalls, and comes back after its connection broke.

// begin starts client i's next operation: at once when all is there, else by asking.
func (w *world) begin(i int) {
	c := &w.c[i]
	o := &w.progs[i][c.pc]
	switch {
	case !o.offer && w.byID(o) && w.cached(c, o.elems) && c.h.Pin(worldNow, o.elems):
		w.perform(i, o.elems)
	case !c.h.Valid(worldNow):
		w.say("%s resumes", letters.session(SessionID(i+1)))
		w.tsession(i)
	default:
		c.tag = c.tag%3 + 1
		c.state = waiting
		if !o.offer {
			c.h.Ask(ReqID(c.tag), o.elems)
		}
		w.ask(i)
	}
}

// ask asks for the set of client i's operation, or asks again: its connection ended before the answer came.
func (w *world) ask(i int) {
	c := &w.c[i]
	o := &w.progs[i][c.pc]
	c.again = false
	w.toServer(i, msg{kind: msgAsk, tag: c.tag, op: c.pc, elems: o.elems, offer: o.offer})
}

func (w *world) byID(o *op) bool {
	for _, e := range o.elems {
		if e.Name != "" {
			return false
		}
	}
	return true
}

func (w *world) cached(c *client, elems []Elem) bool {
	for _, e := range elems {
		if c.cache[slot(e.ID)] == 0 {
			return false
		}
	}
	return true
}

func (w *world) toServer(i int, mg msg) {
	c := &w.c[i]
	if !c.up || c.resume && !c.reclaims && mg.kind != msgSession {
		return
	}
	mg.told, c.told = c.told && mg.kind != msgSession, false
	c.c2s = append(c.c2s, mg)
}

// perform does the operation, whose resolved set is pinned, and unpins.
func (w *world) perform(i int, set []Elem) {
	c := &w.c[i]
	o := &w.progs[i][c.pc]
	n := number(i, c.pc)
	me := letters.session(SessionID(i + 1))
	named := ID(0)
	for k, e := range set {
		s := slot(e.ID)
		is := w.val[s]
		for _, p := range w.pending(c) {
			for _, f := range w.op(p).elems {
				if f.Mode == Write && w.object(p, f) == e.ID {
					is = p
				}
			}
		}
		if has := c.cache[s]; has != int16(is)+1 {
			w.fail("I5: %s uses %s = %s, but it is %s", me, letters.object(e.ID), w.name(uint8(max(0, has-1))), w.name(is))
		}
		if k < len(o.elems) && o.elems[k].Name != "" {
			named = e.ID
			if want := bound(uint8(c.cache[slot(objD)] - 1)); want != e.ID {
				w.fail("I5: %s was granted %s for D/n, which is %s", me, letters.object(e.ID), letters.object(want))
			}
		}
	}
	if o.write {
		w.fates[n] = performed
		w.targets[n] = named
		c.log = append(c.log, n)
	}
	for _, e := range set {
		w.pass(i, e.ID, e.Mode == Write)
		if e.Mode == Write {
			c.cache[slot(e.ID)] = int16(n) + 1
		}
	}
	w.say("%s performs %s%d: %s", me, me, c.pc+1, o.text)
	c.h.Unpin(set)
	w.next(i)
}

func (w *world) next(i int) {
	c := &w.c[i]
	c.state, c.use = idle, nil
	if c.pc++; c.pc == len(w.progs[i]) && i+1 == w.sc.loop {
		c.pc = 0
	}
}

// pending are the updates of c that it does not know to be applied, in order.
func (w *world) pending(c *client) []uint8 {
	var all []uint8
	for _, q := range c.cuts {
		all = append(all, q.ops...)
	}
	return append(all, c.log...)
}

// claim goes on with a granted request.
func (w *world) claim(i int) {
	c := &w.c[i]
	set, ok := c.h.Claim(worldNow, ReqID(c.tag))
	c.state = idle
	switch {
	case !ok:
		w.say("%s starts again", letters.session(SessionID(i+1)))
	case w.cached(c, set) || w.sc.off.pinLost:
		w.perform(i, set)
	default:
		// Pins never wait: the data is fetched without them.
		c.h.Unpin(set)
		w.fetch(i, set)
	}
}

// fetch reads what is not cached, apart from grants.
func (w *world) fetch(i int, set []Elem) {
	c := &w.c[i]
	if c.resume {
		return // it begins anew when it is resumed
	}
	c.state, c.use = fetches, slices.Clone(set)
	for _, e := range set {
		if c.cache[slot(e.ID)] == 0 {
			w.toServer(i, msg{kind: msgRead, id: e.ID, gen: c.h.Gen(e.ID), elems: []Elem{{ID: e.ID, Mode: Read}}})
			return
		}
	}
}

// receive has client i read the head of its connection.
func (w *world) receive(i int) {
	c := &w.c[i]
	me := letters.session(SessionID(i + 1))
	mg := c.s2c[0]
	c.s2c = c.s2c[1:]
	if mg.kind == msgResumed && mg.epoch != c.epoch {
		c.h.NewEpoch(nil)
		c.comes = mg.epoch
	}
	if mg.lease {
		at := worldNow
		if mg.old && !w.sc.shell.leaseFromSend {
			at -= 10 * worldLease
		}
		c.h.LeaseGranted(at, worldLease)
	}
	switch mg.kind {
	case msgGrant:
		c.overtaken = 0
		known := mg.tag == c.tag && c.state == waiting
		var install []bool
		if known && w.progs[i][c.pc].offer {
			install = c.h.Offered(worldNow, mg.toks)
			w.next(i)
		} else if known {
			w.say("%s gets its grant and pins", me)
			install = c.h.Granted(worldNow, ReqID(mg.tag), mg.toks)
			c.state = pinned
		} else {
			w.say("%s gets an old grant", me)
			install = c.h.Offered(worldNow, mg.toks)
		}
		for k, t := range mg.toks {
			if install[k] && !w.sc.fetch {
				c.cache[slot(t.ID)] = int16(mg.vals[k]) + 1
			}
		}
	case msgDenied:
		if mg.op < 0 { // a reclaim: the lease was over again
			c.resume, c.reclaims = false, false
			w.tsession(i)
			break
		}
		if mg.tag == c.tag && c.state == waiting {
			c.h.Drop(ReqID(mg.tag))
			c.state = idle
		}
	case msgRecall:
		for _, r := range mg.rec {
			w.say("%s gets the recall of %s@%d down to %v", me, letters.object(r.ID), r.Gen, r.Keep)
			c.h.Recalled(r)
		}
		if c.live && !c.broken {
			w.step(Input{Kind: InPosted, Session: SessionID(i + 1), N: 1})
		}
	case msgData:
		if c.state != fetches {
			break
		}
		if c.h.StillHeld(mg.id, mg.gen) && c.cache[slot(mg.id)] == 0 {
			w.say("%s installs %s = %s", me, letters.object(mg.id), w.name(mg.vals[0]))
			c.cache[slot(mg.id)] = int16(mg.vals[0]) + 1
		}
		c.state, c.use = idle, nil
	case msgCommitted:
		w.acked(i, mg.cut)
	case msgRefused:
		// What was lost is learned from Rsession, which alone decides.
		for k := range c.cuts {
			if c.cuts[k].cut == mg.cut {
				w.unsend(c, k)
				break
			}
		}
		if !c.resume {
			w.tsession(i)
		}
	case msgRenewed:
		c.renewed = false
		if !mg.lease && !c.resume && !c.h.Valid(worldNow) {
			w.tsession(i)
		}
	case msgResumed:
		w.resumed(i, mg)
		if c.h.Reclaiming() {
			w.nextReclaim(i)
		} else if c.again {
			w.ask(i)
		}
	case msgReclaimed:
		w.reclaimed(i, &mg)
	case msgCompleted:
		c.h.ReclaimDone()
		c.resume, c.reclaims, c.epoch = false, false, c.comes
		if c.again {
			w.ask(i)
		}
	}
	w.tidyUp(i)
}

// acked: the server says that cut is applied.
func (w *world) acked(i int, cut uint64) {
	c := &w.c[i]
	for len(c.cuts) > 0 && c.cuts[0].cut <= cut {
		for _, n := range c.cuts[0].ops {
			if w.fates[n]&applied == 0 {
				w.fail("I3: update %s is acknowledged but was never applied", w.name(n))
			}
		}
		c.cuts = c.cuts[1:]
	}
	c.last = max(c.last, cut)
}

// unsend puts the cuts from k on back into the log.
func (w *world) unsend(c *client, k int) {
	var ops []uint8
	for _, q := range c.cuts[k:] {
		ops = append(ops, q.ops...)
	}
	c.cuts = c.cuts[:k]
	c.log = append(ops, c.log...)
}

// tsession sends Tsession, on the present connection.
func (w *world) tsession(i int) {
	c := &w.c[i]
	if c.up && !c.resume {
		w.toServer(i, msg{kind: msgSession})
		c.resume = true
		if c.state == fetches {
			c.state, c.use = idle, nil
		}
	}
}

// resumed takes Rsession.
func (w *world) resumed(i int, mg msg) {
	c := &w.c[i]
	c.resume = false
	w.say("%s gets Rsession: last cut %d, lost %v", letters.session(SessionID(i+1)), mg.cut, mg.lost)
	if !w.sc.shell.lossFirst {
		w.acked(i, mg.cut)
	}
	w.unsend(c, 0)
	for _, l := range mg.lost {
		had := c.h.Mode(l.ID)
		c.h.Lost(l.ID, l.Left)
		if l.Left < had || had == None {
			w.lose(i, l)
		}
		if l.Left == None {
			c.cache[slot(l.ID)] = 0
		}
	}
	c.last = max(c.last, mg.cut)
	c.told = true
}

// lose discards the updates that need more of an object than is left, and all that come after them.
func (w *world) lose(i int, l Lost) {
	c := &w.c[i]
	var keep []uint8
	gone := map[ID]Mode{}
	for _, n := range c.log {
		dead := false
		for _, e := range w.op(n).elems {
			id := w.object(n, e)
			dead = dead || id == l.ID && e.Mode > l.Left || Conflict(gone[id], e.Mode)
		}
		if !dead {
			keep = append(keep, n)
			continue
		}
		if w.fates[n]&applied != 0 {
			w.fail("I4: update %s was applied and is treated as lost", w.name(n))
		}
		if w.fates[n]&(excused|unsure|mayLose|doomed) == 0 && len(gone) == 0 {
			w.fail("I7: update %s is lost although nobody took a token it needs", w.name(n))
		}
		w.fates[n] |= lostOp
		for _, e := range w.op(n).elems {
			id := w.object(n, e)
			gone[id] = max(gone[id], e.Mode)
		}
	}
	c.log = keep
	// Objects that lost updates wrote are fetched afresh, and what survives is done again on them.
	for id, m := range gone {
		if m != Write {
			continue
		}
		c.cache[slot(id)] = 0
		for _, n := range c.log {
			for _, e := range w.op(n).elems {
				if e.Mode == Write && w.object(n, e) == id {
					c.cache[slot(id)] = int16(n) + 1
				}
			}
		}
	}
	if len(gone) > 0 {
		w.say("%s loses what needs more than %v of %s", letters.session(SessionID(i+1)), l.Left, letters.object(l.ID))
	}
}

// tidyUp does what client i's Holder wants, and sends what recalls wait for.
func (w *world) tidyUp(i int) {
	c := &w.c[i]
	for again := true; again; {
		again = false
		for _, o := range c.h.Outputs() {
			if o.Kind == HolderRelinquish {
				c.tasks = append(c.tasks, o)
				continue
			}
			if c.h.Mode(o.ID) == None {
				c.cache[slot(o.ID)] = 0
			}
			w.say("%s returns %s@%d down to %v", letters.session(SessionID(i+1)), letters.object(o.ID), o.Gen, o.Keep)
			w.toServer(i, msg{kind: msgReturn, ret: o})
		}
		for k := 0; k < len(c.tasks); k++ {
			t := c.tasks[k]
			if i+1 == w.sc.unwilling && c.h.tokens[t.ID] != nil && c.h.tokens[t.ID].asked || w.mustFlush(i, t) {
				continue
			}
			c.tasks = append(c.tasks[:k:k], c.tasks[k+1:]...)
			c.h.Relinquished(t.ID, t.Keep, false)
			again = true
			break
		}
	}
}

// mustFlush sends what conflicts with t, and reports whether there is anything that is not applied.
func (w *world) mustFlush(i int, t HolderOutput) bool {
	c := &w.c[i]
	conflicts := func(n uint8) bool {
		for _, e := range w.op(n).elems {
			if w.object(n, e) == t.ID && e.Mode > t.Keep && (e.Mode == Write || !w.sc.shell.readFlush) {
				return true
			}
		}
		return false
	}
	for k := len(c.log) - 1; k >= 0; k-- {
		if conflicts(c.log[k]) {
			if len(c.cuts) == 0 || w.sc.pipe {
				w.commit(i, k+1)
			}
			return true
		}
	}
	for _, q := range c.cuts {
		if slices.ContainsFunc(q.ops, conflicts) {
			return true
		}
	}
	return false
}

// commit sends the first n updates of the log as a cut.
func (w *world) commit(i, n int) {
	c := &w.c[i]
	if !c.up || c.resume {
		return
	}
	ops := slices.Clone(c.log[:n])
	need := map[ID]Mode{}
	for _, o := range ops {
		for _, e := range w.op(o).elems {
			if e.Mode == Write || !w.sc.shell.readFence {
				id := w.object(o, e)
				need[id] = max(need[id], e.Mode)
			}
		}
	}
	var elems []Elem
	for _, id := range sortedIDs(need) {
		elems = append(elems, Elem{ID: id, Mode: need[id]})
	}
	fence, ok := c.h.Fence(elems, nil)
	if !ok {
		w.fail("%s has updates without their tokens", letters.session(SessionID(i+1)))
		return
	}
	mg := msg{kind: msgCommit, cut: c.last + uint64(len(c.cuts)) + 1, ops: ops, fence: fence}
	c.log = slices.Clone(c.log[n:])
	c.cuts = append(c.cuts, mg)
	w.say("%s sends cut %d", letters.session(SessionID(i+1)), mg.cut)
	w.toServer(i, mg)
}
