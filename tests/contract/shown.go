package contract

import "fmt"

// showed notes what a client was told of an object's identity and times, and says what is wrong with it.
func (h *history) showed(id int, qid uint64, mtime, ctime int64) string {
	s := h.shown[id]
	if s == nil {
		s = &times{qid: qid, ctime: ctime}
		h.shown[id] = s
	}
	set := h.now[id].mtime
	defer func() { s.mtime, s.ctime, s.mvalid, s.valid = mtime, ctime, true, true }()
	switch {
	case s.qid != qid:
		return fmt.Sprintf("its number was %d and is %d", s.qid, qid)
	case set != 0 && mtime != set:
		return fmt.Sprintf("it was modified at %d; want %d, as set", mtime, set)
	case set == 0 && s.mvalid && mtime != s.mtime:
		return fmt.Sprintf("it was modified at %d and now at %d, and nothing was done to it", s.mtime, mtime)
	case s.valid && ctime != s.ctime:
		return fmt.Sprintf("it was changed at %d and now at %d, and nothing was done to it", s.ctime, ctime)
	case ctime < s.ctime:
		return fmt.Sprintf("it was changed at %d and now earlier, at %d", s.ctime, ctime)
	}
	return ""
}
