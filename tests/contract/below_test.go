package contract

import (
	"context"
	"slices"
	"testing"

	"echo9/tests/internal/need"
)

// TestBelow: what is done to a file comes after the rename of a directory above it if something was pending on the file then, and only if so;
// and what was pending is known whatever else made the client send it.
func TestBelow(t *testing.T) {
	need.Root(t)
	plan := []step{
		{verb: "mkdir", args: []string{"d", "0755"}},
		{verb: "create", args: []string{"d/f", "0644", "h"}},
		{verb: "sync"},
		{verb: "write", args: []string{"h", "0", "aA*3"}},
		{}, // something that may send that
		{verb: "rename", args: []string{"d", "e"}},
		{verb: "write", args: []string{"h", "3", "bB*3"}},
		{verb: "hfsync", args: []string{"h"}},
		{verb: "check"},
	}
	behind := policy{writes: "behind", order: "object"}
	for _, c := range []struct {
		name string
		// between is done before the rename, by the first client as the model knows, or by another one, which it does not know of.
		between step
		after   bool // the second write comes after the rename
	}{
		{"pending", step{verb: "hstat", args: []string{"h"}}, true},
		{"fsynced", step{verb: "hfsync", args: []string{"h"}}, false},
		{"looked at by somebody else", step{client: 1, verb: "cat", args: []string{"d/f"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps := slices.Clone(plan)
			steps[4] = c.between
			play := func(mutant string) (*run, error) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				w, err := newWorld(t.TempDir(), "")
				if err != nil {
					t.Fatal(err)
				}
				defer w.close()
				st := &story{policies: []policy{behind, behind}}
				r := &run{ctx: ctx, st: st, w: w, h: newHistory(st.policies)}
				for range st.policies {
					m, err := w.join(ctx, behind, mutant)
					if err != nil {
						t.Fatal(err)
					}
					defer m.end()
					r.clients = append(r.clients, m)
				}
				for n, s := range steps {
					if s.client != 0 {
						if out := r.clients[s.client].do(ctx, s); out.err != nil {
							t.Fatal(out)
						}
						continue
					}
					if err := r.step(n+1, s); err != nil {
						return r, err
					}
				}
				return r, nil
			}
			r, err := play("")
			if err != nil {
				t.Fatal(err)
			}
			e, d := r.h.base[rootID].names["e"], r.h.base[rootID].names["d"]
			if known := e != 0 && d == 0; known != c.after {
				t.Errorf("that the directory was renamed is known: %v; want %v", known, c.after)
			}
			if _, err := play("nothingBelow"); (err != nil) != c.after {
				t.Errorf("of a rename that comes after nothing below: %v", err)
			}
		})
	}
}
