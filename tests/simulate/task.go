package simulate

import (
	"slices"

	"echo9/cachefs/order"
	"echo9/tokens"
)

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
	c.asked = set
	w.ask(c)
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
