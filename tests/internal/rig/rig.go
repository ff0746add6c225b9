// Package rig builds and runs servers and mounts as processes, for programs
// that measure them: what package served is for tests.
package rig

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// startTime is what a process gets until it is ready, and endTime until it has ended.
const (
	startTime = 2 * time.Minute
	endTime   = 2 * time.Minute
)

// Build makes the program out from a main package.
func Build(ctx context.Context, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %s: %w", pkg, err)
	}
	return nil
}

// FreePort gives an address of loopback that nobody listens at. It is not one that the kernel gives to who
// connects or asks for any port: somebody would have it soon.
func FreePort() (string, error) {
	for tries := 0; ; tries++ {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000)))
		if err == nil {
			ln.Close()
			return ln.Addr().String(), nil
		}
		if tries == 100 {
			return "", fmt.Errorf("finding a free port: %w", err)
		}
	}
}

// Listening says whether somebody answers at the TCP address addr: for Start.
func Listening(addr string) func() bool {
	return func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
}

// Process is a running program.
type Process struct {
	cmd  *exec.Cmd
	log  lockedBuffer
	done chan struct{}
	err  error // once done is closed
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Start runs a program and waits until it is ready.
func Start(args []string, ready func() bool) (*Process, error) {
	p := &Process{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", args[0], err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	for deadline := time.Now().Add(startTime); !ready(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-p.done:
			return nil, fmt.Errorf("%v ended at once (%v); it said: %s", args, p.err, p.Log())
		default:
		}
		if time.Now().After(deadline) {
			p.Stop()
			return nil, fmt.Errorf("%v is not ready after %v; it said: %s", args, startTime, p.Log())
		}
	}
	return p, nil
}

// Log is what the program has printed.
func (p *Process) Log() string {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return p.log.b.String()
}

// Stop interrupts the program and waits for its end; what does not end is killed, and an error.
func (p *Process) Stop() error {
	p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.done:
		return nil
	case <-time.After(endTime):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%v did not end within %v of an interrupt; it said: %s", p.cmd.Args, endTime, p.Log())
	}
}

// Kill ends the program at once, without a chance to do anything.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}
