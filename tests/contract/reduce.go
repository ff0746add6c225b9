package contract

// reduce shortens a story that fails to one that fails, too: fails says whether one does. It takes
// away ever smaller pieces, until no single step can go.
func reduce(st *story, fails func(*story) bool) *story {
	with := func(steps []step) *story {
		c := *st
		c.steps = steps
		return &c
	}
	steps := st.steps
	for size := (len(steps) + 1) / 2; size > 0; {
		shorter := false
		for at := 0; at < len(steps); {
			try := append(append([]step{}, steps[:at]...), steps[min(at+size, len(steps)):]...)
			if fails(with(try)) {
				steps, shorter = try, true
			} else {
				at += size
			}
		}
		switch {
		case size > 1:
			size /= 2
		case !shorter:
			return with(steps)
		}
	}
	return with(steps)
}
