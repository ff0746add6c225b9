package loopfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEXT4HasAJournalAndIsUnmounted(t *testing.T) {
	var mnt string
	t.Run("mounted", func(t *testing.T) {
		mnt = Ext4(t, 40)
		m := mountOf(t, mnt)
		if !strings.Contains(m, " - ext4 ") {
			t.Fatalf("%s is %q", mnt, m)
		}
		// The kernel's list of journals names the loop device.
		dev := filepath.Base(strings.Fields(m[strings.Index(m, " - ext4 "):])[2])
		js, _ := filepath.Glob("/proc/fs/jbd2/" + dev + "-*")
		if len(js) != 1 {
			t.Errorf("journals of %s: %q", dev, js)
		}
		if err := os.WriteFile(filepath.Join(mnt, "f"), make([]byte, 1<<20), 0o600); err != nil {
			t.Error(err)
		}
	})
	if mnt != "" && mountOf(t, mnt) != "" {
		t.Errorf("%s is still mounted", mnt)
	}
}

// mountOf is the line of mountinfo that says what is mounted on dir, or "".
func mountOf(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(b), "\n") {
		if f := strings.Fields(l); len(f) > 4 && f[4] == dir {
			return l
		}
	}
	return ""
}
