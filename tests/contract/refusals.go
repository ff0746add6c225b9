package contract

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"echo9/internal/cut"
)

// What the server refuses, it refuses for a word in the operation, which is unlike any other: a name, the value of an
// attribute, data, the target of a symlink, or an owner. So it is known which operation was refused.
const (
	refusedWord  = "refuse"
	refusedOwner = 60_000 // and above
)

// word gives what a record is refused for; "" when it is not.
func refusedFor(r *cut.Record) string {
	has := func(s string) string {
		if i := strings.Index(s, refusedWord); i >= 0 {
			word, _, _ := strings.Cut(s[i:], ".")
			return word
		}
		return ""
	}
	switch r.Kind {
	case cut.Create:
		return has(r.Target)
	case cut.Bind:
		if r.ID != 0 {
			return has(r.Name)
		}
	case cut.Data, cut.SetXattr:
		if s := string(r.Bytes); strings.HasPrefix(s, refusedWord) {
			return has(s)
		}
	case cut.Attr:
		if r.Valid&cut.AttrUID != 0 && r.UserID >= refusedOwner {
			return fmt.Sprint(refusedWord, "owner", r.UserID)
		}
	}
	return ""
}

// refusal refuses a cut for the first such record.
func (g *guard) refusal(c *cut.Cut) *cut.Refusal {
	for i := range c.Records {
		if word := refusedFor(&c.Records[i]); word != "" {
			g.mu.Lock()
			g.words = append(g.words, word)
			g.mu.Unlock()
			return &cut.Refusal{Record: i, Err: fmt.Errorf("as the story has it, %q: %w", word, syscall.EDQUOT)}
		}
	}
	return nil
}

// refused gives the words for which cuts were refused since the last call.
func (g *guard) refused() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.words
	g.words = nil
	return w
}

// refusedWith says whether it is for this effect that the server refuses a cut with the word.
func (e *effect) refusedWith(word string) bool {
	is := func(s string) bool { w, _, _ := strings.Cut(s, "."); return w == word }
	switch e.verb {
	case "make":
		return is(e.name) || is(e.target)
	case "link":
		return is(e.name)
	case "rename":
		return is(e.name2) || e.exchange && is(e.name)
	case "write":
		return is(string(e.data))
	case "setxattr":
		return is(e.value)
	case "chown":
		return fmt.Sprint(refusedWord, "owner", e.uid) == word
	}
	return false
}

// refuse takes out what the server refused with a word, and what goes with it by the table in docs/semantics.md. It gives
// the client, or -1 when there is no such effect. now is the step that is being done: of that its caller is told, and nobody else.
func (h *history) refuse(word string, now int) (client int, gone []*effect) {
	i := slices.IndexFunc(h.log, func(e *effect) bool { return !e.there && e.refusedWith(word) })
	if i < 0 {
		return -1, nil
	}
	first := h.log[i]
	for guilty := []*effect{first}; len(guilty) > 0; {
		lost := h.dependents(guilty)
		gone = append(gone, lost...)
		if len(lost) > 1 || lost[0].step != now {
			h.members[first.client].bury(lost)
		}
		for _, e := range lost {
			e.lost = true
			for _, id := range e.writes {
				delete(h.shown, id)
			}
		}
		h.log = slices.DeleteFunc(h.log, func(e *effect) bool { return e.lost })
		// What no longer applies is a failed call, too.
		guilty = nil
		h.now = h.base.clone()
		for _, e := range h.log {
			if !h.now.apply(e) {
				guilty = append(guilty, e)
				break
			}
		}
	}
	return first.client, gone
}

// member is the client that an operation refused with a word is pending at; -1: none.
func (h *history) member(word string) int {
	for _, e := range h.log {
		if !e.there && e.refusedWith(word) {
			return e.client
		}
	}
	return -1
}

// dependents gives refused effects with what depends on them.
func (h *history) dependents(guilty []*effect) []*effect {
	var lost []*effect
	var objects []int
	var slots []slot
	all := false
	for _, e := range h.log {
		if e.client != guilty[0].client || e.there {
			continue
		}
		if e.marker() {
			all = all || slices.ContainsFunc(lost, func(g *effect) bool { return e.after[g] })
			continue
		}
		if !(all || slices.Contains(guilty, e) || meet(e.writes, objects) || meet(e.reads, objects) || meet(e.below, objects) || meet(e.shows, objects) ||
			slices.ContainsFunc(e.slots(), func(s slot) bool { return slices.Contains(slots, s) })) {
			continue
		}
		lost = append(lost, e)
		if e.content() || e.makes() {
			objects = append(objects, e.id)
		}
		slots = append(slots, e.slots()...)
	}
	return lost
}

// bury has the open files die on whose objects something was lost, and those of directories tell it once, and so who opens them next.
func (m *member) bury(lost []*effect) {
	for _, e := range lost {
		switch e.verb {
		case "link", "unlink", "rmdir", "rename":
		default:
			m.untold[e.id] = true
		}
		if len(e.slots()) > 0 {
			m.untold[e.dir] = true
			if e.verb == "rename" {
				m.untold[e.dir2] = true
			}
		}
		for _, hd := range m.handles {
			switch e.verb {
			case "link", "unlink", "rmdir", "rename":
			default:
				hd.dead = hd.dead || hd.id == e.id
			}
			hd.gone = hd.gone || e.makes() && hd.id == e.id
			if d := hd.id; len(e.slots()) > 0 && (d == e.dir || e.verb == "rename" && d == e.dir2) {
				hd.tells = true
			}
		}
	}
}

// settleRefusals takes the refusals of the last step into the model, and has the clients send the rest, telling
// their loss.
func (r *run) settleRefusals(n int, s step, words []string, told bool) error {
	victims := map[int]bool{}
	take := func(words []string) error {
		for _, word := range words {
			client, gone := r.h.refuse(word, n)
			if client < 0 {
				return &failure{n, s.String(), fmt.Sprintf("%q was refused, and nothing of that is pending", word)}
			}
			victims[client] = true
			r.refusals++
			r.dropped += len(gone)
		}
		return nil
	}
	if err := take(words); err != nil {
		return err
	}
	for client := range victims {
		told := told && client == s.client
		for round := 0; ; round++ {
			err := r.clients[client].cache.Sync(r.ctx)
			more := r.w.backend.refused()
			if e := take(more); e != nil {
				return e
			}
			if err == nil && len(more) == 0 {
				break
			}
			if told = told || err != nil; round == 20 {
				return &failure{n, s.String(), fmt.Sprintf("client %d tells of losses again and again: %v", client, err)}
			}
		}
		if !told {
			return &failure{n, s.String(), fmt.Sprintf("client %d tells nobody that something was lost", client)}
		}
		r.h.flush(client, everything)
	}
	return nil
}
