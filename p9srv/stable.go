package p9srv

import "echo9/p9srv/stable"

// Durable is a Committer whose export outlives the server: sessions may be resumed at its next life.
type Durable interface {
	// Sessions is where sessions are kept; nil when this export has no such place (it is read-only).
	Sessions() Sessions
}

// Sessions keeps what must be known of sessions after a restart.
type Sessions interface {
	// Known is what stable storage knows now.
	Known() *stable.State
	// Note takes records on, in the order of the calls. It does not wait. done, if there is one, is called once, from
	// another goroutine, when they are durable, or with why they are not: then they are as if they had never been, and
	// may be tried again. Without done they need not be durable.
	Note(done func(error), records ...stable.Record)
	// LastCut is the number of the last cut applied of those with this client (see stable.Key), 0: none.
	LastCut(client [16]byte) uint64
}
