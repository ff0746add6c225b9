package simulate

import (
	"encoding/binary"
	"maps"
	"slices"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/tokens"
)

type sid = tokens.SessionID

// known is what stable storage has of a session.
type known struct {
	client  *client
	lastCut uint64
	lost    map[id]tokens.Mode // recorded as taken
	missed  bool
	gen     tokens.Gen // of its range of ids, which begins at idsOf
}

func idsOf(s sid) id { return 1000 * id(s) }

// server is the model of the server's shell. What comes first is stable; the rest is a life's.
type server struct {
	tree  tree
	epoch uint64
	known map[sid]*known
	last  sid

	up      bool
	m       *tokens.Manager
	conns   map[sid]*conn
	reqs    map[tokens.ReqID]*request
	lastReq tokens.ReqID
	came    map[sid][]message // cuts that are not decided
	running map[sid]message   // decided, not applied
	applied map[sid]message   // applied, not answered
	records []recording
	missing []sid // to be recorded before the grace period ends
	ending  bool  // OutMissed was said
}

// request is one that was asked and not answered.
type request struct {
	conn    *conn
	session sid
	tag     int
	sent    int64
	toks    []tokens.Token
	reclaim []reclaim
	elems   []tokens.Elem
}

// reclaim is an element of a reclaim: with the version that the client knows.
type reclaim struct {
	tokens.Elem
	ver int
}

// forget: the client knows that it lost these.
func (c *known) forget(lost []tokens.Lost) {
	for _, l := range lost {
		delete(c.lost, l.ID)
	}
}

// recording is a set of revocations on its way to stable storage.
type recording struct {
	req  tokens.ReqID
	what []tokens.Output
}

// start begins a life of the server.
func (w *world) start() {
	s := &w.srv
	s.epoch++
	s.up = true
	s.m = tokens.NewManager(tokens.Config{Lease: lease, RecallDeadline: lease / 4, Record: true, Bypass: 2}, tokens.Gen(s.epoch<<32))
	s.conns, s.reqs = map[sid]*conn{}, map[tokens.ReqID]*request{}
	s.came, s.running, s.applied = map[sid][]message{}, map[sid]message{}, map[sid]message{}
	s.records, s.missing, s.ending = nil, nil, false
	for _, k := range slices.Sorted(maps.Keys(s.known)) {
		c := s.known[k]
		in := tokens.Input{Kind: tokens.InRestore, Session: k, Cut: c.lastCut, Missed: c.missed}
		for _, o := range slices.Sorted(maps.Keys(c.lost)) {
			in.Lost = append(in.Lost, tokens.Lost{ID: o, Left: c.lost[o]})
		}
		w.step(in)
	}
	if len(s.known) > 0 && !w.broken(noGrace) {
		w.step(tokens.Input{Kind: tokens.InGrace})
	}
	w.say("the server starts, epoch %d", s.epoch)
}

// crash ends it: what is not stable is gone.
func (w *world) crash() {
	s := &w.srv
	s.up = false
	for _, c := range w.clients {
		if c.conn != nil {
			c.conn.broken = true
			c.conn.c2s = nil
		}
	}
	w.say("the server crashes")
	if w.broken(tornCut) {
		for _, k := range slices.Sorted(maps.Keys(s.running)) {
			mg := s.running[k]
			w.applyRecords(mg, mg.records[:(len(mg.records)+1)/2])
		}
	}
}

// edit is somebody's on the host, while the server is down.
func (w *world) edit(r uint32) {
	files := slices.Sorted(maps.Keys(w.srv.tree))
	f := files[int(r)%len(files)]
	if f == dirA || f == dirB {
		return
	}
	u := w.perform(nil, update{kind: order.Write, file: f})
	u.applied = true
	w.srv.tree.do(u)
	w.pass(nil, f, true)
	w.edited[f], w.editor[f] = w.srv.epoch, u.n
	w.say("somebody writes %d to %d on the host", u.n, f)
}

