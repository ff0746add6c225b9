package cachefs

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"echo9/p9srv"
)

// The server is told of work that is pending, and when a session ends well, that none is.
func TestCloseTellsThatNothingIsPending(t *testing.T) {
	var mu sync.Mutex
	var log strings.Builder
	said := func() string {
		mu.Lock()
		defer mu.Unlock()
		return log.String()
	}
	w := newWorld(t, func(c *p9srv.AuthorityConfig) {
		c.Logf = func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(&log, format+"\n", args...)
		}
	})
	f := w.cache()
	ok(t, f.WriteFile(bg, "f", []byte("x"), 0o666))
	f.poke(f.renew)
	for !w.auth.Status().Sessions[0].Pending {
		time.Sleep(time.Millisecond)
	}
	ok(t, f.Close(bg))
	if s := said(); !strings.Contains(s, "its client has ended it") || strings.Contains(s, "not committed") {
		t.Errorf("the server says: %s", s)
	}
}
