package tokens

// rule is one rule of the protocol, with the smallest worlds in which it matters.
type rule struct {
	name  string
	off   func(sc *scenario) // switches it off
	world scenario
}

// rules are those of the protocol, by their numbers.
var rules = []rule{
	{
		name: "01-generations", off: func(sc *scenario) { sc.off.gen = true },
		world: scenario{progs: []string{"w:X", "r:X, r:X w:Y"}, returns: 1},
	},
	{
		name: "02-fifo", off: func(sc *scenario) { sc.shell.fifo = true },
		world: scenario{progs: []string{"w:X", "w:X"}},
	},
	{
		name: "03-fresh-generations", off: func(sc *scenario) { sc.off.freshGen = true },
		world: scenario{progs: []string{"w:X", "r:X, r:X w:Y"}, returns: 1},
	},
	{
		name: "04-recall-covers", off: func(sc *scenario) { sc.off.recallCovers = true },
		world: scenario{progs: []string{"r:X w:Y, w:X", "w:X"}, breaks: 1},
	},
	{
		name: "05-fence-since", off: func(sc *scenario) { sc.off.looseFence = true },
		world: scenario{progs: []string{"w:X, w:X w:Y", "r:Y"}, behind: true},
	},
	{
		name: "06-read-fence", off: func(sc *scenario) { sc.shell.readFence = true },
		world: scenario{progs: []string{"r:X w:Y", "w:X"}, behind: true, breaks: 1},
	},
	{
		name: "06-read-flush", off: func(sc *scenario) { sc.shell.readFlush = true },
		world: scenario{progs: []string{"r:X w:Y", "w:X"}, behind: true},
	},
	{
		name: "07-install-over", off: func(sc *scenario) { sc.off.installOver = true },
		world: scenario{progs: []string{"w:X, w:X w:Y", "r:Y"}},
	},
	{
		name: "07-generation-at-install", off: func(sc *scenario) { sc.off.genInstall = true },
		world: scenario{progs: []string{"w:X", "w:X"}, fetch: true, ends: 1, seldom: true},
	},
	{
		name: "08-succession", off: func(sc *scenario) { sc.off.succession = true },
		world: scenario{progs: []string{"w:X w:Y, w:Y", "w:X"}, behind: true, pipe: true, ends: 1},
	},
	{
		name: "09-busy", off: func(sc *scenario) { sc.off.busy = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, behind: true, slow: true, breaks: 1},
	},
	{
		name: "09-busy-over", off: func(sc *scenario) { sc.off.busyOver = true },
		world: scenario{progs: []string{"r:Y w:X", "r:Y"}, setup: []string{"w:Y"}, behind: true, slow: true, ends: 1},
	},
	{
		name: "10-old-connection", off: func(sc *scenario) { sc.shell.oldConn = true },
		world: scenario{progs: []string{"w:X w:Y, w:X", "r:Y"}, behind: true, breaks: 1},
	},
	{
		name: "10-running-cut", off: func(sc *scenario) { sc.off.waitBusy = true },
		world: scenario{progs: []string{"w:X w:Y, w:X", "r:Y"}, behind: true, slow: true, breaks: 1},
	},
	{
		name: "11-last-cut-first", off: func(sc *scenario) { sc.shell.lossFirst = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, behind: true, breaks: 1},
	},
	{
		name: "12-pin-lost", off: func(sc *scenario) { sc.off.pinLost = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, breaks: 1},
	},
	{
		name: "13-lease-from-request", off: func(sc *scenario) { sc.shell.leaseFromSend = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, stops: 1},
	},
	{
		name: "13-overdue", off: func(sc *scenario) { sc.off.overdue = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, unwilling: 1},
	},
	{
		name: "14-extend-over", off: func(sc *scenario) { sc.off.extendOver = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, stops: 1, renews: 1, large: true},
	},
	{
		name: "15-serve-over", off: func(sc *scenario) { sc.off.serveOver = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, breaks: 1},
	},
	{
		name: "13-short-grace", off: func(sc *scenario) { sc.shell.shortGrace = true },
		world: scenario{progs: []string{"w:X", "w:X"}, crashes: 1, large: true},
	},
	{
		name: "16-recorded", off: func(sc *scenario) { sc.shell.volatile = true },
		world: scenario{progs: []string{"w:X"}, plain: []string{"w:X"}, ends: 1, crashes: 1},
	},
	{
		name: "16-record-first", off: func(sc *scenario) { sc.off.recordFirst = true },
		world: scenario{progs: []string{"w:X"}, plain: []string{"r:X", "r:X"}, ends: 1, crashes: 1, slowly: true, seldom: true},
	},
	{
		name: "16-tell-lost", off: func(sc *scenario) { sc.off.tellLost = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, breaks: 1},
	},
	{
		name: "17-take-less", off: func(sc *scenario) { sc.off.takeLess = true },
		world: scenario{progs: []string{"r:X w:Y, w:X", "r:X"}, breaks: 1},
	},
	{
		name: "18-take-and-grant", off: func(sc *scenario) { sc.off.takeAndGrant = true },
		world: scenario{progs: []string{"r:X", "w:X"}, unwilling: 1, loop: 1, overtakes: 2, bypass: 1},
	},
	{
		name: "19-recall-again", off: func(sc *scenario) { sc.off.recallAgain = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, breaks: 1},
	},
	{
		name: "19-answer-always", off: func(sc *scenario) { sc.off.answerAlways = true },
		world: scenario{progs: []string{"w:X w:Y", "w:X"}, breaks: 1, returns: 1, large: true},
	},
	{
		name: "20-serve-unreclaimed", off: func(sc *scenario) { sc.off.serveUnreclaimed = true },
		world: scenario{progs: []string{"w:X", "w:X"}, crashes: 1, large: true},
	},
	{
		name: "21-await-all", off: func(sc *scenario) { sc.off.awaitAll = true },
		world: scenario{progs: []string{"w:X", ""}, plain: []string{"r:X"}, crashes: 1, large: true},
	},
	{
		name: "21-only-reclaims", off: func(sc *scenario) { sc.off.graceWait = true },
		world: scenario{progs: []string{"w:X"}, plain: []string{"r:X"}, crashes: 1},
	},
	{
		name: "22-missed", off: func(sc *scenario) { sc.off.missedEarlier = true },
		world: scenario{progs: []string{"w:X"}, plain: []string{"r:X"}, crashes: 2, large: true},
	},
	{
		name: "22-done-alone", off: func(sc *scenario) { sc.shell.doneAlone = true },
		world: scenario{progs: []string{"w:X"}, plain: []string{"r:X"}, crashes: 2, large: true},
	},
	{
		name: "22-done-recorded", off: func(sc *scenario) { sc.shell.doneVolatile = true },
		world: scenario{progs: []string{"w:X"}, plain: []string{"r:X"}, crashes: 2, large: true},
	},
	{
		name: "23-late-conflict", off: func(sc *scenario) { sc.off.lateConflict = true },
		world: scenario{progs: []string{"w:X"}, plain: []string{"r:X"}, crashes: 1},
	},
	{
		name: "23-reclaim-less", off: func(sc *scenario) { sc.off.reclaimLess = true },
		world: scenario{progs: []string{"r:X w:Y"}, plain: []string{"r:X"}, setup: []string{"w:X"}, crashes: 1},
	},
	{
		name: "24-reclaim-again", off: func(sc *scenario) { sc.off.reclaimAgain = true },
		world: scenario{progs: []string{"w:X"}, breaks: 1, crashes: 1},
	},
	{
		name: "25-told-first", off: func(sc *scenario) { sc.off.forgetTold = true },
		world: scenario{progs: []string{"w:X"}, plain: []string{"w:X"}, ends: 1, crashes: 1},
	},
	{
		name: "25-only-told", off: func(sc *scenario) { sc.off.forgetOnlyTold = true },
		world: scenario{progs: []string{"w:X, r:Y", "w:X"}, ends: 2},
	},
	{
		name: "25-forgotten-first", off: func(sc *scenario) { sc.off.forgetFirst = true },
		world: scenario{progs: []string{"w:X"}, plain: []string{"r:X"}, ends: 1, crashes: 1, slowly: true, large: true},
	},
	{
		name: "names-fresh", off: func(sc *scenario) { sc.off.resolveFresh = true },
		world: scenario{progs: []string{"w:X", "w:D"}, plain: []string{"r:D w:D/n"}},
	},
	{
		name: "bounded-bypass", off: func(sc *scenario) { sc.off.bypass = true },
		world: scenario{progs: []string{"r:Y", "w:X"}, plain: []string{"w:X w:Y", "w:X, w:X, w:X, w:X"}, overtakes: 3, bypass: 1, setup: []string{"w:Y"}, large: true},
	},
}
