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
	object: func(id ID) string { return strconv.FormatUint(id, 10) },
	session: func(s SessionID) string {
		if s == 0 {
			return "plain"
		}
		return "s" + strconv.FormatUint(uint64(s), 10)
	},
}

var inputVerbs = [...]string{
	InSessionOpen: "open", InSessionGone: "gone", InDisconnected: "break", InConnected: "back", InTold: "told",
	InRequest: "ask", InCancel: "cancel", InResolved: "resolved", InSent: "sent", InDone: "done",
	InReturn: "return", InPosted: "post", InProgress: "progress", InCommit: "commit", InCommitted: "committed",
	InRecorded: "recorded", InTick: "tick", InRestore: "restore", InGrace: "grace", InReclaim: "reclaim",
	InReclaimed: "reclaimed", InMissedRecorded: "missed",
}

// String is one verb, as in the stories of the tests.
func (k InKind) String() string {
	if k > 0 && int(k) < len(inputVerbs) {
		return inputVerbs[k]
	}
	return fmt.Sprintf("InKind(%d)", uint8(k))
}

// String is a line as in the stories of the tests: one verb, then what it is about.
func (in Input) String() string { return in.format(&numbers) }

func (in *Input) format(w *words) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("%v", in.Kind)
	switch in.Kind {
	case InTick, InGrace, InMissedRecorded:
	case InCancel, InSent, InDone, InRecorded:
		p(" %d", in.Req)
	case InResolved:
		p(" %d.%d ", in.Req, in.Elem)
		if in.Bound {
			p("%s", w.object(in.ID))
		} else {
			p("-")
		}
	case InRequest, InReclaim:
		p(" %d %s", in.Req, w.session(in.Session))
		for _, e := range in.Elems {
			p(" %v:%s", e.Mode, w.object(e.ID))
			if e.Name != "" {
				p("/%s", e.Name)
			}
			if e.Unlink {
				p("!")
			}
		}
		for _, f := range [...]struct {
			on   bool
			name string
		}{{in.Try, "try"}, {in.Offer, "offer"}, {in.Plain && in.Session != 0, "plain"}} {
			if f.on {
				p(" %s", f.name)
			}
		}
	default:
		p(" %s", w.session(in.Session))
		switch in.Kind {
		case InSessionOpen:
			if in.Cut != 0 {
				p(" cut %d", in.Cut)
			}
		case InRestore:
			if in.Cut != 0 {
				p(" cut %d", in.Cut)
			}
			for _, l := range in.Lost {
				p(" lost %s>%v", w.object(l.ID), l.Left)
			}
			if in.Missed {
				p(" missed")
			}
		case InPosted:
			p(" %d", in.N)
		case InReturn:
			p(" %s@%d>%v", w.object(in.ID), in.Gen, in.Keep)
		case InCommit:
			p(" %d", in.Cut)
			for _, f := range in.Fence {
				p(" %v:%s@%d", f.Mode, w.object(f.ID), f.Gen)
			}
			if len(in.Born) > 0 {
				p(" born")
			}
			for _, o := range in.Born {
				p(" %s@%d", w.object(o.ID), o.Gen)
			}
		case InCommitted:
			p(" %d %s", in.Cut, map[bool]string{true: "yes", false: "no"}[in.Applied])
		}
	}
	return b.String()
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

// String is a line as in the stories of the tests: one verb, then what it is about.
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
	case OutMissed:
		p("missed")
		for _, s := range o.Missed {
			p(" %s", w.session(s))
		}
	case OutGraceOver:
		p("grace over")
	case OutForget:
		p("forget %s", w.session(o.Session))
		for _, l := range o.Lost {
			p(" lost %s>%v", w.object(l.ID), l.Left)
		}
		if o.Req != 0 {
			p(" for %d", o.Req)
		}
	default:
		p("Output(%d)", o.Kind)
	}
	return b.String()
}

// String is one verb, then what it is about.
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
