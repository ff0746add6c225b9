package cachefs

import (
	"echo9/p9client"
)

// newEpoch takes in that the server was started again: nothing is held until it has been reclaimed. Called with f.mu held.
func (f *FS) newEpoch() {
}

// reclaim claims what was held before the server's restart.
func (f *FS) reclaim(conn *p9client.Conn) error {
	return nil
}
