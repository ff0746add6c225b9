// Package tokens is the coherence protocol as two pure state machines: the
// Manager, which a server runs over its objects, and the Holder, which a
// caching client runs over what it was granted; and the arithmetic of leases.
//
// There is one token for each object: read (shared) or write (exclusive). A
// session asks for sets of tokens; the Manager grants a set whole or not at
// all, recalls what stands in the way, and takes from sessions whose lease has
// ended what others want. Plain operations are requests that last for the
// operation.
//
// It promises: no two clients that keep the rules ever hold conflicting tokens
// at one time while their leases are good; a cut is admitted only while every
// token of its fence has been held without interruption; whoever waits, waits
// for somebody who was told, and does not wait for ever as long as clients
// answer or their leases end.
//
// It never does I/O, and has no goroutine, clock, lock or random number: time
// comes in as nanoseconds of a clock that counts suspended time too, inputs and
// outputs are plain data, and equal inputs give equal outputs.
//
// # Rules
//
// The tests switch these off one by one and find what goes wrong then; the
// stories are in testdata/worlds, under the numbers given here.
//
//  1. Every token has a generation; what names an older one changes nothing.
//
//  2. Grants and recalls to a session leave in one FIFO: nothing of a grant is recalled before Sent.
//
//  3. Every element of a grant has a new generation, also one that is held already.
//
//  4. A recall of a generation covers all up to it.
//
//  5. A fence means: held without interruption since that generation.
//
//  6. The fence names read tokens, too, and a read token goes back only after what was done under it is committed.
//
//  7. What comes along with a grant is not installed over what is held; what was
//     fetched otherwise, only if its generation is still held.
//
//  8. Cut n is applied only after cut n-1; a refused number is used again.
//
//  9. What a cut writes is busy until the cut is applied.
//
//  10. A resumed session is answered when what was unread on its old connection is
//     thrown away and its running cut is finished.
//
//  11. The client looks at the last applied cut before it decides what is lost.
//
//  12. An operation whose token was lost while it was pinned does not take effect.
//
//  13. A lease counts from before the request, and is not extended while a recall
//     is overdue without progress, or no Trecall is posted.
//
//  14. Once a lease is over, only a resume opens a new one.
//
//  15. A client past its lease serves nothing.
//
//  16. What was taken is told when the session resumes, until the client has shown that it knows.
//
//  17. Only as much is taken as is wanted.
//
//  18. It is taken and granted to the one who waits in one step.
//
//  19. Recalls still wanted are sent again after a resume, and a recall is always answered.
//
//  20. In a new epoch a session has only what it has reclaimed; a lease of that epoch counts
//     when the server has answered that this is all.
//
//  21. Only reclaims are granted until all known sessions have reclaimed what they want, or the time of grace is over.
//
//  22. Who is missing then is recorded before the first grant, and reclaims nothing in a later epoch; unless
//     it says after all that it has what it wants, knowing what it could not have: that is recorded before it is answered.
//
//  23. Late, only that is reclaimed which nobody was granted in a conflicting mode since the epoch began:
//     for reading what others only read.
//
//  24. What was reclaimed may be reclaimed again.
//
//  25. What was taken is on record until its client was told, on a connection on which it has sent something since.
//
// Beside them: the answer to a name is good only while its directory was not
// written; a waiting request is overtaken only so often, and reserves nothing
// while it waits for a session that is overdue.
//
// # Concurrency
//
// A Manager and a Holder are each used by one goroutine at a time (under their
// owner's mutex). What a call returns is valid until the next call.
//
// # Deadlocks
//
// Pins never wait: an operation takes its whole set, runs in memory, and
// unpins. Giving a token back never needs another token. A client's own reads
// of an object it holds are never queued behind who recalls it; its requests
// for the token are, since it gives the token back without their help.
package tokens
