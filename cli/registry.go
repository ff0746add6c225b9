package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"echo9/internal/netaddr"
)

// mountRecord says who serves a mount. It is a file in the user's own
// directory, which the process that serves the mount keeps locked: the lock ends
// with the process, whatever becomes of the mount.
type mountRecord struct {
	PID        int       `json:"pid"`
	Mountpoint string    `json:"mountpoint"`
	Server     string    `json:"server"`
	Cached     bool      `json:"cached"`
	Started    time.Time `json:"started"`
	// Socket is where the process can be asked also when the mount does not answer, or is gone; "" when nothing is cached.
	Socket string `json:"socket,omitempty"`

	file string
}

// registryDirs are where records are: one's own, and for root everybody's.
func registryDirs() ([]string, error) {
	a, err := netaddr.Private("x")
	if err != nil {
		return nil, err
	}
	dirs := []string{filepath.Dir(a.Path)}
	if os.Geteuid() == 0 {
		for _, pattern := range []string{"/run/user/*/echo9", filepath.Join(os.TempDir(), "echo9-*")} {
			more, _ := filepath.Glob(pattern)
			dirs = append(dirs, more...)
		}
	}
	return dirs, nil
}

// register writes and locks the record of this process. The function that it
// gives removes it.
func register(r mountRecord) (func(), error) {
	dirs, err := registryDirs()
	if err != nil {
		return nil, err
	}
	dir := dirs[0]
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the directory of mounts: %w", err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, fmt.Sprintf("mount-%x-%d.json", mountKey(r.Mountpoint), r.PID))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the record of the mount: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return nil, fmt.Errorf("the record of the mount: %w", err)
	}
	return func() {
		os.Remove(name)
		f.Close()
	}, nil
}

func mountKey(mnt string) []byte {
	sum := sha256.Sum256([]byte(mnt))
	return sum[:8]
}

// records finds the processes that serve the mount point, or all mounts ("").
// What dead processes left is removed.
func records(mnt string) ([]mountRecord, error) {
	dirs, err := registryDirs()
	if err != nil {
		return nil, err
	}
	pattern := "mount-*.json"
	if mnt != "" {
		pattern = fmt.Sprintf("mount-%x-*.json", mountKey(mnt))
	}
	var list []mountRecord
	for _, dir := range dirs {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, file := range files {
			r, err := readRecord(file)
			if err == nil && (mnt == "" || r.Mountpoint == mnt) {
				list = append(list, r)
			}
		}
	}
	slices.SortFunc(list, func(a, b mountRecord) int { return a.Started.Compare(b.Started) })
	return list, nil
}

var errStale = errors.New("its process is gone")

// readRecord fails for a record whose process is gone.
func readRecord(file string) (mountRecord, error) {
	r := mountRecord{file: file}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return r, err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		os.Remove(file)
		os.Remove(strings.TrimSuffix(file, ".json") + ".sock")
		return r, errStale
	}
	return r, json.NewDecoder(f).Decode(&r)
}

// waitExit waits until the process of the record has ended.
func (r mountRecord) waitExit(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := readRecord(r.file); errors.Is(err, errStale) || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mountpoint gives the name of a mount point as the kernel has it. The point
// itself is not looked at: its server may be gone.
func mountpoint(mnt string) (string, error) {
	abs, err := filepath.Abs(mnt)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, filepath.Base(abs))
	if mounted, _, _ := mountAt(name); !mounted {
		// A link to a mount point.
		if target, err := filepath.EvalSymlinks(name); err == nil {
			return target, nil
		}
	}
	return name, nil
}
