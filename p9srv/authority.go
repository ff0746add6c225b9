package p9srv

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"echo9/internal/boottime"
	"echo9/internal/wire"
	"echo9/p9srv/stable"
	"echo9/tokens"
)

// AuthorityConfig are the settings of an Authority. Zero values mean the defaults.
type AuthorityConfig struct {
	Backend Committer
	// Users says whom sessions may act for, as Config.Users does.
	Users Users
	// Clock counts leases (default boottime.Now).
	Clock boottime.Clock
	// Lease is how long a session's tokens are good without a word from it (default 10 s).
	Lease time.Duration
	// RecallDeadline is how long a session may be without progress while something is recalled
	// from it (default a fifth of Lease).
	RecallDeadline time.Duration
	// Grace is how long sessions of the server's earlier life are awaited after Restore (default and least: Lease).
	Grace time.Duration
	// Courtesy is how long a session that is gone and whose lease is over is remembered, while
	// nobody wants what it holds (default 24 h).
	Courtesy time.Duration
	// Epoch numbers the lives of the server (default: the seconds since 1970 at its start; Restore takes a later
	// one than the last).
	Epoch uint64
	// MaxCutBytes and MaxCutRecords bound a cut (default 32 MiB and 65,536).
	MaxCutBytes, MaxCutRecords int
	// IDs is how many object ids a session is given at a time (default 8,192).
	IDs uint64
	// MaxSessions bounds the sessions, those remembered included (default 10,000).
	MaxSessions int
	// MaxInline bounds the contents that ride on grants, each (default 64 KiB).
	MaxInline uint32
	// Tokens are further settings of the token manager; its times are set from those above.
	Tokens tokens.Config
	Logf   func(format string, args ...any)
	// Noticef gets what an administrator should know in any case: the grace period, clients that died with work
	// pending. It goes to Logf if this is nil.
	Noticef func(format string, args ...any)
}

// Authority is the shell around the token manager: it admits the operations of
// plain clients, keeps the sessions of caching ones, and applies their cuts.
// One Authority serves one Committer, through as many Servers as there are.
//
// # Concurrency
//
// Authority.mu guards the manager, the sessions and all below. No I/O is done under
// it. Replies that carry grants or recalls are put on a connection's queue under it, in the
// order in which the manager decided them, so that they leave in one FIFO. Lock order: Authority.mu, then conn.mu.
type Authority struct {
	cfg    AuthorityConfig
	groups groupCache
	count  counters
	events eventLog
	// started is when, on the clock of leases.
	started int64

	// While no session exists plain operations hold gate for reading and the manager is not asked.
	gate gate

	mu          sync.Mutex
	m           *tokens.Manager
	asks        map[tokens.ReqID]*ask
	lastReq     tokens.ReqID
	sessions    map[uint64]*session
	clients     map[[16]byte]*session
	lastSession uint64
	opening     int   // sessions that are about to be
	ending      int   // sessions that are gone, but for a cut that is being applied
	recallMax   int64 // the longest that a token took to come back

	store      Sessions                         // nil: sessions end with the Authority
	revoking   map[tokens.ReqID][]stable.Record // what the present step took, for whom
	grace      bool
	graceSaid  bool // that somebody waits for its end
	awaited    int  // sessions, when it began
	afterGrace []*ask
	late       lateLocks
	deaths     []stable.Death

	ticking bool
	closed  bool
	// What is to be done when mu is free: filled under mu, emptied by unlock.
	todo  []func()
	kicks []*conn

	working sync.WaitGroup // what goroutines of later's and atWork's do at the Backend

	lent  atomic.Uint64 // bytes of the disk set aside for sessions; changed with mu held
	spent atomic.Uint64 // by cuts, of data, ever

	stepped int64 // when the manager was last told of something with its time

	// For tests.
	beforeApply func(session, cut uint64) // runs between the check of a cut and its application
	mutant      mutant
}

// mutant is a rule that a test breaks.
type mutant uint8

