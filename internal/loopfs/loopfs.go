// Package loopfs mounts a new ext4 *with a journal* from a file, for tests and
// measurements of what is durable and what it costs: the file system that a
// machine happens to build on may have no journal.
//
// It promises that nothing is left mounted when the test, or whoever called Mount, is done. It
// never touches a device that exists.
package loopfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Ext4 gives a directory of a new ext4 of so many MiB, until the test ends. Where that
// cannot be had the test is skipped, on CI it fails.
func Ext4(t testing.TB, mib int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "mounting needs root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		missing(t, "mkfs.ext4 is not installed; tests/run installs what the tests need")
	}
	mnt, unmount, err := Mount(t.TempDir(), mib)
	if err != nil {
		missing(t, err.Error())
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Error(err)
		}
	})
	return mnt
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("on CI nothing may be missing: ", why)
	}
	t.Skip(why)
}

// Mount makes an ext4 of so many MiB in a file of dir, and mounts it on dir/mnt.
func Mount(dir string, mib int) (mnt string, unmount func() error, err error) {
	image := filepath.Join(dir, "ext4.img")
	mnt = filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		return "", nil, err
	}
	f, err := os.Create(image)
	if err != nil {
		return "", nil, err
	}
	err = f.Truncate(int64(mib) << 20)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", nil, err
	}
	// Nothing is left to be initialised by the kernel while somebody measures.
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=16", "-O", "has_journal",
		"-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image); err != nil {
		return "", nil, err
	}
	if err := run("mount", "-o", "loop,data=ordered", image, mnt); err != nil {
		return "", nil, err
	}
	return mnt, func() error {
		err := run("umount", mnt)
		if err != nil {
			// Somebody has a file open: it goes when they do.
			if lerr := run("umount", "-l", mnt); lerr != nil {
				return lerr
			}
		}
		return err
	}, nil
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
