package tokens

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// A scenario as the first line of a story, the fields by their names:
//
//	world progs=[w:X, w:X w:Y | r:X] plain=[r:X] breaks=1 behind
//
// and, on the next line, the rule that is switched off: "without 01-generations".

func (sc *scenario) String() string {
	var b strings.Builder
	b.WriteString("world")
	v := reflect.ValueOf(*sc)
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if f.IsZero() || name == "name" || name == "large" || name == "seldom" {
			continue
		}
		switch f.Kind() {
		case reflect.Slice:
			var all []string
			for k := range f.Len() {
				all = append(all, f.Index(k).String())
			}
			fmt.Fprintf(&b, " %s=[%s]", name, strings.Join(all, " | "))
		case reflect.Int:
			fmt.Fprintf(&b, " %s=%d", name, f.Int())
		case reflect.Bool:
			fmt.Fprintf(&b, " %s", name)
		}
	}
	return b.String()
}

func parseScenario(line string) (*scenario, error) {
	sc := &scenario{}
	lists := map[string]*[]string{"progs": &sc.progs, "plain": &sc.plain, "setup": &sc.setup}
	nums := map[string]*int{
		"bypass": &sc.bypass, "returns": &sc.returns, "renews": &sc.renews, "unwilling": &sc.unwilling,
		"loop": &sc.loop, "overtakes": &sc.overtakes, "breaks": &sc.breaks, "stops": &sc.stops,
		"ends": &sc.ends, "crashes": &sc.crashes, "deaths": &sc.deaths, "slows": &sc.slows, "flushes": &sc.flushes,
	}
	flags := map[string]*bool{
		"record": &sc.record, "slowly": &sc.slowly, "fetch": &sc.fetch, "slow": &sc.slow, "behind": &sc.behind, "pipe": &sc.pipe, "anybody": &sc.anybody,
	}
	rest, ok := strings.CutPrefix(line, "world ")
	if !ok {
		return nil, fmt.Errorf("a story begins with its world, not with %q", line)
	}
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		end := strings.IndexAny(rest, " =")
		if end < 0 {
			end = len(rest)
		}
		key := rest[:end]
		rest = rest[end:]
		switch {
		case flags[key] != nil:
			*flags[key] = true
		case nums[key] != nil && strings.HasPrefix(rest, "="):
			val, more, _ := strings.Cut(rest[1:], " ")
			n, err := strconv.Atoi(val)
			if err != nil {
				return nil, err
			}
			*nums[key], rest = n, more
		case lists[key] != nil && strings.HasPrefix(rest, "=["):
			val, more, ok := strings.Cut(rest[2:], "]")
			if !ok {
				return nil, fmt.Errorf("%s has no end", key)
			}
			for _, s := range strings.Split(val, "|") {
				*lists[key] = append(*lists[key], strings.TrimSpace(s))
			}
			rest = more
		default:
			return nil, fmt.Errorf("what is %q?", key)
		}
	}
	return sc, nil
}

// tell plays moves in sc's world and writes down what happens: as a story that can be kept in testdata/worlds.
func tell(sc *scenario, without string, moves []move) string {
	w := newWorld(sc)
	w.talk = true
	var b strings.Builder
	fmt.Fprintln(&b, sc)
	if without != "" {
		fmt.Fprintln(&b, "without", without)
	}
	for _, v := range moves {
		w.note = nil
		bad := w.try(v)
		fmt.Fprintln(&b, v)
		for _, n := range w.note {
			fmt.Fprintln(&b, "  "+n)
		}
		if bad != "" {
			fmt.Fprintln(&b, "=> "+bad)
			break
		}
	}
	return b.String()
}

// retell plays the moves of a story's lines. Moves that are not possible are left
// out if lenient, else an error.
func retell(sc *scenario, lines []string, lenient bool) (moves []move, bad string, err error) {
	w := newWorld(sc)
	for _, line := range lines {
		if line == "" || strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "=>") || strings.HasPrefix(line, "#") {
			continue
		}
		found := false
		for _, v := range w.moves(nil) {
			if v.String() == line {
				if bad = w.try(v); bad != "" {
					return append(moves, v), bad, nil
				}
				moves, found = append(moves, v), true
				break
			}
		}
		if !found && !lenient {
			return moves, "", fmt.Errorf("%q cannot happen here", line)
		}
	}
	return moves, "", nil
}
