package journal

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Report is what Check found.
type Report struct {
	Segments []SegmentReport `json:"segments"`
	// First to Last are the entries that recovery would see; Last < First: none.
	First LSN `json:"first"`
	Last  LSN `json:"last"`
	// Entries counts them by kind.
	Entries map[string]int `json:"entries"`
	// Damage is why the log cannot be used, or nil.
	Damage *Damage `json:"damage,omitempty"`
	// Other are files that are not the log's.
	Other []string `json:"other,omitempty"`
}

// SegmentReport is one file of the log.
type SegmentReport struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	State   string `json:"state"` // live, forgotten, torn, empty, spare, unfinished or damaged
	Entries int    `json:"entries"`
	First   LSN    `json:"first,omitempty"`
	Last    LSN    `json:"last,omitempty"`
	End     int64  `json:"end"` // where the whole entries end
}

var kindNames = map[uint8]string{
	kindCut: "cut", kindNote: "note", kindAbort: "abort", kindApplied: "applied", kindSettled: "settled", kindRedo: "redo",
	kindCheckpoint: "checkpoint", kindMark: "mark",
}

// Check reads the log in the private directory at path and changes nothing. A log that is
// damaged is no error of Check.
func Check(path string) (*Report, error) {
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(dir)
	fd, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	found, err := readDir(fd)
	if err != nil {
		return nil, err
	}
	return check(fd, found)
}

func check(dir int, found *found) (*Report, error) {
	r := &Report{Entries: map[string]int{}, Other: found.other, First: 1}
	var segments []*scanned
	for _, im := range found.images {
		s, err := scanSegment(im, false)
		var d *Damage
		if errors.As(err, &d) {
			r.Damage = cmp.Or(r.Damage, d)
			r.Segments = append(r.Segments, SegmentReport{Name: im.name, Size: int64(len(im.data)), State: "damaged"})
			continue
		}
		if err != nil {
			return nil, err
		}
		segments = append(segments, s)
	}
	c, err := link(segments)
	var d *Damage
	switch {
	case errors.As(err, &d):
		r.Damage = cmp.Or(r.Damage, d)
	case err != nil:
		return nil, err
	}
	for _, s := range segments {
		r.Segments = append(r.Segments, r.segment(s, c))
	}
	r.chain(c)
	for _, name := range slices.Concat(found.spare, found.unmade) {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, fmt.Errorf("stat segment %s of the log of cuts: %w", name, err)
		}
		state := "spare"
		if slices.Contains(found.unmade, name) {
			state = "unfinished"
		}
		r.Segments = append(r.Segments, SegmentReport{Name: name, Size: st.Size, State: state})
	}
	slices.SortFunc(r.Segments, func(a, b SegmentReport) int { return cmp.Compare(a.Name, b.Name) })
	return r, nil
}

// segment tells what s is in the chain.
func (r *Report) segment(s *scanned, c *chain) SegmentReport {
	sr := SegmentReport{Name: s.name, Size: int64(len(s.data)), Entries: len(s.entries), End: s.end}
	switch {
	case s.recycled:
		sr.State = "spare"
		return sr
	case len(s.entries) == 0:
		sr.State = "empty"
		return sr
	}
	sr.First, sr.Last = s.first(), s.last()
	switch {
	case sr.Last < c.start:
		sr.State = "forgotten"
	case slices.Contains(c.segments, s):
		sr.State = "live"
	default:
		sr.State = "torn"
	}
	return sr
}

// chain tells what the log holds.
func (r *Report) chain(c *chain) {
	r.First, r.Last = c.start, c.next-1
	for _, s := range c.segments {
		for _, e := range s.entries {
			if e.lsn < c.start {
				continue
			}
			r.Entries[cmp.Or(kindNames[e.kind], fmt.Sprintf("kind %d", e.kind))]++
		}
	}
}
