package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the command.
func TestMain(m *testing.M) {
	if os.Getenv("SUMMARY_TEST") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// summary runs the command.
func summary(t *testing.T, ci bool, events string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "SUMMARY_TEST=1", "CI=")
	if ci {
		cmd.Env = append(cmd.Env, "CI=true")
	}
	cmd.Stdin = strings.NewReader(events)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // its exit code is what is looked at
	return out.String(), cmd.ProcessState.ExitCode()
}

const (
	good = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA/sub"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}
`
	skipping = `{"Action":"output","Package":"p","Test":"TestB","Output":"    x_test.go:1: no fuse\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}
`
	failing = `{"Action":"output","Package":"p","Test":"TestC/sub","Output":"the reason\n"}
{"Action":"fail","Package":"p","Test":"TestC/sub"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}
`
	broken = `{"ImportPath":"q","Action":"build-output","Output":"q.go:1: undefined: x\n"}
{"Action":"fail","Package":"q","FailedBuild":"q"}
`
)

func TestCounts(t *testing.T) {
	for _, c := range []struct {
		name, events string
		ci           bool
		code         int
		says         []string
	}{
		{"good", good, true, 0, []string{"\n1 passed, 0 failed, 0 skipped\n"}},
		{"skipping", good + skipping, false, 0, []string{"skipped: p TestB: x_test.go:1: no fuse", "1 passed, 0 failed, 1 skipped"}},
		{"skipping on CI", good + skipping, true, 1, []string{"nothing may be skipped"}},
		{"failing", good + failing, false, 1, []string{"the reason", "failed:  p TestC/sub", "1 passed, 1 failed, 0 skipped"}},
		{"not building", good + broken, false, 1, []string{"undefined: x", "failed:  q", "1 passed, 1 failed"}},
		{"nothing at all", "", false, 1, []string{"0 passed"}},
	} {
		out, code := summary(t, c.ci, c.events)
		if code != c.code {
			t.Errorf("%s: exit code %d:\n%s", c.name, code, out)
		}
		for _, want := range c.says {
			if !strings.Contains("\n"+out, want) {
				t.Errorf("%s: %q is not said:\n%s", c.name, want, out)
			}
		}
	}
}

func TestTotals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "totals")
	passB := strings.ReplaceAll(good, "TestA", "TestB")
	summary(t, true, good+passB, "-what", "first", "-totals", file)
	// B is skipped elsewhere, but passed before; D never did.
	summary(t, true, skipping, "-what", "second", "-again", "-totals", file)
	if out, code := summary(t, true, "", "-totals", file, "-print"); code != 0 || !strings.Contains(out, "2 passed, 0 failed, 0 skipped") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	summary(t, true, strings.ReplaceAll(skipping, "TestB", "TestD"), "-what", "second", "-again", "-totals", file)
	if out, code := summary(t, true, "", "-totals", file, "-print"); code != 1 || !strings.Contains(out, "skipped: second p TestD") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, code := summary(t, false, failing, "-what", "third", "-totals", file); code != 1 {
		t.Errorf("a failing run: exit code %d:\n%s", code, out)
	}
	if out, code := summary(t, false, "", "-totals", file, "-print"); code != 1 || !strings.Contains(out, "failed:  third p TestC/sub") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestSlowest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "totals")
	for run := range 2 {
		var events strings.Builder
		for i := range 8 {
			took := 1 + 2*i + run // 1 to 16, in both runs together
			fmt.Fprintf(&events, `{"Action":"pass","Package":"p","Test":"Test%d/sub","Elapsed":%d}`+"\n", i, took)
			fmt.Fprintf(&events, `{"Action":"pass","Package":"p","Test":"Test%d","Elapsed":%d}`+"\n", i, took)
		}
		summary(t, true, events.String(), "-what", fmt.Sprint("run", run), "-totals", file)
	}
	out, _ := summary(t, true, "", "-totals", file, "-print")
	var want strings.Builder
	for took := 16; took > 6; took-- {
		fmt.Fprintf(&want, "slow:    %6.1fs run%d p Test%d\n", float64(took), (took-1)%2, (took-1)/2)
	}
	if !strings.HasPrefix(out, want.String()+"16 passed") {
		t.Errorf("it says\n%s\nwant\n%s", out, want.String())
	}
}
