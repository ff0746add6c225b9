package simulate

// The mechanisms that can be broken.
const (
	resendBlind       = "resend-blind"        // a cut is sent again though Rsession says it was applied
	lossBeforeCut     = "loss-before-cut"     // losses are taken in before the last cut
	oldConnection     = "old-connection"      // the server reads on from a connection that was replaced
	leaseFromReply    = "lease-from-reply"    // the lease counts from the reply
	serveOver         = "serve-over"          // a client past its lease serves
	grantBeforeRecord = "grant-before-record" // what was taken is granted before that is durable
	missedUnrecorded  = "missed-unrecorded"   // who missed a grace period may reclaim in a later one
	noGrace           = "no-grace"            // a server that comes back grants at once
	keepOverEpoch     = "keep-over-epoch"     // a client goes on with its tokens in a new epoch
	versionUnchecked  = "version-unchecked"   // what was changed while the server was away is taken for unchanged
	ackBeforeLog      = "ack-before-log"      // a cut is acknowledged before it is durable
	tornCut           = "torn-cut"            // a crash leaves half a cut
	lastCutVolatile   = "last-cut-volatile"   // the last cut's number is not stable
	completeVolatile  = "complete-volatile"   // that a late client has reclaimed all is answered before it is durable
	silentLoss        = "silent-loss"         // lost work is not reported
	installOver       = "install-over"        // what comes along is installed over what is held
	noFence           = "no-fence"            // cuts are applied whatever was taken
	noFlush           = "no-flush"            // a token goes back before what was done under it
	noReadFlush       = "no-read-flush"       // a read token does
)

// Mutants are the values of Config.Broken.
func Mutants() []string {
	return []string{resendBlind, lossBeforeCut, oldConnection, leaseFromReply, serveOver, grantBeforeRecord, missedUnrecorded, noGrace, keepOverEpoch, completeVolatile,
		versionUnchecked, ackBeforeLog, tornCut, lastCutVolatile, silentLoss, installOver, noFence, noFlush, noReadFlush}
}
