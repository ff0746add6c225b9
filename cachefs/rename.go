package cachefs

import (
	"context"
	"slices"
	"syscall"

	"echo9/cachefs/order"
	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"
	"echo9/tokens"
)

// Rename moves (n, oldName) to (to, newName).
func (n *node) Rename(ctx context.Context, cred *p9srv.Cred, oldName string, to p9srv.Object, newName string, flags uint32) error {
	f := n.fs
	cred = f.who(cred)
	d2, ok := to.(*node)
	if !ok || d2.fs != f {
		return syscall.EXDEV
	}
	if flags&^(wire.RenameNoReplace|wire.RenameExchange) != 0 || flags == wire.RenameNoReplace|wire.RenameExchange {
		return syscall.EINVAL
	}
	if err := n.reserved(oldName); err != nil {
		return err
	}
	if err := d2.reserved(newName); err != nil {
		return err
	}
	m := &move{d1: n, n1: oldName, d2: d2, n2: newName, exchange: flags&wire.RenameExchange != 0}
	return f.update(ctx, cred, n, 0, func(t *turn) error {
		if n.ents == nil || d2.ents == nil {
			return syscall.ENOTDIR
		}
		t.want(n, tokens.Write)
		t.want(d2, tokens.Write)
		t.wantName(n, oldName, tokens.Write)
		t.wantName(d2, newName, tokens.Write)
		if err := t.pin(); err != nil {
			return err
		}
		if err := m.find(cred, flags); err != nil || m.src == m.dst {
			return err
		}
		if err := m.allowed(t); err != nil {
			return err
		}
		if err := m.noLoop(t); err != nil {
			return err
		}
		moved := []*node{m.src}
		if m.exchange {
			moved = append(moved, m.dst)
		}
		if err := f.halfMade(moved...); err != nil {
			return err
		}
		if err := t.room(0, m.touched()...); err != nil {
			return err
		}
		m.apply(t)
		return nil
	})
}

// move is a rename, found out about.
type move struct {
	d1, d2   *node
	n1, n2   string
	exchange bool

	src, dst *node // dst is nil when the new name is free
	above    []uint64
}

// touched are the objects that it is ordered after. Called with fs.mu held, after find.
func (m *move) touched() []uint64 {
	f := m.d1.fs
	ids := []uint64{m.src.id, m.d1.id, m.d2.id}
	if m.src.ents != nil {
		ids = append(ids, f.below(m.src)...)
	}
	if m.dst != nil {
		ids = append(ids, m.dst.id)
		if m.exchange && m.dst.ents != nil {
			ids = append(ids, f.below(m.dst)...)
		}
	}
	return ids
}

// below are the objects below dir with pending operations: what its rename reads. Called with f.mu held.
func (f *FS) below(dir *node) []uint64 {
	if f.opt.Mutant == mutantNothingBelow {
		return nil
	}
	return f.log.Below(dir.id)
}

// find finds what is moved, and what is replaced. Called with fs.mu held and the set pinned.
func (m *move) find(cred *p9srv.Cred, flags uint32) error {
	for _, d := range []*node{m.d1, m.d2} {
		if err := access(cred, &d.attr, mayExec); err != nil {
			return err
		}
	}
	var err error
	if m.src, err = m.d1.child(m.n1); err != nil {
		return err
	}
	m.dst, err = m.d2.child(m.n2)
	switch {
	case err != nil:
		m.dst = nil
		if m.exchange {
			return syscall.ENOENT
		}
	case flags&wire.RenameNoReplace != 0:
		return syscall.EEXIST
	}
	return nil
}

// allowed checks permissions and types. Called with fs.mu held.
func (m *move) allowed(t *turn) error {
	cred := t.cred
	if err := mayDelete(cred, &m.d1.attr, &m.src.attr); err != nil {
		return err
	}
	if m.dst != nil {
		if err := mayDelete(cred, &m.d2.attr, &m.dst.attr); err != nil {
			return err
		}
	} else if err := access(cred, &m.d2.attr, mayWrite|mayExec); err != nil {
		return err
	}
	if m.d2.attr.Nlink == 0 {
		return syscall.ENOENT
	}
	if m.d1 != m.d2 {
		// A directory's ".." changes.
		for _, c := range []*node{m.src, m.dst} {
			if c != nil && c.ents != nil && (c == m.src || m.exchange) {
				if err := access(cred, &c.attr, mayWrite); err != nil {
					return err
				}
			}
		}
		if m.src.ents != nil && (m.dst == nil || m.dst.ents == nil) && m.d2.attr.Nlink >= maxLinks {
			return syscall.EMLINK
		}
	}
	if m.dst == nil || m.exchange {
		return nil
	}
	switch {
	case m.src.ents != nil && m.dst.ents == nil:
		return syscall.ENOTDIR
	case m.src.ents == nil && m.dst.ents != nil:
		return syscall.EISDIR
	case m.dst.ents != nil:
		return t.empty(m.dst)
	}
	return nil
}

