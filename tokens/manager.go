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
	// and offers nothing; at twice the limit requests are denied (defaults 100,000 and 1,000,000).
	MaxTokensPerSession, MaxTokens int
	// MaxWaiting is how many requests of one session may wait, and MaxWaitingPlain of
	// all plain clients (defaults 1,024 and 16,384).
	MaxWaiting, MaxWaitingPlain int
	// Grace is how long sessions of an earlier epoch are awaited (default and least: Lease).
	Grace int64
	// Record: a grant that took something away waits for InRecorded.
	Record bool
}

func (c *Config) fill() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if c.Lease == 0 {
		c.Lease = 10e9
	}
	if c.RecallDeadline == 0 {
		c.RecallDeadline = 2e9
	}
	if c.RecallLimit == 0 {
		c.RecallLimit = 30 * c.RecallDeadline
	}
	c.Grace = max(c.Grace, c.Lease)
	def(&c.Bypass, 4)
	def(&c.MaxTokensPerSession, 100_000)
	def(&c.MaxTokens, 1_000_000)
	def(&c.MaxWaiting, 1024)
	def(&c.MaxWaitingPlain, 16_384)
}

const (
	maxFree    = 256  // unused objects and requests that are kept
	maxRecalls = 1024 // tokens in one OutRecall
	maxCommits = 64   // cuts of a session that wait for the one being applied
)

// Manager is the server's half: who holds what, who waits for what.
type Manager struct {
	cfg Config
	off rulesOff
	now int64
	gen Gen
	seq uint64

	objects  map[ID]*object
	sessions map[SessionID]*session
	reqs     map[ReqID]*request

	firstWaiting, lastWaiting *request
	plainWaiting              int

	grace      grace
	uses       map[ID]use // in this epoch, while somebody may reclaim
	tokens     int        // of all sessions
	oldReturns uint64

	// What the present Step still has to do.
	dirty    []*object  // whose waiters are to be tried
	speakers []*session // with recalls to send
	again    bool       // try everybody
	tries    int        // so far, for tests

	// Memory of the outputs, and for use within a Step.
	out     []Output
	toks    []Token
	recalls []Recall
	lost    []Lost
	items   []item

	freeObjects  []*object
	freeRequests []*request
}

// NewManager makes a Manager that knows no session. Generations start after first:
// a server that comes back passes one that is above all it ever used.
func NewManager(cfg Config, first Gen) *Manager {
	cfg.fill()
	return &Manager{
		cfg: cfg, gen: first,
		objects:  map[ID]*object{},
		sessions: map[SessionID]*session{},
		reqs:     map[ReqID]*request{},
	}
}

// Step takes one input at time now and says what is to be done, in order.
// Time that goes backwards counts as standing still. The outputs are valid until the next Step.
//
// Inputs about sessions and requests that are not known (any more) change nothing: a
// shell need not know what has just been dropped.
func (m *Manager) Step(now int64, in Input) []Output {
	m.now = max(m.now, now)
	m.out, m.toks, m.recalls, m.lost = m.out[:0], m.toks[:0], m.recalls[:0], m.lost[:0]
	switch in.Kind {
	case InRequest:
		m.request(&in)
	case InDone, InCancel, InSent, InResolved, InRecorded:
		if r := m.reqs[in.Req]; r != nil {
			m.about(r, &in)
		}
	case InSessionOpen:
		m.open(&in)
	case InTick:
		m.tick()
	case InRestore:
		m.restore(&in)
	case InGrace:
		m.beginGrace()
	case InReclaim:
		m.reclaim(&in)
	case InMissedRecorded:
		m.missedRecorded()
	default:
		if s := m.sessions[in.Session]; s != nil && !s.gone || s != nil && in.Kind == InCommitted {
			m.from(s, &in)
		}
	}
	for len(m.dirty) > 0 || m.again {
		m.settle()
		if m.again {
			m.again = false
			m.retryAll()
		}
	}
	if len(m.speakers) > 0 {
		m.speakAll()
	}
	m.verify()
	return m.out
}

// about is an input about request r.
func (m *Manager) about(r *request, in *Input) {
	switch in.Kind {
	case InDone:
		if r.state != reqRunning {
			break
		}
		s := r.session
		m.drop(r)
		if s != nil {
			m.begin(s)
		}
	case InCancel:
		m.cancel(r)
	case InSent:
		m.sent(r)
	case InResolved:
		m.resolved(r, in)
	case InRecorded:
		m.recorded(r)
		switch {
		case r.state != reqRecording:
		case r.dropped && r.plain:
			r.state = reqRunning // its counts are taken back as a plain operation's
			m.drop(r)
		case r.dropped:
			m.drop(r)
		default:
			m.granted(r)
		}
	}
}

// from is an input from session s.
func (m *Manager) from(s *session, in *Input) {
	switch in.Kind {
	case InSessionGone:
		m.end(s)
	case InDisconnected:
		m.hangUp(s)
	case InConnected:
		m.resume(s)
	case InTold:
		m.told(s)
	case InReclaimed:
		m.reclaimed(s)
	case InReturn:
		m.giveBack(s, in)
	case InPosted:
		m.post(s, in.N)
	case InProgress:
		m.moved(s)
	case InCommit:
		m.commit(s, in)
	case InCommitted:
		m.committed(s, in)
	default:
		panic("tokens: unknown kind of input")
	}
}

func (m *Manager) emit(o Output) { m.out = append(m.out, o) }

// NewGen takes a fresh generation: for a range of ids that a session may create objects with.
func (m *Manager) NewGen() Gen { m.gen++; return m.gen }

// OldReturns is how many returns named an older generation than the session has, and changed nothing.
func (m *Manager) OldReturns() uint64 { return m.oldReturns }

// HeldBy appends the tokens of session s to dst, sorted by ID: for status and tests.
func (m *Manager) HeldBy(s SessionID, dst []Token) []Token {
	if c := m.sessions[s]; c != nil {
		for _, id := range sortedIDs(c.held) {
			h := m.objects[id].holding(c)
			dst = append(dst, Token{id, h.gen, h.mode})
		}
	}
	return dst
}
