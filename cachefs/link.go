package cachefs

import "fmt"

// link says what is to be done about the connection: keep the lease, see that it is broken, connect again, resume.
// It is plain data; keepLink does what it says. Times are of the clock of leases.
type link struct {
	lease  int64 // of the session
	redial bool  // a new connection can be had

	state  linkState
	tries  int   // to connect since the last renewal
	at     int64 // when the next renewal, or try, is due
	asked  int64 // when the renewal under way was asked for; 0: there is none
	warned bool  // it was overdue when last looked at
	last   int64 // the latest time seen
}

type linkState uint8

const (
	linkUp       linkState = iota // requests go out
	linkBroken                    // waits to connect again
	linkDialing                   // connects
	linkResuming                  // resumes the session, on a new connection or on the one that is there
	linkDead                      // for good
)

var linkStates = [...]string{"up", "broken", "dialing", "resuming", "dead"}

func (s linkState) String() string { return linkStates[s] }

// linkEvent is what happened.
type linkEvent uint8

const (
	linkTick    linkEvent = iota // time has passed
	linkWanted                   // somebody waits for the lease, or for ids
	linkRenewed                  // the renewal was answered
	linkHeard                    // something else was, meanwhile
	linkOver                     // the server says that the session must be resumed
	linkBroke                    // the connection has ended, or could not be made
	linkDialed                   // there is a new one
	linkResumed                  // the session goes on
	linkRefused                  // the server will not have it
)

var linkEvents = [...]string{"tick", "wanted", "renewed", "heard", "over", "broke", "dialed", "resumed", "refused"}

func (e linkEvent) String() string { return linkEvents[e] }

// linkDo is what is to be done.
type linkDo uint8

const (
	linkNothing linkDo = iota
	linkRenew          // ask for the lease to be renewed; answer linkRenewed, linkOver
	linkHangUp         // nothing comes any more: end the connection; answer linkBroke
	linkDown           // requests wait from now on
	linkDial           // connect; answer linkDialed, linkBroke
	linkResume         // resume the session; answer linkResumed, linkBroke, linkRefused
	linkOnline         // requests go out
	linkEnd            // it is all over
)

var linkDos = [...]string{"nothing", "renew", "hang up", "down", "dial", "resume", "online", "end"}

func (d linkDo) String() string { return linkDos[d] }

const (
	firstRetry = 10e6 // ns
	lastRetry  = 1e9
)

func newLink(now, lease int64, redial bool) *link {
	return &link{lease: lease, redial: redial, at: now + lease/4, last: now}
}

// step takes in what happened and says what to do. jitter, from 0 to 1, spreads the clients of a server that comes back.
func (l *link) step(now int64, e linkEvent, jitter float64) linkDo {
	if now < l.last { // the clock was set back
		l.at = min(l.at, now+l.lease/4)
		if l.asked != 0 {
			l.asked = now
		}
	}
	l.last = now
	switch {
	case l.state == linkDead:
		return linkNothing
	case e == linkRefused, e == linkBroke && !l.redial:
		l.state = linkDead
		return linkEnd
	case e == linkBroke:
		first := l.state == linkUp
		l.state, l.asked, l.warned = linkBroken, 0, false
		l.at = now + l.delay(jitter)
		l.tries++
		if first {
			return linkDown
		}
		return linkNothing
	}
	switch l.state {
	case linkUp:
		return l.up(now, e)
	case linkBroken:
		if e == linkTick && now >= l.at {
			l.state = linkDialing
			return linkDial
		}
	case linkDialing:
		if e == linkDialed {
			l.state = linkResuming
			return linkResume
		}
	case linkResuming:
		if e == linkResumed {
			l.state, l.asked, l.warned, l.at = linkUp, 0, false, now+l.lease/4
			return linkOnline
		}
	}
	return linkNothing
}

// up is step while the connection is good as far as known.
func (l *link) up(now int64, e linkEvent) linkDo {
	switch e {
	case linkOver:
		l.state, l.asked, l.warned = linkResuming, 0, false
		return linkResume
	case linkRenewed:
		l.tries, l.asked, l.warned, l.at = 0, 0, false, now+l.lease/4
	case linkHeard:
		if l.asked != 0 {
			l.asked, l.warned = now, false
		}
	case linkWanted, linkTick:
		switch {
		case l.asked == 0 && (e == linkWanted || now >= l.at):
			l.asked, l.warned = now, false
			return linkRenew
		case l.asked != 0 && now-l.asked >= l.lease/4 && !l.warned:
			// Whoever was stopped himself finds the answer in a moment.
			l.warned, l.asked = true, now-l.lease/4
		case l.warned && now-l.asked >= l.lease/4+l.lease/16:
			return linkHangUp
		}
	}
	return linkNothing
}

// delay is how long to wait until the next try.
func (l *link) delay(jitter float64) int64 {
	d := float64(firstRetry)
	for range min(l.tries, 10) {
		d *= 2
	}
	d = min(d, lastRetry)
	return int64(d/2 + d/2*jitter)
}

// wait is how long until a linkTick is due.
func (l *link) wait(now int64) int64 {
	until := int64(lastRetry)
	switch {
	case l.state == linkBroken:
		until = l.at - now
	case l.state == linkUp && l.asked == 0:
		until = l.at - now
	case l.state == linkUp && l.warned:
		until = l.asked + l.lease/4 + l.lease/16 - now
	case l.state == linkUp:
		until = l.asked + l.lease/4 - now
	}
	return min(max(until, 1e6), max(l.lease/4, lastRetry))
}

func (l *link) String() string { return fmt.Sprintf("%v, %d tries", l.state, l.tries) }
