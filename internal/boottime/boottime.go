// Package boottime is the one place where the clock of leases is read:
// CLOCK_BOOTTIME, which goes on while the machine sleeps (Go's own monotonic
// clock does not).
package boottime

import "golang.org/x/sys/unix"

// Clock tells nanoseconds since boot, sleep included. Tests put their own in its place.
type Clock func() int64

// Now reads CLOCK_BOOTTIME.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("clock_gettime(CLOCK_BOOTTIME): " + err.Error())
	}
	return ts.Nano()
}
