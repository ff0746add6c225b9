package dirfs

import (
	"context"
	"os"
	"strings"

	"echo9/p9srv"
)

var _ p9srv.Pather = (*FS)(nil)

// PathOf is a path of the object from the export's root as of now, "" when the kernel does not know one.
func (fs *FS) PathOf(_ context.Context, id uint64) string {
	n, err := fs.lookup(id)
	if err != nil {
		return ""
	}
	defer n.Release()
	root, err := fs.root.hostPath()
	if err != nil {
		return ""
	}
	path, err := n.hostPath()
	switch {
	case err != nil:
		return ""
	case path == root:
		return "/"
	}
	rest, below := strings.CutPrefix(path, strings.TrimSuffix(root, "/")+"/")
	if !below {
		return "" // an inode that was opened by its handle, whose name nobody has looked up
	}
	if _, err := os.Lstat(path); err != nil {
		return "" // the kernel says " (deleted)"
	}
	return "/" + rest
}

// hostPath is what the kernel says that the object's descriptor refers to.
func (n *node) hostPath() (string, error) {
	fd, err := n.pin()
	if err != nil {
		return "", err
	}
	defer n.unpin()
	return os.Readlink(procPath(fd))
}
