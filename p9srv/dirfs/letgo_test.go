package dirfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"echo9/internal/wire"
)

// TestLetGo: what somebody on the host removes does not keep its space because the server has looked at it; but it does while it is used.
func TestLetGo(t *testing.T) {
	held := func(t *testing.T, dir, name string) bool {
		t.Helper()
		all, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		for _, e := range all {
			to, _ := os.Readlink("/proc/self/fd/" + e.Name())
			if strings.HasPrefix(to, filepath.Join(dir, name)) {
				return true
			}
		}
		return false
	}
	for name, opt := range map[string]Options{"handles": {}, "no handles": {noHandles: true}, "a mutant that holds them": {hold: true}} {
		t.Run(name, func(t *testing.T) {
			dir := openDir(t, "/dev/shm")
			fs := openFS(t, dir, opt)
			root := rootOf(t, fs)
			for _, name := range []string{"looked-at", "used", "stays"} {
				must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644))
				o, _, err := root.Walk(ctx, nil, name)
				must(t, err)
				if name == "used" {
					f, err := o.Open(ctx, nil, wire.ORdonly)
					must(t, err)
					defer f.Close(ctx)
					defer func() {
						if n, err := f.ReadAt(ctx, make([]byte, 1), 0); n != 1 {
							t.Errorf("reading what is open and was removed: %d, %v", n, err)
						}
					}()
				}
				o.Release()
				if !held(t, dir, name) {
					t.Fatalf("the server has no descriptor of %s: this tests nothing", name)
				}
			}
			must(t, os.Remove(filepath.Join(dir, "looked-at")))
			must(t, os.Remove(filepath.Join(dir, "used")))
			_, err := fs.StatFS(ctx)
			must(t, err)
			if got := held(t, dir, "looked-at"); got != opt.hold {
				t.Errorf("of what nobody uses, and is removed, there is a descriptor: %v", got)
			}
			if !held(t, dir, "used") || !held(t, dir, "stays") {
				t.Error("what is used, or has its name, has lost its descriptor")
			}
		})
	}
}