// take has the server read a message of client c.
func (w *world) take(cn *conn) {
	s := &w.srv
	mg := cn.c2s[0]
	cn.c2s = cn.c2s[1:]
	k := cn.session
	if mg.kind == msgSession {
		w.session(cn, mg)
		return
	}
	w.say("server reads %v of session %d", mg.kind, k)
	if mg.told {
		w.step(tokens.Input{Kind: tokens.InTold, Session: k})
	}
	switch mg.kind {
	case msgAsk, msgReclaim:
		s.lastReq++
		r := &request{conn: cn, session: k, tag: mg.tag, sent: mg.sent, elems: mg.elems, reclaim: mg.reclaim}
		s.reqs[s.lastReq] = r
		kind := tokens.InRequest
		if mg.kind == msgReclaim {
			kind = tokens.InReclaim
			for _, e := range mg.reclaim {
				r.elems = append(r.elems, e.Elem)
			}
		}
		w.step(tokens.Input{Kind: kind, Req: s.lastReq, Session: k, Elems: r.elems})
	case msgReclaimed:
		w.step(tokens.Input{Kind: tokens.InReclaimed, Session: k})
		if !w.broken(completeVolatile) {
			s.known[k].missed = false
			s.missing = slices.DeleteFunc(s.missing, func(m sid) bool { return m == k })
		}
		w.reply(cn, k, message{kind: msgCompleted, sent: mg.sent})
	case msgReturn:
		w.step(tokens.Input{Kind: tokens.InReturn, Session: k, ID: mg.ret.ID, Gen: mg.ret.Gen, Keep: mg.ret.Keep})
	case msgPost:
		w.step(tokens.Input{Kind: tokens.InPosted, Session: k, N: 1})
	case msgRenew:
		w.reply(cn, k, message{kind: msgRenewed, sent: mg.sent})
	case msgCommit:
		s.came[k] = append(s.came[k], mg)
		in := tokens.Input{Kind: tokens.InCommit, Session: k, Cut: mg.cut, Fence: mg.fence}
		if w.broken(noFence) {
			in.Fence = nil
		}
		for _, r := range mg.records {
			if r.Kind == cut.Create {
				in.Born = append(in.Born, tokens.Born{ID: r.ID, Gen: s.known[k].gen})
			}
		}
		w.step(in)
	}
}

// session takes Tsession.
func (w *world) session(cn *conn, mg message) {
	s := &w.srv
	k := mg.session
	for old, c := range s.known {
		if k == 0 && c.client == cn.client { // its Rsession was lost: it begins anew
			w.step(tokens.Input{Kind: tokens.InSessionGone, Session: old})
			delete(s.known, old)
			delete(s.conns, old)
		}
	}
	cn.session = k
	if k == 0 {
		s.last++
		k = s.last
		cn.session = k
		s.known[k] = &known{client: cn.client, lost: map[id]tokens.Mode{}, gen: s.m.NewGen()}
		s.conns[k] = cn
		w.step(tokens.Input{Kind: tokens.InSessionOpen, Session: k})
		w.say("server opens session %d", k)
		cn.toClient(message{kind: msgResumed, session: k, epoch: s.epoch, gen: s.known[k].gen, sent: mg.sent, lease: lease, begun: true})
		return
	}
	w.say("server resumes session %d", k)
	if s.conns[k] != cn {
		if s.conns[k] != nil {
			w.hangUp(k)
		}
		if old := s.old(k); !w.broken(oldConnection) && old != nil {
			old.c2s = nil
		}
		s.conns[k] = cn
	}
	cn.resumeSent = mg.sent
	w.step(tokens.Input{Kind: tokens.InConnected, Session: k})
}

// old is the connection of a session's client before the present one: what is unread on it is thrown away.
func (s *server) old(k sid) *conn { return s.known[k].client.former }

// hangUp: the server sees that a connection is gone.
func (w *world) hangUp(k sid) {
	s := &w.srv
	s.conns[k].broken = true
	s.conns[k] = nil
	w.say("server sees that the connection of session %d is gone", k)
	s.came[k] = slices.DeleteFunc(s.came[k], func(mg message) bool { return s.running[k].cut != mg.cut })
	w.step(tokens.Input{Kind: tokens.InDisconnected, Session: k})
}

// reply sends mg, which may extend the lease.
func (w *world) reply(cn *conn, k sid, mg message) {
	mg.lease = w.srv.m.Extend(w.now, k)
	cn.toClient(mg)
}

