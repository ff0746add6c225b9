package tokens

// The server's shell: it has the values, takes messages, does what the Manager says.

// take has the server read the head of client i's present connection, or of its old one.
func (w *world) take(i int, old bool) {
	c := &w.c[i]
	q := &c.c2s
	if old {
		q = &c.old
	}
	mg := (*q)[0]
	*q = (*q)[1:]
	s := SessionID(i + 1)
	if mg.told {
		w.step(Input{Kind: InTold, Session: s})
	}
	switch mg.kind {
	case msgAsk:
		w.say("server gets %s's request", letters.session(s))
		id := w.newReq(serverReq{client: i, tag: mg.tag, op: mg.op, old: mg.old})
		w.step(Input{Kind: InRequest, Req: id, Session: s, Elems: mg.elems, Offer: mg.offer})
	case msgReturn:
		w.say("server gets the return of %s@%d", letters.object(mg.ret.ID), mg.ret.Gen)
		w.step(Input{Kind: InReturn, Session: s, ID: mg.ret.ID, Gen: mg.ret.Gen, Keep: mg.ret.Keep})
	case msgRead:
		id := w.newReq(serverReq{client: i, gen: mg.gen, read: true, id: mg.id, old: mg.old})
		w.step(Input{Kind: InRequest, Req: id, Session: s, Elems: mg.elems, Plain: true})
	case msgRenew:
		w.reply(i, msg{kind: msgRenewed, old: mg.old})
	case msgCommit:
		w.say("server gets cut %d of %s", mg.cut, letters.session(s))
		w.runs = append(w.runs, run{client: i, cut: mg.cut, ops: mg.ops})
		w.step(Input{Kind: InCommit, Session: s, Cut: mg.cut, Fence: mg.fence})
	case msgSession:
		w.say("server gets Tsession of %s", letters.session(s))
		if !c.live && !old { // what came on the old connection is answered there
			w.step(Input{Kind: InDisconnected, Session: s})
			w.forget(i)
			c.live = true
			if !w.sc.shell.oldConn {
				c.old = nil
			}
		}
		w.step(Input{Kind: InConnected, Session: s})
	case msgReclaim:
		w.reclaim(i, &mg)
	case msgComplete:
		w.say("server hears that %s has reclaimed all", letters.session(s))
		w.complete(i)
		w.reply(i, msg{kind: msgCompleted, old: mg.old})
		w.step(Input{Kind: InReclaimed, Session: s})
	}
}

// forget drops what the shell remembers for client i's old connection.
func (w *world) forget(i int) {
	for id, r := range w.reqs {
		if r.client == i && w.m.reqs[id] == nil { // a read's answer, too
			delete(w.reqs, id)
		} else if r.client == i {
			r.tag = -1 // no answer
		}
	}
	for k := 0; k < len(w.runs); {
		if s := w.m.sessions[SessionID(i+1)]; w.runs[k].client == i && (s.applying == nil || s.applying.cut != w.runs[k].cut) {
			w.runs = append(w.runs[:k], w.runs[k+1:]...)
		} else {
			k++
		}
	}
}

func (w *world) newReq(r serverReq) ReqID {
	id := ReqID(r.client*8 + 1)
	for w.reqs[id] != nil || w.m.reqs[id] != nil {
		id++
	}
	w.reqs[id] = &r
	return id
}

// reply puts mg on client i's connection, if the server still has the client's.
func (w *world) reply(i int, mg msg) {
	c := &w.c[i]
	if mg.kind != msgRecall && mg.kind != msgResumed {
		w.own()
		mg.lease = w.m.Extend(worldNow, SessionID(i+1)) > 0
	}
	if c.live && c.up {
		c.s2c = append(c.s2c, mg)
	}
}

// step gives the Manager an input and does what it says.
func (w *world) step(in Input) {
	w.own()
	var outs []Output
	for _, o := range w.m.Step(worldNow, in) {
		o.Tokens = append([]Token(nil), o.Tokens...)
		o.Recalls = append([]Recall(nil), o.Recalls...)
		o.Lost = append([]Lost(nil), o.Lost...)
		outs = append(outs, o)
	}
	for i := 0; w.talk && i < len(outs); i++ {
		w.say("server: %s", outs[i].format(&letters))
	}
	for _, o := range outs {
		w.do(o)
	}
	for !w.sc.slowly && len(w.toRecord) > 0 {
		w.recorded()
	}
}

