package p9srv

import (
	"context"
	"time"

	"echo9/internal/wire"
)

// Revocation names an object of which a Coherent backend is about to give something up.
type Revocation struct {
	ID uint64
	// Keep is what stays: 0 nothing, 1 the right to serve reads (others may read too).
	Keep uint8
}

// Coherent is what a Backend offers besides when it serves from a cache under
// tokens, so that a face above it may let somebody else (a kernel) cache, too.
//
// What is expected of the backend, X being an object:
//
//   - Before anything that covers reads of X is given up, for whatever reason (a recall, a
//     voluntary return, a lease that was lost and taken up again), every function given to
//     OnRevoke is called and has returned. No lock that any method of the Backend needs is held meanwhile.
//   - From before that call until the token of X is really given up, TTL(X) is 0; and reads of X
//     are still served by what is held. No read of X waits for the functions to return.
//   - A token that comes after is a new one: TTL(X) > 0 seen before a read and no call of the
//     functions for X since mean that the read was covered all the time.
type Coherent interface {
	// TTL is how long from now what the backend has just told of the object (attributes,
	// the names in a directory) may be served without asking again: at most what is left of the
	// lease, less a margin. 0: not at all; nothing is held, or it is being given up.
	TTL(id uint64) time.Duration
	// OnRevoke adds a function to be called before reads of the objects stop being covered. It may be called
	// from several goroutines at once. When it returns nobody above serves anything old of
	// these objects. When ctx ends first it returns as soon as it can, with that not yet sure.
	OnRevoke(fn func(ctx context.Context, revs []Revocation))
}

// Flusher is what a File offers when close(2) is to tell what a write behind met:
// Flush is called at each close of a descriptor, Close once, after the last.
type Flusher interface {
	Flush(ctx context.Context) error
}

// Witness is what a Coherent backend offers that orders what is done after what was read before. It takes reads that come to it for
// reads, and names that are made through it for seen; of what else a face's kernel shows without asking (pages that were
// written through a mapping) the face tells it.
type Witness interface {
	Seen(id uint64)
}

// BarrierXattr is the extended attribute whose setting, on a file or directory, is a barrier there: what was done to it
// so far comes before all that is done later. It is never stored. Where every
// operation is done when it returns it does nothing.
const BarrierXattr = "user.echo9.barrier"

// Nameless is what a directory offers that can make files without a name (O_TMPFILE). Such a file may get one by Link
// while it is open, unless flags has O_EXCL; without one it is no more when it is closed.
type Nameless interface {
	Tmpfile(ctx context.Context, cred *Cred, flags, mode, gid uint32) (Object, File, wire.Attr, error)
}

// Copier is what a File offers that can be copied to where it is kept, without its bytes coming here: at most n bytes at
// fromOff of from go to off. Fewer are copied at the end of from, or if that many would take long. EXDEV: read and write instead.
type Copier interface {
	CopyFrom(ctx context.Context, from File, fromOff, off, n int64) (int64, error)
}
