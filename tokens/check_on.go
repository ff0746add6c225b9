//go:build invariants

package tokens

func (m *Manager) verify() {
	if err := m.Check(); err != nil {
		panic(err)
	}
}
