// Package served runs `echo9 serve` as a process for a test.
package served

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
)

// Server is a running `echo9 serve`.
type Server struct {
	Dir  string // what it exports
	Addr string // a unix socket, ready for -a
	Cmd  *exec.Cmd
	log  log
}

type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Log is what the server has printed.
func (s *Server) Log() string {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.b.String()
}

// Start serves dir (a new temporary one when empty) on a private unix socket, with more flags of `echo9 serve`.
// The server is ended with the test, and its log is shown when the test failed.
func Start(t testing.TB, dir string, flags ...string) *Server {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	sock := filepath.Join(t.TempDir(), "s")
	s := &Server{Dir: dir, Addr: "unix!" + sock}
	args := append([]string{"serve", "--listen", s.Addr}, flags...)
	s.Cmd = exec.Command(echo9bin.Echo9(t), append(args, dir)...)
	s.Cmd.Stdout, s.Cmd.Stderr = &s.log, &s.log
	if err := s.Cmd.Start(); err != nil {
		t.Fatalf("starting echo9 serve: %v", err)
	}
	exited := make(chan struct{})
	go func() { s.Cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		s.Cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(time.Minute):
			t.Error("echo9 serve does not end within a minute of SIGTERM")
			s.Cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("the server said:\n%s", s.Log())
		}
	})
	deadline := time.Now().Add(2 * time.Minute)
	for {
		c, err := net.Dial("unix", sock)
		if err == nil {
			c.Close()
			return s
		}
		select {
		case <-exited:
			t.Fatalf("echo9 serve ended at once:\n%s", s.Log())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("echo9 serve does not listen: %v\n%s", err, s.Log())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Descriptors counts the files that the server has open, for tests of leaks.
func (s *Server) Descriptors() (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Cmd.Process.Pid))
	return len(entries), err
}
