package tokens

import (
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// uniform draws all numbers equally often: what rapid draws are mostly small ones, and short stories.
func uniform(seed uint64) draws {
	g := rand.New(rand.NewPCG(seed, 9))
	return func(most int) int { return g.IntN(most + 1) }
}

// firstSeed begins everyday's random runs, the same each day; full ones go on with others each time.
func firstSeed() uint64 {
	if os.Getenv("ECHO9_FULL") != "" {
		return rand.Uint64() >> 1
	}
	return 1
}

// TestLongRandomRuns plays what TestRandomRuns plays, at length.
func TestLongRandomRuns(t *testing.T) {
	runs, first := uint64(2000), firstSeed()
	switch {
	case raceEnabled: // it sees no more in many than in some
		runs = 200
	case os.Getenv("ECHO9_FULL") != "":
		runs = 60_000
	}
	moves, restarts := 0, 0
	for seed := first; seed < first+runs; seed++ {
		n := uniform(seed)
		sc := drawScenario(n)
		path, bad := randomRun(n, sc)
		if bad != "" {
			t.Fatalf("seed %d: %s\n%s", seed, bad, tell(sc, "", path))
		}
		moves += len(path)
		for _, v := range path {
			if v.kind == mvCrash {
				restarts++
			}
		}
	}
	t.Logf("%d runs, %d moves, %d restarts", runs, moves, restarts)
	if restarts < int(runs)/2 {
		t.Errorf("%d restarts in %d runs", restarts, runs)
	}
}

// beyond draws a world that is somewhat larger than small: its clients do more, and a connection may break besides.
func beyond(small *scenario, n draws) *scenario {
	sc := *small
	more := drawScenario(n)
	for _, ps := range [...]struct {
		of   *[]string
		from []string
	}{{&sc.progs, more.progs}, {&sc.plain, more.plain}} {
		all := slices.Clone(*ps.of)
		for i := range all {
			ops := strings.Split(ps.from[i%len(ps.from)], ", ")
			all[i] = strings.Join(append([]string{all[i]}, ops[:n(min(2, len(ops)))]...), ", ")
		}
		*ps.of = all
	}
	sc.behind, sc.slow, sc.slowly, sc.anybody = more.behind, more.slow, sc.slowly || more.slowly, more.slow
	sc.breaks += n(1)
	return &sc
}

// TestRandomRunsFindRules: what goes wrong after a restart without one of its rules is found by random runs: in worlds that
// are somewhat larger than the rule's own, and in any in which as many restarts and leases end at least.
func TestRandomRunsFindRules(t *testing.T) {
	for _, r := range rules {
		if r.world.crashes == 0 {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			const most = 100_000
			play := func(seed uint64, off bool) (*scenario, []move, string) {
				n := uniform(seed)
				sc := beyond(&r.world, n)
				if seed%2 == 0 {
					sc = drawScenario(n)
					sc.crashes, sc.ends, sc.slowly = max(sc.crashes, r.world.crashes), max(sc.ends, r.world.ends), sc.slowly || r.world.slowly
				}
				if off {
					r.off(sc)
				}
				path, bad := randomRun(n, sc)
				return sc, path, bad
			}
			for seed := finds[r.name]; seed < finds[r.name]+most; seed++ {
				_, path, bad := play(seed, true)
				if bad == "" {
					continue
				}
				t.Logf("found in run %d, after %d moves: %s", seed, len(path), bad)
				if sc, path, bad := play(seed, false); bad != "" {
					t.Errorf("with all rules, too: %s\n%s", bad, tell(sc, "", path))
				}
				return
			}
			t.Errorf("not found in %d runs", most)
		})
	}
}

// finds are runs that find what goes wrong without a rule. When the draws change the search goes on from there.
var finds = map[string]uint64{
	"13-short-grace": 336, "16-recorded": 18, "16-record-first": 23374, "20-serve-unreclaimed": 20, "21-await-all": 756, "21-only-reclaims": 214,
	"22-done-recorded": 11, "23-reclaim-less": 2419, "25-forgotten-first": 4347,
}
