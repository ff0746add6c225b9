// Package dirfs serves a directory of the host: it is the p9srv.Backend and
// p9srv.Committer that a file server exports.
//
// # Promises
//
// Nothing reaches outside the exported tree, whatever the names, the symlinks
// or the races: every name is one element, resolved by the host beneath a
// directory that is held open, without following symlinks and without crossing
// mount points. FIFOs, devices and sockets of the host are never opened. The
// name .echo9 in the export's root is the server's own: it is in no listing,
// cannot be walked to, and making it gives EPERM.
//
// An operation of another user than the server's own runs with that user's
// file-system ids and without capabilities, when the server runs as root: the
// host decides about permissions, quotas and ACLs. A server that is an
// ordinary user does everything as itself.
//
// Objects have ids and versions that do not change: the host's inode number
// where it is below 2^48 and on the export's own device, a number from 2^48 on
// otherwise and for what caching clients created; the durable table of those is
// in the private directory. A version is a hash of the inode's generation.
//
// A cut (see Apply) is applied wholly, or it is refused and leaves no trace but
// changed ctimes. A process of the server's own host can see a cut under way.
//
// # Never
//
// It keeps no data in memory, and knows nothing of tokens or of the wire. It does
// not make cuts atomic over a crash of the server. What the host itself does to
// the tree is seen, not prevented: an object that the host moves out of the
// tree can be used as long as somebody refers to it, as an open file can.
//
// # Concurrency
//
// FS.mu guards the table of nodes, their descriptors and locators; idTable.mu
// the table of ids; dirFile.mu one open directory.
// The order is dirFile.mu, FS.mu, idTable.mu. No system call
// that can wait for a disk or another process is made under FS.mu, except
// the rare writing of a row of the id table.
package dirfs
