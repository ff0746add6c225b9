package contract

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// answer is what a step may answer.
type answer struct {
	errs  faults // one of these; none: success
	value string
	// stat: the object whose times are to be looked at; -1: none.
	stat int
	// skip: the step has no meaning here (a handle that is not open) and is not to be done.
	skip bool
	// or: instead of success it may be one of these.
	or faults
}

func failing(f faults) answer { return answer{errs: f, stat: -1} }

func done(value string) answer { return answer{value: value, stat: -1} }

// do takes a step on, as the n-th of the story (from 1 on), and says what it may answer.
func (h *history) do(n int, s step) answer {
	if fn := pathVerbs[s.verb]; fn != nil {
		if name := s.opens(); name != "" {
			if old := h.members[s.client].handles[name]; old != nil {
				defer doClose(h, n, step{client: s.client, args: []string{"old " + name}}, old)
			}
		}
		return fn(h, n, s)
	}
	if fn := handleVerbs[s.verb]; fn != nil {
		hd := h.members[s.client].handles[s.args[0]]
		if hd == nil {
			return answer{skip: true}
		}
		return fn(h, n, s, hd)
	}
	switch s.verb {
	case "sync", "drop":
		h.flush(s.client, everything)
	default:
		panic("contract: " + s.verb + " is not for the model")
	}
	return done("")
}

var pathVerbs map[string]func(*history, int, step) answer

func init() {
	pathVerbs = map[string]func(*history, int, step) answer{
		"mkdir": doMake, "create": doMake, "symlink": doMake, "mkfifo": doMake, "link": doLink, "unlink": doUnlink, "rmdir": doUnlink,
		"rename": doRename, "open": doOpen, "stat": doStat, "cat": doCat, "ls": doList, "readlink": doReadlink, "chmod": doChmod,
		"chown": doChown, "utime": doUtime, "truncate": doTruncate, "setxattr": doSetXattr, "getxattr": doGetXattr,
		"rmxattr": doRemoveXattr, "listxattr": doListXattr, "fsync": doFsync, "barrier": doBarrier,
	}
}

// update issues an effect of a step.
func (h *history) update(n int, s step, e *effect) {
	m := h.members[s.client]
	e.step, e.client = n, s.client
	if e.verb != "rename" {
		e.replaced = -1
	}
	e.operands()
	h.demand(s.client, e.reads, e.writes)
	h.issue(e)
	if m.writes == "sync" || m.writes == "close" && e.verb != "write" {
		if !e.marker() {
			h.arrive(e)
		}
	}
	h.fold()
}

// up are the objects that a walk to the directory of a path looks at.
func (f *found) up() []int {
	n := len(f.seen)
	if f.i != nil && f.dir != nil {
		n--
	}
	if n < 2 {
		return nil // the root is had without looking
	}
	return f.seen[:n]
}

func doMake(h *history, n int, s step) answer {
	f := h.now.find(s.args[0], s.uid)
	h.observe(s.client, f.up()...)
	errs := f.within(s.uid)
	errs.when(len(f.errs) == 0 && f.i != nil, syscall.EEXIST)
	if len(errs) > 0 {
		return failing(errs)
	}
	e := &effect{verb: "make", id: n, dir: f.dir.id, name: f.base, uid: s.uid, gid: s.uid}
	if f.dir.mode&setgid != 0 {
		e.gid = f.dir.gid
	}
	switch s.verb {
	case "mkdir":
		e.mode = typeDir | uint32(s.num(1))&(0o777|sticky) | f.dir.mode&setgid
	case "create":
		e.mode = typeReg | uint32(s.num(1))
	case "mkfifo":
		e.mode = typeFifo | uint32(s.num(1))
	case "symlink":
		e.mode, e.target = typeLink|0o777, s.args[1]
		if h.members[s.client].order == "causal" {
			e.shows = h.now.reach(f.dir, e.target, s.uid)
		}
	}
	if e.mode&typeMask != typeDir && e.mode&setgid != 0 && s.uid != 0 && s.uid != e.gid {
		e.mode &^= setgid
	}
	h.update(n, s, e)
	if s.verb == "create" {
		h.members[s.client].handles[s.args[2]] = &handle{id: n, uid: s.uid, read: true, write: true}
	}
	return done("")
}

