package cachefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

// errAgain is a step's answer when it misses something: turn.wait gets it, then the step starts again.
var errAgain = errors.New("something is missing")

// turn is one try of an operation. A step says what tokens it uses (want,
// wantName), pins them (pin), and then works in memory without waiting. All of that
// happens under fs.mu; what it waits for it waits for outside, and starts again.
type turn struct {
	fs   *FS
	cred *p9srv.Cred

	elems  []tokens.Elem // as the step wants them
	pinned []tokens.Elem // resolved, and pinned by Pin
	held   []tokens.Elem // resolved, and pinned by Claim
	req    tokens.ReqID  // a request that was granted and is to be claimed
	asks   int           // requests made so far
	sure   bool          // what the server refuses was asked for anew
	gone   bool          // an object of the set is no more
	stale  int           // times that an object which a name stood for was gone when the server looked

	listed bool    // a listing was waited for already
	raised bool    // a raise was, too
	queued *queued // that it waits for room

	// inline: contents are wanted with the attributes.
	inline bool
	// wait does what a step that answered errAgain needs, without locks.
	wait func(ctx context.Context) error

	seqs []uint64 // operations appended in this turn
}

// do runs an operation: step under fs.mu, again and again until it does not miss anything.
func (fs *FS) do(ctx context.Context, cred *p9srv.Cred, step func(t *turn) error) error {
	t := &turn{fs: fs, cred: cred}
	defer t.leave()
	ctx, stop := fs.softly(ctx)
	defer stop()
	for {
		err := t.try(step)
		if !errors.Is(err, errAgain) {
			if len(t.seqs) > 0 {
				if serr := fs.saved(ctx, t.seqs); err == nil {
					err = serr
				}
			}
			return err
		}
		if t.wait == nil {
			panic("cachefs: an operation misses something and does not say what")
		}
		if err := t.wait(ctx); err != nil {
			return err
		}
	}
}

// try runs a step once, under fs.mu.
func (t *turn) try(step func(t *turn) error) error {
	fs := t.fs
	fs.mu.Lock()
	defer fs.mu.Unlock()
	t.elems, t.wait, t.seqs, t.gone = t.elems[:0], nil, t.seqs[:0], false
	err := fs.ready(t)
	if err == nil {
		err = step(t)
	}
	t.finish()
	fs.settle()
	return err
}

// update runs an operation that changes something: as do, when there is room for it, and then as the
// write policy says. data is how many bytes it adds to n.
func (fs *FS) update(ctx context.Context, cred *p9srv.Cred, n *node, data int64, step func(t *turn) error) error {
	var seqs []uint64
	through := fs.opt.Writes == Sync || fs.opt.Writes == OnClose && data == 0
	err := fs.do(ctx, cred, func(t *turn) error {
		full, err := t.reserve(n, data)
		if err != nil {
			return err
		}
		through = through || full
		if data > 0 && t.req == 0 {
			if err := t.room(data, n.id); err != nil {
				return err
			}
		}
		if err = step(t); err == nil {
			seqs = append(seqs, t.seqs...)
			if len(seqs) > 0 && through {
				fs.await(seqs)
			}
		}
		return err
	})
	if err != nil || len(seqs) == 0 {
		return err
	}
	if through {
		return fs.awaited(ctx, seqs)
	}
	fs.noteDirty()
	return nil
}

// want adds an object to the turn's set.
func (t *turn) want(n *node, mode tokens.Mode) {
	t.gone = t.gone || n.gone
	t.wantID(n.id, mode)
}

func (t *turn) wantID(id uint64, mode tokens.Mode) {
	for i := range t.elems {
		if e := &t.elems[i]; e.ID == id && e.Name == "" {
			e.Mode = max(e.Mode, mode)
			return
		}
	}
	t.elems = append(t.elems, tokens.Elem{ID: id, Mode: mode})
}

// wantName adds what name stands for in dir, if anything, to the turn's set; dir must be in it.
func (t *turn) wantName(dir *node, name string, mode tokens.Mode) {
	t.elems = append(t.elems, tokens.Elem{ID: dir.id, Name: name, Mode: mode})
}