const (
	mutantNone       mutant = iota
	mutantNoBusy            // a cut is said to be applied before it is
	mutantSkipFence         // the fence need not name what is touched
	mutantNoAdmit           // plain operations do not wait for tokens
	mutantNoRecord          // what must be durable is not waited for
	mutantNoGrace           // there is no grace period
	mutantNoMissed          // who missed it is not recorded
	mutantKeepLocks         // locks that were taken may be claimed
	mutantBlindLate         // so may, after the grace period, what others have had meanwhile
	mutantTakeAtOnce        // what is set aside is less before its session knows
	mutantKeepSpace         // what is set aside for who is away is kept for him
)

// counters count what has happened.
type counters struct {
	plain, plainWaited, grants, recalls, returns, applied, refused, fenced, expired, revoked, stale, reclaimed atomic.Uint64
}

// NewAuthority makes an Authority without sessions.
func NewAuthority(cfg AuthorityConfig) *Authority {
	if cfg.Backend == nil {
		panic("p9srv: no Committer")
	}
	if cfg.Clock == nil {
		cfg.Clock = boottime.Now
	}
	if cfg.Lease <= 0 {
		cfg.Lease = 10 * time.Second
	}
	if cfg.RecallDeadline <= 0 {
		cfg.RecallDeadline = cfg.Lease / 5
	}
	cfg.Grace = max(cfg.Grace, cfg.Lease)
	if cfg.Courtesy <= 0 {
		cfg.Courtesy = 24 * time.Hour
	}
	if cfg.Epoch == 0 {
		cfg.Epoch = uint64(time.Now().Unix())
	}
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&cfg.MaxCutBytes, 32<<20)
	def(&cfg.MaxCutRecords, 1<<16)
	def(&cfg.MaxSessions, 10_000)
	if cfg.IDs == 0 {
		cfg.IDs = 8192
	}
	if cfg.MaxInline == 0 {
		cfg.MaxInline = 64 << 10
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	if cfg.Noticef == nil {
		cfg.Noticef = cfg.Logf
	}
	cfg.Tokens.Lease, cfg.Tokens.RecallDeadline = int64(cfg.Lease), int64(cfg.RecallDeadline)
	cfg.Tokens.Grace = int64(cfg.Grace)
	a := &Authority{
		cfg: cfg, m: tokens.NewManager(cfg.Tokens, firstGen(cfg.Epoch)), asks: map[tokens.ReqID]*ask{},
		sessions: map[uint64]*session{}, clients: map[[16]byte]*session{}, started: cfg.Clock(),
	}
	return a
}

// unlock does what became due while mu was held: wakes the writers of connections that
// were given replies (but cur's, whose own goroutine this is), then calls what was left to do, which locks again.
func (a *Authority) unlock(cur *conn) {
	todo, kicks := a.todo, a.kicks
	a.todo, a.kicks = nil, nil
	a.mu.Unlock()
	for _, c := range kicks {
		if c != cur {
			c.kick()
		}
	}
	for _, f := range todo {
		f()
	}
}

// step tells the manager something and does what it answers. mu is held.
func (a *Authority) step(in tokens.Input) {
	var now int64
	if in.Kind != tokens.InDone && in.Kind != tokens.InResolved && in.Kind != tokens.InSent {
		now = a.cfg.Clock() // a system call, which those can do without: they follow another input closely
		a.stepped = now
	}
	outs := a.m.Step(now, in)
	for i := range outs {
		a.do(&outs[i])
	}
	a.recordRevoked()
}

// later has f done by a goroutine of its own when mu is free. mu is held.
func (a *Authority) later(f func()) { a.todo = append(a.todo, func() { go f() }) }

// atWork is later for what is done at the Backend: Close waits for it. mu is held.
func (a *Authority) atWork(f func()) {
	a.working.Add(1)
	a.later(func() {
		defer a.working.Done()
		f()
	})
}

// release has the Backend forget what is kept for a session that has ended. mu is held.
func (a *Authority) release(session uint64) {
	a.atWork(func() { a.cfg.Backend.EndSession(session) })
}

