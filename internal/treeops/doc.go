// Package treeops does what a person at a shell does to a tree (list, copy,
// move, remove) over any p9srv.Backend: the scripted client's operations.
//
// Paths are slash-separated and name things below the tree's root, whether
// they begin with a slash or not; ".." at the root stays there. Symbolic links
// are followed inside the tree only: an absolute target starts at its root.
//
// Promises: many requests are in flight (a bounded number of workers, chunks of
// one file read and written side by side); a file that is copied appears under
// its final name whole or not at all; local files are only written below the
// directory named, whatever names and links a server sends; a cancelled
// operation removes its temporary files.
//
// It never caches, and never retries: that is for the Backend.
//
// # Concurrency
//
// A Tree may be used by many goroutines. Each recursive operation runs a pool
// of its own; the pool's one mutex guards its stack of tasks and is never held
// during a request.
package treeops