func doLink(h *history, n int, s step) answer {
	f, to := h.now.find(s.args[0], s.uid).must(), h.now.find(s.args[1], s.uid)
	h.observe(s.client, f.seen...)
	if len(f.errs) > 0 {
		return failing(f.errs)
	}
	h.observe(s.client, to.up()...)
	errs := to.within(s.uid)
	errs.when(len(to.errs) == 0 && to.i != nil, syscall.EEXIST)
	errs.when(f.i.isDir(), syscall.EPERM)
	errs.when(!linkable(s.uid, f.i), syscall.EPERM)
	if len(errs) > 0 {
		return failing(errs)
	}
	if h.halfMade(s, f.i.id) {
		return answer{or: faults{syscall.EIO}, stat: -1}
	}
	h.update(n, s, &effect{verb: "link", id: f.i.id, dir: to.dir.id, name: to.base})
	return done("")
}

// halfMade says that a rename or a link of these objects was not done, since something was lost of one and nobody told yet.
func (h *history) halfMade(s step, ids ...int) bool {
	m := h.members[s.client]
	if !s.eio || !slices.ContainsFunc(ids, func(id int) bool { return m.untold[id] }) {
		return false
	}
	for _, id := range ids {
		delete(m.untold, id)
	}
	return true
}

func doUnlink(h *history, n int, s step) answer {
	f := h.now.find(s.args[0], s.uid).must()
	h.observe(s.client, f.up()...)
	if len(f.errs) > 0 {
		return failing(f.errs)
	}
	errs := removable(s.uid, f.dir, f.i)
	if s.verb == "rmdir" {
		errs.when(!f.i.isDir(), syscall.ENOTDIR)
		errs.when(f.i.isDir() && len(f.i.names) > 0, syscall.ENOTEMPTY)
	} else {
		errs.when(f.i.isDir(), syscall.EISDIR)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	h.update(n, s, &effect{verb: s.verb, id: f.i.id, dir: f.dir.id, name: f.base})
	return done("")
}

func doRename(h *history, n int, s step) answer {
	f, to := h.now.find(s.args[0], s.uid), h.now.find(s.args[1], s.uid)
	how := append(s.args, "")[2]
	h.observe(s.client, f.up()...)
	if len(f.errs) > 0 {
		return failing(f.errs)
	}
	h.observe(s.client, to.up()...)
	if len(to.errs) > 0 {
		to.errs.when(f.i == nil, syscall.ENOENT)
		return failing(to.errs)
	}
	var errs faults
	exchange := how == "exchange"
	if h.members[s.client].plain && how != "" {
		return failing(faults{syscall.EINVAL})
	}
	errs.when(f.i == nil || exchange && to.i == nil, syscall.ENOENT)
	errs.when(to.i != nil && how == "noreplace", syscall.EEXIST)
	if f.i != nil && f.i == to.i && len(errs) == 0 {
		h.demand(s.client, nil, []int{f.dir.id, to.dir.id, f.i.id})
		return done("") // two names of one file
	}
	if f.i == nil {
		return failing(errs)
	}
	src, dst := f.i, to.i
	errs.add(removable(s.uid, f.dir, src))
	if dst != nil {
		errs.add(removable(s.uid, to.dir, dst))
	} else {
		errs.add(to.within(s.uid))
	}
	if f.dir != to.dir { // ".." changes
		errs.when(src.isDir() && !allowed(s.uid, src, mayWrite), syscall.EACCES)
		errs.when(exchange && dst != nil && dst.isDir() && !allowed(s.uid, dst, mayWrite), syscall.EACCES)
	}
	errs.when(src.isDir() && h.now.isBelow(to.dir.id, src.id), syscall.EINVAL)
	if dst != nil {
		above := dst.isDir() && h.now.isBelow(f.dir.id, dst.id)
		if exchange {
			errs.when(above, syscall.EINVAL)
		} else {
			errs.when(above, syscall.ENOTEMPTY)
			errs.when(src.isDir() && !dst.isDir(), syscall.ENOTDIR)
			errs.when(!src.isDir() && dst.isDir(), syscall.EISDIR)
			errs.when(dst.isDir() && len(dst.names) > 0, syscall.ENOTEMPTY)
		}
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	moved := append(h.now.under(src.id), src.id)
	if exchange && dst != nil {
		moved = append(append(moved, h.now.under(dst.id)...), dst.id)
	}
	if h.halfMade(s, moved...) {
		return answer{or: faults{syscall.EIO}, stat: -1}
	}
	e := &effect{verb: "rename", id: src.id, dir: f.dir.id, name: f.base, dir2: to.dir.id, name2: to.base, replaced: -1, exchange: exchange}
	if dst != nil {
		e.replaced = dst.id
	}
	for _, m := range []struct{ moved, to *inode }{{src, to.dir}, {dst, f.dir}} {
		if m.moved == nil || !m.moved.isDir() || m.moved == dst && !exchange {
			continue
		}
		e.isDir = true
		e.below = append(e.below, h.now.under(m.moved.id)...)
		if f.dir != to.dir {
			for at := m.to.id; ; at = h.now[at].parent {
				e.reads = append(e.reads, at)
				if at == rootID {
					break
				}
			}
		}
	}
	h.update(n, s, e)
	return done("")
}

// opens checks an open.
func opens(i *inode, uid uint32, read, write bool) faults {
	var errs faults
	switch i.mode & typeMask {
	case typeDir:
		errs.when(write, syscall.EISDIR)
	case typeReg:
	case typeLink:
		errs.when(true, syscall.ELOOP)
	default:
		errs.when(true, syscall.ENXIO)
	}
	var want uint32
	if read {
		want = mayRead
	}
	if write {
		want |= mayWrite
	}
	if i.mode&typeMask != typeLink {
		errs.when(!allowed(uid, i, want), syscall.EACCES)
	}
	return errs
}

func doOpen(h *history, n int, s step) answer {
	f := h.now.find(s.args[0], s.uid).must()
	h.observe(s.client, f.seen...)
	if len(f.errs) > 0 {
		return failing(f.errs)
	}
	how := s.args[1]
	read, write, trunc := strings.Contains(how, "r"), strings.Contains(how, "w"), strings.Contains(how, "t")
	errs := opens(f.i, s.uid, read, write || trunc)
	if len(errs) > 0 {
		return failing(errs)
	}
	if trunc && (len(f.i.content) > 0 || h.members[s.client].plain) {
		h.update(n, s, &effect{verb: "truncate", id: f.i.id, strip: s.uid != 0})
	}
	h.members[s.client].handles[s.args[2]] = &handle{id: f.i.id, uid: s.uid, read: read, write: write, appends: strings.Contains(how, "a"), dir: f.i.isDir(), tells: h.members[s.client].untold[f.i.id]}
	return done("")
}

// look follows a path to something that is only looked at.
func (h *history) look(s step) (*inode, faults) {
	f := h.now.find(s.args[0], s.uid).must()
	h.observe(s.client, f.seen...)
	return f.i, f.errs
}

func status(i *inode) string {
	size := strconv.Itoa(len(i.content))
	switch i.mode & typeMask {
	case typeDir:
		size = "-"
	case typeLink:
		size = strconv.Itoa(len(i.target))
	}
	return fmt.Sprintf("%06o %d:%d links=%d size=%s", i.mode, i.uid, i.gid, i.nlink, size)
}

func doStat(h *history, _ int, s step) answer {
	i, errs := h.look(s)
	if len(errs) > 0 {
		return failing(errs)
	}
	return answer{value: status(i), stat: i.id}
}

func doCat(h *history, _ int, s step) answer {
	i, errs := h.look(s)
	if len(errs) == 0 {
		errs = opens(i, s.uid, true, false)
		errs.when(i.isDir(), syscall.EISDIR)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	return done(short(i.content))
}

func doList(h *history, _ int, s step) answer {
	i, errs := h.look(s)
	if len(errs) > 0 {
		return failing(errs)
	}
	errs.when(!i.isDir(), syscall.ENOTDIR)
	if i.mode&typeMask == typeLink {
		errs.when(true, syscall.ELOOP)
	} else {
		if !i.isDir() && !i.isReg() {
			errs.when(true, syscall.ENXIO)
		}
		errs.when(!allowed(s.uid, i, mayRead), syscall.EACCES)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(i.names)) {
		names = append(names, fmt.Sprintf("%s:%o", name, h.now[i.names[name]].mode&typeMask>>12))
	}
	return done(strings.Join(names, " "))
}

func doReadlink(h *history, _ int, s step) answer {
	i, errs := h.look(s)
	if len(errs) == 0 {
		errs.when(i.mode&typeMask != typeLink, syscall.EINVAL)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	return done(i.target)
}

func doChmod(h *history, n int, s step) answer {
	i, errs := h.look(s)
	if len(errs) == 0 {
		errs.when(s.uid != 0 && s.uid != i.uid, syscall.EPERM)
		errs.when(i.mode&typeMask == typeLink, syscall.EOPNOTSUPP)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	mode := uint32(s.num(1))
	if s.uid != 0 && s.uid != i.gid {
		mode &^= setgid
	}
	h.update(n, s, &effect{verb: "chmod", id: i.id, mode: mode})
	return done("")
}

func doChown(h *history, n int, s step) answer {
	i, errs := h.look(s)
	if len(errs) == 0 {
		same := s.uid == i.uid && s.num(1) == int64(i.uid) && (s.num(2) == int64(i.gid) || s.num(2) == int64(s.uid))
		errs.when(s.uid != 0 && !same, syscall.EPERM)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	h.update(n, s, &effect{verb: "chown", id: i.id, uid: uint32(s.num(1)), gid: uint32(s.num(2)), strip: i.isReg()})
	return done("")
}

func doUtime(h *history, n int, s step) answer {
	i, errs := h.look(s)
	if len(errs) == 0 {
		errs.when(s.uid != 0 && s.uid != i.uid, syscall.EPERM)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	h.update(n, s, &effect{verb: "utime", id: i.id, mtime: s.num(1)})
	return done("")
}

func doTruncate(h *history, n int, s step) answer {
	i, errs := h.look(s)
	if len(errs) == 0 {
		switch {
		case i.isDir():
			errs.when(true, syscall.EISDIR)
		case !i.isReg():
			errs.when(true, syscall.EINVAL)
		}
		errs.when(i.mode&typeMask != typeLink && !allowed(s.uid, i, mayWrite), syscall.EACCES)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	h.update(n, s, &effect{verb: "truncate", id: i.id, size: s.num(1), strip: s.uid != 0})
	return done("")
}

func doFsync(h *history, _ int, s step) answer {
	i, errs := h.look(s)
	if len(errs) == 0 {
		errs = opens(i, s.uid, true, false)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	h.flush(s.client, i.id)
	a := done("")
	if m := h.members[s.client]; m.untold[i.id] {
		delete(m.untold, i.id)
		a.or = faults{syscall.EIO}
	}
	return a
}

func doBarrier(h *history, n int, s step) answer {
	i, errs := h.look(s)
	if len(errs) > 0 {
		return failing(errs)
	}
	if !h.members[s.client].plain {
		e := &effect{verb: "barrier", id: i.id, step: n, client: s.client, replaced: -1}
		h.issue(e)
	}
	return done("")
}
