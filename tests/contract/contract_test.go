package contract

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"echo9/tests/internal/need"
)

var (
	forTime = flag.Duration("for", 0, "go on with new seeds for so long")
	seed    = flag.Uint64("seed", 1, "the first seed")
	steps   = flag.Int("steps", 60, "steps of a story")
	keep    = flag.Int("keep", 1, "how many failing stories to keep")
)

// playIn plays a story in a directory of its own.
func playIn(t testing.TB, st *story, next func(*history) (step, bool)) (counts, error) {
	dir, remove, err := scratch("")
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	return play(context.WithoutCancel(t.Context()), st, dir, next)
}

// failed says whether a story fails. What depends on who is quicker is tried a few times.
func failed(t testing.TB, st *story, tries int) error {
	for range tries {
		if _, err := playIn(t, st, nil); err != nil && !errors.Is(err, errTooMany) {
			return err
		}
	}
	return nil
}

// shorten gives a short story that fails as st does, and how it fails.
func shorten(t testing.TB, st *story) (*story, error) {
	tries := 1
	for _, p := range st.policies {
		if p.eager {
			tries = 4
		}
	}
	st = reduce(st, func(s *story) bool { return failed(t, s, tries) != nil })
	return st, failed(t, st, 20)
}

// TestStories plays the stories that are kept: each is of a bug that was.
func TestStories(t *testing.T) {
	need.Root(t)
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no stories: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			st, err := parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := playIn(t, st, nil); err != nil {
				t.Errorf("%v\n%s", err, st)
			}
		})
	}
}

// TestGenerated plays made-up stories.
func TestGenerated(t *testing.T) {
	need.Root(t)
	var total counts
	limit, runs := *forTime, 80
	if need.Full() {
		runs = 3000
	}
	end := time.Now().Add(limit)
	kept := 0
	for n := uint64(0); limit > 0 && time.Now().Before(end) || limit == 0 && n < uint64(runs); n++ {
		g := newGenerator(*seed+n, *steps)
		st := &story{policies: g.policies()}
		c, err := playIn(t, st, g.next)
		total.add(c)
		if err == nil || errors.Is(err, errTooMany) {
			continue
		}
		t.Errorf("seed %d: %v", *seed+n, err)
		short, why := shorten(t, st)
		if why == nil {
			short, why = st, fmt.Errorf("(does not always fail) %w", err)
		}
		short.comment = []string{fmt.Sprintf("seed %d: %v", *seed+n, why)}
		t.Logf("shortened and kept as %s:\n%s", keepFailure(t, *seed+n, short), short)
		if kept++; kept == *keep {
			break
		}
	}
	t.Log(total)
}

// keepFailure writes a failing story to testdata/failures.
func keepFailure(t testing.TB, seed uint64, st *story) string {
	name := filepath.Join("testdata/failures", fmt.Sprintf("seed%d.txt", seed))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(st.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}
