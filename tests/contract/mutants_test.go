package contract

import (
	"errors"
	"testing"

	"echo9/tests/internal/need"
)

// TestMutants: each mechanism, broken, is noticed by a few made-up stories, and what fails is shortened to a few
// lines.
func TestMutants(t *testing.T) {
	need.Root(t)
	behind := policy{writes: "behind", order: "object"}
	for _, m := range []struct {
		name     string
		policies []policy
		from     uint64 // a story that is soon enough
	}{
		{"skipRecall", []policy{behind, behind}, 1},
		{"ignoreRecall", []policy{behind, behind}, 2},
		{"wrongOrder", []policy{behind, behind}, 108},
		{"ignoreBarrier", []policy{behind, behind}, 98},
		{"keepDependents", []policy{behind, behind}, 1},
		{"nothingBelow", []policy{behind, behind}, 9},
		{"lostCut", []policy{behind, behind}, 1},
		{"tornCut", []policy{behind, behind}, 2},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for n := m.from; n < m.from+400; n++ {
				g := newGenerator(n, 60)
				st := &story{policies: m.policies, mutant: m.name}
				_, err := playIn(t, st, g.next)
				if err == nil || errors.Is(err, errTooMany) {
					continue
				}
				short, why := shorten(t, st)
				t.Logf("noticed in story %d: %v\n%s", n, why, short)
				if len(short.steps) > 12 || why == nil {
					t.Errorf("shortened to %d steps only", len(short.steps))
				}
				return
			}
			t.Error("not noticed")
		})
	}
}
