// Package wire is every frame that echo9 sends or understands: 9P2000.L,
// Google's additions to it, and the extension (ExtVersion), as plain structs,
// with their encoding, decoding and trace format.
//
// A frame is size[4] type[1] tag[2] body, little endian, size counting itself.
// [AppendFrame] encodes, [Decode] decodes a body, [Reader] takes frames off a
// connection, [Trace] prints one.
//
// # Promises
//
// Decoding is strict: a body that is too short, has bytes left over, or has a
// count that the rest cannot hold gives a *[ProtocolError] that names the
// message and the rule. Nothing is allocated on the word of a count alone.
// Payloads (Data, Bytes, Inline) alias the body that was decoded; strings are
// copies.
//
// Two messages are taken in a shorter or looser form than they are sent: Tfsync
// may lack its last field (Google's client leaves it out), and the seconds and
// nanoseconds of 9P2000.L, which clients leave unset where they are not valid,
// are clamped to what an int64 of nanoseconds holds.
//
// This package does no I/O but Reader's, and knows nothing of fids or tokens:
// it says how messages look, not what they may do.
//
// # Concurrency
//
// Messages are values without locks; a Reader belongs to one goroutine.
package wire
