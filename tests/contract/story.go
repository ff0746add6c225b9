package contract

import (
	"fmt"
	"strconv"
	"strings"
)

// A story is a text, one line a step:
//
//	clients behind/object close/causal/eager plain
//	server drop the last record of a cut       (a mutant; otherwise absent)
//	0 mkdir d 0755
//	1:2 create d/f 0644 h
//	1 write h 3 xyz
//	0 die
//
// A step begins with the client's number, and the user's after a colon (0 when absent). Empty lines and those that
// begin with # mean nothing.
type story struct {
	comment  []string
	policies []policy
	mutant   string
	steps    []step
}

// step is one line.
type step struct {
	client int
	uid    uint32
	verb   string
	args   []string
	eio    bool // it was answered EIO
}

func (s step) String() string {
	who := strconv.Itoa(s.client)
	if s.uid != 0 {
		who += ":" + strconv.Itoa(int(s.uid))
	}
	return strings.Join(append([]string{who, s.verb}, s.args...), " ")
}

func (p policy) String() string {
	if p.plain {
		return "plain"
	}
	s := p.writes + "/" + p.order
	if p.eager {
		s += "/eager"
	}
	return s
}

func (s *story) String() string {
	var b strings.Builder
	for _, c := range s.comment {
		for line := range strings.SplitSeq(c, "\n") {
			fmt.Fprintf(&b, "# %s\n", line)
		}
	}
	b.WriteString("clients")
	for _, p := range s.policies {
		b.WriteString(" " + p.String())
	}
	b.WriteByte('\n')
	if s.mutant != "" {
		fmt.Fprintf(&b, "mutant %s\n", s.mutant)
	}
	for _, st := range s.steps {
		b.WriteString(st.String() + "\n")
	}
	return b.String()
}

// arity is how many words follow each verb, at least and at most.
var arity = map[string][2]int{
	"mkdir": {2, 2}, "create": {3, 3}, "symlink": {2, 2}, "mkfifo": {2, 2}, "link": {2, 2}, "unlink": {1, 1}, "rmdir": {1, 1},
	"rename": {2, 3}, "open": {3, 3}, "close": {1, 1}, "write": {3, 3}, "read": {3, 3}, "hstat": {1, 1}, "htruncate": {2, 2},
	"alloc": {4, 4}, "hfsync": {1, 1}, "stat": {1, 1}, "cat": {1, 1}, "ls": {1, 1}, "readlink": {1, 1}, "chmod": {2, 2},
	"chown": {3, 3}, "utime": {2, 2}, "truncate": {2, 2}, "setxattr": {3, 4}, "getxattr": {2, 2}, "rmxattr": {2, 2},
	"listxattr": {1, 1}, "fsync": {1, 1}, "sync": {0, 0}, "barrier": {1, 1}, "drop": {0, 0}, "die": {0, 1}, "check": {0, 0},
}

func parse(text string) (*story, error) {
	s := &story{}
	for n, line := range strings.Split(text, "\n") {
		bad := func(why string) (*story, error) { return nil, fmt.Errorf("line %d, %q: %s", n+1, line, why) }
		if c, ok := strings.CutPrefix(line, "#"); ok {
			s.comment = append(s.comment, strings.TrimSpace(c))
			continue
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
			continue
		case words[0] == "clients":
			for _, w := range words[1:] {
				p, err := parsePolicy(w)
				if err != nil {
					return bad(err.Error())
				}
				s.policies = append(s.policies, p)
			}
			continue
		case words[0] == "mutant":
			s.mutant = strings.Join(words[1:], " ")
			continue
		case len(words) < 2:
			return bad("a step is a client and a verb")
		}
		who, user, _ := strings.Cut(words[0], ":")
		st := step{verb: words[1], args: words[2:]}
		var err error
		if st.client, err = strconv.Atoi(who); err != nil || st.client < 0 || st.client >= len(s.policies) {
			return bad("there is no such client")
		}
		if user != "" {
			uid, err := strconv.ParseUint(user, 10, 32)
			if err != nil {
				return bad("not a user's number")
			}
			st.uid = uint32(uid)
		}
		if a, ok := arity[st.verb]; !ok || len(st.args) < a[0] || len(st.args) > a[1] {
			return bad("no such verb, or not with so many words")
		}
		s.steps = append(s.steps, st)
	}
	return s, nil
}

func parsePolicy(w string) (policy, error) {
	if w == "plain" {
		return policy{plain: true}, nil
	}
	p := policy{}
	for _, part := range strings.Split(w, "/") {
		switch part {
		case "behind", "close", "sync":
			p.writes = part
		case "object", "causal", "total":
			p.order = part
		case "eager":
			p.eager = true
		default:
			return p, fmt.Errorf("no policy %q", part)
		}
	}
	if p.writes == "" || p.order == "" {
		return p, fmt.Errorf("a policy is of when to write and of order: %q", w)
	}
	return p, nil
}

// num reads the n-th word as a number; octal when it begins with 0.
func (s step) num(n int) int64 {
	v, err := strconv.ParseInt(s.args[n], 0, 64)
	if err != nil {
		return -1
	}
	return v
}

// opens is the name that a step gives to an open file.
func (s step) opens() string {
	switch s.verb {
	case "create", "open":
		return s.args[2]
	}
	return ""
}
