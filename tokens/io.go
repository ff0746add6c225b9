package tokens

// Input is something that happened. Kind says what, and which fields count;
// slices in it are not changed, and kept only where their field says so.
type Input struct {
	Kind    InKind
	Session SessionID
	Req     ReqID

	// Elems is the set of a Request; the Manager keeps it until the request is
	// over (granted and Sent, Done, denied or cancelled).
	Elems []Elem
	// Plain (Request): the operation of a plain client, or with a Session one of
	// the session's connection, let in by what the session holds. It has its
	// tokens from Granted until Done; there is no Sent.
	Plain bool
	// Try (Request): deny it rather than let it wait; nobody is recalled.
	Try bool
	// Offer (Request): grant each element for itself, only where nobody is in the
	// way, nobody waits and the session has less; recalls nobody, never waits.
	// For tokens that ride on other replies, and those asked for ahead. The elements have no names.
	Offer bool
	// Raise (Request with Offer): only what the session holds already, and is not asked to give back.
	Raise bool

	Elem int  // Resolved: index of the element
	ID   ID   // Resolved: the object (see Bound); Return
	Gen  Gen  // Return
	Keep Mode // Return: what the session keeps

	Bound bool // Resolved: the name is bound (to ID)

	N int // Posted: how many more Trecalls; below 0: how many were flushed

	Lost   []Lost // Restore: what was taken, and its client was not told of
	Missed bool   // Restore: it did not reclaim all that it wanted in the grace period of an earlier epoch

	Cut     uint64 // SessionOpen, Restore: last applied; Commit, Progress, Committed
	Fence   []Held // Commit; kept until Committed
	Born    []Born // Commit; kept until Committed
	Applied bool   // Committed
}

// InKind says what an Input is.
type InKind uint8

// The kinds of inputs.
const (
	// InSessionOpen: Session exists, is connected, has a fresh lease, and its last
	// applied cut is Cut. (A Session that is already there is the shell's mistake: panic.)
	InSessionOpen InKind = 1 + iota
	// InSessionGone: Session ended or is known dead: all it has is free at once. Plain
	// operations and a cut that are running go on to their Done and Committed.
	InSessionGone
	// InDisconnected: Session's connection is gone. Its requests that wait or were
	// not Sent are forgotten (no output comes for them), commits that wait as well,
	// Trecalls are no longer posted. Plain operations of the connection are the shell's to Cancel.
	InDisconnected
	// InConnected: Session's client is back (Tsession with resume): on a new connection,
	// after InDisconnected, and what lay unread on the old one is thrown away before; or on
	// the same connection, since its lease was over: then requests that wait are denied.
	// OutResumed comes at once, or when the cuts that came whole are finished; Rsession is
	// the first message on a new connection.
	InConnected
	// InTold: the client has sent something after it got Rsession on the present
	// connection: it knows what it lost, which is now forgotten.
	InTold
	// InRequest: Session (0: a plain client) asks for Elems.
	InRequest
	// InCancel: Req is no longer wanted. If it waits it is taken out; if it was granted but not
	// Sent its tokens are taken back silently; if it was Sent nothing happens.
	// A plain request that was granted stays until Done.
	InCancel
	// InResolved answers OutResolve (Req, Elem): Bound to ID, or not. Late ones are ignored.
	InResolved
	// InSent: the reply with Req's grant is on the FIFO of the session's connection;
	// recalls of it may follow.
	InSent
	// InDone: the plain operation Req has ended.
	InDone
	// InReturn: Session gives back ID, generations up to Gen, down to Keep.
	InReturn
	// InPosted: Session posted N Trecalls more. Each OutRecall uses one up.
	InPosted
	// InProgress: a part of a cut came, not its last.
	InProgress
	// InCommit: the last part of Session's Cut came, with its Fence and what it creates.
	InCommit
	// InCommitted answers OutCommitGo: the cut was Applied, or nothing of it was.
	InCommitted
	// InRecorded answers OutRevoked and OutForget with a Req: what they say is durable. Only with Config.Record.
	InRecorded
	// InTick: time has passed; due at Next at the latest.
	InTick
	// InRestore: Session was known before the server was started again: it is away, holds nothing and must
	// resume; Cut is its last applied one, Lost what is on record. Who Missed an earlier grace period reclaims nothing.
	InRestore
	// InGrace: all known sessions are restored. Until OutGraceOver, which comes at once if nobody has to be awaited, only
	// reclaims are granted, and what a session's own plain operations may do by what it has reclaimed; others wait.
	InGrace
	// InReclaim: Session asks for Elems, without names, which it held in the epoch before. OutGranted comes at once,
	// with Mode None for what cannot be had, Read for what only can be had so; then InSent as for a Request. It may be asked again, also after InReclaimed:
	// then it gets what it has.
	InReclaim
	// InReclaimed: Session has reclaimed all that it wants, and says so in a message that it sent when it knew what it could not have. If it
	// missed the grace period of this epoch, or of an earlier one, that this is over must be durable before the answer: from the answer on its
	// lease counts, and the next epoch awaits who has a lease.
	InReclaimed
	// InMissedRecorded answers OutMissed: it is durable.
	InMissedRecorded
)

