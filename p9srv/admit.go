package p9srv

import "echo9/tokens"

// Admission decides when an operation may run. The token manager's shell is one
// (Authority); a server without one runs everything at once.
type Admission interface {
	// Admit asks for all of elems, for an operation of a connection of the session (0: of a plain
	// client). It never waits. When it answers false the operation must wait: w.Wake is called once, from any
	// goroutine, with no lock held that Admit or Done needs, and perhaps before Admit returns. The ticket is
	// given back with Done in any case; before the wake, Done withdraws the question (a wake
	// may be under way all the same).
	Admit(session uint64, elems []tokens.Elem, w Waker) (t Ticket, granted bool)
}

// Waker is who waits for a ticket.
type Waker interface {
	// Wake says that the ticket is granted, or why it never will be.
	Wake(err error)
}

// Ticket is the right to run one operation.
type Ticket interface {
	// Resolved is what the i-th element is: the object its name is bound to, 0 when it is
	// not. False: nobody looked.
	Resolved(i int) (id uint64, known bool)
	// Done gives the ticket back, or withdraws the question.
	Done()
}
