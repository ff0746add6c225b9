package cachefs

import (
	"fmt"
	"strings"
	"testing"
)

// TestLink tells stories of the link: at which millisecond what happens, and what is done then. The lease is 10 s.
func TestLink(t *testing.T) {
	for _, c := range []struct{ name, story string }{
		{"idle", "1 tick nothing, 2500 tick renew, 2510 renewed nothing, 2511 tick nothing, 5010 tick renew"},
		{"wanted", "100 wanted renew, 101 wanted nothing, 150 renewed nothing, 160 wanted renew"},
		{"half-open", "2500 tick renew, 4999 tick nothing, 5000 tick nothing, 5624 tick nothing, 5625 tick hang-up, 5626 broke down"},
		{"slow, but there", "2500 tick renew, 5000 heard nothing, 5001 tick nothing, 7499 tick nothing, 7500 tick nothing, 7510 heard nothing, 8200 tick nothing"},
		{"stopped ourselves", "2500 tick renew, 60000 tick nothing, 60001 renewed nothing, 62501 tick renew"},
		{"broken", "100 broke down, 101 tick nothing, 110 tick dial, 111 dialed resume, 112 resumed online, 113 tick nothing"},
		{"back-off", "0 broke down, 10 tick dial, 10 broke nothing, 29 tick nothing, 30 tick dial, 30 dialed resume, 40 broke nothing, 79 tick nothing, 80 tick dial"},
		{"at most a second", "0 broke down, 1000 tick dial, 1000 broke nothing, 2000 tick dial, 2000 broke nothing, 3000 tick dial, 3000 broke nothing," +
			"4000 tick dial, 4000 broke nothing, 5000 tick dial, 5000 broke nothing, 6000 tick dial, 6000 broke nothing, 7000 tick dial, 7000 broke nothing," +
			"7999 tick nothing, 8000 tick dial, 8000 broke nothing, 8999 tick nothing, 9000 tick dial"},
		{"it flaps", "0 broke down, 10 tick dial, 10 dialed resume, 10 resumed online, 11 broke down, 30 tick nothing, 31 tick dial"},
		{"a renewal calms it", "0 broke down, 10 tick dial, 10 dialed resume, 10 resumed online, 11 wanted renew, 12 renewed nothing, 13 broke down, 23 tick dial"},
		{"lease over", "2500 tick renew, 2501 over resume, 2502 wanted nothing, 2503 resumed online, 5002 tick nothing, 5003 tick renew"},
		{"breaks while it resumes", "2500 tick renew, 2501 over resume, 2502 broke nothing, 2512 tick dial"},
		{"refused", "0 broke down, 10 tick dial, 10 dialed resume, 11 refused end, 12 broke nothing, 13 tick nothing"},
		{"clock set back", "2500 tick renew, 2510 renewed nothing, 1000 tick nothing, 3499 tick nothing, 3500 tick renew"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLink(0, 10e9, true)
			for _, line := range strings.Split(c.story, ",") {
				var ms int64
				var event, want string
				if _, err := fmt.Sscan(line, &ms, &event, &want); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				e := linkEvent(0)
				for e.String() != event {
					e++
				}
				if got := strings.ReplaceAll(l.step(ms*1e6, e, 1).String(), " ", "-"); got != want {
					t.Fatalf("%s: %s, now %v", line, got, l)
				}
				if w := l.wait(ms * 1e6); w <= 0 || w > 2500e6 {
					t.Fatalf("%s: then waits for %d ns", line, w)
				}
			}
		})
	}
}

// TestLinkOneWay: without a way to connect again the first break is the end.
func TestLinkOneWay(t *testing.T) {
	l := newLink(0, 10e9, false)
	if l.step(1, linkBroke, 0) != linkEnd || l.state != linkDead {
		t.Fatal("it goes on without a connection")
	}
}

// TestLinkJitter: clients of a server that went away do not come back all at once.
func TestLinkJitter(t *testing.T) {
	for tries := range 12 {
		early, late := link{tries: tries}, link{tries: tries}
		a, b := early.delay(0), late.delay(1)
		if a < b/2 || a >= b || b > lastRetry {
			t.Errorf("after %d tries between %d and %d ns", tries, a, b)
		}
	}
}
