package p9srv

import (
	"strings"
	"syscall"
)

// nameMax is the longest name of a directory entry, in bytes.
const nameMax = 255

// checkName checks a name that is to be made, moved or removed.
func checkName(name string) error {
	switch {
	case name == "":
		return syscall.ENOENT
	case name == "." || name == "..":
		return syscall.EINVAL
	}
	return checkStep(name)
}

// checkStep checks a name of a walk, where ".." is allowed.
func checkStep(name string) error {
	switch {
	case name == "":
		return syscall.ENOENT
	case len(name) > nameMax:
		return syscall.ENAMETOOLONG
	case strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0 || name == ".":
		return syscall.EINVAL
	}
	return nil
}
