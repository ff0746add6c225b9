package tokens

// A server that stops and starts again: what it keeps in stable storage, and what its clients reclaim.

// record is what is in stable storage of a client.
type record struct {
	lost   [3]uint8 // by object: 0: nothing, else 1 + what was left
	missed bool
}

// recorded: what was taken for the first request in w.toRecord is in stable storage, or what is to be forgotten is not there any more.
func (w *world) recorded() {
	req := w.toRecord[0].Req
	for first := true; len(w.toRecord) > 0 && (first || req != 0 && w.toRecord[0].Req == req); first = false {
		o := w.toRecord[0]
		w.toRecord = w.toRecord[1:]
		lost := &w.stable[o.Session-1].lost
		if o.Kind == OutForget {
			for _, l := range o.Lost {
				lost[slot(l.ID)] = 0
			}
			continue
		}
		if l := &lost[slot(o.ID)]; !w.sc.shell.volatile && (*l == 0 || uint8(o.Keep) < *l-1) {
			*l = uint8(o.Keep) + 1
		}
		for pc := range w.progs[o.Session-1] {
			n := number(int(o.Session)-1, pc)
			for _, e := range w.op(n).elems {
				if w.fates[n]&unsure != 0 && w.object(n, e) == o.ID {
					w.fates[n] = w.fates[n]&^unsure | excused
				}
			}
		}
	}
	if w.m.cfg.Record && req != 0 {
		w.step(Input{Kind: InRecorded, Req: req})
	}
}

// past reports whether a lease from before the restart still counts at client i, or may come to.
func (w *world) past(i int) bool {
	c := &w.c[i]
	if c.dead || c.epoch == w.epoch {
		return false
	}
	if worldNow < c.h.until || worldNow < c.h.next && c.comes != w.epoch {
		return true
	}
	if c.broken {
		for k := range c.s2c {
			if c.s2c[k].lease && !c.s2c[k].old {
				return true
			}
		}
	}
	return false
}

// endPast: it counts no more.
func (w *world) endPast(i int) {
	c := &w.c[i]
	c.h.until = min(c.h.until, worldNow)
	if c.comes != w.epoch {
		c.h.next = min(c.h.next, worldNow)
	}
	if c.broken {
		for k := range c.s2c {
			c.s2c[k].old = true
		}
	}
}

// mayEndGrace reports whether the time of the grace period may be over, and whether that is
// somebody's fault: nobody may depend on it while those who are awaited are about.
func (w *world) mayEndGrace() (may, bad bool) {
	if !w.m.grace.on {
		return false, false
	}
	for i := range w.c {
		if w.past(i) && !w.sc.shell.shortGrace {
			return false, false
		}
	}
	bad = true
	for _, s := range w.m.awaited() {
		if c := &w.c[s-1]; c.dead || c.stopped {
			bad = false
		}
	}
	return true, bad
}

// restart: the server is killed and started again.
func (w *world) restart() {
	old := w.m
	w.m, w.borrowed = NewManager(old.cfg, old.gen), false
	w.m.off = w.sc.off
	w.epoch++
	for n := range w.fates {
		if w.fates[n]&unsure != 0 {
			w.fates[n] = w.fates[n]&^unsure | mayLose
		}
	}
	w.reqs, w.runs, w.names, w.toRecord = map[ReqID]*serverReq{}, nil, nil, nil
	for j := range w.p {
		if p := &w.p[j]; p.state != idle { // asks the new server
			*p = plainClient{pc: p.pc}
		}
	}
	for i := range w.c {
		c := &w.c[i]
		c.live, c.old = false, nil
		c.broken = !c.dead
		s, r := SessionID(i+1), &w.stable[i]
		in := Input{Kind: InRestore, Session: s, Cut: old.sessions[s].lastCut, Missed: r.missed}
		for k, l := range r.lost {
			if l != 0 {
				in.Lost = append(in.Lost, Lost{objects[k], Mode(l - 1)})
			}
		}
		w.step(in)
		if r.missed { // reclaims nothing
			for pc := range w.progs[i] {
				if n := number(i, pc); w.fates[n]&performed != 0 {
					w.fates[n] |= excused
				}
			}
		}
	}
	w.step(Input{Kind: InGrace})
}

// endGrace: the time of the grace period is over.
func (w *world) endGrace() {
	w.own()
	w.m.grace.until = worldNow
	w.step(Input{Kind: InTick})
}

// decided: request id will be granted when what it takes is on record. Who reclaims before is told no, and if the server is killed
// before he may have it yet.
func (w *world) decided(id ReqID) {
	if r := w.reqs[id]; w.epoch > 0 && w.m.reqs[id] != nil {
		w.excuse(id, r.client, mayLose)
	}
}

// excuse notes whose updates cannot be reclaimed any more, now that request id was granted: of those
// who may reclaim and have not what they need.
func (w *world) excuse(id ReqID, client int, how fate) {
	r := w.m.reqs[id]
	for j := range w.c {
		s := w.m.sessions[SessionID(j+1)]
		if j == client || !s.reclaims {
			continue
		}
		for pc := range w.progs[j] {
			n := number(j, pc)
			if w.fates[n]&performed == 0 {
				continue
			}
			for _, e := range w.op(n).elems {
				for k := range r.set {
					it := &r.set[k]
					if w.object(n, e) != it.o.id || !Conflict(e.Mode, it.mode) {
						continue
					}
					if h := it.o.holding(s); h == nil || h.mode < e.Mode {
						w.fates[n] |= how
					}
				}
			}
		}
	}
}

// reclaim is the server's answer to client i's reclaim.
func (w *world) reclaim(i int, mg *msg) {
	w.say("server gets what %s reclaims", letters.session(SessionID(i+1)))
	id := w.newReq(serverReq{client: i, reclaim: true, op: -1, old: mg.old})
	w.step(Input{Kind: InReclaim, Session: SessionID(i + 1), Req: id, Elems: mg.elems})
	if w.sc.shell.doneAlone && w.reqs[id] == nil { // as if it had said so with the elements
		w.complete(i)
		w.step(Input{Kind: InReclaimed, Session: SessionID(i + 1)})
	}
}

// complete: client i has reclaimed all that it wants.
func (w *world) complete(i int) {
	if !w.sc.shell.doneVolatile {
		w.stable[i].missed = false
	}
}

// nextReclaim has client i, which was resumed, reclaim what it held before the server's restart, and say when that
// is all: in a message of its own, when it knows what it could not have.
func (w *world) nextReclaim(i int) {
	c := &w.c[i]
	var elems []Elem
	for _, t := range c.h.Unreclaimed(nil) {
		elems = append(elems, Elem{ID: t.ID, Mode: t.Mode})
	}
	c.resume, c.reclaims = true, true // nothing is asked before all is answered, but tokens may go back
	if len(elems) > 0 {
		w.toServer(i, msg{kind: msgReclaim, elems: elems})
	} else {
		w.toServer(i, msg{kind: msgComplete})
	}
}

// reclaimed takes the answer to a reclaim.
func (w *world) reclaimed(i int, mg *msg) {
	c := &w.c[i]
	for _, t := range mg.toks {
		had := c.h.Mode(t.ID)
		c.h.Reclaimed(t)
		if t.Mode == None {
			c.cache[slot(t.ID)] = 0
		}
		if t.Mode < had {
			w.lose(i, Lost{t.ID, t.Mode})
		}
	}
	w.say("%s has reclaimed %v", letters.session(SessionID(i+1)), c.h.Held(nil))
	w.nextReclaim(i)
}
