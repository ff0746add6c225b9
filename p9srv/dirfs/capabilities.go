package dirfs

import "golang.org/x/sys/unix"

// Capabilities tells, a line each, what the host gives and what follows from what
// it does not: for `serve` to print.
func (fs *FS) Capabilities() []string {
	var out []string
	switch {
	case fs.openHandles:
		out = append(out, "file handles: yes")
	case fs.handleFlags >= 0:
		out = append(out, "file handles: to identify only; objects are found again by their names, and what the host renames while nobody has it open must be walked to again")
	default:
		out = append(out, "file handles: none; objects are told apart by inode and birth time, and found again by their names")
	}
	switch fs.kind {
	case unix.OVERLAYFS_SUPER_MAGIC:
		out = append(out, "overlayfs: directories of lower layers may not be renamed (EXDEV)")
	case unix.TMPFS_MAGIC:
		out = append(out, "tmpfs: nothing outlives the host")
	case unix.EXT4_SUPER_MAGIC:
		if !hasJournal(fs.mountFD) {
			out = append(out, "ext4 without a journal: a power failure may leave names and contents that never were")
		}
	case unix.NFS_SUPER_MAGIC, unix.MSDOS_SUPER_MAGIC:
		out = append(out, "this file system does not promise atomic renames over a power failure")
	}
	if fs.opt.Durability == DurableOS {
		out = append(out, "--durability os: cuts survive the end of this process, not a power failure")
	}
	if fs.uid != 0 {
		out = append(out, "not root: everything is done as the server's own user")
	} else if !fs.switches {
		out = append(out, "root without the capability to act as other users: everything is done as root")
	}
	if fs.opt.ReadOnly {
		out = append(out, "read-only")
	}
	return out
}
