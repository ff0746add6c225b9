package main

import "time"

// bounds are how long, or how often, something may be that is wrong when it lasts.
type bounds struct {
	notice time.Duration // a server need not know yet that a client has work pending
	kernel time.Duration // a kernel may show what it knows of a mount without asking
	full   time.Duration // a client may take a disk for full that has room again
	name   time.Duration // a server need not have named who died, besides its lease
	stale  int           // a file may be replaced while it is opened
}

func (o *options) bounds() bounds {
	if o.patient {
		return bounds{notice: 6 * time.Second, kernel: 4 * time.Second, full: 20 * time.Second, name: time.Minute, stale: 20}
	}
	return bounds{notice: 1500 * time.Millisecond, kernel: 1200 * time.Millisecond, full: 3 * time.Second, name: 5 * time.Second, stale: 2}
}