// Output is something for the shell to do, in the order given. What its slices
// hold is valid until the next Step.
type Output struct {
	Kind    OutKind
	Session SessionID
	Req     ReqID

	Elem int    // Resolve
	ID   ID     // Resolve: the directory; Revoked; CommitRefused by the fence
	Name string // Resolve

	Tokens []Token // Granted: one for each element, in the order asked
	Denied Denial  // Denied, CommitRefused

	Recalls []Recall // Recall
	Any     int      // Recall: any so many tokens are wanted back, too

	Gen  Gen  // Revoked
	Keep Mode // Revoked: what is left

	Cut    uint64      // CommitGo, CommitRefused, CommitKnown; Resumed: the last applied
	Lost   []Lost      // Resumed, Forget
	Missed []SessionID // Missed
	Lease  int64       // Resumed: what Rsession carries
}

// OutKind says what an Output is.
type OutKind uint8

// The kinds of outputs.
const (
	// OutResolve: find what Name is bound to in directory ID now, and answer InResolved.
	OutResolve OutKind = 1 + iota
	// OutGranted: Req has its tokens. A plain operation runs, then InDone. Else fetch what
	// goes along (nobody changes it meanwhile), put the reply on the FIFO, then InSent.
	OutGranted
	// OutDenied: Req will not be granted; it is over.
	OutDenied
	// OutRecall: answer one posted Trecall of Session, behind all that was Sent to it before.
	OutRecall
	// OutRevoked: Session lost ID, generations up to Gen, down to Keep, for Req. With
	// Config.Record: make it durable, then InRecorded for Req (once, when all of a Step's are, and OutForget's).
	OutRevoked
	// OutCommitGo: the fence holds: apply Cut, then InCommitted.
	OutCommitGo
	// OutCommitRefused: Cut is refused, nothing is applied: Denied says why, ID which token.
	OutCommitRefused
	// OutCommitKnown: Cut was applied before: say so again.
	OutCommitKnown
	// OutResumed answers InConnected: Session's last cut, and what it lost while it was away.
	// Recalls still wanted follow when Trecalls are posted.
	OutResumed
	// OutExpired: Session's lease is over. It keeps what nobody wants until it resumes.
	OutExpired
	// OutMissed: the time of the grace period is over, and Missed have not reclaimed all that they want. Make it
	// durable, then InMissedRecorded: nothing is granted before. They may reclaim late, but not in a later epoch.
	OutMissed
	// OutGraceOver: the grace period is over.
	OutGraceOver
	// OutForget: Session's client knows of Lost. With Config.Record: what was recorded of these may be forgotten. With a Req
	// it must be, durably, as for OutRevoked: Req gets the tokens again.
	OutForget
)

// Denial says why a request was denied or a cut refused.
type Denial uint8

// The reasons for a denial.
const (
	_               Denial = iota
	DeniedWait             // Try: it would have to wait (EAGAIN)
	DeniedExpired          // the session's lease is over: it must resume (ESTALE)
	DeniedLimit            // too many tokens or too many requests (EAGAIN, ENFILE)
	DeniedInvalid          // malformed: no elements, a bad mode, a name without its directory (EINVAL)
	DeniedSession          // the session does not exist
	DeniedFence            // a token of the cut's fence was not held all the time (CommitFenced)
	DeniedOutOfTurn        // the cut's number is not the next one (CommitOutOfOrder)
)
