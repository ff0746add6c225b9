// Package journal is what makes cuts atomic and durable on a host directory: the
// log of what was promised, and what follows from it after a crash.
//
// A [Log] is a sequence of entries in segment files. [Log.Append] queues an entry,
// [Log.Wait] returns when it is on stable storage; all who wait at a time
// share one sync. An entry is an encoded [Cut], [Note], [Abort], [Applied], [Settled] or [Redo].
// [Log.Checkpoint] forgets entries, and their segments are used again. [Check] looks at a log that nobody uses.
//
// [Reduce] is a pure function: it turns the entries since the last checkpoint into
// one [Plan]: the final values of names and objects, and for each the values that it
// may be found with if nobody else has touched it. Package dirfs, which stages and
// applies cuts, carries a plan out at recovery. docs/journal.md has the whole story.
// [Salvage] and [Rewrite] are for a log that is damaged.
//
// It promises that an entry which Wait returned for is found by Open after a crash, that
// entries are found in their order, without gaps, and that damage is told apart from a torn end: [Damage].
// After a write or a sync that failed nothing is assumed: every call gives that error, and only opening the log again
// tells what is there. A full disk refuses entries, and is no failure.
//
// It never touches the exported tree, and knows nothing of tokens or of the wire. It does not see to it that only one
// process uses a log.
//
// # Concurrency
//
// One mutex, Log.mu, guards all fields of Log and of its segments; it is never held during a system call. Whoever waits and finds nobody writing
// becomes the writer (Log.writing): it takes the whole queue, gives up the mutex, writes and syncs, and
// wakes the others. Only the writer touches Log.dirty. One goroutine at a time prepares segments (Log.preparing);
// a segment it works on is in none of the lists. Entries are encoded before the mutex is taken. Numbers and places are given out under it,
// in the same order.
//
// # Deadlocks
//
// Only cuts wait for a checkpoint, and a cut must not hold what a checkpoint needs while it is in Append. Notes, aborts, settled
// and applied entries never wait for one: they may be what it waits for.
// A segment is kept back from cuts, so that a checkpoint finds room when the disk is full. Options.Step and Options.Logf
// must not call the log.
package journal
