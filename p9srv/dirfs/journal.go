package dirfs

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// hasJournal says whether the ext4 that fd is on has a journal, as far as that can be
// found out; true when it cannot.
func hasJournal(fd int) bool {
	var st unix.Statx_t
	if statFD(fd, &st) != nil {
		return true
	}
	dev := fmt.Sprintf("/sys/dev/block/%d:%d", st.Dev_major, st.Dev_minor)
	target, err := os.Readlink(dev)
	if err != nil {
		return true
	}
	name := target[strings.LastIndexByte(target, '/')+1:]
	// jbd2 names a directory after the device and the journal's inode.
	entries, err := os.ReadDir("/proc/fs/jbd2")
	if err != nil && !os.IsNotExist(err) {
		return true
	}
	for _, e := range entries {
		if e.Name() == name || strings.HasPrefix(e.Name(), name+"-") {
			return true
		}
	}
	return !mountedReadWrite(name)
}

// mountedReadWrite says whether the device's ext4 shows up in /proc/fs/ext4, so that
// the kernel's reports about it can be believed.
func mountedReadWrite(name string) bool {
	f, err := os.Open("/proc/fs/ext4/" + name + "/options")
	if err != nil {
		return false
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if s.Text() == "rw" {
			return true
		}
	}
	return false
}
