package dirfs

import (
	"os"
	"path/filepath"
	"testing"

	"echo9/internal/cut"

	"golang.org/x/sys/unix"
)

// TestCutsKeepAtime: what a cut reads for itself, to save what it overwrites or to copy, is nobody's access. All places but those where
// the host forbids it: a file of somebody else, to an ordinary user.
func TestCutsKeepAtime(t *testing.T) {
	onPlaces(t, func(t *testing.T, fs *FS, dir string) {
		old := unix.Timespec{Sec: 1_000_000_000}
		id := map[string]uint64{}
		for _, name := range []string{"overwritten", "source", "made"} {
			path := filepath.Join(dir, name)
			must(t, os.WriteFile(path, make([]byte, 100_000), 0o644))
			// So that the host would note an access.
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{old, {Sec: old.Sec + 1}}, 0))
			n, err := fs.ResolveName(ctx, fs.root.id, name)
			must(t, err)
			id[name] = n
		}
		must(t, fs.Apply(ctx, nil, &cut.Cut{Client: [16]byte{1}, Number: 1, Records: []cut.Record{
			{Kind: cut.Data, UID: fs.uid, ID: id["overwritten"], Off: 10, Bytes: []byte("new")},
			{Kind: cut.Copy, UID: fs.uid, ID: id["made"], Source: id["source"], Len: 50_000},
		}}))
		for name := range id {
			var st unix.Stat_t
			must(t, unix.Stat(filepath.Join(dir, name), &st))
			if st.Atim != old {
				t.Errorf("%s was accessed at %v, %v is wanted", name, st.Atim, old)
			}
		}
	})
}
