package simulate

import (
	"slices"

	"echo9/tokens"
)

// perform notes an update.
func (w *world) perform(c *client, u update) *update {
	u.n, u.by = len(w.updates)+1, c
	v := &u
	w.updates, w.live = append(w.updates, v), append(w.live, v)
	w.counts.Updates++
	return v
}

// pass: c (nil: somebody on the host) uses k. What others have pending on it can no longer be applied.
func (w *world) pass(c *client, k id, write bool) {
	w.live = slices.DeleteFunc(w.live, func(u *update) bool { return u.applied || u.lost })
	for _, u := range w.live {
		if u.by != c && (u.writes(k) || write && u.read == k) {
			u.doomed = true
		}
	}
}

// excuse: c has no more than keep of k now; what needs more may be lost.
func (w *world) excuse(c *client, k id, keep tokens.Mode) {
	for _, u := range w.live {
		if u.by == c && (u.writes(k) && keep < tokens.Write || u.read == k && keep < tokens.Read) {
			u.excused = true
		}
	}
}

// excuseSuccessors: something that used k is lost, and so is what comes after it.
func (w *world) excuseSuccessors(c *client, k id) {
	for _, u := range w.live {
		if u.by == c && (u.writes(k) || u.read == k) {
			u.excused = true
		}
	}
}
