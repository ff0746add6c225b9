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
// # Concurrency
//
// A Manager and a Holder are each used by one goroutine at a time (under their
// owner's mutex). What a call returns is valid until the next call.
package tokens
