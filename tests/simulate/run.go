package simulate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// step is one thing that may happen: which, to whom, and what else there is to choose.
type step struct {
	kind stepKind
	who  uint8
	r    uint32
}

type stepKind uint8

const (
	stTime stepKind = iota // time passes
	stAct                  // a client goes on with its task, or begins one
	stReceive
	stTake
	stSend
	stLog
	stFinish
	stRecord
	stMissed
	stTick
	stWriteBack
	stRenew
	stDial
	stResume
	stNotice
	stHangUp
	stRestart
	stGo
	faults // those below are
	stBreak
	stStop
	stKill
	stCrash
	stEdit
	stAway // much time passes
	stepKinds
)

// weights say how often each is chosen.
var weights = [stepKinds]int{
	stTime: 20, stAct: 140, stReceive: 140, stTake: 180, stSend: 80, stLog: 40, stFinish: 40, stRecord: 15, stMissed: 10, stTick: 15, stWriteBack: 20, stRenew: 10,
	stDial: 40, stResume: 30, stNotice: 20, stHangUp: 12, stRestart: 40, stGo: 30,
	stBreak: 5, stStop: 3, stKill: 1, stCrash: 2, stEdit: 6, stAway: 3,
}

var wheel = func() (all []stepKind) {
	for k, n := range weights {
		for range n {
			all = append(all, stepKind(k))
		}
	}
	return all
}()

// try does s if it is possible. What panics is a violation like any other, with its story.
func (w *world) try(s step) (done bool) {
	defer w.caught()
	return w.happen(s)
}

func (w *world) caught() {
	if p := recover(); p != nil {
		w.fail("panic: %v", p)
	}
}

func (w *world) happen(s step) bool {
	srv := &w.srv
	c := w.clients[int(s.who)%len(w.clients)]
	runs := !c.stopped && !c.dead
	switch s.kind {
	case stTime:
		w.now += int64(s.r % 40)
		return true
	case stAway:
		w.now += lease/2 + int64(s.r%(2*lease))
		return true
	case stAct:
		if !runs || c.session == 0 {
			return false
		}
		if c.task == nil {
			c.task = newTask(s.r)
		}
		return w.act(c)
	case stReceive:
		if !runs || c.conn == nil || len(c.conn.s2c) == 0 {
			return false
		}
		w.receive(c)
	case stTake:
		cn := w.readable(c, s.r)
		if cn == nil {
			return false
		}
		w.take(cn)
	case stSend:
		if !srv.up {
			return false
		}
		if all := srv.grants(); len(all) > 0 {
			w.send(all[int(s.r)%len(all)])
			return true
		}
		return false
	case stLog, stFinish:
		set := srv.running
		if s.kind == stFinish {
			set = srv.applied
		}
		if _, ok := set[c.session]; !ok || !srv.up {
			for k := range set {
				if srv.up && srv.known[k].client.dead {
					return w.ofDead(s.kind, set)
				}
			}
			return false
		}
		if s.kind == stLog {
			w.log(c.session)
		} else {
			w.finish(c.session)
		}
	case stRecord:
		if !srv.up || len(srv.records) == 0 {
			return false
		}
		w.record(int(s.r) % len(srv.records))
	case stMissed:
		if !srv.up || !srv.ending {
			return false
		}
		w.recordMissed()
	case stTick:
		if !srv.up {
			return false
		}
		w.tick()
	case stWriteBack:
		return runs && w.writeBack(c, true)
	case stRenew:
		if !runs || !c.online || c.renewing {
			return false
		}
		c.renewing = true
		w.toServer(c, message{kind: msgRenew})
	case stDial:
		if !runs || c.conn != nil || !srv.up {
			return false
		}
		w.dial(c)
	case stResume:
		if !runs || !c.ready || c.flying != nil || c.h.Valid(w.now) {
			return false
		}
		w.resume(c)
	case stNotice:
		if !runs || c.conn == nil || !c.conn.broken {
			return false
		}
		w.notice(c)
	case stHangUp:
		if cn := srv.conns[c.session]; !srv.up || cn == nil || !cn.broken || len(cn.c2s) > 0 && s.r%2 == 0 {
			return false
		}
		w.hangUp(c.session)
	case stRestart:
		if srv.up {
			return false
		}
		w.start()
	case stGo:
		if !c.stopped {
			return false
		}
		c.stopped = false
		w.say("%s goes on", c.name)
	case stBreak:
		if c.conn == nil || c.conn.broken {
			return false
		}
		w.say("the connection of %s breaks", c.name)
		c.conn.broken = true
		if s.r%3 == 0 {
			c.conn.c2s = nil
		}
		w.counts.Breaks++
	case stStop:
		if !runs {
			return false
		}
		w.say("%s is stopped", c.name)
		c.stopped = true
		w.counts.Stops++
	case stKill:
		w.kill(c)
	case stCrash:
		if !srv.up {
			return false
		}
		w.crash()
		w.checkTree()
		w.counts.Crashes++
	case stEdit:
		if srv.up {
			return false
		}
		w.edit(s.r)
		w.counts.Edits++
	}
	return true
}

// tick tells the Manager the time; the clocks of the leases are no part of the server's stable state.
func (w *world) tick() { w.step(tick) }

