package contract

import (
	"strconv"
	"strings"
	"syscall"
)

var handleVerbs map[string]func(*history, int, step, *handle) answer

func init() {
	handleVerbs = map[string]func(*history, int, step, *handle) answer{
		"close": doClose, "write": doWrite, "read": doRead, "hstat": doHandleStat, "htruncate": doHandleTruncate,
		"alloc": doAlloc, "hfsync": doHandleFsync,
	}
}

// expand reads a word of data: "ab*3" is "ababab".
func expand(word string) []byte {
	unit, times, ok := strings.Cut(word, "*")
	if !ok {
		return []byte(word)
	}
	n, _ := strconv.Atoi(times)
	return []byte(strings.Repeat(unit, n))
}

// lost is the answer of a handle on whose object something was lost.
func (hd *handle) lost() answer {
	switch {
	case hd.dir:
		return failing(faults{syscall.ESTALE})
	case hd.gone:
		return failing(faults{syscall.EIO, syscall.ESTALE})
	}
	return failing(faults{syscall.EIO})
}

func doClose(h *history, _ int, s step, hd *handle) answer {
	m := h.members[s.client]
	delete(m.handles, s.args[0])
	if hd.dead {
		return hd.lost()
	}
	if m.writes == "close" && hd.write {
		h.flush(s.client, hd.id)
	}
	return done("")
}

func doWrite(h *history, n int, s step, hd *handle) answer {
	switch {
	case !hd.write:
		return failing(faults{syscall.EBADF})
	case hd.dead:
		return hd.lost()
	}
	h.demand(s.client, nil, []int{hd.id})
	i, off := h.now[hd.id], s.num(1)
	if hd.appends {
		off = int64(len(i.content))
	}
	h.update(n, s, &effect{verb: "write", id: hd.id, off: off, data: expand(s.args[2]), strip: hd.uid != 0})
	return done("")
}

func doRead(h *history, _ int, s step, hd *handle) answer {
	switch {
	case hd.dir:
		return failing(faults{syscall.EISDIR})
	case !hd.read:
		return failing(faults{syscall.EBADF})
	case hd.dead:
		return hd.lost()
	}
	h.observe(s.client, hd.id)
	c := h.now[hd.id].content
	off := min(s.num(1), int64(len(c)))
	return done(short(c[off:min(off+s.num(2), int64(len(c)))]))
}

func doHandleStat(h *history, _ int, s step, hd *handle) answer {
	if hd.gone {
		return hd.lost()
	}
	h.observe(s.client, hd.id)
	return answer{value: status(h.now[hd.id]), stat: hd.id}
}

func doHandleTruncate(h *history, n int, s step, hd *handle) answer {
	switch {
	case hd.dead:
		return hd.lost()
	case hd.dir:
		return failing(faults{syscall.EISDIR, syscall.EBADF, syscall.EINVAL})
	}
	i := h.now[hd.id]
	var errs faults
	errs.when(!hd.write && !allowed(hd.uid, i, mayWrite), syscall.EACCES)
	if len(errs) > 0 {
		return failing(errs)
	}
	h.update(n, s, &effect{verb: "truncate", id: hd.id, size: s.num(1), strip: hd.uid != 0})
	return done("")
}

func doAlloc(h *history, n int, s step, hd *handle) answer {
	mode := s.num(1)
	switch {
	case h.members[s.client].plain:
		return failing(faults{syscall.EOPNOTSUPP})
	case !hd.write:
		return failing(faults{syscall.EBADF})
	case hd.dead:
		return hd.lost()
	}
	e := &effect{verb: "alloc", id: hd.id, off: s.num(2), size: s.num(3), keepSize: mode&1 != 0, strip: hd.uid != 0}
	if mode&^1 != 0 {
		e.verb = "zero"
	}
	h.update(n, s, e)
	h.arrive(e) // whether the host can is its answer
	h.fold()
	return done("")
}

func doHandleFsync(h *history, _ int, s step, hd *handle) answer {
	if hd.dead {
		return hd.lost()
	}
	h.flush(s.client, hd.id)
	a := done("")
	if hd.tells {
		hd.tells, a.or = false, faults{syscall.EIO}
	}
	return a
}