// do does one output of the manager. mu is held; nothing here steps the manager.
func (a *Authority) do(o *tokens.Output) {
	s := a.sessions[uint64(o.Session)]
	switch o.Kind {
	case tokens.OutResolve:
		x := a.asks[o.Req]
		if x == nil {
			return
		}
		elem, dir, name := o.Elem, o.ID, o.Name
		a.forAsk(x, func() { a.resolve(x, elem, dir, name) })
	case tokens.OutGranted:
		x := a.asks[o.Req]
		if x == nil {
			return
		}
		x.tokens = append(x.tokens[:0], o.Tokens...)
		a.granted(x)
	case tokens.OutDenied:
		if x := a.asks[o.Req]; x != nil {
			delete(a.asks, o.Req)
			a.denied(x, o.Denied)
		}
	case tokens.OutRecall:
		if s != nil {
			a.recall(s, o)
		}
	case tokens.OutRevoked:
		a.revoked(s, o)
	case tokens.OutMissed:
		ids := make([]uint64, len(o.Missed))
		for i, id := range o.Missed {
			ids[i] = uint64(id)
		}
		a.recordMissed(ids)
	case tokens.OutGraceOver:
		a.graceEnds()
	case tokens.OutForget:
		told := stable.Record{Kind: stable.Told, Session: uint64(o.Session)}
		for _, l := range o.Lost {
			told.Lost = append(told.Lost, stable.Lost{ID: l.ID, Left: uint8(l.Left)})
		}
		if o.Req == 0 {
			a.note(told)
		} else {
			a.toRecord(o.Req, told)
		}
	case tokens.OutCommitGo:
		a.commitGo(s, o.Session, o.Cut)
	case tokens.OutCommitRefused:
		if s != nil {
			a.commitRefused(s, o)
		}
	case tokens.OutCommitKnown:
		if s != nil {
			a.commitKnown(s, o.Cut)
		}
	case tokens.OutResumed:
		if s != nil {
			a.resumed(s, o)
		}
	case tokens.OutExpired:
		a.count.expired.Add(1)
		if s != nil {
			a.expired(s)
		}
	}
}

// lease is what a reply to s that is enqueued now carries, in ms. mu is held.
func (a *Authority) lease(s *session) uint32 {
	now := a.cfg.Clock()
	more := a.m.Extend(now, tokens.SessionID(s.id))
	if more > 0 {
		s.until = now + more
	}
	return uint32(min(more/int64(time.Millisecond), math.MaxUint32))
}

// send answers a deferred request of the session's connection. It answers false when
// nobody waits for the answer any more. mu is held.
func (a *Authority) send(r *request, m wire.Message) bool {
	if !r.c.answer(r, m) {
		return false
	}
	a.kicks = append(a.kicks, r.c)
	return true
}

// startTicking makes sure that the manager is told of the time. mu is held.
func (a *Authority) startTicking() {
	if !a.ticking && !a.closed {
		a.ticking = true
		go a.tick()
	}
}

// tick tells the manager of the time when something is due, until there are no sessions.
func (a *Authority) tick() {
	const often = time.Second // so that a clock that jumps is noticed
	for {
		a.mu.Lock()
		if len(a.sessions) == 0 || a.closed {
			a.ticking = false
			a.unlock(nil)
			return
		}
		a.step(tokens.Input{Kind: tokens.InTick})
		a.forgetOld()
		wait := time.Duration(max(0, min(a.m.Next()-a.cfg.Clock(), int64(often))))
		a.unlock(nil)
		time.Sleep(max(time.Millisecond, min(wait, often, a.cfg.RecallDeadline)))
	}
}

// Close ends all sessions, waiting for no client, but for what is under way at the Backend; those that are kept in stable storage can be resumed in
// the server's next life. Their connections should be gone.
func (a *Authority) Close() {
	a.mu.Lock()
	a.closed = true
	for _, s := range a.sessions {
		if a.store == nil {
			a.endSession(s, "the server ends")
		} else {
			s.proc.close()
		}
	}
	a.unlock(nil)
	a.working.Wait() // the Backend may be closed then
}

// background is the context of work that no request waits for.
var background = context.Background()
