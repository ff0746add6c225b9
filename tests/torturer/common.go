package main

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"
)

// What all mounts write, under a file lock: a counter that each increments, and a log to which each appends records.
const (
	commonDir   = "common"
	counterPath = commonDir + "/counter"
	logPath     = commonDir + "/log"
)

// record is the n-th record of a writer in the common log.
type record struct {
	writer string
	n      int
}

// padded is a line of the usual size, with a sum.
func padded(text string) []byte {
	return fmt.Appendf(nil, "%-*s\n", size-1, fmt.Sprintf("%s %08x", text, crc32.ChecksumIEEE([]byte(text))))
}

func (r record) bytes() []byte { return padded(fmt.Sprintf("%s %d", r.writer, r.n)) }

// parseRecords reads whole records.
func parseRecords(b []byte) (all []record, err error) {
	for at := 0; at < len(b); at += size {
		piece := b[at:min(at+size, len(b))]
		var r record
		if _, err := fmt.Sscan(string(piece), &r.writer, &r.n); err != nil || !bytes.Equal(piece, r.bytes()) {
			return all, &torn{logPath, piece}
		}
		all = append(all, r)
	}
	return all, nil
}

// count is a state of the counter: its value, the increment that made it, and the one that this was made on.
type count struct {
	n        int
	by, from string
}

func (c count) bytes() []byte { return padded(fmt.Sprintf("%d %s %s", c.n, c.by, c.from)) }

func parseCount(b []byte) (c count, err error) {
	if _, err := fmt.Sscan(string(b), &c.n, &c.by, &c.from); err != nil || !bytes.Equal(b, c.bytes()) {
		return c, &torn{counterPath, b}
	}
	return c, nil
}

// checkLog tells what is wrong with the common log: what was acknowledged is there, everything once, and each writer's in its order.
func checkLog(b []byte, a *acknowledged) (wrong []string) {
	all, err := parseRecords(b)
	if err != nil {
		return []string{err.Error()}
	}
	last, there := map[string]int{}, map[record]bool{}
	for i, r := range all {
		if r.n <= last[r.writer] {
			wrong = append(wrong, fmt.Sprintf("the common log has record %d of %s behind %d, at %d", r.n, r.writer, last[r.writer], i))
		}
		last[r.writer], there[r] = r.n, true
	}
	for r := range a.records {
		if !there[r] {
			wrong = append(wrong, fmt.Sprintf(lostAcknowledged+": record %d of %s in the common log", r.n, r.writer))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// checkCounter tells what is wrong with the counter: each increment that was acknowledged counts, so that no two were made on the same one, by two who
// both had the lock; what else it counts was tried. doubtful is how many those are.
func checkCounter(b []byte, a *acknowledged) (doubtful int, wrong []string) {
	now, err := parseCount(b)
	if err != nil {
		return 0, []string{err.Error()}
	}
	by := map[int]entry{}
	for _, e := range a.counted {
		if other, ok := by[e.n]; ok {
			wrong = append(wrong, fmt.Sprintf(twoHolders+": the counter became %d by %s, and by %s", e.n, other.of, e.of))
		}
		by[e.n] = e
	}
	tried := map[int]bool{}
	for _, n := range a.tried {
		tried[n] = true
	}
	for n, e := range by {
		before, ok := by[n-1]
		if ok && before.of != e.from {
			wrong = append(wrong, fmt.Sprintf(twoHolders+": the counter became %d by %s, and then %d by %s, who had read what %s left", n-1, before.of, n, e.of, e.from))
		}
		if n > now.n || n == now.n && e.of != now.by {
			wrong = append(wrong, fmt.Sprintf(lostAcknowledged+": the counter was %d by %s, and is %d by %s", n, e.of, now.n, now.by))
		}
	}
	for n := 1; n <= now.n; n++ {
		if _, ok := by[n]; !ok {
			doubtful++
			if !tried[n] {
				wrong = append(wrong, fmt.Sprintf("the counter went over %d, and nobody had it so", n))
			}
		}
	}
	slices.Sort(wrong)
	return doubtful, wrong
}
