package p9srv

import (
	"slices"
	"time"

	"echo9/p9srv/stable"
)

// Death is a session whose client had work that had not reached the server when it was last heard of.
type Death struct {
	Session uint64    `json:"session"`
	UID     uint32    `json:"uid"`
	Name    string    `json:"name"` // what its client said for people: user@host, process
	Peer    string    `json:"peer"`
	At      time.Time `json:"at"` // when it ended, or was last heard of
	// Away: its lease is over, but it may come back.
	Away bool `json:"away"`
}

// Deaths tells of a user's sessions that died with work pending, the oldest first, until DeathsTold.
func (a *Authority) Deaths(uid uint32) []Death {
	a.mu.Lock()
	defer a.unlock(nil)
	var out []Death
	for _, d := range a.deaths {
		if d.UID == uid {
			out = append(out, Death{Session: d.Session, UID: uid, Name: d.Name, Peer: d.Peer, At: time.Unix(0, d.Time)})
		}
	}
	now := a.cfg.Clock()
	for _, s := range a.sessions {
		if s.pending && s.over && s.conn == nil && s.owner() == uid && !s.deathTold {
			out = append(out, Death{
				Session: s.id, UID: uid, Name: s.name, Peer: s.peer.Addr, At: time.Now().Add(time.Duration(s.since - now)), Away: true,
			})
		}
	}
	slices.SortFunc(out, func(x, y Death) int { return x.At.Compare(y.At) })
	return out
}

// DeathsTold says that the user knows of these.
func (a *Authority) DeathsTold(deaths []Death) {
	if len(deaths) == 0 {
		return
	}
	a.mu.Lock()
	defer a.unlock(nil)
	told := stable.Record{Kind: stable.DeathTold}
	for _, d := range deaths {
		if s := a.sessions[d.Session]; s != nil && d.Away {
			s.deathTold = true
			continue
		}
		told.Sessions = append(told.Sessions, d.Session)
	}
	a.deaths = slices.DeleteFunc(a.deaths, func(d stable.Death) bool { return slices.Contains(told.Sessions, d.Session) })
	a.note(told)
}

// maxDeaths bounds those that are remembered.
const maxDeaths = 1000

// died remembers that a session ended with work pending. mu is held.
func (a *Authority) died(s *session) {
	if len(a.deaths) == maxDeaths {
		a.deaths = slices.Delete(a.deaths, 0, 1)
	}
	a.deaths = append(a.deaths, stable.Death{Session: s.id, UID: s.owner(), Name: s.name, Peer: s.peer.Addr, Time: time.Now().UnixNano()})
}
