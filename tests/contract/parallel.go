package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// parallel has caching clients work at the same time. Each has a directory and names in a shared one that only it changes, and a
// model of its own that tells exactly what it sees there; and all look at each other's all the time, so that
// tokens are recalled in the middle of everything. Clients die meanwhile.
func parallel(ctx context.Context, seed uint64, steps int, mutant, dir string) (counts, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	w, err := newWorld(dir, "")
	if err != nil {
		return counts{}, err
	}
	defer w.close()
	g := newGenerator(seed, 0)
	var runs []*run
	for i := range 3 {
		p := g.policy()
		st := &story{policies: slices.Repeat([]policy{p}, 3), mutant: mutant}
		r := &run{ctx: ctx, st: st, w: w, h: newHistory(st.policies), clients: make([]*client, 3)}
		r.h.mine = func(l map[string]entry) map[string]entry {
			own := map[string]entry{}
			for path, e := range l {
				for name := range strings.SplitSeq(path, "/") {
					if name[0] == byte('0'+i) || name == fmt.Sprint("o", i) {
						own[path] = e
					}
				}
			}
			return own
		}
		if r.clients[i], err = w.join(ctx, p, mutant); err != nil {
			return counts{}, err
		}
		defer func() { r.clients[i].end() }()
		runs = append(runs, r)
	}
	// What all have in common is there before.
	if err := runs[0].clients[0].do(ctx, step{verb: "mkdir", args: []string{shared, "0777"}}).err; err != nil {
		return counts{}, err
	}
	if err := runs[0].clients[0].do(ctx, step{verb: "sync"}).err; err != nil {
		return counts{}, err
	}
	errs := make([]error, len(runs))
	var working sync.WaitGroup
	for i, r := range runs {
		common := &effect{verb: "make", id: -7, dir: rootID, name: shared, mode: typeDir | 0o777, client: i, replaced: -1}
		r.h.issue(common)
		r.h.arrive(common)
		r.h.fold()
		working.Go(func() {
			if errs[i] = r.alone(i, seed, steps); errs[i] != nil {
				errs[i] = fmt.Errorf("client %d, which did this:\n%s%w", i, r.st, errs[i])
			}
		})
	}
	working.Wait()
	var total counts
	for _, r := range runs {
		total.add(r.counts)
	}
	total.runs, total.cuts = 1, int(w.backend.count.Load())
	return total, errors.Join(errs...)
}

// alone is the work of one of several clients.
func (r *run) alone(i int, seed uint64, steps int) error {
	g := newGenerator(seed*10+uint64(i), steps)
	g.alone, g.client, g.refusing, g.strangers = true, i, false, 0
	if err := r.step(1, step{client: i, verb: "mkdir", args: []string{fmt.Sprint("o", i), "0777"}}); err != nil {
		return err
	}
	for n := 2; ; n++ {
		s, ok := g.next(r.h)
		if !ok {
			break
		}
		if s.verb == "die" && len(s.args) > 0 && s.args[0] == "unheard" {
			s.args = nil // that hook is for one client at a time
		}
		r.st.steps = append(r.st.steps, s)
		if err := r.step(n, s); err != nil {
			return err
		}
		if g.IntN(3) == 0 {
			if err := r.glance(g, i); err != nil {
				return &failure{n, s.String(), err.Error()}
			}
		}
	}
	n := len(r.st.steps) + 2
	if err := r.step(n, step{client: i, verb: "sync"}); err != nil {
		return err
	}
	return r.check(n, step{client: i, verb: "end"})
}

// glance looks at what another client has. What it sees is that one's business; that it is answered, and how, is looked at.
func (r *run) glance(g *generator, i int) error {
	other := (i + 1 + g.IntN(2)) % 3
	path := fmt.Sprint("o", other)
	if g.IntN(2) == 0 {
		path = fmt.Sprint(shared, "/", other, pick(g, "a", "b", "c", "d", "e"))
	} else if g.IntN(2) == 0 {
		path += fmt.Sprint("/", other, pick(g, "a", "b", "c", "d", "e"))
	}
	began := time.Now()
	out := r.clients[i].do(r.ctx, step{client: i, verb: pick(g, "stat", "ls", "cat", "getxattr"), args: []string{path, "user.a"}})
	ids := []int{rootID}
	if strings.HasPrefix(path, shared+"/") {
		ids = append(ids, -7)
	}
	r.h.observe(i, ids...)
	for _, e := range []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENXIO, syscall.ENODATA, syscall.ESTALE} {
		if errors.Is(out.err, e) {
			return nil
		}
	}
	if out.err != nil {
		return fmt.Errorf("a look at %s, after %v: %w", path, time.Since(began), out.err)
	}
	return nil
}
