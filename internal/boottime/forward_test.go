package boottime

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := int64(1000)
		c := Forward(func() int64 { return at })
		expect := func(want int64) {
			t.Helper()
			if got := c(); got != want {
				t.Fatalf("the clock shows %d, not %d", got, want)
			}
		}
		expect(1000)
		at = 5000 // as after a sleep
		expect(5000)
		time.Sleep(300 * time.Nanosecond)
		at = 10 // set back
		expect(5300)
		at = 40
		expect(5330)
	})
}