// pin pins the whole set. On errAgain the step must give up; the set will be asked for.
// After success every object of the set has its attributes, and every name is known.
func (t *turn) pin() error {
	if t.gone {
		return syscall.ESTALE
	}
	fs := t.fs
	now := fs.clock()
	t.unpin()
	if t.req != 0 {
		if held, ok := fs.holder.Claim(now, t.req); ok {
			t.held = slices.Clone(held)
		}
		t.req = 0
	}
	resolved := make([]tokens.Elem, 0, len(t.elems))
	complete := true
	var missed *node // a directory that is being listed because its names are wanted
	for _, e := range t.elems {
		if e.Name == "" {
			resolved = append(resolved, e)
			continue
		}
		dir := fs.nodes[e.ID]
		if dir == nil || dir.ents == nil || fs.holder.Mode(e.ID) == tokens.None {
			complete = false
			missed = fs.missed(dir)
			continue
		}
		ent, known := dir.ents.lookup(e.Name)
		switch {
		case !known:
			complete = false
			missed = fs.missed(dir)
		case ent != nil:
			resolved = append(resolved, tokens.Elem{ID: ent.id, Mode: e.Mode})
		}
	}
	if err := t.suspects(resolved); err != nil {
		return err
	}
	if err := t.mayUpdate(resolved); err != nil {
		return err
	}
	if complete {
		switch {
		case len(t.held) > 0 && !fs.holder.Good(now, t.held):
			complete = false
		default:
			rest := uncovered(t.held, resolved)
			if len(rest) > 0 && !fs.holder.Pin(now, rest) {
				complete = false
			} else {
				t.pinned = rest
			}
		}
	}
	if complete {
		for _, e := range resolved {
			n := fs.nodes[e.ID]
			if e.ID != tokens.DirMove && (n == nil || !n.attrOK) {
				complete = false
			}
			if n != nil && e.Mode == tokens.Write {
				n.ahead = false
			}
		}
	}
	if complete {
		if err := t.alive(resolved); err != nil {
			return err
		}
		return t.rights(resolved)
	}
	if missed != nil && !t.listed {
		// The listing may bring all that is missing. If not, or not for long, this is not tried again.
		t.listed = true
		wait, _ := fs.fetchList(missed)
		t.wait = func(ctx context.Context) error {
			if err := wait(ctx); ctx.Err() != nil {
				return err
			}
			return nil
		}
		return errAgain
	}
	if raised := t.raising(resolved); raised != nil && !t.raised {
		t.raised = true
		t.wait = func(ctx context.Context) error { return fs.waitFor(ctx, raised) }
		return errAgain
	}
	asked := t.request(resolved)
	t.wait = func(ctx context.Context) error {
		err := fs.ask(ctx, t, asked)
		if errors.Is(err, syscall.ESTALE) && t.named() && t.stale < maxStale {
			// Somebody removed what a name stood for before the server looked at the set: ask for the name. Or what the
			// caller has is gone, which asking again does not bring back.
			t.stale++
			return t.there(ctx)
		}
		return err
	}
	return errAgain
}