// noLoop makes sure that no directory gets below itself: with the export's one token for that, and the ancestors'. Called
// with fs.mu held.
func (m *move) noLoop(t *turn) error {
	m.above = nil
	if m.d1 == m.d2 {
		return nil
	}
	check := func(dir, moved *node) error {
		t.wantID(tokens.DirMove, tokens.Write)
		for at := dir; ; {
			if at == moved {
				return syscall.EINVAL
			}
			t.want(at, tokens.Read)
			if err := t.pin(); err != nil {
				return err
			}
			m.above = append(m.above, at.id)
			if at == t.fs.root {
				return nil
			}
			up, err := at.parent(t)
			if err != nil {
				return err
			}
			t.wantID(up, tokens.Read)
			if err := t.pin(); err != nil {
				return err
			}
			if at = t.fs.nodes[up]; at.ents == nil {
				return syscall.ENOTDIR
			}
		}
	}
	if m.src.ents != nil {
		if err := check(m.d2, m.src); err != nil {
			return err
		}
	}
	if m.exchange && m.dst.ents != nil {
		return check(m.d1, m.dst)
	}
	return nil
}

// apply does it. Called with fs.mu held and all pinned.
func (m *move) apply(t *turn) {
	f := t.fs
	src, dst := m.src, m.dst
	op := &order.Op{Kind: order.Rename, ID: src.id, Dir: m.d1.id, Name: m.n1, Dir2: m.d2.id, Name2: m.n2,
		Exchange: m.exchange, IsDir: src.ents != nil}
	reads := m.above
	if src.ents != nil {
		reads = append(reads, f.below(src)...)
	}
	m.d1.touch(true)
	if m.d1 != m.d2 {
		m.d2.touch(true)
	}
	src.touch(false)
	m.d1.ents.unbind(m.n1)
	if dst != nil {
		op.Replaced, op.ReplacedIsDir = dst.id, dst.ents != nil
		if m.exchange {
			if dst.ents != nil {
				reads = append(reads, f.below(dst)...)
			}
			dst.touch(false)
			dst.moved(m.d2, m.d1)
			m.d1.ents.bind(m.n1, dst.qid, direntType(dst.attr.Mode))
		} else {
			op.Keep, op.Dead = dst.loseName(m.d2)
		}
	}
	m.d2.ents.bind(m.n2, src.qid, direntType(src.attr.Mode))
	src.moved(m.d1, m.d2)
	op.Reads = sortedIDs(reads)
	op.Attrs = []order.Attr{m.d1.final(bindTimes), src.final(cut.AttrCtime)}
	if m.d1 != m.d2 {
		op.Attrs = append(op.Attrs, m.d2.final(bindTimes))
	}
	if dst != nil && (dst.attr.Nlink > 0 || op.Keep) {
		op.Attrs = append(op.Attrs, dst.final(cut.AttrCtime))
	}
	seq := t.append(op)
	t.frees(m.d1.id, m.n1, seq)
	if dst != nil {
		t.frees(m.d2.id, m.n2, seq)
	}
}

// moved notes that a name of n went from one directory to another. Called with fs.mu held.
func (n *node) moved(from, to *node) {
	if from == to {
		return
	}
	n.dropUp(from.id, n.attr.Nlink)
	n.addUp(to.id)
	if n.ents != nil {
		from.countDirs(-1)
		to.countDirs(1)
	}
}

// parentsOf gives the directories that an object has names in, with order.Somewhere if there may be others: other clients may
// have moved it while its token was not held. What has no name lies nowhere; were it below what is renamed, the rename would
// need its token, which nobody has when the server never heard of it. Called with fs.mu held.
func (f *FS) parentsOf(id uint64) []uint64 {
	n := f.nodes[id]
	switch {
	case id == f.root.id || id == order.DirMove:
		return nil
	case n == nil:
		return []uint64{order.Somewhere}
	case n.attrOK && n.attr.Nlink == 0 && f.opt.Mutant != mutantGhosts:
		return nil
	case n.ents != nil && len(n.up) > 0:
		return n.up
	case n.ents == nil && n.attrOK && !n.upOld && n.attr.Nlink <= uint64(len(n.up)):
		return n.up
	}
	return append(slices.Clip(n.up), order.Somewhere)
}
