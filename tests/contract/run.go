package contract

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// counts say how much was done.
type counts struct {
	runs, steps, updates, failures  int // steps with an error that was to be
	deaths, lost, refusals, dropped int
	checks, ideals                  int
	cuts                            int
}

func (c *counts) add(d counts) {
	c.runs += d.runs
	c.steps += d.steps
	c.updates += d.updates
	c.failures += d.failures
	c.deaths += d.deaths
	c.lost += d.lost
	c.refusals += d.refusals
	c.dropped += d.dropped
	c.checks += d.checks
	c.ideals += d.ideals
	c.cuts += d.cuts
}

func (c counts) String() string {
	return fmt.Sprintf("%d runs, %d steps (%d updates, %d refused by the rules), %d cuts, %d deaths with %d updates lost, %d refusals with %d, %d looks at the host among %d ideals",
		c.runs, c.steps, c.updates, c.failures, c.cuts, c.deaths, c.lost, c.refusals, c.dropped, c.checks, c.ideals)
}

// failure is a step that the contract does not explain.
type failure struct {
	at   int // number of the step; one more than there are: the end
	step string
	why  string
}

func (f *failure) Error() string { return fmt.Sprintf("step %d, %s: %s", f.at, f.step, f.why) }

// errTooMany: a death left more states possible than are looked at. That is no failure.
var errTooMany = errors.New("too much was pending")

// mutants of the client; others are the server's.
var clientMutants = []string{"skipRecall", "ignoreRecall", "wrongOrder", "ignoreBarrier", "keepDependents", "nothingBelow"}

// run is a story being played.
type run struct {
	ctx     context.Context
	st      *story
	w       *world
	h       *history
	clients []*client
	counts
}

// play plays a story in an empty directory. next, when not nil, gives its steps, which are noted in it.
func play(ctx context.Context, st *story, dir string, next func(h *history) (step, bool)) (counts, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	server, mutant := st.mutant, ""
	if slices.Contains(clientMutants, st.mutant) {
		server, mutant = "", st.mutant
	}
	w, err := newWorld(dir, server)
	if err != nil {
		return counts{}, err
	}
	defer w.close()
	r := &run{ctx: ctx, st: st, w: w, h: newHistory(st.policies)}
	r.runs = 1
	for _, p := range st.policies {
		c, err := w.join(ctx, p, mutant)
		if err != nil {
			return r.counts, err
		}
		r.clients = append(r.clients, c)
	}
	defer func() {
		for _, c := range r.clients {
			c.end()
		}
	}()
	for n := 1; ; n++ {
		if next != nil {
			s, ok := next(r.h)
			if !ok {
				break
			}
			st.steps = append(st.steps, s)
		} else if n > len(st.steps) {
			break
		}
		s := st.steps[n-1]
		if err := r.step(n, s); err != nil {
			return r.counts, err
		}
	}
	err = r.end()
	r.cuts = int(w.backend.count.Load())
	return r.counts, err
}

// step plays one step.
func (r *run) step(n int, s step) error {
	r.steps++
	fail := func(format string, args ...any) error {
		return &failure{n, s.String(), fmt.Sprintf(format, args...)}
	}
	switch s.verb {
	case "die":
		return r.die(n, s)
	case "check":
		return r.check(n, s)
	}
	c := r.clients[s.client]
	if handleVerbs[s.verb] != nil && r.h.members[s.client].handles[s.args[0]] == nil {
		return nil
	}
	out := c.do(r.ctx, s)
	if r.ctx.Err() != nil {
		return fail("nothing happened for %v", patience)
	}
	words := r.w.backend.refused()
	early, late := r.sort(s, words)
	own := len(late) > 0
	if len(early) > 0 {
		// It was refused before the step could be done, or the step does nothing but send.
		own = own || slices.ContainsFunc(early, func(word string) bool { return r.h.member(word) == s.client })
		if err := r.settleRefusals(n, s, early, own && out.err != nil); err != nil {
			return err
		}
	}
	s.eio = errors.Is(out.err, syscall.EIO)
	before := r.h.issued
	want := r.h.do(n, s)
	r.updates += r.h.issued - before
	switch {
	case own && s.verb == "sync" && out.err == nil:
		return fail("something was refused, and it does not tell")
	case len(late) > 0:
		// The step changed something and had the client send it.
		if err := r.settleRefusals(n, s, late, out.err != nil); err != nil {
			return err
		}
	}
	if len(words) > 0 {
		if err := r.check(n, s); err != nil || own {
			return err
		}
	}
	var e syscall.Errno
	if out.err != nil && errors.As(out.err, &e) && slices.Contains(want.or, e) {
		return nil
	}
	if len(want.errs) > 0 {
		r.failures++
		if !errors.As(out.err, &e) || !slices.Contains(want.errs, e) {
			return fail("the answer is %v; want %s", out, names(want.errs))
		}
		return nil
	}
	if out.err != nil {
		return fail("the answer is %v; want success, %q", out, want.value)
	}
	if out.value != want.value && !(s.verb == "ls" && sameNames(out.value, want.value)) {
		return fail("the answer is %q; want %q", out.value, want.value)
	}
	if want.stat >= 0 && out.attr != nil {
		if why := r.h.showed(want.stat, out.attr.QID.Path, out.attr.Mtime, out.attr.Ctime); why != "" {
			return fail("%s", why)
		}
	}
	return r.hold(n, s)
}

