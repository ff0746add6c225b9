package badinput

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"echo9/tests/internal/treehash"
)

// victim is the server that a hostile peer has to do with.
type victim struct {
	addr, dir string
	pid       int
}

// hostile are peers; each is a process of its own, which ends without tidying up.
var hostile = []struct {
	name string
	be   func(*testing.T, victim)
	// changes: it may do what is allowed, too, so that the tree need not stay as it was.
	changes bool
	// lease is that of the server: long, so that no peer loses what it is to have because it is not let run, or short
	// where it leaves others waiting for what it has.
	lease string
}{
	{"frames", badFrames, false, ""},
	{"fids", badFids, false, ""},
	{"names", badNames, false, ""},
	{"random", randomBytes, true, ""},
	{"silent", repliesNobodyTakes, false, ""},
	{"sessions", badSessions, false, ""},
	{"commits", badCommits, false, ""},
	{"parts", badParts, false, ""},
	{"grants", badGrants, false, ""},
	{"recalls", badRecalls, false, ""},
	{"listings", badListings, false, ""},
	{"mutated", mutatedSession, true, "3s"},
}

// The names of what a hostile peer is told in its environment.
const envAddr, envDir, envPID = "BADINPUT_ADDR", "BADINPUT_DIR", "BADINPUT_PID"

// memoryCap is what a server's process may have in memory, whatever one peer does.
const memoryCap = 160 << 20

// A hostile peer gets errors, or is hung up on. The server goes on, and when the peer is gone all is as it was.
func TestHostilePeers(t *testing.T) {
	if addr := os.Getenv(envAddr); addr != "" {
		pid, err := strconv.Atoi(os.Getenv(envPID))
		must(t, err)
		for _, h := range hostile {
			t.Run(h.name, func(t *testing.T) { h.be(t, victim{addr, os.Getenv(envDir), pid}) })
		}
		return
	}
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			s, check := unharmed(t, exportOf(t), "--lease", cmp.Or(h.lease, "1m"))
			before := tree(t, s.Dir)
			cmd := exec.Command(os.Args[0], "-test.run=^TestHostilePeers$/^"+h.name+"$", "-test.v")
			cmd.Env = append(os.Environ(), envAddr+"="+s.Addr, envDir+"="+s.Dir, fmt.Sprintf("%s=%d", envPID, s.Cmd.Process.Pid))
			out, err := cmd.CombinedOutput()
			if text := string(out); err != nil || !strings.Contains(text, "--- PASS: TestHostilePeers/"+h.name) {
				t.Errorf("the peer found (%v):\n%s\nthe server said:\n%s", err, text, tail(s.Log()))
			} else {
				for line := range strings.Lines(text) {
					if strings.Contains(line, "_test.go:") {
						t.Log(strings.TrimSpace(line))
					}
				}
			}
			if m := memory(t, s.Cmd.Process.Pid); m > memoryCap {
				t.Errorf("the server has %d MiB in memory, more than %d", m>>20, memoryCap>>20)
			}
			check()
			if d := treehash.Diff(before, tree(t, s.Dir), 10); d != "" && !h.changes {
				t.Errorf("the tree has changed:\n%s", d)
			}
		})
	}
}

// exportOf makes a tree for a server: big (1 MiB), sub/file, and directories dirs/0 to dirs/99.
func exportOf(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "big"), strings.Repeat("x", 1<<20))
	write(t, filepath.Join(dir, "sub/file"), "text")
	for i := range 100 {
		write(t, filepath.Join(dir, "dirs", strconv.Itoa(i), "file"), "text")
	}
	return dir
}

// tree describes a tree, but for the server's private directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	m, err := treehash.Tree(dir, treehash.Fields{Owner: true, Links: true, Xattrs: true}, ".echo9")
	must(t, err)
	return m
}

func tail(s string) string { return s[max(0, len(s)-4000):] }