// step gives the Manager an input and does what it says.
func (w *world) step(in tokens.Input) {
	out := w.srv.m.Step(w.now, in)
	if len(out) == 0 {
		return
	}
	outs := make([]tokens.Output, len(out))
	for i, o := range out {
		o.Tokens, o.Recalls, o.Lost, o.Missed = slices.Clone(o.Tokens), slices.Clone(o.Recalls), slices.Clone(o.Lost), slices.Clone(o.Missed)
		outs[i] = o
	}
	for i := range outs {
		w.do(&outs[i], outs)
	}
}

func (w *world) do(o *tokens.Output, all []tokens.Output) {
	s := &w.srv
	k := o.Session
	if w.talk {
		w.say("server: %v", o)
	}
	switch o.Kind {
	case tokens.OutGranted:
		s.reqs[o.Req].toks = o.Tokens
	case tokens.OutDenied:
		if r := s.reqs[o.Req]; r != nil {
			delete(s.reqs, o.Req)
			r.conn.toClient(message{kind: msgDenied, tag: r.tag, sent: r.sent}) // Rlerror carries no lease
		}
	case tokens.OutRecall:
		if cn := s.conns[k]; cn != nil {
			cn.toClient(message{kind: msgRecall, recalls: o.Recalls})
		}
	case tokens.OutRevoked, tokens.OutForget:
		if o.Kind == tokens.OutRevoked {
			w.excuse(s.known[k].client, o.ID, o.Keep)
		} else if o.Req == 0 {
			s.known[k].forget(o.Lost)
			break
		}
		i := slices.IndexFunc(s.records, func(r recording) bool { return r.req == o.Req })
		if i < 0 {
			i = len(s.records)
			s.records = append(s.records, recording{req: o.Req})
		}
		s.records[i].what = append(s.records[i].what, *o)
		if w.broken(grantBeforeRecord) && len(s.records[i].what) == count(all, o.Req) {
			w.step(tokens.Input{Kind: tokens.InRecorded, Req: o.Req})
		}
	case tokens.OutMissed:
		s.missing, s.ending = o.Missed, true
	case tokens.OutCommitGo, tokens.OutCommitKnown, tokens.OutCommitRefused:
		i := slices.IndexFunc(s.came[k], func(mg message) bool { return mg.cut == o.Cut })
		if i < 0 {
			break // of a connection that is gone
		}
		mg := s.came[k][i]
		s.came[k] = slices.Delete(s.came[k], i, i+1)
		switch {
		case o.Kind == tokens.OutCommitGo && w.broken(ackBeforeLog):
			w.reply(mg.conn, k, message{kind: msgCommitted, cut: mg.cut, sent: mg.sent})
			s.running[k] = mg
		case o.Kind == tokens.OutCommitGo:
			s.running[k] = mg
		case o.Kind == tokens.OutCommitKnown:
			w.reply(mg.conn, k, message{kind: msgCommitted, cut: mg.cut, sent: mg.sent})
		default:
			w.reply(mg.conn, k, message{kind: msgRefused, cut: mg.cut, sent: mg.sent})
		}
	case tokens.OutResumed:
		cn := s.conns[k]
		if cn == nil {
			break
		}
		cn.toClient(message{kind: msgResumed, session: k, epoch: s.epoch, cut: o.Cut, lost: o.Lost, lease: o.Lease, sent: cn.resumeSent, gen: s.known[k].gen})
	}
}

func count(all []tokens.Output, req tokens.ReqID) (n int) {
	for _, o := range all {
		if (o.Kind == tokens.OutRevoked || o.Kind == tokens.OutForget) && o.Req == req {
			n++
		}
	}
	return n
}

// record makes revocations durable.
func (w *world) record(i int) {
	s := &w.srv
	r := s.records[i]
	s.records = slices.Delete(s.records, i, i+1)
	for _, o := range r.what {
		c := s.known[o.Session]
		if o.Kind == tokens.OutForget {
			c.forget(o.Lost)
			continue
		}
		if left, ok := c.lost[o.ID]; !ok || o.Keep < left {
			c.lost[o.ID] = o.Keep
		}
	}
	w.say("server has recorded the revocations for request %d", r.req)
	w.step(tokens.Input{Kind: tokens.InRecorded, Req: r.req})
}

