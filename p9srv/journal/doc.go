// Package journal is what makes cuts atomic and durable on a host directory: the
// log of what was promised, and what follows from it after a crash.
//
// A [Log] is a sequence of entries in segment files. [Log.Append] queues an entry,
// [Log.Wait] returns when it is on stable storage; all who wait at a time
// share one sync. An entry is an encoded [Cut], [Note] or [Abort].
//
// [Reduce] is a pure function: it turns the entries since the last checkpoint into
// one [Plan]: the final values of names and objects, and for each the values that it
// may be found with if nobody else has touched it. Package dirfs, which stages and
// applies cuts, carries a plan out at recovery. docs/journal.md has the whole story.
//
// It promises that an entry which Wait returned for is found by Open after a crash, that
// entries are found in their order, without gaps, and that damage is told apart from a torn end.
//
// It never touches the exported tree, and knows nothing of tokens or of the wire.
package journal
