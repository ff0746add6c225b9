// Package p9client is the client's side of 9P2000.L.
//
// A [Conn] is one connection: version negotiation, tags, requests in flight,
// cancellation by Tflush, replies in the order in which they came. It carries
// the extension's messages as well, which the token channel of cachefs needs.
//
// A [Tree], from [Dial], is a plain, uncached tree over any 9P2000.L server: a
// p9srv.Backend whose objects are fids. It speaks only what every server knows.
//
// # Promises
//
// A peer that breaks the protocol ends its connection with an error that names
// the broken rule, and all that was pending fails with it: no request is left
// hanging, no goroutine remains. A cancelled request has either not happened or
// its reply is returned: its tag is not used again before the server has
// answered the flush. There are servers that reply to a request after they said
// that it is flushed (diod): such a reply is dropped, never taken for that of
// another request, and what it made is given up; on their connections a
// cancelled request may have happened.
//
// # Concurrency
//
// All methods may be called from many goroutines at once. A Conn has a reader
// goroutine, on which the done functions of Go run one by one, in the order of
// the replies, and a writer goroutine for what Go sends; RPC writes by itself
// when nobody else does. One mutex guards the tags and the queue of frames; it
// is never held while a frame is written, read, or a done function runs. The
// fids have their own, which is taken last.
//
// # Deadlocks
//
// A done function that waits for another reply of the same Conn waits for ever.
// It may start requests with Go, which never blocks, and nothing else.
package p9client
