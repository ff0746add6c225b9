package cachefs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"echo9/internal/wire"
	"echo9/tokens"
)

type stats struct {
	messages atomic.Int64 // sent, whatever they are
	replies  atomic.Int64 // that came
	asks     int
	fetches  int
	recalls  int
	cuts     int
	parts    int
	ops      int
	landed   int // of ops, at the server or cancelled out
	records  int
	lost     int
}

// Status is how an FS stands.
type Status struct {
	Cached bool `json:"cached"`
	// Pending updates are those that are not at the server, of which InFlight are on their way; PendingBytes is the data in them, Oldest the age of the oldest one.
	Pending      int           `json:"pending"`
	InFlight     int           `json:"in_flight"`
	PendingBytes int64         `json:"pending_bytes"`
	Oldest       time.Duration `json:"oldest_ns"`
	// LastSeq is the number of the last update that was made, FirstSeq that of the first one that is pending, 0 for none.
	LastSeq  uint64 `json:"last_seq"`
	FirstSeq uint64 `json:"first_seq"`
	// Sending are the cuts on their way.
	Sending []Sending `json:"sending,omitempty"`
	// Asking is what operations wait for the server to let us use.
	Asking []Asking `json:"asking,omitempty"`
	// Waiting are the writers who wait until some of it is.
	Waiting []Waiting `json:"waiting,omitempty"`
	// Tokens is how many objects the server lets us cache, Objects how many are remembered.
	Tokens      int   `json:"tokens"`
	Objects     int   `json:"objects"`
	CachedBytes int64 `json:"cached_bytes"`
	// DirtyLimit and CacheLimit are what PendingBytes and CachedBytes may come to.
	DirtyLimit int64 `json:"dirty_limit"`
	CacheLimit int64 `json:"cache_limit"`
	// Connected: requests go out.
	Connected bool `json:"connected"`
	// Journal is the file that has what is pending, too.
	Journal string `json:"journal,omitempty"`
	// Lease is how long the server may be silent until nothing is served any more.
	Lease   time.Duration `json:"lease_ns"`
	Session uint64        `json:"session"`
	// The rest counts since the start. Updates were made; Landed of them have gone, which took Records, final values, in Cuts.
	Messages int64 `json:"messages"`
	Cuts     int   `json:"cuts"`
	Records  int   `json:"records"`
	Updates  int   `json:"updates"`
	Landed   int   `json:"landed"`
	Recalls  int   `json:"recalls"`
	Lost     int   `json:"lost"`
	// Away is since when the server has not answered, so that there is no connection or no lease.
	Away time.Duration `json:"away_ns,omitempty"`
	// Error is why nothing works any more, if so.
	Error  string  `json:"error,omitempty"`
	Events []Event `json:"events,omitempty"`
}

// Sending is a cut on its way.
type Sending struct {
	Cut     uint64 `json:"cut"`
	Updates int    `json:"updates"`
	Bytes   int64  `json:"bytes"`
}

// Asking is a set of tokens that was asked for and has not come: somebody else may have to give something back first.
type Asking struct {
	Names []string      `json:"names"`
	Write bool          `json:"write"` // one of them, at least
	Since time.Duration `json:"since_ns"`
}

// question is a Tgrant to which there is no answer yet.
type question struct {
	elems []tokens.Elem
	since int64
}

// maxAsking bounds the questions that a status has, and maxSought the directories that are looked through for a name.
const (
	maxAsking = 50
	maxSought = 1000
)

// asking lists the questions that have no answer yet, the oldest first. Called with f.mu held.
func (f *FS) asking(now int64) []Asking {
	names := nameFinder{f, map[uint64]map[uint64]string{}}
	questions := slices.SortedFunc(maps.Values(f.questions), func(a, b question) int { return cmp.Compare(a.since, b.since) })
	var list []Asking
	for _, q := range questions[:min(len(questions), maxAsking)] {
		a := Asking{Since: time.Duration(now - q.since)}
		for _, e := range q.elems {
			name := "the right to move directories"
			switch {
			case e.Name != "":
				name = names.in(e.ID, e.Name)
			case e.ID != tokens.DirMove:
				name = names.sought(e.ID)
			}
			a.Names = append(a.Names, name)
			a.Write = a.Write || e.Mode == tokens.Write
		}
		list = append(list, a)
	}
	return list
}

