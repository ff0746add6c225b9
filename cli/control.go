package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mountCtl is a mount of ours as other processes reach it: by the files in
// its .echo9, and by the record of the process that serves it.
type mountCtl struct {
	path    string
	mounted bool
	served  []mountRecord // by whom, the last one last
}

// findMount looks for a mount of ours, which may be unmounted already while its
// process still sends.
func findMount(command, mnt string) (*mountCtl, error) {
	path, err := mountpoint(mnt)
	if err != nil {
		return nil, err
	}
	m := &mountCtl{path: path}
	mounted, fstype, err := mountAt(path)
	if err != nil {
		return nil, err
	}
	m.mounted = mounted && strings.HasPrefix(fstype, "fuse")
	if m.served, err = records(path); err != nil {
		return nil, err
	}
	if len(m.served) == 0 && !(m.mounted && fstype == "fuse.echo9") {
		return nil, fmt.Errorf("%s: %s is no mount of echo9; `echo9 status` lists them", command, path)
	}
	return m, nil
}

func (m *mountCtl) file(name string) string { return filepath.Join(m.path, ".echo9", name) }

// status is what status.json says.
type mountStatus struct {
	Cached       bool          `json:"cached"`
	Pending      int           `json:"pending"`
	PendingBytes int64         `json:"pending_bytes"`
	Oldest       time.Duration `json:"oldest_ns"`
	LastSeq      uint64        `json:"last_seq"`
	FirstSeq     uint64        `json:"first_seq"`
	Lost         int           `json:"lost"`
}

// status reads status.json; nil for a mount that is not cached.
func (m *mountCtl) status(ctx context.Context) (*mountStatus, []byte, error) {
	text, err := m.read(ctx, "status.json")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	s := new(mountStatus)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", m.file("status.json"), err)
	}
	return s, text, nil
}

// sync makes the daemon send everything, and waits for it. A mount that is not
// cached has nothing to send.
func (m *mountCtl) sync(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(m.file("ctl"), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("sync\n")
			if cerr := f.Close(); err == nil {
				err = cerr
			}
		}
		done <- err
	}()
	select {
	case err := <-done:
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if errors.Is(err, syscall.EIO) {
			return fmt.Errorf("%s: some changes were lost, or the server is gone: `echo9 status %s` and %s tell more: %w", m.path, m.path, m.file("events"), err)
		}
		return m.advise(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *mountCtl) advise(err error) error {
	if errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) {
		return fmt.Errorf("%w (its daemon is gone; echo9 umount %s takes the mount away)", err, m.path)
	}
	return err
}

// unmount unmounts as umount(8) or fusermount3 does.
func (m *mountCtl) unmount() error {
	if os.Geteuid() == 0 {
		if err := unix.Unmount(m.path, 0); err != nil {
			if errors.Is(err, syscall.EBUSY) {
				return fmt.Errorf("umount %s: in use; `fuser -vm %s` says by whom: %w", m.path, m.path, err)
			}
			return fmt.Errorf("umount %s: %w", m.path, err)
		}
		return nil
	}
	return fusermount("-u", m.path)
}

// lazyUnmount takes the mount away from where it is, used or not.
func lazyUnmount(path string) error {
	if os.Geteuid() == 0 {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("umount -l %s: %w", path, err)
		}
		return nil
	}
	return fusermount("-uz", path)
}

func fusermount(flag, path string) error {
	out, err := exec.Command("fusermount3", flag, "--", path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fusermount3 %s %s: %w: %s", flag, path, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// waitExit waits until all processes that served the mount have ended.
func (m *mountCtl) waitExit(ctx context.Context) error {
	for _, r := range m.served {
		if err := r.waitExit(ctx); err != nil {
			return err
		}
	}
	return nil
}
