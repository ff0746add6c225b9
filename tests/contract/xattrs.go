package contract

import (
	"maps"
	"slices"
	"strings"
	"syscall"
)

// takesXattrs says whether an object can have attributes of users.
func takesXattrs(i *inode) bool { return i.isDir() || i.isReg() }

// mayXattr checks a change.
func mayXattr(uid uint32, i *inode) faults {
	var errs faults
	errs.when(!takesXattrs(i), syscall.EPERM)
	errs.when(i.isDir() && i.mode&sticky != 0 && uid != 0 && uid != i.uid, syscall.EPERM)
	errs.when(takesXattrs(i) && !allowed(uid, i, mayWrite), syscall.EACCES)
	return errs
}

func doSetXattr(h *history, n int, s step) answer {
	i, errs := h.look(s)
	if len(errs) == 0 {
		errs = mayXattr(s.uid, i)
		_, there := i.xattrs[s.args[1]]
		if takesXattrs(i) && len(s.args) > 3 {
			errs.when(s.args[3] == "create" && there, syscall.EEXIST)
			errs.when(s.args[3] == "replace" && !there, syscall.ENODATA)
		}
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	h.update(n, s, &effect{verb: "setxattr", id: i.id, name: s.args[1], value: s.args[2]})
	return done("")
}

func doRemoveXattr(h *history, n int, s step) answer {
	i, errs := h.look(s)
	if len(errs) == 0 {
		errs = mayXattr(s.uid, i)
		_, there := i.xattrs[s.args[1]]
		errs.when(takesXattrs(i) && !there, syscall.ENODATA)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	h.update(n, s, &effect{verb: "rmxattr", id: i.id, name: s.args[1]})
	return done("")
}

func doGetXattr(h *history, _ int, s step) answer {
	i, errs := h.look(s)
	if len(errs) > 0 {
		return failing(errs)
	}
	v, there := i.xattrs[s.args[1]]
	errs.when(!there, syscall.ENODATA)
	if takesXattrs(i) {
		errs.when(!allowed(s.uid, i, mayRead), syscall.EACCES)
	}
	if len(errs) > 0 {
		return failing(errs)
	}
	return done(v)
}

func doListXattr(h *history, _ int, s step) answer {
	i, errs := h.look(s)
	if len(errs) > 0 {
		return failing(errs)
	}
	return done(strings.Join(slices.Sorted(maps.Keys(i.xattrs)), " "))
}
