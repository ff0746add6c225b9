package tokens

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// maxStates bounds one world; a world that has more belongs cut down.
const maxStates = 120_000

// walk explores sc and fails when there is a violation.
func walk(t *testing.T, name string, sc *scenario, most int) explored {
	t.Helper()
	began := time.Now()
	e := explore(sc, most, most > maxStates)
	t.Logf("%-28s %7d states %8d moves  %v", name, e.states, e.edges, time.Since(began).Round(time.Millisecond))
	if e.bad != "" {
		t.Errorf("%s: %s\n%s", name, e.bad, tell(sc, "", e.path))
	}
	return e
}

// TestWorlds visits every state of small worlds, with all rules kept: nothing
// goes wrong in any of them. The number of states has a floor, so that a world that shrinks by mistake is seen.
// The race detector sees no more in a large world than in a small one, and those are walked without it.
func TestWorlds(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	states, moves, floor := 0, 0, 300_000
	all, most, full := worlds, maxStates, os.Getenv("ECHO9_FULL") != ""
	if full {
		all, most = append(slices.Clone(worlds), fullWorlds...), 5_000_000
	}
	for _, r := range rules {
		sc := r.world
		sc.name = r.name
		all = append(all, sc)
	}
	walked, left := map[string]bool{}, 0 // some rules have one world
	for i := range all {
		sc := &all[i]
		if raceEnabled && sc.large || sc.seldom && !full || walked[sc.String()] {
			continue
		}
		walked[sc.String()] = true
		left++
		t.Run(sc.name, func(t *testing.T) {
			left--
			e := walk(t, sc.name, sc, most)
			states, moves = states+e.states, moves+e.edges
		})
	}
	if raceEnabled {
		floor = 60_000
	}
	t.Logf("all worlds: %d states, %d moves", states, moves)
	if states < floor && left == 0 { // or only some were to be walked
		t.Errorf("%d states were visited, the floor is %d", states, floor)
	}
}

