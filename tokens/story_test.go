package tokens

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the stories in testdata anew")

// letters names objects X Y Z… and D E F… and sessions A B C as the stories do.
var letters = words{
	object: func(id ID) string {
		if id == DirMove {
			return "dirmove"
		}
		if id < 26 {
			return string(rune('A' + id))
		}
		return "#" + strconv.FormatUint(id, 10)
	},
	session: func(s SessionID) string {
		if s == 0 {
			return "plain"
		}
		return string(rune('A' + s - 1))
	},
}

// TestStories plays the stories in testdata/manager to a Manager. In a story, lines at the margin
// are inputs, lines that are set in are what came of them:
//
//	config lease=10s grace=10s deadline=2s limit=60s bypass=4 tokens=9 all=9 waiting=9 record
//	+3s                          time goes on
//	open A [cut N]               a session, connected; A is session 1
//	gone A | break A | back A | told A | progress A
//	post A N                     N Trecalls; -N: flushed
//	ask R A|plain ELEM… [try] [offer] [plain]
//	                             ELEM: r:X  w:X  w:X! (unlink)  r:D/name
//	cancel R | sent R | done R | recorded R
//	resolved R.I X|-
//	return A X@G>-               back, down to - or r
//	commit A N [r:X@G…] [born X@G…]
//	committed A N yes|no
//	extend A                     what lease a reply carries
//	restore A [cut N] [lost X>r|- …] [missed]
//	grace                        begins
//	reclaim R A ELEM…
//	reclaimed A
//	missed                       who missed the grace is on record
//	tick
//	table                        who holds what, who waits
//
// A # begins a comment. Objects are X Y Z D E F…, sessions A B C.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/manager/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("stories: %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(old))
			if got == string(old) {
				return
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("the story goes differently now (-rewrite writes it anew):\n%s", diff(string(old), got))
		})
	}
}

// diff shows the first line in which a and b differ, with what came before it.
func diff(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := 0; i < len(as) || i < len(bs); i++ {
		x, y := "(end)", "(end)"
		if i < len(as) {
			x = as[i]
		}
		if i < len(bs) {
			y = bs[i]
		}
		if x != y {
			return fmt.Sprintf("%s\nwant %s\ngot  %s", strings.Join(bs[max(0, i-5):min(i, len(bs))], "\n"), x, y)
		}
	}
	return ""
}

// play answers story with its outputs as they are now.
func play(t *testing.T, story string) string {
	t.Helper()
	return (&player{m: NewManager(Config{}, 0)}).play(t, story)
}

