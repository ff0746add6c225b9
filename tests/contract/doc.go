// Package contract holds clients against a model of the whole contract of
// docs/semantics.md: a tree as POSIX has it, and what is left of it when clients die.
//
// A run is a story: a line for each step of one of a few clients with different
// policies. The model gives for each step the answers that are legal; where only one is,
// that. At any time, and after each death, the tree on the server's host must be what the
// operations known to be there and an order ideal of the others leave, applied one
// by one: known to be there is what was fsynced, what another client needed to see, and
// all that precedes it. So the loss of a death is a set closed upward.
//
// What the server refuses goes as the table of refusals says, and nothing else.
//
// Stories come from a seeded generator. One that fails is shortened and kept as a
// text file; those in testdata/stories are run each time.
//
// The model is plain data and functions. It knows nothing of what the code under
// test does but the answers and the tree.
//
// What is pending in the model may be at the server already: clients send when they like, and when others look. That does not matter to what
// comes before what, but for one thing: what is done to an object below a directory comes after the directory's rename if something was
// pending on it then. So after a rename of a directory the host is looked at.
//
// # Concurrency
//
// Steps are issued one at a time, so there is exactly one legal history. In the
// concurrent runs (parallel_test.go) each client has a part of the tree that is only its own, held
// against a model of its own, and all look at each other's all the time.
package contract
