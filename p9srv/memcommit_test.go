package p9srv

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
)

// memCommitter is memFS as a Committer. Cuts are applied record by record, and
// between every two the hook "apply" runs without the lock: what others see then is theirs to see.
type memCommitter struct {
	*memFS
	nextID uint64
	kept   map[[2]uint64]bool
	ended  []uint64
	cuts   []cut.Cut
}

func newMemCommitter() *memCommitter {
	return &memCommitter{memFS: newMemFS(), nextID: 1 << 48, kept: map[[2]uint64]bool{}}
}

func (m *memCommitter) ResolveName(_ context.Context, dir uint64, name string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.nodes[dir]
	if d == nil {
		return 0, syscall.ESTALE
	}
	return d.ents[name], nil
}

func (m *memCommitter) AllocIDs(n uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nextID += n
	return m.nextID - n, nil
}

func (m *memCommitter) KeepOpen(session, id uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[id]
	if n == nil {
		return syscall.ESTALE
	}
	if !m.kept[[2]uint64{session, id}] {
		m.kept[[2]uint64{session, id}] = true
		n.open++
	}
	return nil
}

func (m *memCommitter) DropOpen(session, id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(session, id)
}

func (m *memCommitter) drop(session, id uint64) {
	if m.kept[[2]uint64{session, id}] {
		delete(m.kept, [2]uint64{session, id})
		m.nodes[id].open--
		m.gone(m.nodes[id])
	}
}

func (m *memCommitter) EndSession(session uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = append(m.ended, session)
	for k := range m.kept {
		if k[0] == session {
			m.drop(session, k[1])
		}
	}
	m.locks.DropSession(session)
}

func (m *memCommitter) LockHolders(cred *Cred, id uint64, l wire.Lock) []uint64 {
	return m.locks.Holders(id, memLock(cred, l))
}

func (m *memCommitter) DropSessionLocks(session, id uint64) { m.locks.DropSessionOn(id, session) }

func (m *memCommitter) lastCut(client [16]byte) (last uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.cuts {
		if m.cuts[i].Client == client {
			last = max(last, m.cuts[i].Number)
		}
	}
	return last
}

func (m *memCommitter) Apply(ctx context.Context, cred *Cred, c *cut.Cut) error {
	m.mu.Lock()
	for i := range c.Records {
		if err := m.checkRecord(c, &c.Records[i]); err != nil {
			m.mu.Unlock()
			return &cut.Refusal{Record: i, Err: fmt.Errorf("record %d: %w", i, err)}
		}
	}
	m.cuts = append(m.cuts, *c)
	m.mu.Unlock()
	for i := range c.Records {
		m.mu.Lock()
		m.applyRecord(cred, &c.Records[i])
		m.mu.Unlock()
		if err := m.at(ctx, "apply", uint64(i)); err != nil {
			panic("a cut half applied")
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range c.Records {
		if n := m.nodes[c.Records[i].Before]; n != nil {
			m.gone(n)
		}
	}
	return nil
}

func (m *memCommitter) checkRecord(c *cut.Cut, r *cut.Record) error {
	made := func(id uint64) bool {
		for i := range c.Records {
			if c.Records[i].Kind == cut.Create && c.Records[i].ID == id {
				return true
			}
		}
		return false
	}
	switch r.Kind {
	case cut.Create:
		if m.nodes[r.ID] != nil {
			return syscall.EEXIST
		}
	case cut.Bind:
		switch d := m.nodes[r.Dir]; {
		case d == nil && !made(r.Dir):
			return syscall.ENOENT
		case d != nil && d.ents[r.Name] != r.Before:
			return syscall.EEXIST
		case r.Name == "refuse-me":
			return syscall.EDQUOT
		}
	case cut.Data:
		if m.nodes[r.ID] == nil && !made(r.ID) {
			return syscall.ESTALE
		}
	}
	return nil
}

func (m *memCommitter) applyRecord(cred *Cred, r *cut.Record) {
	n := m.nodes[r.ID]
	switch r.Kind {
	case cut.Create:
		n = &memNode{id: r.ID, mode: r.Mode, uid: r.UserID, gid: r.GroupID, target: r.Target, mtime: int64(time.Hour)}
		if r.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			n.ents = map[string]uint64{}
		}
		m.nodes[r.ID] = n
	case cut.Bind:
		d := m.nodes[r.Dir]
		d.version++
		if b := m.nodes[r.Before]; b != nil && r.Before != r.ID {
			b.nlink--
		}
		if r.ID == 0 {
			delete(d.ents, r.Name)
			return
		}
		d.ents[r.Name] = r.ID
		n.parent = r.Dir
		n.nlink++
	case cut.Data:
		if end := int(r.Off) + len(r.Bytes); end > len(n.data) {
			n.resize(end)
		}
		copy(n.data[r.Off:], r.Bytes)
		n.version++
	case cut.Attr:
		if r.Valid&cut.AttrMode != 0 {
			n.mode = n.mode&syscall.S_IFMT | r.Mode
		}
		if r.Valid&cut.AttrSize != 0 {
			n.resize(int(r.Size))
		}
	}
}
