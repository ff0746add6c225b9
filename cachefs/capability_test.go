package cachefs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"echo9/internal/wire"
)

// TestWriteDropsCapabilities: the host takes a file's capabilities away when its content changes, and so they are not shown
// from then on, whether they were known before, and before and after the write is sent.
func TestWriteDropsCapabilities(t *testing.T) {
	w := newWorld(t)
	value := append([]byte{1, 0, 0, 2, 4}, make([]byte, 15)...)
	changes := map[string]func(f *FS, h *File) error{
		"write": func(f *FS, h *File) error { _, err := h.WriteAt(bg, []byte("x"), 1); return err },
		"truncate": func(f *FS, h *File) error {
			return inner(h).(*file).n.SetAttr(bg, &f.opt.Cred, nil, wire.SetAttr{Valid: wire.SetSize, Size: 1})
		},
		"allocate": func(f *FS, h *File) error { return h.Allocate(bg, 0, 0, 100) },
	}
	for _, known := range []bool{true, false} {
		for what := range changes {
			host := filepath.Join(w.dir, fmt.Sprint(what, known))
			ok(t, os.WriteFile(host, []byte("abc"), 0o755))
			err := syscall.Setxattr(host, capability, value, 0)
			if errors.Is(err, syscall.EPERM) {
				t.Skip("needs a user who may set capabilities")
			}
			ok(t, err)
		}
	}
	f := w.cache()
	for _, known := range []bool{true, false} {
		for what, change := range changes {
			name := fmt.Sprint(what, known)
			host := filepath.Join(w.dir, name)
			o, _, err := f.walk(bg, []string{name}, true)
			ok(t, err)
			defer o.Release()
			show := func() error { _, err := o.GetXattr(bg, &f.opt.Cred, capability); return err }
			if known {
				ok(t, show())
			}
			h, err := f.OpenFile(bg, name, wire.ORdwr, 0)
			ok(t, err)
			ok(t, change(f, h))
			for _, when := range []string{"before", "after"} {
				if err := show(); !errors.Is(err, syscall.ENODATA) {
					t.Errorf("%s it is sent, after %s: the capability is answered with %v", when, name, err)
				}
				ok(t, f.Sync(bg))
			}
			if _, err := syscall.Getxattr(host, capability, make([]byte, 64)); !errors.Is(err, syscall.ENODATA) {
				t.Errorf("%s: the host has it: %v", name, err)
			}
			ok(t, h.Close(bg))
		}
	}
}
