package cachefs

// What Options.Mutant may be: each breaks one mechanism, and some test sees it.
const (
	mutantSkipRecall    = "skipRecall"     // a token goes back before its cut is applied
	mutantIgnoreRecall  = "ignoreRecall"   // it goes back, and the cache is served on
	mutantWrongOrder    = "wrongOrder"     // a rename does not come after what was written to the file
	mutantIgnoreBarrier = "ignoreBarrier"  // barriers do nothing
	mutantNoDependents  = "keepDependents" // what needs a refused operation does not go with it
	mutantIgnoreReads   = "ignoreReads"    // with the order causal, what was read does not count
	mutantUnbounded     = "unbounded"      // any amount of data comes before a name
	mutantNothingBelow  = "nothingBelow"   // the rename of a directory is ordered with nothing below it
	mutantOldPlaces     = "oldPlaces"      // what was known of where an object lies is believed when its token is gone
	mutantGhosts        = "ghosts"         // an object without names counts as lying where it was
	mutantTakeAll       = "takeAll"        // what the server is sure to refuse is taken on
	mutantNoSpace       = "noSpace"        // data is taken on whether space is set aside for it or not
	mutantResendBlind   = "resendBlind"    // after a break the server's word on the last cut is not heard
	mutantServeOver     = "serveOver"      // the cache is served though the lease is over
	mutantNoReclaim     = "noReclaim"      // what was held is served on after the server's restart without asking
	mutantBelieveStale  = "believeStale"   // ESTALE always says that an object is gone
	mutantTellNothing   = "tellNothing"    // the server is not told that what was lost is not open here
	mutantLockedOn      = "lockedOn"       // who had a lock that is lost goes on by what he has open
	mutantLateBacklog   = "lateBacklog"    // operations return before they are in the backlog
	mutantForgetFirst   = "forgetFirst"    // what is lost is forgotten before it is kept
	mutantTellNoHeir    = "tellNoHeir"     // who opens an object after a loss is not told of it, though nobody else was
	mutantOneByOne      = "oneByOne"       // the write tokens of a directory's files are never asked for ahead
	mutantPublish       = "publish"        // what lost its content, of which nobody was told, gets another name nevertheless
)
