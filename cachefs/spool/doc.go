// Package spool keeps what a client had done and lost: operations that the server refused or whose tokens went to somebody
// else, with their bytes, so that people get them back.
//
// A loss is an entry: a directory DIR/UID/ID with entry.json, the bytes that were written one after the other in
// "bytes", and for files of which more was known than what was lost their whole content in files of their own.
// [Entry] is the format, [Compose] says what the operations make of a file; both are pure. [Store] is the files, and
// [Restore] puts contents back.
//
// It promises
//   - that an entry is there wholly or not at all, and when Put has returned also after a crash;
//   - that each user's entries are in a directory of his own, 0700, and that what a user does in his cannot lead a daemon of root's elsewhere;
//   - that no user's directory grows beyond the limit: the oldest entries go, and Put says which;
//   - that Restore never overwrites what is not as it was before the lost operations, unless told to.
//
// # Concurrency
//
// Several processes may use one directory. A Store has no state but its settings.
package spool
