package fusefs

import "sync"

// gates hold up what a client asks of the backend, when it has been answered, with its tokens held.
type gates struct {
	mu   sync.Mutex
	shut map[string]gate
}

type gate struct{ reached, open chan struct{} }

func newGates(c *tokenClient) *gates {
	g := &gates{shut: map[string]gate{}}
	c.set(func(c *tokenClient) { c.got = g.pass })
	return g
}

func (g *gates) pass(what string, _ uint64) {
	g.mu.Lock()
	w, shut := g.shut[what]
	delete(g.shut, what)
	g.mu.Unlock()
	if shut {
		close(w.reached)
		<-w.open
	}
}

// hold has the next such request wait until open is closed.
func (g *gates) hold(what string) gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := gate{make(chan struct{}), make(chan struct{})}
	g.shut[what] = w
	return w
}