// TestRules switches off one rule after the other: the walk finds what goes wrong
// then. With -rewrite the shortest story of each is written to testdata/worlds.
func TestRules(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	for _, r := range rules {
		sc := r.world
		if raceEnabled && (sc.large || sc.seldom) {
			continue
		}
		r.off(&sc)
		e := explore(&sc, maxStates, false)
		if e.path == nil || e.bad == tooMany {
			t.Errorf("%s: without it nothing was found in %d states (%s)", r.name, e.states, e.bad)
			continue
		}
		t.Logf("%-28s %6d states, a story of %2d moves: %s", r.name, e.states, len(e.path), e.bad)
		if *rewrite {
			story := "# The shortest story of what goes wrong without this rule.\n" + tell(&sc, r.name, e.path)
			if strings.HasPrefix(e.bad, "stuck") {
				story += "=> " + e.bad + "\n"
			}
			if err := os.WriteFile(filepath.Join("testdata/worlds", r.name+".txt"), []byte(story), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestWorldStories plays the stories in testdata/worlds. A story has comments (#),
// its world, the rule it is without, and then moves at the margin, what came of them set in, and how it ended:
// stories that the explorer prints can be put there as they are. With its rule off each goes
// as written; with all rules kept the same moves, as far as they are possible, do no harm.
func TestWorldStories(t *testing.T) {
	files, err := filepath.Glob("testdata/worlds/*.txt")
	if err != nil || len(files) < len(rules) {
		t.Fatalf("%d stories, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(string(text), "\n")
			for strings.HasPrefix(lines[0], "#") {
				lines = lines[1:]
			}
			sc, err := parseScenario(lines[0])
			if err != nil {
				t.Fatal(err)
			}
			kept := *sc
			name, without := strings.CutPrefix(lines[1], "without ")
			if lines = lines[1:]; without {
				lines = lines[1:]
				found := false
				for _, r := range rules {
					if r.name == name {
						r.off(sc)
						found = true
					}
				}
				if !found {
					t.Fatalf("no rule %q", name)
				}
				moves, bad, err := retell(sc, lines, false)
				if err != nil {
					t.Fatal(err)
				}
				told, how := tell(sc, name, moves), lines[len(lines)-2]
				if bad == "" && strings.HasPrefix(how, "=> stuck") {
					told += how + "\n"
				}
				if i := strings.Index(string(text), "world "); told != string(text)[i:] {
					t.Errorf("the story goes differently now (TestRules -rewrite writes it anew):\n%s", diff(string(text)[i:], told))
				}
			}
			if _, bad, err := retell(&kept, lines, true); bad != "" || err != nil {
				t.Errorf("with all rules: %s %v", bad, err)
			}
		})
	}
}

// worlds are those in which all rules are kept, beside those of the rules.
var worlds = []scenario{
	{name: "two objects", progs: []string{"w:X, w:X w:Y", "r:X, r:X w:Y"}, returns: 1, behind: true},
	{name: "three clients", progs: []string{"w:X", "r:X w:Y", "w:X w:Y"}},
	{name: "three clients, behind", progs: []string{"w:X", "r:X", "w:X"}, behind: true, returns: 1},
	{name: "three readers upgrade", progs: []string{"w:X", "w:X", "w:X"}, setup: []string{"r:X", "r:X", "r:X"}},
	{name: "breaks twice", progs: []string{"w:X", "r:X"}, breaks: 2, large: true},
	{name: "either breaks", progs: []string{"w:X", "r:X"}, breaks: 1, anybody: true},
	{name: "both lose leases", progs: []string{"w:X", "r:X"}, ends: 2, anybody: true, large: true},
	{name: "pipelined, slow, broken", progs: []string{"w:X, w:Y", "w:X"}, behind: true, pipe: true, slow: true, breaks: 1, large: true},
	{name: "pipelined, lease", progs: []string{"w:X w:Y, w:Y, w:X", "r:X"}, behind: true, pipe: true, slow: true, ends: 1, large: true},
	{name: "records", progs: []string{"w:X w:Y", "w:X"}, record: true, breaks: 1},
	{name: "flushed", progs: []string{"w:X", "w:X w:Y"}, plain: []string{"r:X", "w:X"}, flushes: 2, large: true},
	{name: "names, flushed", progs: []string{"r:D w:D/n", "w:D"}, plain: []string{"r:D w:D/n"}, flushes: 2, large: true},
	{name: "dies", progs: []string{"w:X, w:Y", "w:X w:Y", "r:X"}, behind: true, deaths: 1, large: true},
	{name: "plain", progs: []string{"w:X, w:X", "r:X w:Y"}, plain: []string{"r:X, w:X"}, behind: true},
	{name: "two plain", progs: []string{"w:X, w:Y"}, plain: []string{"r:X, w:X", "w:X w:Y"}, behind: true},
	{name: "plain, broken", progs: []string{"w:X"}, plain: []string{"r:X"}, behind: true, breaks: 1},
	{name: "names", progs: []string{"r:D w:D/n, w:X", "w:D, w:D"}, plain: []string{"w:D r:D/n"}, behind: true, large: true},
	{name: "names, broken", progs: []string{"r:D w:D/n", "w:D"}, breaks: 1, behind: true},
	{name: "two swap a name", progs: []string{"w:D, w:D", "w:D, w:D"}, plain: []string{"r:D w:D/n"}, overtakes: 3, bypass: 1},
	{name: "offers", progs: []string{"r:X r:Y offer, r:X", "w:X, w:Y"}, behind: true},
	{name: "offers, broken", progs: []string{"r:X r:Y offer, r:X", "w:X"}, breaks: 1, large: true},
	{name: "raised", progs: []string{"r:X, w:X w:Y offer, w:X", "r:X, w:X"}, behind: true, returns: 1},
	{name: "raised, broken", progs: []string{"r:X, w:X offer, w:X", "w:X"}, breaks: 1, behind: true, large: true},
	{name: "fetched", progs: []string{"w:X, r:X", "w:X"}, fetch: true, behind: true},
	{name: "stopped", progs: []string{"w:X w:Y, r:X", "w:X"}, stops: 1, behind: true},
	{name: "overdue by chance", progs: []string{"w:X, w:Y", "w:X w:Y"}, slows: 1, ends: 1, large: true},
	{name: "unwilling", progs: []string{"w:X w:Y, r:X", "w:X", "r:Y"}, unwilling: 1, large: true},
	{name: "unwilling for ever", progs: []string{"r:X", "w:X"}, plain: []string{"w:X"}, unwilling: 1, loop: 1, overtakes: 3, bypass: 1},
	{name: "restarted, lease", progs: []string{"w:X w:Y"}, plain: []string{"r:X"}, behind: true, ends: 1, crashes: 1, large: true},
	{name: "restarted, one dies", progs: []string{"w:X", "w:X"}, deaths: 1, crashes: 1, large: true},
	{name: "restarted, returns", progs: []string{"w:X, r:X"}, plain: []string{"w:X"}, returns: 1, crashes: 1, large: true},
	{name: "restarted twice", progs: []string{"w:X"}, plain: []string{"r:X, w:X"}, behind: true, crashes: 2, large: true},
	{name: "restarted, slow cuts", progs: []string{"w:X w:Y, w:X"}, plain: []string{"r:Y"}, behind: true, pipe: true, slow: true, crashes: 1, large: true},
	{name: "restarted, names", progs: []string{"r:D w:D/n"}, plain: []string{"w:D"}, behind: true, crashes: 1, large: true},
	{name: "overtaken", progs: []string{"r:Y", "w:X w:Y"}, plain: []string{"w:X, w:X, w:X", "w:Y, w:Y"}, overtakes: 3, bypass: 1, setup: []string{"w:Y"}, large: true},
}

// fullWorlds are too large for every day.
var fullWorlds = []scenario{
	{name: "restarted", progs: []string{"w:X, w:Y", "r:X"}, behind: true, crashes: 1},
	{name: "restarted, stopped", progs: []string{"w:X", ""}, plain: []string{"w:X"}, stops: 1, crashes: 1},
	{name: "restarted, overdue", progs: []string{"w:X, w:X"}, plain: []string{"w:X"}, behind: true, slows: 1, ends: 1, crashes: 1},
	{name: "restarted, breaks", progs: []string{"w:X, r:Y", "w:X"}, behind: true, breaks: 1, crashes: 1},
	{name: "restarted, lease, two", progs: []string{"w:X", "w:X"}, behind: true, ends: 1, crashes: 1},
	{name: "restarted twice, two", progs: []string{"w:X", "r:X"}, crashes: 2},
	{name: "restarted twice, stopped", progs: []string{"w:X", ""}, plain: []string{"r:X"}, anybody: true, stops: 1, crashes: 2},
	{name: "restarted twice, dead", progs: []string{"w:X", ""}, plain: []string{"r:X"}, anybody: true, deaths: 1, crashes: 2},
	{name: "restarted, stopped, dead", progs: []string{"w:X", ""}, plain: []string{"r:X"}, anybody: true, stops: 1, deaths: 1, crashes: 1},
	{name: "restarted thrice", progs: []string{"w:X, r:X"}, plain: []string{"r:X, w:X"}, crashes: 3},
}
