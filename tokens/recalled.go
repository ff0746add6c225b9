package tokens

// Recalled tells since when s is being asked for its token of id; false: it is not.
func (m *Manager) Recalled(s SessionID, id ID) (since int64, ok bool) {
	o := m.objects[id]
	if o == nil {
		return 0, false
	}
	for i := range o.holders {
		if h := &o.holders[i]; h.s.id == s {
			return h.at, h.recalled
		}
	}
	return 0, false
}
