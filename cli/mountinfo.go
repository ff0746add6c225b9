package main

import (
	"bufio"
	"os"
	"strings"
)

// mountAt says whether something is mounted at the path, and of what type: of
// what was mounted there last.
func mountAt(path string) (mounted bool, fstype string, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false, "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// 36 35 98:0 /root /mount/point options [tags…] - type source super-options
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || unescape(fields[4]) != path {
			continue
		}
		fstype, _, _ = strings.Cut(after, " ")
		mounted = true
	}
	return mounted, fstype, lines.Err()
}

// unescape undoes \040 and its like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			n := 0
			for _, c := range s[i+1 : i+4] {
				n = n*8 + int(c-'0')
			}
			b.WriteByte(byte(n))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
