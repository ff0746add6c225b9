// Package stable is what a server must know of its sessions after a restart: records, how they are
// encoded, and what they come to.
//
// A file of them is a head and then records, each with its length and checksum, in the order in which they became true.
// Reading stops at the first record that is not whole: what comes behind was never promised to
// anybody. The file is written anew from what its records come to (State.Records) at every start.
//
// It promises that what State.Records gives comes to the same State, and that a file cut off at any byte comes to
// what some first records of it come to.
//
// It never does I/O; when which record must be durable is its users' to know (docs/faults.md).
//
// # Concurrency
//
// Everything here is plain data; a State is used by one goroutine at a time.
package stable