func (w *world) do(o Output) {
	i := int(o.Session) - 1
	switch o.Kind {
	case OutResolve:
		w.names = append(w.names, Output{Req: o.Req, Elem: o.Elem})
	case OutGranted:
		r := w.reqs[o.Req]
		w.count(o.Req, r, o.Tokens)
		if w.epoch > 0 && !r.reclaim {
			w.excuse(o.Req, r.client, excused)
		}
		switch {
		case r.reclaim:
			delete(w.reqs, o.Req)
			w.reply(r.client, msg{kind: msgReclaimed, toks: o.Tokens, epoch: w.epoch, old: r.old})
			w.step(Input{Kind: InSent, Req: o.Req})
		case r.client >= len(w.c):
			p := &w.p[r.client-len(w.c)]
			p.state, p.toks, p.overtak = pinned, o.Tokens, 0
		case r.read:
			// The server reads at once, but a worker may be slow with the answer.
			w.pass(r.client, r.id, false)
			r.val, r.done = w.val[slot(r.id)], true
			w.step(Input{Kind: InDone, Req: o.Req})
		default:
			r.toks = o.Tokens
			w.c[r.client].overtaken = 0
			if w.sc.shell.fifo {
				w.step(Input{Kind: InSent, Req: o.Req})
			}
		}
	case OutDenied:
		r := w.reqs[o.Req]
		delete(w.reqs, o.Req)
		if r.client < len(w.c) {
			w.reply(r.client, msg{kind: msgDenied, tag: r.tag, op: r.op, old: r.old})
		}
	case OutRecall:
		w.reply(i, msg{kind: msgRecall, rec: o.Recalls})
	case OutRevoked:
		w.toRecord = append(w.toRecord, o)
		w.decided(o.Req)
		for pc := range w.progs[i] {
			n := number(i, pc)
			for _, e := range w.op(n).elems {
				if w.fates[n]&performed != 0 && w.object(n, e) == o.ID && Conflict(e.Mode, w.wants(o.Req, o.ID)) {
					w.fates[n] |= unsure
				}
			}
		}
	case OutForget:
		w.toRecord = append(w.toRecord, o)
		if o.Req != 0 {
			w.decided(o.Req)
		}
	case OutMissed:
		for _, s := range o.Missed {
			w.stable[s-1].missed = true
		}
		w.step(Input{Kind: InMissedRecorded})
	case OutCommitGo:
		if !w.sc.slow {
			w.apply(i)
		}
	case OutCommitRefused:
		w.refused(i, o)
	case OutCommitKnown:
		w.endRun(i, o.Cut)
		w.reply(i, msg{kind: msgCommitted, cut: o.Cut})
	case OutResumed:
		// As many Trecalls as there are on a new connection; on the same one they are there.
		n := 2 - w.m.sessions[o.Session].posted
		for _, q := range w.c[i].s2c {
			if q.kind == msgRecall {
				n--
			}
		}
		w.step(Input{Kind: InPosted, Session: o.Session, N: n})
		mg := msg{kind: msgResumed, cut: o.Cut, lost: o.Lost, lease: o.Lease > 0, epoch: w.epoch}
		w.reply(i, mg)
		// It is the first on the new connection: recalls that were output with it come after.
		q := w.c[i].s2c
		for k := len(q) - 1; k > 0 && q[k].kind == msgResumed && q[k-1].kind == msgRecall; k-- {
			q[k-1], q[k] = q[k], q[k-1]
		}
	}
}

// wants is the mode in which request id asks for object.
func (w *world) wants(id ReqID, object ID) Mode {
	for _, it := range w.m.reqs[id].set {
		if it.o.id == object {
			return it.mode
		}
	}
	return None
}

// count notes who was overtaken by request id.
func (w *world) count(id ReqID, r *serverReq, toks []Token) {
	for v := w.m.firstWaiting; v != nil; v = v.next {
		q := w.reqs[v.id]
		if q == nil || q.client == r.client || v.stalled {
			continue
		}
		hit := false
		for _, it := range v.set {
			for i, t := range toks {
				mode := t.Mode
				if g := w.m.reqs[id]; g != nil && t.Mode != None {
					mode = g.elems[i].Mode
				}
				hit = hit || t.ID == it.o.id && Conflict(mode, it.mode)
			}
		}
		if hit && w.sc.overtakes > 0 {
			if q.client < len(w.c) {
				w.c[q.client].overtaken++
			} else {
				w.p[q.client-len(w.c)].overtak++
			}
		}
	}
}

// grants lists the requests of client i that were granted and not sent, in order.
func (w *world) grants(i int) []ReqID {
	var ids []ReqID
	for _, id := range sortedIDs(w.reqs) {
		if r := w.reqs[id]; r.client == i && (r.toks != nil || r.done) {
			ids = append(ids, id)
		}
	}
	return ids
}

// send puts the reply to request id on the FIFO, with the values as they are now.
func (w *world) send(id ReqID) {
	r := w.reqs[id]
	delete(w.reqs, id)
	if r.read {
		w.say("server answers %s = %s", letters.object(r.id), w.name(r.val))
		w.reply(r.client, msg{kind: msgData, gen: r.gen, id: r.id, vals: []uint8{r.val}, old: r.old})
		return
	}
	mg := msg{kind: msgGrant, tag: r.tag, toks: r.toks, vals: make([]uint8, len(r.toks)), old: r.old}
	for k, t := range r.toks {
		if t.Mode != None {
			mg.vals[k] = w.val[slot(t.ID)]
		}
	}
	if r.tag >= 0 && w.m.reqs[id] != nil || w.sc.shell.fifo {
		w.reply(r.client, mg)
	}
	w.step(Input{Kind: InSent, Req: id})
}