// recordMissed makes it durable who missed the grace period.
func (w *world) recordMissed() {
	s := &w.srv
	for _, k := range s.missing {
		if s.known[k] != nil && !w.broken(missedUnrecorded) {
			s.known[k].missed = true
		}
	}
	w.say("server has recorded that %v missed the grace period", s.missing)
	s.missing, s.ending = nil, false
	w.step(tokens.Input{Kind: tokens.InMissedRecorded})
}

// send puts the answer to a granted request on its connection.
func (w *world) send(q tokens.ReqID) {
	s := &w.srv
	r := s.reqs[q]
	delete(s.reqs, q)
	if s.conns[r.session] != r.conn {
		return // the Manager has forgotten it
	}
	mg := message{kind: msgGrant, tag: r.tag, sent: r.sent, toks: r.toks, vals: make([]object, len(r.toks))}
	if r.reclaim != nil {
		mg.kind, mg.reclaim, mg.changed = msgReclaimGrant, r.reclaim, make([]bool, len(r.toks))
	}
	for i, t := range r.toks {
		if t.Mode == tokens.None {
			if r.reclaim != nil {
				w.excuse(s.known[r.session].client, r.elems[i].ID, tokens.None)
			}
			continue
		}
		mg.vals[i] = s.tree[t.ID]
		if r.reclaim != nil && mg.vals[i].ver != r.reclaim[i].ver {
			mg.changed[i] = true
			w.excuse(s.known[r.session].client, t.ID, tokens.None)
		}
	}
	w.reply(r.conn, r.session, mg)
	w.step(tokens.Input{Kind: tokens.InSent, Req: q})
}

// log makes the running cut of a session durable, and applies it: all of it, or nothing.
func (w *world) log(k sid) {
	s := &w.srv
	mg := s.running[k]
	delete(s.running, k)
	s.applied[k] = mg
	w.applyRecords(mg, mg.records)
	for _, u := range mg.updates {
		switch {
		case u.applied:
			w.fail("update %d is applied twice", u.n)
		case u.lost:
			w.fail("update %d is applied, which was lost", u.n)
		case u.doomed:
			w.fail("update %d is applied, though others were in between", u.n)
		}
		u.applied = true
	}
	if !w.broken(lastCutVolatile) {
		s.known[k].lastCut = mg.cut
	}
	w.say("server has applied cut %d of session %d", mg.cut, k)
}

// applyRecords does what the records say.
func (w *world) applyRecords(mg message, records []cut.Record) {
	t := w.srv.tree
	var unbound []id
	for i := range records {
		r := &records[i]
		o := t[r.ID]
		switch r.Kind {
		case cut.Create:
			t[r.ID] = object{there: true}
		case cut.Data:
			if o.there {
				o.val = int(binary.LittleEndian.Uint64(r.Bytes))
				t[r.ID] = o
			}
		case cut.Bind:
			d := t[r.Dir]
			n := int(r.Name[0] - 'a')
			if d.ents[n] != r.Before {
				w.fail("cut %d binds %q in %d, which is bound to %d, not %d", mg.cut, r.Name, r.Dir, d.ents[n], r.Before)
			}
			d.ents[n] = r.ID
			t[r.Dir] = d
			unbound = append(unbound, r.Before)
		}
	}
	for _, f := range unbound {
		if !slices.Contains(slices.Concat(slice(t[dirA]), slice(t[dirB])), f) {
			delete(t, f)
		}
	}
	for _, u := range mg.updates {
		for _, k := range u.objects(nil) {
			if o := t[k]; o.there {
				o.ver = u.n
				t[k] = o
			}
		}
	}
}

func slice(o object) []id { return o.ents[:] }

// finish answers an applied cut.
func (w *world) finish(k sid) {
	s := &w.srv
	mg := s.applied[k]
	delete(s.applied, k)
	if !w.broken(ackBeforeLog) {
		w.reply(mg.conn, k, message{kind: msgCommitted, cut: mg.cut, sent: mg.sent})
	}
	w.step(tokens.Input{Kind: tokens.InCommitted, Session: k, Cut: mg.cut, Applied: true})
}

var tick = tokens.Input{Kind: tokens.InTick}

// grants are the requests that were granted and not sent, in order.
func (s *server) grants() []tokens.ReqID {
	var all []tokens.ReqID
	for q, r := range s.reqs {
		if r.toks != nil {
			all = append(all, q)
		}
	}
	slices.Sort(all)
	return all
}
