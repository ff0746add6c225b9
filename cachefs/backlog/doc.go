// Package backlog keeps what a caching client has not sent on the client's own disk, so that a client that is
// killed and started again can go on with its session and send it.
//
// A backlog is a file: a head, and then records, each with its length and checksum, in the order in which they became
// true: as whom the client has its session, the operations as they were issued, which of them went with which cut, and
// what became of those. Reading stops at the first record that is not whole. What records come to is a State.
//
// It promises that a file cut off at any byte comes to what some first records of it come to; that what was appended before Flush is
// in the file when Flush returns (in the kernel: it survives the process, and not the machine); and that a file that is written
// anew (Rewrite) is the old one or the new one, whatever happens meanwhile. It never decides whether an operation is still
// good: only the server can tell.
//
// # Concurrency
//
// Records and States are plain data. A Store may be used by several goroutines at once: Append takes no I/O and no long lock, so
// it may be called with other locks held, in the order that is to be kept; Flush and Rewrite do I/O and are not.
// Lock order: Store.io, then Store.mu.
package backlog
