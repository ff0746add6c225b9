package durable

import (
	"encoding/binary"
)

// change makes up a change of one file's content.
func (s *story) change(f spot) op {
	o := f.obj
	switch s.rng.IntN(5) {
	case 0:
		size := s.rng.Int64N(o.size + 5000)
		o.size = size
		return op{do: "truncate", path: f.path, off: size}
	case 1:
		data := s.data()
		at := o.size
		o.size += int64(len(data))
		return op{do: "write", path: f.path, off: at, data: data}
	}
	data := s.data()
	at := s.rng.Int64N(o.size + 1)
	o.size = max(o.size, at+int64(len(data)))
	return op{do: "write", path: f.path, off: at, data: data}
}

// any makes up one operation of any kind; none when the tree has nothing for it.
func (s *story) any() []op {
	switch s.rng.IntN(20) {
	case 0, 1, 2:
		if p, ok := s.pick(free); ok {
			data := s.data()
			p.dir.names[p.name] = &obj{kind: 'f', size: int64(len(data))}
			return []op{{do: "create", path: p.path, mode: []uint32{0o644, 0o600, 0o755, 0o444}[s.rng.IntN(4)], data: data}}
		}
	case 3, 4:
		if p, ok := s.pick(free); ok {
			p.dir.names[p.name] = &obj{kind: 'd', names: map[string]*obj{}}
			return []op{{do: "mkdir", path: p.path, mode: []uint32{0o755, 0o700, 0o1777}[s.rng.IntN(3)]}}
		}
	case 5:
		return s.special()
	case 6:
		from, ok := s.pick(is("flp"))
		to, ok2 := s.pick(free)
		if ok && ok2 {
			to.dir.names[to.name] = from.obj
			return []op{{do: "link", path: from.path, to: to.path}}
		}
	case 7, 8:
		if p, ok := s.pick(is("flpc")); ok {
			delete(p.dir.names, p.name)
			return []op{{do: "unlink", path: p.path}}
		}
	case 9:
		if p, ok := s.pick(is("d")); ok {
			delete(p.dir.names, p.name)
			return []op{{do: "rmtree", path: p.path}}
		}
	case 10, 11, 12:
		return s.rename()
	case 13:
		return s.exchange()
	case 14, 15, 16:
		if p, ok := s.pick(is("f")); ok {
			return []op{s.change(p)}
		}
	default:
		return s.attribute()
	}
	return nil
}

func (s *story) special() []op {
	p, ok := s.pick(free)
	if !ok {
		return nil
	}
	switch s.rng.IntN(3) {
	case 0:
		p.dir.names[p.name] = &obj{kind: 'l'}
		return []op{{do: "symlink", path: p.path, text: []string{"a", "../b/c", "/nowhere"}[s.rng.IntN(3)]}}
	case 1:
		p.dir.names[p.name] = &obj{kind: 'p'}
		return []op{{do: "fifo", path: p.path, mode: 0o620}}
	}
	p.dir.names[p.name] = &obj{kind: 'c'}
	return []op{{do: "device", path: p.path, mode: 0o600}}
}

// rename moves something to a free name, or over what it may replace.
func (s *story) rename() []op {
	from, ok := s.pick(func(p spot) bool { return p.obj != nil })
	if !ok {
		return nil
	}
	to, ok := s.pick(func(p spot) bool {
		if from.obj.kind == 'd' && (below(p.dir, from.obj) || !s.moves && p.dir != from.dir) || p.obj == from.obj {
			return false
		}
		if p.obj == nil {
			return true
		}
		if from.obj.kind == 'd' {
			return p.obj.kind == 'd' && len(p.obj.names) == 0
		}
		return p.obj.kind != 'd'
	})
	if !ok {
		return nil
	}
	delete(from.dir.names, from.name)
	to.dir.names[to.name] = from.obj
	return []op{{do: "rename", path: from.path, to: to.path}}
}

// exchange makes two names change hands, whatever they are.
func (s *story) exchange() []op {
	from, ok := s.pick(func(p spot) bool { return p.obj != nil })
	if !ok {
		return nil
	}
	to, ok := s.pick(func(p spot) bool {
		anyDir := from.obj.kind == 'd' || p.obj != nil && p.obj.kind == 'd'
		return p.obj != nil && p.obj != from.obj && (!anyDir || s.moves || p.dir == from.dir) &&
			!(from.obj.kind == 'd' && below(p.dir, from.obj)) && !(p.obj.kind == 'd' && below(from.dir, p.obj))
	})
	if !ok {
		return nil
	}
	from.dir.names[from.name], to.dir.names[to.name] = to.obj, from.obj
	return []op{{do: "exchange", path: from.path, to: to.path}}
}

// attribute changes mode, owner, extended attributes or the access ACL.
func (s *story) attribute() []op {
	p, ok := s.pick(is("fd"))
	if !ok {
		return nil
	}
	switch s.rng.IntN(5) {
	case 0:
		return []op{{do: "chmod", path: p.path, mode: []uint32{0o755, 0o700, 0o640, 0o1750}[s.rng.IntN(4)]}}
	case 1:
		return []op{{do: "chown", path: p.path, uid: 1000 + uint32(s.rng.IntN(3))}}
	case 2:
		return []op{{do: "acl", path: p.path, data: acl(uint16(s.rng.IntN(8)), 1000+uint32(s.rng.IntN(3)))}}
	case 3:
		return []op{{do: "removexattr", path: p.path, text: "user.x"}}
	}
	return []op{{do: "setxattr", path: p.path, text: []string{"user.x", "user.y"}[s.rng.IntN(2)], data: s.data()[:1]}}
}

// acl is an access ACL in Linux's form, which gives one user perm.
func acl(perm uint16, uid uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 6, ^uint32(0)}, {0x02, perm, uid}, {0x04, 4, ^uint32(0)}, {0x10, 7, ^uint32(0)}, {0x20, 4, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}
