package tokens

import (
	"fmt"
	"strconv"
	"strings"
)

// words names ids for people.
type words struct {
	object  func(ID) string
	session func(SessionID) string
}

var numbers = words{
	object:  func(id ID) string { return strconv.FormatUint(id, 10) },
	session: func(s SessionID) string { return "s" + strconv.FormatUint(uint64(s), 10) },
}

var denials = [...]string{
	DeniedWait: "would wait", DeniedExpired: "expired", DeniedLimit: "limit", DeniedInvalid: "invalid",
	DeniedSession: "no session", DeniedFence: "fence", DeniedOutOfTurn: "out of turn",
}

func (d Denial) String() string {
	if int(d) < len(denials) && d != 0 {
		return denials[d]
	}
	return fmt.Sprintf("Denial(%d)", uint8(d))
}

// String is as in the logs: one verb, then what it is about.
func (o Output) String() string { return o.format(&numbers) }

func (o *Output) format(w *words) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	switch o.Kind {
	case OutResolve:
		p("resolve %d.%d %s/%s", o.Req, o.Elem, w.object(o.ID), o.Name)
	case OutGranted:
		p("granted %d", o.Req)
		for _, t := range o.Tokens {
			if t.Mode == None {
				p(" -")
				continue
			}
			p(" %v:%s", t.Mode, w.object(t.ID))
			if t.Gen != 0 {
				p("@%d", t.Gen)
			}
		}
	case OutDenied:
		p("denied %d: %v", o.Req, o.Denied)
	case OutRecall:
		p("recall %s", w.session(o.Session))
		for _, r := range o.Recalls {
			p(" %s@%d>%v", w.object(r.ID), r.Gen, r.Keep)
			if r.Why == WhyUnlink {
				p("!")
			}
		}
		if o.Any > 0 {
			p(" any %d", o.Any)
		}
	case OutRevoked:
		p("revoked %s %s@%d>%v for %d", w.session(o.Session), w.object(o.ID), o.Gen, o.Keep, o.Req)
	case OutCommitGo:
		p("apply %s cut %d", w.session(o.Session), o.Cut)
	case OutCommitRefused:
		p("refused %s cut %d: %v", w.session(o.Session), o.Cut, o.Denied)
		if o.Denied == DeniedFence {
			p(" on %s", w.object(o.ID))
		}
	case OutCommitKnown:
		p("known %s cut %d", w.session(o.Session), o.Cut)
	case OutResumed:
		p("resumed %s cut %d", w.session(o.Session), o.Cut)
		for _, l := range o.Lost {
			p(" lost %s>%v", w.object(l.ID), l.Left)
		}
	case OutExpired:
		p("expired %s", w.session(o.Session))
	default:
		p("Output(%d)", o.Kind)
	}
	return b.String()
}

// String is as in the logs.
func (o HolderOutput) String() string { return o.format(&numbers) }

func (o *HolderOutput) format(w *words) string {
	verb := "return"
	if o.Kind == HolderRelinquish {
		verb = "relinquish"
	}
	s := verb + " " + w.object(o.ID)
	if o.Gen != 0 {
		s += fmt.Sprintf("@%d", o.Gen)
	}
	s += ">" + o.Keep.String()
	if o.Open {
		s += " open"
	}
	return s
}
