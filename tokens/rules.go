package tokens

// rulesOff switches rules of the protocol off, one by one. Only tests set any:
// they show that the exploration finds what each rule prevents.
type rulesOff struct {
	gen              bool // 1: an older generation changes nothing
	freshGen         bool // 3: every element of a grant gets a new generation
	recallCovers     bool // 4: a recall of g covers every generation up to g
	looseFence       bool // 5: the fence means "since", not "is"
	installOver      bool // 7: nothing is installed over what is validly held
	genInstall       bool // 7: fetched data needs its generation
	succession       bool // 8: cut n follows cut n-1
	busy             bool // 9: operands are busy while their cut is applied
	busyOver         bool // 9: what the session of a cut holds of what it only read can be taken afterwards
	waitBusy         bool // 10: a resumed session is answered after its running cut
	pinLost          bool // 12: an operation whose token was lost does not go on
	overdue          bool // 13: no extension while a recall is overdue
	extendOver       bool // 14: no extension once the lease is over
	serveOver        bool // 15: nothing is served past the lease
	tellLost         bool // 16: what was taken is remembered until the session was told
	takeLess         bool // 17: only as much is taken as is wanted
	takeAndGrant     bool // 18: taken and granted in one step
	recallAgain      bool // 19: recalls still wanted are sent again
	answerAlways     bool // 19: a recall of what is not held is answered
	recordFirst      bool // 16: nobody gets anything of what was taken before that is on record
	awaitAll         bool // 21: the grace period ends when all known sessions have said that they are done, or with its time
	graceWait        bool // 21: in the grace period only reclaims are granted
	serveUnreclaimed bool // 20: a lease of a new epoch counts when all is reclaimed
	recordLost       bool // 16: what is on record as lost is not reclaimed
	missedEarlier    bool // 22: who missed an earlier grace period reclaims nothing
	recallReclaimed  bool // what is reclaimed while it is wanted back is recalled again
	reclaimAgain     bool // 24: what was reclaimed may be reclaimed again
	forgetTold       bool // 25: what was taken is on record until the client was heard on the connection on which it was told
	forgetFirst      bool // 25: what was taken is off the record before it is granted to the same session again
	forgetOnlyTold   bool // 25: and only that is forgotten then which it was told
	lateConflict     bool // 23: nothing is reclaimed that somebody was granted in a conflicting mode
	reclaimLess      bool // 23: what cannot be reclaimed for writing may be for reading
	resolveFresh     bool // (D, name): an answer is good only while D was not written
	bypass           bool // bounded bypass
	tryMoved         bool // only those are tried again who want an object in a mode in which it came free
	tryLess          bool // and of those, only whom nothing else about that object keeps back
	countWrites      bool // what a session has for writing is counted as it changes
	oldestRecall     bool // the recall that is told of as the oldest is one that is still wanted
}
