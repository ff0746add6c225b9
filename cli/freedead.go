package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// freeDead ends the kernel's connection of a mount whose daemon was killed and cannot go away. A thread of it that was telling
// the kernel to forget a name waits in there for a directory's lock, whoever has that waits for the daemon's answer, and nothing
// would ever wake either of them: as long as the thread is there, the kernel does not know that nobody serves the mount.
// It touches nothing in the mount, and does nothing about one whose daemon lives.
func freeDead(mnt string) {
	abs, err := filepath.Abs(mnt)
	if err != nil {
		return
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(dir, filepath.Base(abs))
	}
	device := fuseDevice(abs)
	daemons, err := records(abs)
	if device == "" || err != nil {
		return
	}
	for _, d := range daemons {
		if !zombie(d.PID) {
			return
		}
	}
	if len(daemons) == 0 {
		return
	}
	if os.WriteFile(filepath.Join("/sys/fs/fuse/connections", device, "abort"), []byte("1"), 0) != nil {
		return // not ours, or no such file system here
	}
	for end := time.Now().Add(lingerTime); zombie(daemons[0].PID) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

// fuseDevice is the number of the FUSE connection of ours that was mounted at the path last, or "".
func fuseDevice(path string) (device string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || unescape(fields[4]) != path {
			continue
		}
		device = ""
		if major, minor, _ := strings.Cut(fields[2], ":"); major == "0" && strings.HasPrefix(after, "fuse.echo9 ") {
			device = minor
		}
	}
	return device
}

// zombie reports whether a process was killed, and a thread of it, or its parent, keeps it from going away.
func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	return ok && (strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X"))
}
