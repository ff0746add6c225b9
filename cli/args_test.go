package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestReorder(t *testing.T) {
	cmds := newApp(strings.NewReader(""), io.Discard, io.Discard).Commands
	for _, c := range []struct{ in, want string }{
		{"ls /x -l", "ls -l -- /x"},
		{"-a ADDR ls /x", "ls --a=ADDR -- /x"},
		{"ls -a=ADDR -l", "ls -a=ADDR -l"},
		{"rm /x -rf /y", "rm -r -f -- /x /y"},
		{"tree -L2 /", "tree -L=2 -- /"},
		{"tree -lL 2 /", "tree -l --L=2 -- /"},
		{"put - /x --progress", "put --progress -- - /x"},
		{"rm -- -f", "rm -- -f"},
		{"ln -s -- -target /x", "ln -s -- -target /x"},
		{"script -k - --addr -odd", "script -k --addr=-odd -- -"},
		{"--help", "--help"},
		{"--help ls", "ls --help"},
		{"help ls", "help ls"},
	} {
		got, err := reorder(cmds, append([]string{"echo9"}, strings.Fields(c.in)...))
		if want := append([]string{"echo9"}, strings.Fields(c.want)...); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", c.in, got, err)
		}
	}
	for in, want := range map[string]string{
		"ls --frob":         "echo9 ls has no flag --frob",
		"ls -lx /":          "no flag -x",
		"--lease 5s ls":     "echo9 ls has no flag",
		"-s 5 truncate /x":  "after the command",
		"ls -a":             "-a needs a value",
		"frob":              `no command "frob"`,
		"serve DIR --frob":  "echo9 serve has no flag --frob",
		"--frob":            "echo9 has no flag --frob",
		"chmod -x /a":       "-- goes before",
		"ls / --recursive=": "no flag",
	} {
		_, err := reorder(cmds, append([]string{"echo9"}, strings.Fields(in)...))
		var ce *codedError
		if !errors.As(err, &ce) || ce.code != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		"":                         nil,
		"   # only a comment":      nil,
		"ls -l /a":                 {"ls", "-l", "/a"},
		"rm 'a b' \"c d\" e\\ f":   {"rm", "a b", "c d", "e f"},
		`put x "a\"b\\c\d"`:        {"put", "x", `a"b\c\d`},
		"a'b'\"c\"d":               {"abcd"},
		"touch '' \"\"":            {"touch", "", ""},
		"ln -s x#y /z # a comment": {"ln", "-s", "x#y", "/z"},
		"a\tb\r":                   {"a", "b"},
	} {
		got, err := splitWords(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"a 'b", `a "b`, `a \`} {
		if got, err := splitWords(in); err == nil {
			t.Errorf("%q: %q and no error", in, got)
		}
	}
}

func TestParseMode(t *testing.T) {
	for _, c := range []struct {
		text       string
		from, want uint32
	}{
		{"644", 0o777, 0o644}, {"4755", 0, 0o4755}, {"u+x", 0o644, 0o744}, {"go-w", 0o666, 0o644},
		{"a=r", 0o777, 0o444}, {"+x", 0o640, 0o751}, {"u=rw,go=", 0o777, 0o600}, {"g+s", 0o755, 0o2755},
		{"+t", 0o777, 0o1777}, {"u+s,o-t", 0o1755, 0o4755}, {"a+X", 0o040600, 0o711}, {"a+X", 0o100600, 0o600}, {"a+X", 0o100700, 0o711},
	} {
		f, err := parseMode(c.text, 0o026)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := f(c.from); got != c.want {
			t.Errorf("%s of %o is %o, not %o", c.text, c.from, got, c.want)
		}
	}
	for _, text := range []string{"", "888", "u", "u~x", "z+x", "u+y", "77777"} {
		if _, err := parseMode(text, 0); err == nil {
			t.Errorf("%q is taken for a mode", text)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]uint64{"0": 0, "12": 12, "4K": 4096, "1MiB": 1 << 20, "2g": 2 << 30, "3T": 3 << 40} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%s is %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "-1", "1.5G", "9999999999T", "4KM", "K", "1X"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q is taken for %d", in, got)
		}
	}
}
