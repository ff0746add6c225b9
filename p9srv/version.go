package p9srv

import (
	"strconv"
	"strings"
	"syscall"

	"echo9/internal/wire"
)

// mostGoogle is the highest N of 9P2000.L.Google.N that is spoken.
const mostGoogle = 7

// negotiate tells what is answered to a version string: the version, and N of Google's.
func (s *Server) negotiate(asked string) (version string, google int) {
	switch {
	case asked == wire.Version9P:
		return asked, -1
	case asked == wire.ExtVersion && s.cfg.Authority != nil:
		return asked, -1
	case strings.HasPrefix(asked, wire.VersionGoogle):
		n, err := strconv.ParseUint(asked[len(wire.VersionGoogle):], 10, 32)
		switch {
		case err != nil:
			return wire.VersionUnknown, -1
		case n == 0:
			return wire.Version9P, 0 // Google's own servers answer so
		case n > mostGoogle:
			n = mostGoogle
		}
		return wire.VersionGoogle + strconv.FormatUint(n, 10), int(n)
	}
	return wire.VersionUnknown, -1
}

// doVersion does a Tversion: what went before is aborted, its fids are clunked,
// and the connection begins anew. The leader does it itself, alone.
func (c *conn) doVersion(tag uint16, body []byte) error {
	var m wire.Tversion
	if err := wire.Decode(wire.TypeTversion, body, &m); err != nil {
		return err
	}
	c.abortAll()
	c.settle()
	c.endSession()
	c.dropAllFids()
	version, google := c.srv.negotiate(m.Version)
	msize := min(m.Msize, c.srv.cfg.MaxMsize)
	if msize < wire.MinMsize {
		version, google = wire.VersionUnknown, -1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.closedErr()
	}
	if version == wire.VersionUnknown {
		c.version, c.google, c.msize = "", -1, firstMsize
	} else {
		c.version, c.google, c.msize = version, google, msize
	}
	c.queue(tag, &wire.Rversion{Msize: msize, Version: version})
	return nil
}

func (r *request) auth() error {
	if err := r.decode(&wire.Tauth{}); err != nil {
		return err
	}
	return syscall.EOPNOTSUPP // there is nothing to authenticate with: clients attach without
}

func (r *request) attach() error {
	var m wire.Tattach
	if err := r.decode(&m); err != nil {
		return err
	}
	if m.Afid != wire.NoFid {
		return syscall.EINVAL
	}
	c := r.c
	if err := c.freeFid(m.Fid); err != nil {
		return err
	}
	cred, err := c.cred(m.UID, m.Uname)
	if err != nil {
		return err
	}
	o, err := c.srv.rootFor(r, cred, m.Aname)
	if err != nil {
		return err
	}
	qid := o.QID()
	f := newFid(newRef(o), cred, nil, "")
	if err := c.putFid(m.Fid, f); err != nil {
		f.end(c)
		return err
	}
	r.reply = &wire.Rattach{QID: qid}
	return nil
}

// cred is who acts when the client names that user.
func (c *conn) cred(uid uint32, uname string) (*Cred, error) {
	var err error
	if s := c.session.Load(); s != nil {
		uid, err = s.userFor(uid)
	} else {
		uid, err = c.srv.cfg.Users.uidFor(c.peer, uid, uname)
	}
	if err != nil {
		return nil, err
	}
	gid, groups := c.srv.groups.lookup(uid)
	cred := &Cred{UID: uid, GID: gid, Groups: groups, Session: c.sessionID()}
	if cred.Session == 0 {
		cred.Owner = c.id // a session's locks outlive its connections
	}
	return cred, nil
}
