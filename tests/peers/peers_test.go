// Package peers has the tests with other people's servers and clients of 9P2000.L.
package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/rig"
	"echo9/tests/internal/treehash"
)

func TestMain(m *testing.M) { echo9bin.Main(m) }

// server is a running server of some kind.
type server struct {
	dir  string
	args []string // for the client: the address, the aname
}

// start runs a server until the test ends, and waits for its port.
func start(t *testing.T, port string, name string, args ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Logf("%s ended: %v", name, err)
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			<-ended
			t.Errorf("%s does not end", name)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, &log)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", port); err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", name, &log)
		case <-ctx.Done():
			t.Fatalf("nothing listens at %s", port)
		case <-tick.C:
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	addr, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// servers are ours and the peers.
var servers = map[string]func(t *testing.T) server{
	"echo9": func(t *testing.T) server {
		dir, addr := t.TempDir(), freePort(t)
		start(t, addr, echo9bin.Echo9(t), "serve", "--listen", addr, dir)
		return server{dir, []string{"-a", addr}}
	},
	"diod": func(t *testing.T) server {
		need.Tools(t, "diod")
		dir, addr := t.TempDir(), freePort(t)
		start(t, addr, "diod", "-f", "-n", "-L", "stderr", "-l", addr, "-e", dir)
		return server{dir, []string{"-a", addr, "--aname", dir}}
	},
	"p9ufs": func(t *testing.T) server {
		dir, addr := t.TempDir(), freePort(t)
		p9ufs := echo9bin.Build(t, "github.com/hugelgupf/p9/cmd/p9ufs", "p9ufs")
		start(t, addr, p9ufs, "-root", dir, addr)
		return server{dir, []string{"-a", addr}}
	},
}

// lacks says what a peer cannot do, seen by trying; the client must say so, and go on.
var lacks = map[string][]string{
	"p9ufs": {"chmod", "df"},
}

// client runs the scripted client, and gives what it prints.
func (s server) client(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), echo9bin.Echo9(t), append(args, s.args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

func TestScriptedClient(t *testing.T) {
	for name, startServer := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			can := func(what string) bool {
				for _, l := range lacks[name] {
					if l == what {
						return false
					}
				}
				return true
			}
			must := func(stdin string, args ...string) string {
				t.Helper()
				out, err := s.client(t, stdin, args...)
				if err != nil {
					t.Errorf("%v", err)
				}
				return out
			}
			same := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %q, not %q", what, got, want)
				}
			}
			host := func(p string) string {
				b, err := os.ReadFile(filepath.Join(s.dir, p))
				if err != nil {
					t.Error(err)
				}
				return string(b)
			}

			must("", "mkdir", "-p", "/a/b")
			must("hello\n", "put", "-", "/a/b/f")
			same("the host's file", host("a/b/f"), "hello\n")
			same("cat", must("", "cat", "/a/b/f"), "hello\n")
			must("", "mv", "/a/b/f", "/a/g")
			same("moved", host("a/g"), "hello\n")
			must("", "ln", "-s", "g", "/a/link")
			same("cat of a link", must("", "cat", "a/link"), "hello\n")
			must("", "ln", "/a/g", "/a/hard")
			same("ls", must("", "ls", "/a"), "b/\ng\nhard\nlink\n")
			must("", "truncate", "-s", "2", "/a/g")
			same("truncated", host("a/hard"), "he")
			must("", "touch", "/a/new")
			same("touched", host("a/new"), "")
			if can("chmod") {
				must("", "chmod", "u=rw,go=", "/a/g")
				if fi, err := os.Stat(filepath.Join(s.dir, "a/g")); err != nil || fi.Mode() != 0o600 {
					t.Errorf("chmod: %v, %v", fi.Mode(), err)
				}
			}
			if out := must("", "stat", "--json", "/a/g"); !strings.Contains(out, `"size":2`) {
				t.Errorf("stat: %s", out)
			}
			if out, _ := s.client(t, "", "df"); can("df") && !strings.Contains(out, "available") {
				t.Errorf("df: %s", out)
			}
			if _, err := s.client(t, "", "cat", "/nope"); err == nil || !strings.Contains(err.Error(), "no such file") {
				t.Errorf("cat of nothing: %v", err)
			}
			tree(t, s, must)
			script(t, s)
			must("", "rm", "-rf", "/a", "/tree")
			same("after rm -r", must("", "ls", "/"), "")
		})
	}
}

// tree copies this module's own source there and back.
func tree(t *testing.T, s server, must func(stdin string, args ...string) string) {
	t.Helper()
	src, err := filepath.Abs("../../internal")
	if err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(t.TempDir(), "back")
	must("", "put", "-r", src, "/tree")
	must("", "get", "-r", "/tree", back)
	want, err := treehash.Tree(src, treehash.Fields{})
	if err != nil {
		t.Fatal(err)
	}
	for what, dir := range map[string]string{"on the host": filepath.Join(s.dir, "tree"), "back": back} {
		got, err := treehash.Tree(dir, treehash.Fields{})
		if err != nil {
			t.Error(err)
		}
		if d := treehash.Diff(want, got, 10); d != "" {
			t.Errorf("the tree %s differs:\n%s", what, d)
		}
	}
	big := make([]byte, 9<<20+123)
	for i := range big {
		big[i] = byte(i * i >> 7)
	}
	must(string(big), "put", "-", "/tree/big")
	if out := must("", "get", "/tree/big", "-"); sha256.Sum256([]byte(out)) != sha256.Sum256(big) {
		t.Errorf("9 MiB came back as %d other bytes", len(out))
	}
}

// script runs a script whose third line fails.
func script(t *testing.T, s server) {
	t.Helper()
	text := "mkdir /s\ntouch '/s/with blank' # a comment\ncat /s/missing\nbarrier\nsync\nmkdir /s/after\n"
	_, err := s.client(t, text, "script", "-")
	if err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("a script that fails in line 3: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "s/after")); err == nil {
		t.Error("the script went on after an error")
	}
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(strings.Replace(text, "mkdir /s\n", "\n", 1)+"rm -r /s\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client(t, "", "script", "-k", file); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("a script that goes on: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "s")); err == nil {
		t.Error("with -k the script did not go on")
	}
}
