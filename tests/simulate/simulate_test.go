package simulate

import (
	"flag"
	"testing"
	"time"

	"echo9/tests/internal/need"
)

var (
	worlds = flag.Int("worlds", 4000, "how many worlds")
	first  = flag.Uint64("first", 1, "the first one's seed")
)

// size is what worlds of a seed are like: most are small.
func size(seed uint64) Config {
	switch {
	case seed%50 == 0:
		return Config{Clients: 4, Steps: 4000, Faults: true}
	case seed%10 == 0:
		return Config{Clients: 3, Steps: 1500, Faults: true}
	}
	return Config{Clients: 2 + int(seed%2), Steps: 500, Faults: true}
}

// Thousands of worlds, in which all that was promised holds.
func TestWorlds(t *testing.T) {
	n := *worlds
	if need.Full() {
		n *= 50
	}
	var all Counts
	begun := time.Now()
	for seed := *first; seed < *first+uint64(n); seed++ {
		c, err := Run(size(seed), seed)
		if err != nil {
			t.Fatal(err)
		}
		all.add(c)
	}
	if all.Updates == 0 || all.Lost == 0 || all.Crashes == 0 || all.Kills == 0 || all.Edits == 0 {
		t.Errorf("the worlds are too quiet: %+v", all)
	}
	t.Logf("%d worlds, %.0f a second: %+v", n, float64(n)/time.Since(begun).Seconds(), all)
}

func (a *Counts) add(b Counts) {
	a.Steps, a.Updates, a.Reads, a.Lost, a.Unknown = a.Steps+b.Steps, a.Updates+b.Updates, a.Reads+b.Reads, a.Lost+b.Lost, a.Unknown+b.Unknown
	a.Breaks, a.Stops, a.Kills, a.Crashes, a.Edits, a.End = a.Breaks+b.Breaks, a.Stops+b.Stops, a.Kills+b.Kills, a.Crashes+b.Crashes, a.Edits+b.Edits, max(a.End, b.End)
}

// Each broken mechanism is found.
func TestMutants(t *testing.T) {
	for _, m := range Mutants() {
		t.Run(m, func(t *testing.T) {
			t.Parallel()
			const most = 20000
			for seed := uint64(1); seed <= most; seed++ {
				cfg := size(seed)
				cfg.Broken = m
				if _, err := Run(cfg, seed); err != nil {
					t.Logf("found in world %d: %.200s", seed, err)
					return
				}
			}
			t.Errorf("not found in %d worlds", most)
		})
	}
}
