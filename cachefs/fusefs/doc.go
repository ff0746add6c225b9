// Package fusefs mounts a p9srv.Backend by FUSE: any backend, and a
// p9srv.Coherent one (cachefs) so that the kernel may cache, too, and what one
// mount did is seen by the next at once.
//
// It promises: whatever the kernel serves out of its caches is covered by the
// backend's tokens, or was told for at most a second and never beyond the lease. Errors of
// writes behind reach close(2) and fsync(2). Requests run concurrently, and no lock of this package is held
// while the backend or the kernel is asked. After anybody's unmount the daemon may go on: Wait returns when
// the last request is done.
//
// It never lets the kernel keep what is written (FUSE_WRITEBACK_CACHE): a write(2) would reach the backend after
// a rename(2) that the program did later, and the backend's order of operations would be the wrong
// one: the file that an editor renames into place would be empty after a crash. TestWriteBeforeRename shows it.
//
// What is not here: umount(8), sync(1) and syncfs(2) are not told to a FUSE daemon; durability is for fsync(2) and
// for those who call Unmount after having synced the backend. Memory that is shared
// between mounts (MAP_SHARED, written) is coherent at msync(2) only. Pages mapped by a process
// whose mount is stopped stay what they were.
//
// # Names and attributes
//
// Every answer carries a timeout: TTL of the directory for a name (and for the knowledge that there is none), of the
// object for its attributes, at most a second; 0 while a revocation is under way, and for an answer
// that was got from the backend before a revocation that began or ended meanwhile (a stamp is taken before the
// backend is asked). What was told, and until when, is remembered for a directory's names and for a node. The answers to CREATE, LINK,
// SETATTR and so on are taken over by the kernel whatever it was told to drop meanwhile, so those say nothing lasting about
// attributes of nodes that the kernel may know already.
//
// # Data
//
// Handles that may write go past the page cache (direct I/O); mappings of them are allowed. So a WRITE never holds
// pages locked while it waits for a token; the pages of what it wrote are dropped before it is answered. Handles that only read use the page cache, which is kept over opens
// (FOPEN_KEEP_CACHE): the pages that the kernel has are covered by the read token of the object. This holds since a READ is
// answered only if
//
//   - its data were covered all the time: TTL > 0 was seen before the backend was asked, and no
//     revocation ended since; else it asks again, by which it gets a token; or
//   - it came while a revocation is under way, which has not ended since and will drop the page: see below.
//
// An object that gets no token for a while (it is contended, and the backend writes through) is answered
// for all the same, its pages are dropped right afterwards, and it is opened for direct I/O while that lasts.
//
// # Recall
//
// Before reads of an object stop being covered, the backend calls, and waits. In this order:
//
//   - Attributes: FUSE_NOTIFY_INVAL_INODE without pages. It waits for nothing. The kernel ignores
//     answers to what it had asked before. If it does not know the node yet (the answer that
//     introduces it is on its way), it is told again until it does.
//   - Names: those that were told and have not timed out are invalidated one by one, with a few milliseconds of
//     patience: the kernel takes the directory's lock for that. Names of directories are only made to
//     expire, so that nobody loses his working directory, nor a mount below. If that does not succeed, or the names are
//     many, or an update of this directory is known to be waiting here, all names of the mount are
//     made old at once (FUSE_NOTIFY_INC_EPOCH, Linux 6.16, takes no lock); where the kernel does not know that, or something
//     is mounted below (it would be unmounted), we wait until they time out, and tell shorter timeouts there for a while.
//   - Pages: FUSE_NOTIFY_INVAL_INODE, which waits for pages that READs have locked. READs go on to be answered
//     meanwhile, out of what is still held. A page that is read behind the invalidation's back stays; so if READs that came after
//     its beginning were answered before its end, the pages of all that came are invalidated again (also of those that will be
//     answered only then), and from then on READs that come are parked:
//     until it is through, or 2 ms have passed with no other READ running (then it is probably waiting for one of the parked, which
//     are answered, and their pages are next). Since these pages are few, and there (so nobody has them locked for a READ), the second time
//     is nearly always the last. The end of the revocation is one step with the finding that nothing was
//     answered; parked READs, and those that had their data but were not answered, ask the backend again.
//
// # Concurrency
//
// A shard's mutex of the node table guards which nodes there are, their objects and counts; node.mu all else of a
// node; the mutexes of handles, of the group cache and of the crew what they stand beside. A shard's and the crew's may be
// taken under node.mu, nothing else under anything. The backend's and the kernel's functions, and Logf, are called with none
// held. node.dataSem lets one revocation at a time drop the pages of a node; one that holds it needs nothing from one
// that waits for it. Each request has a goroutine of its own; a waiting one costs no thread, but a notification
// that waits for a lock of the kernel does.
//
// # Deadlocks
//
// The kernel holds locks while it waits for us, and a notification waits for these locks:
//
//   - The directory's lock is held by CREATE, UNLINK, RENAME, LOOKUP, READDIR and so on. Story: mounts A and B both
//     have names of D and both create in D. A's CREATE waits for the write token, so for B to give up its read token; B must make its
//     kernel forget names of D, which waits for the lock that B's CREATE holds, which waits for A. So invalidations of
//     names run in a goroutine of their own, nobody waits for them longer than a few milliseconds, and a stuck
//     one ends when the lock comes free. Notifications do not wait for each other in this process (a descriptor's write
//     lock would do that).
//   - Locked pages wait for READs. READs wait for tokens, but not during a revocation of their object: reads are
//     admitted by what is held, though it is recalled. A READ that waits for a new token does so only when no revocation of the object is
//     under way. Those that are parked are parked for milliseconds.
//   - Pages under write-back wait for WRITEs of shared mappings. Such a WRITE may need the write token, of
//     an object that is being revoked because somebody else writes. So it is taken on at once when a revocation is
//     under way, and done when it is over: before any other write of the file, fsync and close, and laid over what is read.
//     TestDirtyMapping is the story.
//   - The inode's lock is held by direct WRITEs, SETATTR and fsync, for as long as they wait for tokens. No
//     notification takes it. The exception that is left: truncate(2) of a file with dirty pages of a shared mapping keeps the
//     kernel from writing them while it waits for its token; a revocation then gives up after 1.2 s and says so (Stats.GaveUp).
//   - The kernel limits READs of pages in flight, and WRITEs of pages queue behind them: the limit is set to 1024.
//   - A process that serves a mount must not use it by a page fault, nor have a child that does so between fork and exec: its garbage
//     collector waits for the thread that waits for the mount. System calls are fine.
//
// # Interrupts
//
// The kernel tells of every signal that comes to a thread that waits. Programs do not expect stat(2) to
// fail since a child ended: so a request's context ends only when the thread has a signal pending that will end it, or for a second
// one that asks it to end (SIGINT, SIGTERM, SIGHUP, SIGQUIT), though it has a handler; and for F_SETLKW with any signal that is not ignored.
package fusefs
