// Command summary reads the output of `go test -json` and prints what a person
// wants of it: each package as it ends, all output of what failed, and in the
// end counts, the names of what was skipped, and what took longest.
//
//	go test -json ./... | summary [-what NAME] [-again] [-totals FILE]
//
// It exits with 1 if a test or a package failed; with CI=true also if a test
// was skipped. With -totals it adds its counts to a file; -print prints what
// the file has, as the last word on several runs.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// event is a line of `go test -json`.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of build output
	Elapsed                       float64
	FailedBuild                   string
}

// totals are what several runs came to.
type totals struct {
	Passed, Failed   int
	Skipped, Failing []string
	// Names are the tests that passed, without the name of the run.
	Names map[string]bool
	// Slow are the tests that took longest, the longest first.
	Slow []slow
}

type slow struct {
	Name    string
	Seconds float64
}

// slowest is how many of them are named.
const slowest = 10

// took notes how long tests took.
func (t *totals) took(s ...slow) {
	t.Slow = append(t.Slow, s...)
	slices.SortStableFunc(t.Slow, func(a, b slow) int { return cmp.Compare(b.Seconds, a.Seconds) })
	t.Slow = t.Slow[:min(len(t.Slow), slowest)]
}

func main() {
	file := flag.String("totals", "", "add the counts to this `FILE`")
	what := flag.String("what", "", "what this run is, for the names of its tests")
	again := flag.Bool("again", false, "these tests ran before, elsewhere: a skip counts only if the test did not pass then")
	print := flag.Bool("print", false, "read nothing; print what -totals has, and exit accordingly")
	flag.Parse()
	all, err := load(*file)
	if err != nil {
		fail(err)
	}
	if *print {
		os.Exit(all.print())
	}
	run, err := read(*what)
	if *again {
		run.Skipped = slices.DeleteFunc(run.Skipped, func(s string) bool {
			name, _, _ := strings.Cut(strings.TrimPrefix(s, *what+" "), ": ")
			return all.Names[name]
		})
	}
	if err != nil {
		fail(err)
	}
	all.Passed += run.Passed
	all.Failed += run.Failed
	all.Skipped = append(all.Skipped, run.Skipped...)
	all.Failing = append(all.Failing, run.Failing...)
	all.took(run.Slow...)
	if all.Names == nil {
		all.Names = make(map[string]bool)
	}
	maps.Copy(all.Names, run.Names)
	if *file == "" {
		os.Exit(run.print())
	}
	text, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(*file, text, 0o644)
	}
	if err != nil {
		fail(err)
	}
	if run.Failed > 0 {
		os.Exit(1)
	}
}

func load(file string) (totals, error) {
	var t totals
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	return t, err
}

// read goes through the events of one run. Only tests without subtests count,
// so that nothing counts twice.
func read(what string) (totals, error) {
	t := totals{Names: make(map[string]bool)}
	output := make(map[string][]string) // of tests that are not over
	parents := make(map[string]bool)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		if i := strings.LastIndexByte(e.Test, '/'); i >= 0 {
			parents[e.Package+" "+e.Test[:i]] = true
		}
		name := strings.TrimSpace(what + " " + strings.TrimSpace(key))
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "output":
			output[key] = append(output[key], e.Output)
		case "pass", "skip", "fail":
			if e.Action == "pass" && e.Test != "" {
				t.Names[key] = true
			}
			if e.Elapsed >= 1 && e.Test != "" && !strings.Contains(e.Test, "/") {
				t.took(slow{name, e.Elapsed})
			}
			t.end(e, name, output[key], parents[key])
			delete(output, key)
		}
	}
	return t, lines.Err()
}

func (t *totals) end(e event, name string, output []string, isParent bool) {
	if e.Test == "" {
		word := map[string]string{"pass": "ok  ", "skip": "none", "fail": "FAIL"}[e.Action]
		fmt.Printf("%s %-60s %.1fs\n", word, name, e.Elapsed)
		if e.Action == "fail" {
			// A package can fail without a test: a panic, a timeout, a build.
			fmt.Print(strings.Join(output, ""))
			if !slices.ContainsFunc(t.Failing, func(s string) bool { return strings.HasPrefix(s, name+" ") }) {
				t.Failed++
				t.Failing = append(t.Failing, name)
			}
		}
		return
	}
	switch {
	case e.Action == "fail":
		fmt.Printf("--- %s\n%s", name, strings.Join(output, ""))
		if !isParent || !slices.ContainsFunc(t.Failing, func(s string) bool { return strings.HasPrefix(s, name+"/") }) {
			t.Failed++
			t.Failing = append(t.Failing, name)
		}
	case isParent:
	case e.Action == "skip":
		why := ""
		for _, line := range output {
			if l := strings.TrimSpace(line); l != "" && !strings.HasPrefix(l, "---") && !strings.HasPrefix(l, "===") {
				why = l
			}
		}
		t.Skipped = append(t.Skipped, name+": "+why)
	default:
		t.Passed++
	}
}

// print prints the last word, and gives the exit code.
func (t *totals) print() int {
	for _, s := range t.Slow {
		fmt.Printf("slow:    %6.1fs %s\n", s.Seconds, s.Name)
	}
	for _, s := range t.Skipped {
		fmt.Println("skipped:", s)
	}
	for _, s := range t.Failing {
		fmt.Println("failed: ", s)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", t.Passed, t.Failed, len(t.Skipped))
	switch {
	case t.Failed > 0 || t.Passed == 0:
		return 1
	case len(t.Skipped) > 0 && os.Getenv("CI") == "true":
		fmt.Println("on CI nothing may be skipped")
		return 1
	}
	return 0
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "summary:", err)
	os.Exit(2)
}