func (p *player) play(t *testing.T, story string) string {
	t.Helper()
	var b strings.Builder
	for n, line := range strings.Split(strings.TrimSuffix(story, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		b.WriteString(line + "\n")
		text, _, _ := strings.Cut(line, "#")
		if strings.TrimSpace(text) == "" {
			continue
		}
		lines, err := p.do(strings.Fields(text))
		if err != nil {
			t.Fatalf("line %d: %s: %v", n+1, line, err)
		}
		for _, l := range lines {
			b.WriteString("  " + l + "\n")
		}
		if err := p.m.Check(); err != nil {
			t.Fatalf("line %d: %s: %v\n%s", n+1, line, err, b.String())
		}
	}
	return b.String()
}

// Without a rule of restarts the stories about it go differently.
func TestRestartRulesMatter(t *testing.T) {
	for story, off := range map[string]rulesOff{
		"second_crash_in_grace":               {graceWait: true},
		"grace_times_out":                     {lateConflict: true},
		"rfc8881_8.4.3_partition_then_reboot": {recordLost: true},
		"rfc8881_8.4.3_two_reboots":           {missedEarlier: true},
		"record_others":                       {recordFirst: true},
		"reclaim_crosses_recall":              {recallReclaimed: true},
	} {
		old, err := os.ReadFile("testdata/manager/" + story + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		p := &player{m: NewManager(Config{}, 0), off: off}
		if got := p.play(t, string(old)); got == string(old) {
			t.Errorf("%s goes no differently without %+v", story, off)
		}
	}
}

type player struct {
	off rulesOff
	m   *Manager
	now int64
}

func (p *player) do(f []string) ([]string, error) {
	if strings.HasPrefix(f[0], "+") {
		d, err := time.ParseDuration(f[0][1:])
		p.now += int64(d)
		return nil, err
	}
	switch f[0] {
	case "config":
		cfg, err := parseConfig(f[1:])
		p.m = NewManager(cfg, 0)
		p.m.off = p.off
		return nil, err
	case "table":
		return p.m.table(&letters), nil
	case "extend":
		return []string{time.Duration(p.m.Extend(p.now, SessionID(f[1][0]-'A'+1))).String()}, nil
	}
	in, err := parseInput(f)
	if err != nil {
		return nil, err
	}
	if s, line := in.format(&letters), strings.Join(f, " "); s != line {
		return nil, fmt.Errorf("it prints as %q", s)
	}
	var lines []string
	for _, o := range p.m.Step(p.now, in) {
		lines = append(lines, o.format(&letters))
	}
	return lines, nil
}

func parseConfig(f []string) (cfg Config, err error) {
	for _, s := range f {
		k, v, _ := strings.Cut(s, "=")
		var d time.Duration
		var n int
		if strings.HasSuffix(v, "s") {
			d, err = time.ParseDuration(v)
		} else if v != "" {
			n, err = strconv.Atoi(v)
		}
		switch k {
		case "lease":
			cfg.Lease = int64(d)
		case "deadline":
			cfg.RecallDeadline = int64(d)
		case "limit":
			cfg.RecallLimit = int64(d)
		case "bypass":
			cfg.Bypass = n
		case "tokens":
			cfg.MaxTokensPerSession = n
		case "all":
			cfg.MaxTokens = n
		case "waiting":
			cfg.MaxWaiting = n
		case "grace":
			cfg.Grace = int64(d)
		case "record":
			cfg.Record = true
		default:
			err = fmt.Errorf("unknown setting %q", k)
		}
		if err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

func parseInput(f []string) (in Input, err error) {
	kind := InKind(max(0, slices.Index(inputVerbs[:], f[0])))
	if kind == 0 {
		return in, fmt.Errorf("unknown verb %q", f[0])
	}
	in.Kind = kind
	num := func(s string) uint64 {
		n, e := strconv.ParseUint(s, 10, 64)
		if e != nil {
			err = e
		}
		return n
	}
	arg := f[1:]
	switch kind {
	case InTick, InGrace, InMissedRecorded:
		return in, nil
	case InRequest, InReclaim:
		in.Req, arg = ReqID(num(arg[0])), arg[1:]
		if arg[0] == "plain" {
			arg = arg[1:]
		} else {
			in.Session, arg = SessionID(arg[0][0]-'A'+1), arg[1:]
		}
	case InResolved:
		r, e, _ := strings.Cut(arg[0], ".")
		in.Req, in.Elem = ReqID(num(r)), int(num(e))
		if in.Bound = arg[1] != "-"; in.Bound {
			in.ID = parseID(arg[1])
		}
		return in, err
	case InCancel, InSent, InDone, InRecorded:
		in.Req = ReqID(num(arg[0]))
		return in, err
	default:
		in.Session, arg = SessionID(arg[0][0]-'A'+1), arg[1:]
	}
	born := false
	for i, a := range arg {
		switch {
		case kind == InPosted:
			in.N, err = strconv.Atoi(a)
		case a == "cut" || a == "lost":
		case a == "missed":
			in.Missed = true
		case kind == InRestore && strings.Contains(a, ">"):
			id, left, _ := strings.Cut(a, ">")
			in.Lost = append(in.Lost, Lost{parseID(id), Mode(strings.Index(modeLetters, left))})
		case kind == InSessionOpen || kind == InRestore:
			in.Cut = num(a)
		case (kind == InCommit || kind == InCommitted) && i == 0:
			in.Cut = num(a)
		case kind == InCommitted:
			in.Applied = a == "yes"
		case kind == InReturn:
			id, rest, _ := strings.Cut(a, "@")
			gen, keep, _ := strings.Cut(rest, ">")
			in.ID, in.Gen, in.Keep = parseID(id), Gen(num(gen)), Mode(strings.Index(modeLetters, keep))
		case a == "born":
			born = true
		case kind == InCommit:
			mode, rest := None, a
			if !born {
				mode, rest = Mode(strings.IndexByte(modeLetters, a[0])), a[2:]
			}
			id, gen, _ := strings.Cut(rest, "@")
			if born {
				in.Born = append(in.Born, Born{parseID(id), Gen(num(gen))})
			} else {
				in.Fence = append(in.Fence, Held{parseID(id), Gen(num(gen)), mode})
			}
		case a == "try":
			in.Try = true
		case a == "offer":
			in.Offer = true
		case a == "plain":
			in.Plain = true
		case kind == InRequest || kind == InReclaim:
			in.Elems = append(in.Elems, parseElem(a))
		default:
			return in, fmt.Errorf("what is %q?", a)
		}
	}
	return in, err
}

func parseElem(a string) Elem {
	e := Elem{Mode: Mode(strings.IndexByte(modeLetters, a[0]))}
	a = a[2:]
	a, e.Unlink = strings.TrimSuffix(a, "!"), strings.HasSuffix(a, "!")
	id, name, _ := strings.Cut(a, "/")
	e.ID, e.Name = parseID(id), name
	return e
}

func parseID(s string) ID {
	if s == "dirmove" {
		return DirMove
	}
	if strings.HasPrefix(s, "#") {
		n, _ := strconv.ParseUint(s[1:], 10, 64)
		return n
	}
	return ID(s[0] - 'A')
}

// table is who holds what, and who waits, in lines.
func (m *Manager) table(w *words) []string {
	var lines []string
	for _, id := range sortedIDs(m.objects) {
		o := m.objects[id]
		l := w.object(id) + ":"
		for i := range o.holders {
			h := &o.holders[i]
			l += fmt.Sprintf(" %s=%v@%d", w.session(h.s.id), h.mode, h.gen)
			if h.recalled {
				l += ">" + h.keep.String()
			}
			if m.over(h.s) {
				l += " (over)"
			}
		}
		for _, g := range o.unsent {
			l += fmt.Sprintf(" %s=%v@%d (unsent)", w.session(g.r.session.id), g.mode, g.gen)
		}
		if o.readers+o.writers > 0 {
			l += fmt.Sprintf(" plain %dr %dw", o.readers, o.writers)
		}
		if o.busyRead+o.busyWrite > 0 {
			l += " busy"
		}
		for _, r := range o.waiters {
			l += fmt.Sprintf(" <-%d", r.id)
			if r.stalled {
				l += "(stalled)"
			}
		}
		lines = append(lines, l)
	}
	return lines
}
