package p9srv

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"echo9/tokens"
)

// String is the status for people.
func (st Status) String() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("server   up %s, epoch %d, lease %v\n", short(st.Up), st.Epoch, st.Lease)
	if g := st.Grace; g != nil {
		p("grace    waits for %d sessions of before the restart, at most %s\n", g.Awaited, short(g.Left))
	}
	away, held, writes := 0, 0, 0
	for _, s := range st.Sessions {
		held, writes = held+s.Tokens, writes+s.Writes
		if !s.Connected {
			away++
		}
	}
	p("sessions %d, %d of them away; they hold %d tokens for reading, %d for writing\n", len(st.Sessions), away, held-writes, writes)
	if st.Others > 0 {
		p("others   %d sessions of other users\n", st.Others)
	}
	for _, s := range st.Sessions {
		p("%s\n", s)
	}
	for _, w := range st.Waiting {
		p("waiting  %s\n", w.line(st.Sessions))
	}
	if st.More {
		p("waiting  more than these\n")
	}
	p("so far   %d grants, %d recalls, the longest %s; %d cuts applied, %d refused, %d fenced, %d stale requests; %d leases over, %d tokens taken; %d of %d plain operations waited\n",
		st.Grants, st.Recalls, short(st.LongestRecall), st.CutsApplied, st.CutsRefused, st.CutsFenced, st.Stale, st.LeasesOver, st.TokensTaken, st.PlainWaited, st.PlainAsked)
	for _, e := range st.Events {
		p("event    %s\n", e)
	}
	return b.String()
}

// String is the session as a line.
func (s SessionStatus) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %s, %s", "no. "+strconv.FormatUint(s.ID, 10), quoted(s.Name), s.Peer)
	if s.AnyUser {
		b.WriteString(", acts for others too")
	}
	state := "connected"
	if !s.Connected {
		state = "away"
	}
	fmt.Fprintf(&b, ": %s for %s", state, short(s.Since))
	if s.Expired {
		b.WriteString(", its lease is over")
	} else {
		fmt.Fprintf(&b, ", lease %s", short(s.Left))
	}
	fmt.Fprintf(&b, "; %d tokens, %d for writing", s.Tokens, s.Writes)
	if s.Recalled > 0 {
		fmt.Fprintf(&b, ", %d wanted back for %s", s.Recalled, short(s.Wanted))
	}
	if s.Cuts > 0 {
		fmt.Fprintf(&b, "; %d cuts under way", s.Cuts)
	}
	if s.Pending {
		b.WriteString("; has work that is not here")
	}
	return b.String()
}

// line says who waits, for how long, for what, and who is in the way.
func (w WaitStatus) line(sessions []SessionStatus) string {
	var wants []string
	for _, e := range w.Wants {
		what := fmt.Sprintf("object %d", e.Object)
		switch {
		case e.Object == tokens.DirMove:
			what = "moving directories"
		case e.Path != "":
			what = quoted(e.Path)
		}
		if e.Name != "" {
			what = quoted(e.Name) + " in " + what
		}
		wants = append(wants, e.Mode+" of "+what)
	}
	who := quoted(w.Who)
	if w.Session != 0 {
		who = fmt.Sprintf("session %d (%s)", w.Session, quoted(w.Who))
	}
	line := fmt.Sprintf("%s  %s for %s", short(w.Since), who, strings.Join(wants, ", "))
	if len(w.For) == 0 {
		return line
	}
	var holders []string
	for _, id := range w.For {
		holder := strconv.FormatUint(id, 10)
		if i, ok := slices.BinarySearchFunc(sessions, id, func(s SessionStatus, id uint64) int { return cmp.Compare(s.ID, id) }); ok {
			holder += " (" + quoted(sessions[i].Name) + ")"
		}
		holders = append(holders, holder)
	}
	return line + ": session " + strings.Join(holders, ", ") + " has it"
}

// short is a duration as people read it.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return d.Round(time.Minute).String()
}

// quoted is text from a client, made harmless for a terminal.
func quoted(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