// readable is a connection of c on which the server can read: its present one, or one on which it asks to resume.
func (w *world) readable(c *client, r uint32) *conn {
	s := &w.srv
	if !s.up {
		return nil
	}
	var all []*conn
	if cn := s.conns[c.session]; cn != nil && len(cn.c2s) > 0 {
		all = append(all, cn)
	}
	if cn := c.conn; cn != nil && s.conns[c.session] != cn && len(cn.c2s) > 0 && cn.c2s[0].kind == msgSession {
		all = append(all, cn)
	}
	if cn := c.conn; cn != nil && c.session == 0 && cn.session != 0 && s.conns[cn.session] == cn && len(cn.c2s) > 0 {
		all = append(all, cn)
	}
	if old := c.former; w.broken(oldConnection) && old != nil && len(old.c2s) > 0 && old.c2s[0].kind != msgSession {
		all = append(all, old)
	}
	if len(all) == 0 {
		return nil
	}
	return all[int(r)%len(all)]
}

// kill ends a client; another one is started in its place.
func (w *world) kill(c *client) {
	w.say("%s is killed", c.name)
	c.dead = true
	if c.conn != nil {
		c.conn.broken = true
		c.former, c.conn = c.conn, nil
	}
	w.ghosts = append(w.ghosts, c)
	w.clients[c.n] = w.newClient(c.n)
	w.counts.Kills++
}

// ofDead goes on with a cut of a session whose client is dead.
func (w *world) ofDead(kind stepKind, set map[sid]message) bool {
	for _, k := range slices.Sorted(maps.Keys(set)) {
		if w.srv.known[k].client.dead {
			if kind == stLog {
				w.log(k)
			} else {
				w.finish(k)
			}
			return true
		}
	}
	return false
}

// rng is splitmix64.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Run plays the world of a seed. The error, if something that was promised did not hold, tells the story.
func Run(cfg Config, seed uint64) (Counts, error) {
	r := rng(seed)
	w := newWorld(cfg)
	var path []step
	for n := 0; n < cfg.Steps && w.bad == ""; n++ {
		v := r.next()
		s := step{kind: wheel[v%uint64(len(wheel))], who: uint8(v >> 20 % uint64(cfg.Clients)), r: uint32(v >> 32)}
		if s.kind > faults && !cfg.Faults {
			continue
		}
		path = append(path, s) // also what is not possible: it may have begun something
		if w.try(s) {
			w.counts.Steps++
			w.check()
		}
	}
	if w.bad == "" {
		w.heal()
	}
	if w.bad == "" {
		return w.counts, nil
	}
	path = shrink(cfg, path)
	w = play(cfg, path, true)
	return w.counts, fmt.Errorf("seed %d: %s\n%s", seed, w.bad, strings.Join(w.story, "\n"))
}

// play does the steps that are possible, and heals.
func play(cfg Config, path []step, talk bool) *world {
	w := newWorld(cfg)
	w.talk = talk
	for _, s := range path {
		if w.try(s) {
			w.check()
		}
		if w.bad != "" {
			return w
		}
	}
	w.heal()
	return w
}

// shrink leaves steps out as long as something is wrong all the same.
func shrink(cfg Config, path []step) []step {
	for size := len(path) / 2; size > 0; {
		shorter := false
		for at := 0; at+size <= len(path); {
			less := slices.Concat(path[:at], path[at+size:])
			if play(cfg, less, false).bad != "" {
				path, shorter = less, true
			} else {
				at += size
			}
		}
		if !shorter {
			size /= 2
		}
	}
	return path
}

// heal ends all faults, and has everybody do his work to the end: each client goes on with what it is at, looks at
// everything, and writes back.
func (w *world) heal() {
	defer w.caught()
	w.say("the faults end")
	if !w.srv.up {
		w.try(step{kind: stRestart})
	}
	for i := range w.clients {
		w.try(step{kind: stGo, who: uint8(i)})
	}
	todo := make([][]*task, len(w.clients))
	for i := range todo {
		for _, d := range []id{dirA, dirB} {
			for n := range names {
				todo[i] = append(todo[i], &task{what: doRead, dir: d, name: n})
			}
		}
	}
	kinds := []stepKind{stReceive, stTake, stSend, stLog, stFinish, stRecord, stMissed, stDial, stResume, stNotice, stHangUp}
	for n := 0; ; n++ {
		if n > 4000 {
			w.fail("the world does not come to its end")
			return
		}
		moved, done := false, true
		for i, c := range w.clients {
			for _, k := range kinds {
				moved = w.try(step{kind: k, who: uint8(i), r: uint32(n)}) || moved
				if w.bad != "" {
					return
				}
			}
			if c.task == nil && len(todo[i]) > 0 {
				c.task, todo[i] = todo[i][0], todo[i][1:]
			}
			if c.task != nil {
				done = false
				moved = c.session != 0 && w.act(c) || moved
			}
			if len(c.flush) > 0 || len(c.suspect) > 0 || len(todo[i]) == 0 {
				moved = w.writeBack(c, true) || moved
			}
			if c.online && !c.renewing && c.h.Valid(w.now) && c.h.LeaseLeft(w.now) < lease/2 {
				moved = w.try(step{kind: stRenew, who: uint8(i)}) || moved
			}
			done = done && c.log.Totals().Ops == 0 && len(todo[i]) == 0
			w.check()
		}
		if done {
			w.counts.End = n
			w.checkEnd()
			return
		}
		w.now++
		if !moved {
			w.now += lease / 20
		}
		w.tick()
	}
}
