// Package p9srv serves a tree of objects, a Backend, over 9P2000.L.
//
// It is for plain clients (the kernel's v9fs, hugelgupf/p9, diod's tools) and,
// with an Authority, for clients that speak the extension and cache under
// tokens. It owns connections, fids, the dispatch of requests, their
// cancellation and the admission of operations by tokens. It knows nothing of
// hosts and paths: that is the Backend's.
//
// # Promises
//
// The reply of a flushed request never follows its Rflush. No reply is larger
// than the negotiated msize. A request that is flushed, or whose connection
// ends, has its context cancelled; one that waits for a token is withdrawn.
// What a connection holds in memory is bounded by Config (see Config.Budget);
// beyond it the connection is read no further until the client takes its
// replies. When a connection ends all its fids, locks and goroutines go.
//
// # Concurrency
//
// One goroutine at a time leads a connection: it reads frames, numbers them,
// resolves their fids and does the operation itself, so that cheap operations cost no
// switch of goroutines and replies leave in batches. The server's monitor takes the lead away from a goroutine that
// has been in one operation, or one write to the socket, for longer than
// Config.HandOff and gives it to a new one; operations that are known to be
// slow, and those that follow a slow one, go to workers at once. A request that waits (for a
// token, or for the client to take replies) is a parked struct, not a goroutine.
//
// conn.mu guards tags, fids and the output queue of one connection. It is held for no I/O and for
// no call into a Backend or an Admission. Lock order: Server.mu, then conn.mu, then reqContext.mu.
//
// # Deadlocks
//
// A request never waits for room in the output while it holds a token: it
// gives the ticket back and parks. Nothing that waits holds conn.mu.
package p9srv