// resolve looks a name up.
func (w *world) resolve(k int) {
	o := w.names[k]
	w.names = append(w.names[:k], w.names[k+1:]...)
	w.step(Input{Kind: InResolved, Req: o.Req, Elem: o.Elem, Bound: true, ID: bound(w.val[slot(objD)])})
}

// apply ends the application of client i's running cut.
func (w *world) apply(i int) {
	var r run
	for k := range w.runs {
		if w.runs[k].client == i {
			r = w.runs[k]
			break
		}
	}
	for _, n := range r.ops {
		if w.fates[n]&applied != 0 {
			w.fail("I2: update %s is applied twice", w.name(n))
		}
		if w.fates[n]&(doomed|excused|unsure|lostOp) != 0 {
			w.fail("I2/I5: update %s is applied although a token it needs was taken away", w.name(n))
		}
		w.fates[n] |= applied
		for _, e := range w.op(n).elems {
			if e.Mode == Write {
				w.val[slot(w.object(n, e))] = n
			}
		}
	}
	w.say("server has applied cut %d of %s", r.cut, letters.session(SessionID(i+1)))
	w.endRun(i, r.cut)
	w.reply(i, msg{kind: msgCommitted, cut: r.cut})
	w.step(Input{Kind: InCommitted, Session: SessionID(i + 1), Cut: r.cut, Applied: true})
}

func (w *world) endRun(i int, cut uint64) {
	for k := range w.runs {
		if w.runs[k].client == i && w.runs[k].cut == cut {
			w.runs = append(w.runs[:k], w.runs[k+1:]...)
			return
		}
	}
}

func (w *world) refused(i int, o Output) {
	for k := range w.runs {
		if r := w.runs[k]; r.client == i && r.cut == o.Cut {
			guilty := o.Denied != DeniedFence
			for _, n := range r.ops {
				guilty = guilty || w.fates[n]&(excused|unsure|mayLose|doomed) != 0
			}
			if !guilty {
				w.fail("I7: cut %d of %s is refused although nobody took a token it needs", o.Cut, letters.session(SessionID(i+1)))
			}
		}
	}
	w.endRun(i, o.Cut)
	w.reply(i, msg{kind: msgRefused, cut: o.Cut})
}

// plainBegin asks for the next operation of plain client j.
func (w *world) plainBegin(j int) {
	p := &w.p[j]
	i := len(w.c) + j
	id := w.newReq(serverReq{client: i})
	p.state = waiting
	w.step(Input{Kind: InRequest, Req: id, Elems: w.progs[i][p.pc].elems})
}

// plainDo does it.
func (w *world) plainDo(j int) {
	p := &w.p[j]
	i := len(w.c) + j
	o := &w.progs[i][p.pc]
	n := number(i, p.pc)
	for k, t := range p.toks {
		w.pass(-1, t.ID, o.elems[k].Mode == Write)
		if o.elems[k].Name != "" && t.ID != bound(w.val[slot(objD)]) {
			w.fail("I5: plain client %d was granted %s for D/n, which is %s", j+1, letters.object(t.ID), letters.object(bound(w.val[slot(objD)])))
		}
	}
	for k, t := range p.toks {
		if o.elems[k].Mode == Write {
			w.val[slot(t.ID)] = n
		}
	}
	w.fates[n] |= performed | applied
	p.toks, p.state = nil, idle
	p.pc++
	for id, r := range w.reqs {
		if r.client == i {
			delete(w.reqs, id)
			w.step(Input{Kind: InDone, Req: id})
		}
	}
}

// flushable reports whether client i has a request at the server that a Tflush can end.
func (w *world) flushable(i int) bool {
	for id, r := range w.reqs {
		if r.client == i && !r.done && r.tag >= 0 && w.m.reqs[id] != nil {
			return true
		}
	}
	return false
}

// flush ends what client i (plain clients after the others) asked for.
func (w *world) flush(i int) {
	for _, id := range sortedIDs(w.reqs) {
		r := w.reqs[id]
		if r.client != i || r.done || r.tag < 0 || w.m.reqs[id] == nil {
			continue
		}
		for k := 0; k < len(w.names); k++ {
			if w.names[k].Req == id {
				w.names = append(w.names[:k:k], w.names[k+1:]...)
				k--
			}
		}
		delete(w.reqs, id)
		w.step(Input{Kind: InCancel, Req: id})
		if i < len(w.c) {
			w.reply(i, msg{kind: msgDenied, tag: r.tag, old: r.old})
		} else {
			p := &w.p[i-len(w.c)]
			p.state, p.overtak = idle, 0
			p.pc++
		}
	}
}
