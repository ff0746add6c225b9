package p9srv

import "syscall"

// Authority is under way.
type Authority struct{}

type session struct{ id uint64 }

func (c *conn) sessionID() uint64 {
	if s := c.session.Load(); s != nil {
		return s.id
	}
	return 0
}

func (s *session) userFor(uint32) (uint32, error) { return 0, syscall.EPERM }

func (c *conn) endSession() {}
