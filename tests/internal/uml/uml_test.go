package uml

import (
	"strings"
	"testing"
	"time"
)

func TestGuestRunsChecks(t *testing.T) {
	r := Run(t, Guest{Env: map[string]string{"WORD": "it's"}, Script: `
good() { same "$WORD" "it's"; grep -w 9p /proc/filesystems; }
bad() { echo before; false; echo after; }
check good good
check bad bad
echo "$(uname -m) said $WORD"
`})
	if r.Code != 0 || !strings.Contains(r.Output, "said it's") {
		t.Fatalf("exit %d, output %q, console %q", r.Code, r.Output, r.Console)
	}
	if len(r.Checks) != 2 || !r.Checks[0].OK || r.Checks[1].OK {
		t.Fatalf("checks %+v, output %s", r.Checks, r.Output)
	}
	if out := r.Checks[1].Output; !strings.Contains(out, "before") || strings.Contains(out, "+ echo after") {
		t.Errorf("a check goes on after its first failure: %q", out)
	}
}

func TestGuestThatHangs(t *testing.T) {
	for _, limit := range []time.Duration{8 * time.Second, time.Minute, 5 * time.Minute} { // to start takes seconds, or longer
		r := Run(t, Guest{Limit: limit, Script: "echo started\nwhile :; do sleep 1; done"})
		if r.Code != -1 {
			t.Fatalf("exit %d, output %q", r.Code, r.Output)
		}
		if strings.Contains(r.Output, "started") {
			return
		}
	}
	t.Fatal("what a guest says that is ended is not told")
}
