package tokens

// Config are the settings of a Manager. Times are nanoseconds; zero values mean the defaults.
type Config struct {
	// Lease is what a reply may extend a session's lease by (default 10 s).
	Lease int64
	// RecallDeadline is how long a session may be without progress while something is
	// recalled from it, or without a posted Trecall, before its lease is no longer
	// extended (default 2 s).
	RecallDeadline int64
	// RecallLimit bounds a recall however much progress there is (default 30 times RecallDeadline).
	RecallLimit int64
	// Bypass is how many conflicting later requests may overtake a waiting one (default 4).
	Bypass int
	// MaxTokensPerSession and MaxTokens: beyond them the server asks for any N back
	// and offers nothing; sessions that reach twice their limit are denied (default 100,000 and 1,000,000).
	MaxTokensPerSession, MaxTokens int
	// MaxWaiting is how many requests of one session may wait, and MaxWaitingPlain of all plain clients (default 1,024 and 16,384).
	MaxWaiting, MaxWaitingPlain int
	// Record: a grant that took something away waits for InRecorded.
	Record bool
}

// Manager is the server's half: who holds what, who waits for what.
type Manager struct {
	cfg Config
	out []Output
	gen Gen
}

// NewManager makes a Manager that knows no session. Generations start after first:
// a server that comes back passes one that is above all it ever used.
func NewManager(cfg Config, first Gen) *Manager { return &Manager{cfg: cfg, gen: first} }

// Step takes one input at time now and says what is to be done, in order.
// Time that goes backwards counts as standing still. The outputs are valid until the next Step.
func (m *Manager) Step(now int64, in Input) []Output { return m.out[:0] }

// Extend is asked when a reply to session s is enqueued: how much lease it
// carries, in nanoseconds counted from before the client sent the request; 0: not
// extended; once the lease is over only InConnected opens a new one.
func (m *Manager) Extend(now int64, s SessionID) int64 { return 0 }

// Expired reports whether s must resume (Tsession) before anything is granted to it.
func (m *Manager) Expired(now int64, s SessionID) bool { return false }

// Next is the time at which an InTick is due; math.MaxInt64 when none is.
func (m *Manager) Next() int64 { return 1<<63 - 1 }

// NewGen takes a fresh generation: for a range of ids that a session may create objects with.
func (m *Manager) NewGen() Gen { m.gen++; return m.gen }

// HeldBy appends the tokens of session s to dst, sorted by ID: for status and tests.
func (m *Manager) HeldBy(s SessionID, dst []Token) []Token { return dst }
