package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
)

func TestMain(m *testing.M) { echo9bin.Main(m) }

// small is a config with little to do.
func small(t *testing.T) (context.Context, config) {
	t.Helper()
	need.Tools(t, "vi", "git", "tar", "go")
	need.Path(t, "/dev/fuse", "mounting")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	dir := t.TempDir()
	c := config{Saves: 2, Commits: 1, Mails: 6, Tree: "encoding/json", dir: dir, echo9: echo9bin.Echo9(t), say: t.Logf}
	if err := c.prepare(ctx, dir); err != nil {
		t.Fatal(err)
	}
	return ctx, c
}

func policyNamed(name string) policy { return policies[at(name)] }

// ordered says what is wrong with the messages of a work under sync, close and behind.
func ordered(each, onClose, behind cost) error {
	if !(each.Messages >= onClose.Messages && onClose.Messages >= behind.Messages) {
		return fmt.Errorf("%d messages under sync, %d under close, %d behind", each.Messages, onClose.Messages, behind.Messages)
	}
	return nil
}

// Each work takes the less messages the later things are sent.
func TestMessagesFollowThePolicy(t *testing.T) {
	ctx, c := small(t)
	for _, w := range works {
		t.Run(w.name, func(t *testing.T) {
			costs := map[string]cost{}
			for _, name := range []string{"sync", "close", "object"} {
				k, err := measureWork(ctx, c, w, policyNamed(name), 0)
				if err != nil {
					t.Fatal(err)
				}
				costs[name] = k
				t.Logf("%s: %+v", name, k)
			}
			each, onClose, behind := costs["sync"], costs["close"], costs["object"]
			if err := ordered(each, onClose, behind); err != nil {
				t.Error(err)
			}
			if err := ordered(behind, onClose, each); err == nil {
				t.Errorf("with the flags exchanged nothing would be noticed: %+v, %+v", each, behind)
			}
			if each.Cuts < each.Updates {
				t.Errorf("under sync %d updates went in %d cuts", each.Updates, each.Cuts)
			}
			if behind.Records >= each.Records {
				t.Errorf("the net effect has %d records, and what is sent one by one %d", behind.Records, each.Records)
			}
		})
	}
}

// flat says what is wrong with flushes that are to be the same for all k.
func flat(fs []flush) error {
	for _, f := range fs {
		if f.Updates != fs[0].Updates {
			return fmt.Errorf("a look flushes %d updates at first, and then %d", fs[0].Updates, f.Updates)
		}
	}
	return nil
}

// A look at one file flushes what comes before it, and not what is unsent besides.
func TestRecallFlushesWhatComesBefore(t *testing.T) {
	ctx, c := small(t)
	c.K = []int{10, 30, 90}
	measured := func(place int, name string) []flush {
		t.Helper()
		fs, err := measureSweep(ctx, c, places[place], policyNamed(name), c.K)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range fs {
			if f.Updates == 0 || f.Pending < c.K[i] {
				t.Fatalf("%s, %s, k = %d: %d updates were pending, of which %d were flushed", places[place].name, name, c.K[i], f.Pending, f.Updates)
			}
		}
		return fs
	}
	other, same, old := 0, 1, 2
	for _, place := range []int{other, old} {
		if err := flat(measured(place, "object")); err != nil {
			t.Errorf("%s, object: %v", places[place].name, err)
		}
	}
	// What a log flushes, and what one directory does, would be noticed.
	for _, fs := range [][]flush{measured(other, "total"), measured(same, "object")} {
		if flat(fs) == nil {
			t.Errorf("the flushes do not grow: %+v", fs)
		}
		for i, f := range fs {
			if f.Updates <= c.K[i] {
				t.Errorf("k = %d: only %d updates are flushed", c.K[i], f.Updates)
			}
		}
	}
}

// The page and the plots are what this program makes of the numbers, and the numbers are of all that it measures.
func TestDocsAreGenerated(t *testing.T) {
	const docs = "../../docs"
	r, err := load(docs)
	if err != nil {
		t.Fatal(err)
	}
	files, err := r.files()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		have, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(have, text) {
			t.Errorf("docs/%s is not what go run ./tests/compare -render -docs docs makes", name)
		}
	}
	page := string(files["comparison.md"])
	for _, w := range works {
		if !strings.Contains(page, "\n### "+title(w.name)+"\n") {
			t.Errorf("the page has no table for %s", w.name)
		}
	}
	r.Works[0].Rows = r.Works[0].Rows[1:]
	if r.check() == nil {
		t.Error("a row that is missing is not noticed")
	}
}
