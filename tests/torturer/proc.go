package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a running echo9.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu     sync.Mutex // guards the rest
	log    bytes.Buffer
	within bool // a line
}

// Write takes what the program says, with the time of each line.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range bytes.Lines(b) {
		if !p.within {
			fmt.Fprintf(&p.log, "%9.3f  ", time.Since(begun).Seconds())
		}
		p.log.Write(line)
		p.within = line[len(line)-1] != '\n'
	}
	return len(b), nil
}

// begun is when times are counted from.
var begun = time.Now()

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// spawn starts a program, in a network if there is one, and waits until it says something.
func spawn(in *network, what string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	// It does not outlive who tortures it, nor hears his Ctrl-C.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := in.enter(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %v: %w", args, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	for end := time.Now().Add(startTime); !strings.Contains(p.said(), what); time.Sleep(5 * time.Millisecond) {
		select {
		case <-p.ended:
			return nil, fmt.Errorf("%v ended: %s", args, p.said())
		default:
		}
		if time.Now().After(end) {
			p.kill()
			return nil, fmt.Errorf("%v does not start: %s", args, p.said())
		}
	}
	return p, nil
}

const startTime = 3 * time.Minute

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// stop ends the process in peace, or else kills it.
func (p *process) stop() {
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.kill()
	}
}
