package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// endTime is what a killed process gets to be gone, or to be nothing but a thread that its kernel keeps.
const endTime = 30 * time.Second

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.gone()
}

// bury waits until a killed daemon is gone. The kernel may keep a thread of it that was telling it to forget a name: that waits for a
// directory's lock, whoever has that waits for the daemon's answer, and both do until the next mount there, or abort, ends the connection. Here it
// is abort: a process that has files open there, as this one, cannot even start another one meanwhile (exec closes them).
func (c *client) bury() {
	c.proc.gone()
	select {
	case <-c.proc.ended:
	case <-time.After(100 * time.Millisecond):
		if c.mnt != "" {
			abort(c.mnt)
		}
		c.proc.gone()
	}
}

// gone waits until a killed process does nothing any more.
func (p *process) gone() {
	for end := time.Now().Add(endTime); time.Now().Before(end) && !zombie(p.pid()); {
		select {
		case <-p.ended:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

// abort ends the kernel's connection of a FUSE mount: whoever waits in it gets an error.
func abort(mnt string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) < 5 || w[4] != mnt {
			continue
		}
		if major, minor, _ := strings.Cut(w[2], ":"); major == "0" {
			_ = os.WriteFile(filepath.Join("/sys/fs/fuse/connections", minor, "abort"), []byte("1"), 0)
		}
	}
}