// sought is a path of an object of which nothing is known any more, but perhaps its name in a directory.
func (nf nameFinder) sought(id uint64) string {
	if n := nf.f.nodes[id]; n != nil && (n == nf.f.root || len(n.up) > 0) {
		return nf.path(id)
	}
	left := maxSought
	for dir, n := range nf.f.nodes {
		if n.ents == nil {
			continue
		}
		if name, ok := nf.names(dir)[id]; ok {
			return nf.in(dir, name)
		}
		if left--; left == 0 {
			break
		}
	}
	return nf.path(id)
}

// Status tells how the FS stands.
func (f *FS) Status() Status {
	if f.plain != nil {
		return Status{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock()
	total := f.log.Totals()
	s := Status{
		Cached: true, Pending: total.Ops, InFlight: total.InFlight, PendingBytes: total.Bytes,
		LastSeq: f.lastSeq, FirstSeq: f.log.Oldest(),
		Waiting: f.waiting(), Asking: f.asking(now),
		Tokens: f.holder.Len(), Objects: len(f.nodes), CachedBytes: f.lru.bytes, DirtyLimit: f.opt.Dirty, CacheLimit: f.opt.Cache,
		Lease: time.Duration(f.holder.LeaseLeft(now)), Session: f.number,
		Messages: f.stats.messages.Load(), Cuts: f.stats.cuts, Records: f.stats.records,
		Updates: f.stats.ops, Landed: f.stats.landed, Recalls: f.stats.recalls, Lost: f.stats.lost,
		Events: append([]Event(nil), f.events[max(0, len(f.events)-20):]...),
	}
	for _, c := range f.log.Flights() {
		s.Sending = append(s.Sending, Sending{c.Cut, c.Ops, c.Bytes})
	}
	if total.Ops > 0 {
		s.Oldest = time.Duration(now - total.Oldest)
	}
	s.Connected = f.online && f.dead == nil
	if f.opt.Backlog != nil {
		s.Journal = f.opt.Backlog.Path()
	}
	if f.downAt != 0 {
		s.Away = time.Duration(max(0, now-f.downAt))
	}
	if f.dead != nil {
		s.Error = f.dead.Error()
	}
	return s
}

// String is the status for people.
func (s Status) String() string {
	var b strings.Builder
	if !s.Cached {
		return "uncached: the server does not speak the extension\n"
	}
	fmt.Fprintf(&b, "pending  %d updates, %d bytes", s.Pending, s.PendingBytes)
	if s.Pending > 0 {
		fmt.Fprintf(&b, ", the oldest %v old", s.Oldest.Round(time.Millisecond))
	}
	for _, c := range s.Sending {
		fmt.Fprintf(&b, "\nsending  cut %d: %d updates, %d bytes", c.Cut, c.Updates, c.Bytes)
	}
	for _, a := range s.Asking {
		to := "read"
		if a.Write {
			to = "change"
		}
		quoted := make([]string, len(a.Names))
		for i, n := range a.Names {
			quoted[i] = quoteName(n)
		}
		fmt.Fprintf(&b, "\nasking   to %s %s, for %v", to, strings.Join(quoted, ", "), a.Since.Round(time.Millisecond))
	}
	for _, w := range s.Waiting {
		fmt.Fprintf(&b, "\nwaiting  a change of %s, of %d bytes, for %v: until some of that is at the server", quoteName(w.Name), w.Bytes, w.Since.Round(time.Millisecond))
	}
	fmt.Fprintf(&b, "\ntokens   %d of %d objects\ncached   %d bytes of at most %d\nlease    %v, session %d\n",
		s.Tokens, s.Objects, s.CachedBytes, s.CacheLimit, s.Lease.Round(time.Millisecond), s.Session)
	if s.Journal != "" {
		fmt.Fprintf(&b, "journal  %s\n", quoteName(s.Journal))
	}
	fmt.Fprintf(&b, "so far   %d updates, sent as %d records in %d cuts, %d recalls, %d messages, %d updates lost\n",
		s.Updates, s.Records, s.Cuts, s.Recalls, s.Messages, s.Lost)
	if s.Away > 0 && s.Error == "" {
		fmt.Fprintf(&b, "away     the server, for %v: what is not held waits, and without a lease everything\n", s.Away.Round(time.Millisecond))
	}
	if s.Error != "" {
		fmt.Fprintf(&b, "broken   %s\n", s.Error)
	}
	for _, e := range s.Events {
		fmt.Fprintf(&b, "event    %s\n", e)
	}
	return b.String()
}

// String is the event as a line.
func (e Event) String() string { return e.At.Format(time.RFC3339) + " " + e.Text }

// Events are the last events, oldest first.
func (f *FS) Events() []Event {
	if f.plain != nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Event(nil), f.events...)
}

// Sync waits until all updates that were made so far are at the server, as durable as it promises. It tells a
// loss that no Sync has told yet with EIO.
func (f *FS) Sync(ctx context.Context) error { return f.Wait(ctx, nil) }

// Wait is Sync with progress: it is called with the number of pending updates now and then.
func (f *FS) Wait(ctx context.Context, progress func(pending int, bytes int64)) error {
	if f.plain != nil {
		return nil
	}
	f.mu.Lock()
	if f.dead != nil {
		defer f.mu.Unlock()
		return f.dead
	}
	d := &demand{why: "sync", upTo: f.lastSeq}
	f.queue(d)
	f.mu.Unlock()
	ctx, stop := f.softly(ctx)
	defer stop()
	for {
		f.mu.Lock()
		total, moved := f.log.Totals(), f.progress
		f.mu.Unlock()
		if progress != nil {
			progress(total.Ops, total.Bytes)
		}
		select {
		case err := <-d.done:
			if err != nil {
				return err
			}
			return f.report(ctx)
		case <-moved:
		case <-ctx.Done():
			return interrupted(ctx)
		}
	}
}

// report tells once that something was lost; then it is in the spool.
func (f *FS) report(ctx context.Context) error {
	f.kept(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unreported == 0 {
		return nil
	}
	n := f.unreported
	f.unreported = 0
	return fmt.Errorf("%d updates were lost: %w", n, syscall.EIO)
}

var errGivenUp = errors.New("nobody waits for the server any longer")

// GiveUp ends everything without the server: what it has not is in the spool, if there is one, when Close returns, or stays
// in the backlog; all that is tried afterwards fails with EIO. The session ends with its lease.
func (f *FS) GiveUp() {
	if f.plain == nil {
		f.giveUp()
		f.fail(errGivenUp)
	}
}

// GivenUp is closed by GiveUp.
func (f *FS) GivenUp() <-chan struct{} { return f.givenUp }

// Close waits until everything is at the server and ends the session; when ctx ends first, what is
// pending is given up, as by GiveUp. The FS must not be used afterwards.
func (f *FS) Close(ctx context.Context) error {
	if f.plain != nil {
		if c, ok := f.plain.(interface{ Close() error }); ok {
			return c.Close()
		}
		return nil
	}
	err := f.Sync(ctx)
	f.mu.Lock()
	dead := f.dead
	f.closing = true
	f.mu.Unlock()
	if dead == nil {
		// A server that is away finds out by itself, when the lease is over.
		ctx, cancel := context.WithTimeout(ctx, max(time.Duration(f.session.Lease)*time.Millisecond, time.Second))
		if err == nil {
			// The server keeps in mind what it was told last: that something is pending.
			err = f.call(ctx, &wire.Trenew{}, new(wire.Rrenew), nil)
		}
		e := f.endSession(ctx)
		if e == nil {
			e = f.clearBacklog()
		}
		if err == nil {
			err = e
		}
		cancel()
	}
	f.fail(errClosed)
	f.workers.Wait()
	f.said()
	return err
}