// there asks the server for what is in the set by itself, and not by a name, and not held: ESTALE says that it is gone.
func (t *turn) there(ctx context.Context) error {
	fs := t.fs
	var ids []uint64
	fs.mu.Lock()
	for _, e := range t.elems {
		n := fs.nodes[e.ID]
		if e.Name == "" && e.ID != tokens.DirMove && fs.holder.Mode(e.ID) == tokens.None && (n == nil || !n.fresh) {
			ids = append(ids, e.ID)
		}
	}
	fs.mu.Unlock()
	for _, id := range ids {
		err := fs.onFid(ctx, id, func(fid) error { return nil })
		if errors.Is(err, syscall.ESTALE) || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// alive refuses updates of what has no name and is not open here: the server may not have it any more.
func (t *turn) alive(elems []tokens.Elem) error {
	for _, e := range elems {
		n := t.fs.nodes[e.ID]
		if e.ID == tokens.DirMove || e.Mode != tokens.Write || n.attr.Nlink > 0 || n.kept {
			continue
		}
		if n.ents != nil {
			return syscall.ENOENT
		}
		return syscall.ESTALE
	}
	return nil
}

// rights makes an update wait until the server knows of a pending change of permissions that may be what
// allows it: the server checks a cut by what is there before the cut. It lets owners change the content of
// what is theirs anyway, and root do all.
func (t *turn) rights(elems []tokens.Elem) error {
	if t.cred == nil || t.cred.UID == 0 {
		return nil
	}
	for _, e := range elems {
		n := t.fs.nodes[e.ID]
		if e.ID == tokens.DirMove || e.Mode != tokens.Write || n.rights == 0 {
			continue
		}
		if t.fs.log.Op(n.rights) == nil {
			n.rights = 0
			continue
		}
		if n.rightsBy == t.cred.UID && (n.ents == nil || n.fresh) {
			continue
		}
		return t.first(n.rights)
	}
	for _, e := range t.elems {
		if e.Name == "" || e.ID == tokens.DirMove {
			continue
		}
		n := t.fs.nodes[e.ID]
		was, ok := n.freed[e.Name]
		switch {
		case !ok:
		case t.fs.log.Op(was.seq) == nil:
			delete(n.freed, e.Name)
		case was.by != t.cred.UID:
			// In one cut the two would be one change of the name, by this user.
			return t.first(was.seq)
		}
	}
	return nil
}

// first makes the turn wait until an update is at the server.
func (t *turn) first(seq uint64) error {
	seqs := []uint64{seq}
	t.wait = func(ctx context.Context) error { return t.fs.demand(ctx, &demand{why: "rights", seqs: seqs}) }
	return errAgain
}

// frees notes that an update takes a name from a directory. Called with fs.mu held.
func (t *turn) frees(dir uint64, name string, seq uint64) {
	d := t.fs.nodes[dir]
	if d == nil || d.attr.Mode&modeSticky == 0 {
		return
	}
	if d.freed == nil {
		d.freed = make(map[string]freed)
	}
	d.freed[name] = freed{seq, t.cred.UID}
}

// maxStale bounds how often a turn asks again because objects vanished under their names.
const maxStale = 100

// named says whether the turn's set has names in it.
func (t *turn) named() bool {
	return slices.ContainsFunc(t.elems, func(e tokens.Elem) bool { return e.Name != "" })
}

// suspects makes the turn wait while an object of its set is being set right after a loss.
func (t *turn) suspects(elems []tokens.Elem) error {
	for _, e := range elems {
		n := t.fs.nodes[e.ID]
		if n == nil || e.ID == tokens.DirMove {
			continue
		}
		if n.gone {
			return syscall.ESTALE
		}
		if n.suspect {
			t.wait = t.fs.nextCommit()
			return errAgain
		}
	}
	return nil
}

// request is what to ask for: the whole set, but objects that the server does not know yet. A name whose
// meaning is known here is asked for as the object; when that did not help, as both.
func (t *turn) request(resolved []tokens.Elem) []wire.GrantElem {
	fs := t.fs
	var out []wire.GrantElem
	add := func(id uint64, mode tokens.Mode) {
		if n := fs.nodes[id]; n != nil && n.fresh && id != tokens.DirMove {
			return
		}
		for i := range out {
			if out[i].ID == id && out[i].Name == "" {
				out[i].Mode = max(out[i].Mode, uint8(mode))
				return
			}
		}
		out = append(out, wire.GrantElem{ID: id, Mode: uint8(mode)})
	}
	for _, e := range resolved {
		add(e.ID, e.Mode)
	}
	for _, e := range t.elems {
		if e.Name == "" {
			continue
		}
		dir := fs.nodes[e.ID]
		if dir != nil && dir.fresh {
			continue
		}
		if dir != nil && dir.ents != nil && fs.holder.Mode(e.ID) != tokens.None && t.asks == 0 {
			if _, known := dir.ents.lookup(e.Name); known {
				continue
			}
		}
		add(e.ID, tokens.Read)
		out = append(out, wire.GrantElem{ID: e.ID, Name: e.Name, Mode: uint8(e.Mode)})
	}
	return out
}

// uncovered are the elements of set that are not in have, in their mode.
func uncovered(have, set []tokens.Elem) []tokens.Elem {
	return slices.DeleteFunc(slices.Clone(set), func(e tokens.Elem) bool {
		return slices.ContainsFunc(have, func(h tokens.Elem) bool { return h.ID == e.ID && h.Mode >= e.Mode })
	})
}

// finish unpins what the turn has pinned. Called with fs.mu held.
func (t *turn) finish() {
	t.unpin()
	if t.held != nil {
		t.fs.holder.Unpin(t.held)
		t.held = nil
	}
	if t.req != 0 {
		t.fs.holder.Drop(t.req)
		t.req = 0
	}
}

func (t *turn) unpin() {
	if len(t.pinned) > 0 {
		t.fs.holder.Unpin(t.pinned)
	}
	t.pinned = nil
}

// ask asks the server for a set and waits for the grant, which t claims at its next pin.
func (fs *FS) ask(ctx context.Context, t *turn, asked []wire.GrantElem) error {
	if len(asked) == 0 {
		return fmt.Errorf("objects that only this client knows are not held: %w", syscall.EIO)
	}
	t.asks++
	var inline uint32
	if t.inline {
		inline = fs.opt.Inline
	}
	elems := make([]tokens.Elem, len(asked))
	for i, e := range asked {
		elems[i] = tokens.Elem{ID: e.ID, Name: e.Name, Mode: tokens.Mode(e.Mode)}
	}
	fs.mu.Lock()
	fs.lastReq++
	req := fs.lastReq
	fs.holder.Ask(req, elems)
	fs.stats.asks++
	fs.questions[req] = question{elems, fs.clock()}
	fs.mu.Unlock()

	reply := new(wire.Rgrant)
	sent := fs.clock()
	err := fs.call(ctx, &wire.Tgrant{Inline: inline, Elems: asked}, reply, func() {
		fs.granted(req, asked, reply, sent)
	})
	fs.mu.Lock()
	defer fs.mu.Unlock()
	defer fs.settle()
	delete(fs.questions, req)
	if err != nil {
		fs.holder.Drop(req)
		return err
	}
	t.req = req
	return nil
}

// granted takes a grant over; it runs in the order in which the server sent things.
func (fs *FS) granted(req tokens.ReqID, asked []wire.GrantElem, r *wire.Rgrant, sent int64) {
	fs.mu.Lock()
	fs.leased(sent, r.Lease)
	toks := make([]tokens.Token, len(r.Tokens))
	for i, g := range r.Tokens {
		toks[i] = tokens.Token{ID: g.ID, Gen: tokens.Gen(g.Gen), Mode: tokens.Mode(g.Mode)}
	}
	install := fs.holder.Granted(fs.clock(), req, toks)
	for i := range r.Tokens {
		fs.take(&r.Tokens[i], install[i])
	}
	for i, e := range asked {
		if e.Name != "" && i < len(r.Tokens) {
			fs.learnName(e.ID, e.Name, &r.Tokens[i])
		}
	}
	fs.trim()
	fs.settle()
	fs.mu.Unlock()
}

// take installs what came with a granted token. Called with fs.mu held.
func (fs *FS) take(g *wire.Granted, install bool) {
	if g.Mode == uint8(tokens.None) || g.ID == tokens.DirMove || g.Flags&wire.GrantedAbsent != 0 {
		return
	}
	n := fs.nodes[g.ID]
	if g.Flags&wire.GrantedAttr != 0 {
		n = fs.nodeFor(g.Attr.QID)
	}
	if n == nil {
		return
	}
	// Held already, yet nothing is known of it and nothing is pending: that was given up after a loss.
	if install || !n.attrOK && fs.pendingOn(n) == 0 {
		n.install(g)
	}
	if g.Flags&wire.GrantedAttr != 0 && n.attrOK {
		n.attr.Flags = n.attr.Flags&^wire.AttrRefusals | g.Attr.Flags&wire.AttrRefusals // whatever is pending: it changes none of them
	}
}

// learnName takes over what the server said that a name stands for. Called with fs.mu held.
func (fs *FS) learnName(dir uint64, name string, g *wire.Granted) {
	d := fs.nodes[dir]
	if d == nil || d.ents == nil || d.suspect || fs.holder.Mode(dir) == tokens.None {
		return
	}
	if _, known := d.ents.lookup(name); known {
		return // our own pending updates are newer
	}
	if g.Flags&wire.GrantedAbsent != 0 {
		d.ents.unbind(name)
		return
	}
	if n := fs.nodes[g.ID]; n != nil && n.attrOK {
		d.ents.bind(name, n.qid, direntType(n.attr.Mode))
		n.addUp(dir)
	}
}
