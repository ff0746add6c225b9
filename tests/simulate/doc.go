// Package simulate runs whole systems in one process: a server and its clients,
// made of the real cores (tokens.Manager, tokens.Holder, cachefs/order) with small
// models of the shells around them, and connections that clog and break.
//
// A world is played from a seed: each step is one thing that may happen next, and
// time passes between them. Clients are stopped, killed, cut off and come back;
// the server crashes and comes back with what is in its stable storage, with
// somebody else's edits made in between. After each step the world is compared with
// what was promised:
//
//   - no two clients would serve an object in conflicting modes;
//   - whoever reads, sees what the server has with his own pending work on top,
//     and nobody else's work that he did not see can be applied any more;
//   - the server's state is that of the applied operations, done one after the other
//     in the order in which they were performed, cut by cut;
//   - what was acknowledged is in every later state; what is lost was reported, and
//     had a reason;
//   - when the faults end, everybody gets on, and everything pending is at the server.
//
// [Run] plays one world; a failure comes with its seed and the shortest story found
// that leads to it. The mechanisms of the shells, and some rules of the cores, can be broken
// (see [Mutants]): the tests show that worlds notice.
//
// It never does I/O, and equal seeds give equal worlds.
//
// # Concurrency
//
// A world is used by one goroutine; worlds share nothing.
package simulate
