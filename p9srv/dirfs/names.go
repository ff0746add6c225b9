package dirfs

import (
	"strings"
	"syscall"
)

// privateName is the server's own directory in the root of the export.
const privateName = ".echo9"

// checkName answers EINVAL for what is no name of one element. The host itself
// answers ENAMETOOLONG.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0 {
		return syscall.EINVAL
	}
	return nil
}

// reserved says whether name in directory n is the server's own: the private directory, or what a cut has aside.
func (n *node) reserved(name string) bool {
	return name == privateName && n == n.fs.root || strings.HasPrefix(name, asidePrefix)
}

// checkNew checks a name that is to be made, changed or removed in n.
func (n *node) checkNew(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if n.reserved(name) {
		return syscall.EPERM
	}
	return nil
}