// hold looks at the host after the rename of a directory: what was pending below it is told from what was not.
func (r *run) hold(n int, s step) error {
	if len(r.h.log) == 0 {
		return nil
	}
	e := r.h.log[len(r.h.log)-1]
	if e.step != n || len(e.below) == 0 {
		return nil
	}
	have, err := r.look()
	if err != nil {
		return err
	}
	if _, err := r.explained(n, s, have); err != nil && !errors.Is(err, errTooMany) {
		return err
	}
	r.h.hold(e, have)
	return nil
}

// sends says whether a step may send what is pending, and has no effect of its own.
func (s step) sends() bool {
	switch s.verb {
	case "sync", "drop", "fsync", "hfsync", "close":
		return true
	}
	return false
}

// sort tells what was refused before a step was done from what the step itself issued or had its client send.
func (r *run) sort(s step, words []string) (early, late []string) {
	for _, word := range words {
		if m := r.h.member(word); m >= 0 && (m != s.client || s.sends()) {
			early = append(early, word)
		} else {
			late = append(late, word)
		}
	}
	return early, late
}

func names(errs faults) string {
	var list []string
	for _, e := range errs {
		list = append(list, unix.ErrnoName(e))
	}
	return strings.Join(list, " or ")
}

// sameNames compares listings. They need not tell the type of what is neither directory nor symlink.
func sameNames(got, want string) bool {
	g, w := strings.Fields(got), strings.Fields(want)
	return slices.EqualFunc(g, w, func(g, w string) bool {
		if g == w {
			return true
		}
		name, typ, _ := strings.Cut(w, ":")
		return g == name+":0" && typ != "4" && typ != "12"
	})
}

// check looks at the host: it must have what is known to be there and an ideal of the rest.
func (r *run) check(n int, s step) error {
	_, err := r.settle(n, s)
	if errors.Is(err, errTooMany) {
		return nil
	}
	return err
}

func (r *run) settle(n int, s step) (map[*effect]bool, error) {
	have, err := r.look()
	if err != nil {
		return nil, err
	}
	return r.explained(n, s, have)
}

// look is what the host has now, as far as the history is of it.
func (r *run) look() (map[string]entry, error) {
	have, err := r.w.host()
	if err != nil {
		return nil, fmt.Errorf("looking at the host: %w", err)
	}
	r.checks++
	if r.h.mine != nil {
		have = r.h.mine(have)
	}
	return have, nil
}

// explained gives what is there if the host has that.
func (r *run) explained(n int, s step, have map[string]entry) (map[*effect]bool, error) {
	there, tried, why := r.h.settle(have)
	r.ideals += tried
	switch {
	case there != nil:
		return there, nil
	case tried > maxIdeals:
		return nil, errTooMany
	}
	var pending strings.Builder
	for _, e := range r.h.pending() {
		fmt.Fprintf(&pending, " %d", e.step)
	}
	return nil, &failure{n, s.String(), fmt.Sprintf("the host has what none of %d ideals of the steps%s explains; the nearest differs:\n%s", tried, pending.String(), why)}
}

// die kills a client, and goes on with a new one in its place.
func (r *run) die(n int, s step) error {
	r.deaths++
	c := r.clients[s.client]
	how := append(s.args, "")[0]
	if c.cache != nil {
		switch how {
		case "unsent": // when it is about to send a cut
			c.dying.Store(true)
			_ = c.cache.Sync(r.ctx)
		case "unheard": // when a cut is applied and the answer on its way
			cut := func(uint64) { c.nc.Close() }
			r.w.backend.applied.Store(&cut)
			_ = c.cache.Sync(r.ctx)
			r.w.backend.applied.Store(nil)
		}
	}
	if err := c.kill(r.ctx); err != nil {
		return &failure{n, s.String(), err.Error()}
	}
	for _, word := range r.w.backend.refused() { // while it was dying
		if _, gone := r.h.refuse(word, n); len(gone) > 0 {
			r.refusals++
			r.dropped += len(gone)
		}
	}
	there, err := r.settle(n, s)
	if err != nil {
		return err
	}
	if err := r.unsee(n, s.client); err != nil {
		return err
	}
	r.lost += r.h.die(s.client, there)
	mutant := ""
	if slices.Contains(clientMutants, r.st.mutant) {
		mutant = r.st.mutant
	}
	r.clients[s.client], err = r.w.join(r.ctx, c.policy, mutant)
	return err
}

// unsee closes the files of others that have no name, and that a client which died may have changed: nobody can
// say what they contain.
func (r *run) unsee(n, dead int) error {
	for _, e := range r.h.pending() {
		if i := r.h.now[e.id]; e.client != dead || i == nil || i.nlink > 0 {
			continue
		}
		for other, m := range r.h.members {
			for name, hd := range m.handles {
				if other != dead && hd.id == e.id {
					if err := r.step(n, step{client: other, verb: "close", args: []string{name}}); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// end has all clients send what they have; then the host has exactly that.
func (r *run) end() error {
	n := len(r.st.steps) + 1
	for i := range r.clients {
		if err := r.step(n, step{client: i, verb: "sync"}); err != nil {
			return err
		}
	}
	for i, c := range r.clients {
		if c.cache == nil {
			continue
		}
		if st := c.cache.Status(); st.Error != "" || st.Lost > 0 && r.refusals == 0 {
			return &failure{n, "end", fmt.Sprintf("client %d has lost %d updates: %v %s", i, st.Lost, st.Events, st.Error)}
		}
	}
	return r.check(n, step{verb: "end"})
}

// end ends a client in whatever state.
func (c *client) end() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = c.leave(ctx)
	c.nc.Close()
}

// scratch gives a fresh directory and what removes it.
func scratch(parent string) (string, func(), error) {
	dir, err := os.MkdirTemp(parent, "contract")
	return dir, func() { os.RemoveAll(dir) }, err
}
