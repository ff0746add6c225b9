package p9srv

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"echo9/internal/wire"
)

// Event is something of which an administrator, or the user whom it concerns, should know also later: a session that
// died with work pending, a token that was taken.
type Event struct {
	At   time.Time `json:"at"`
	UID  uint32    `json:"uid"` // whom it concerns; wire.NoUID: nobody in particular
	Text string    `json:"text"`
}

// String is the event as a line.
func (e Event) String() string {
	return e.At.Format(time.RFC3339) + " " + strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?' // names come from clients
		}
		return r
	}, e.Text)
}

// maxEvents is how many events are remembered, and statusEvents how many a picture of the whole has.
const (
	maxEvents    = 1000
	statusEvents = 20
)

// eventLog is the last events, oldest first.
type eventLog struct {
	mu   sync.Mutex
	list []Event
}

func (l *eventLog) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == maxEvents {
		l.list = slices.Delete(l.list, 0, 1)
	}
	l.list = append(l.list, e)
}

// last gives the last n events of those that are shown.
func (l *eventLog) last(n int, shown func(Event) bool) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Event
	for i := len(l.list) - 1; i >= 0 && len(list) < n; i-- {
		if shown(l.list[i]) {
			list = append(list, l.list[i])
		}
	}
	slices.Reverse(list)
	return list
}

// event logs something of session s, or of none, and keeps it for the status. It may be called with Authority.mu held.
func (a *Authority) event(s *session, format string, args ...any) {
	a.cfg.Logf("%s", a.remember(s, format, args...))
}

// notice is event for what is told in any case.
func (a *Authority) notice(s *session, format string, args ...any) {
	a.cfg.Noticef("%s", a.remember(s, format, args...))
}

func (a *Authority) remember(s *session, format string, args ...any) string {
	text, uid := fmt.Sprintf(format, args...), wire.NoUID
	if s != nil {
		uid = s.owner()
	}
	a.events.add(Event{time.Now(), uid, text})
	return text
}

// owner is the user whose the session is.
func (s *session) owner() uint32 {
	if s.uid != wire.NoUID {
		return s.uid
	}
	return s.cred.UID
}
