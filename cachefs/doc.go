// Package cachefs is the client's cache: a p9srv.Backend over one session with
// a server that speaks echo9's extension. The faces of it are package p9srv
// (9P, for `echo9 cache`) and fusefs (a mount), and the Go API of [FS].
//
// Names (those known not to exist too), attributes, contents, symlinks and
// extended attributes are cached under tokens; update operations, of files and
// of directories, are done in memory, kept in order by package order, and
// written behind.
//
// It promises
//   - that the cache is not visible: what all clients of the server do and see is linearizable;
//   - that the server always has an ideal of the operations in their order, whatever becomes of this client;
//   - that a token goes back as soon as exactly that is at the server which conflicts with giving it back;
//   - that Fsync and Sync return when what they cover is durable, or say what was lost;
//   - that no wait outlasts its context.
//
// A connection that breaks is made again, and the session goes on (docs/faults.md): see link.go for when, resume.go
// for how. It never serves anything when its lease has run out, and never sends an update
// but in a cut. Permissions are checked here, by the mode bits, before an operation is taken on; access
// ACLs beyond the mode bits are the server's to check, when something is read there.
//
// # Concurrency
//
// There is one mutex, FS.mu, for the nodes, the holder of tokens and the log of
// operations. Operations run wholly under it and never wait under it: a step (see turn) pins its
// tokens, works in memory, and unpins; if it misses a token or data it says what to wait for,
// waits without the mutex, and starts again. Replies that carry
// tokens are taken in on the connection's reader goroutine, in the order in which
// the server sent them, also under FS.mu.
//
// Goroutines: a committer, which has the server apply one cut at a time (the next one of a stream may be on its way
// already, but for its last part) and prefers
// recalls to fsyncs and these to background write-back; the keeper of the link, which renews the lease, connects again
// and resumes the session; one for each batch of recalled
// tokens, each range of bytes and each directory that is being fetched.
//
// Lock order: file.listMu, FS.mu, then what p9client.Conn and the log have inside.
// Functions given to OnRevoke, Hooks (but Issued) and Logf are called without locks.
//
// # Deadlocks
//
// 1. A kernel above holds its own lock of a directory for a CREATE that waits here for a token, while
// the recall that must come first wants to invalidate that directory in the kernel. So the revokers
// run in goroutines of their own with no lock held, reads under a recalled token go on until it
// really goes back, TTL is 0 from the recall on, and a revoker may give up waiting and let the TTL run out.
//
// 2. Two levels of admission, each free of deadlock, have one together. There is
// only one here: the holder. Faces have no tokens of their own, and pins are never held across a wait.
//
// 3. A recall behind one's own drain: background cuts are small, recalls go first, and what several recalls
// wait for is told apart.
//
// 4. Giving a token back never needs another token: a recall's ideal is pinned by nobody, and its fence is of tokens
// that are held since before the operations were taken on.
//
// 5. What resumes a session waits for nothing but the server's answers on its own connection (and on a connection that
// stays, for that to the cut under way): requests of operations wait for it, never the other way round. Answers to requests that a
// broken connection took along are never waited for: whoever has none asks again.
//
// 6. A writer at the dirty limit waits holding nothing; the committer never waits for writers.
package cachefs
