package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"echo9/tests/internal/faultproxy"
	"echo9/tests/internal/rig"
)

// options say how it is done.
type options struct {
	echo9    string // the program under test
	dir      string // scratch
	export   string // "": in dir
	seed     uint64
	length   time.Duration
	clients  int
	lease    time.Duration
	without  []string        // kinds of faults that are left out
	only     []string        // if any, others are left out
	stop     <-chan struct{} // closed: end sooner
	first    []string        // kinds that come first, in this order
	long     float64         // faults last for so many leases at least
	logf     func(format string, args ...any)
	restore  bool  // the server comes back with an older state: a mutant of the surroundings
	deaf     bool  // what is reported as lost is not heard: the same
	shredded bool  // the journal is gone when it is needed: the same
	jumbled  bool  // no mount keeps another order than the usual one: the same
	unlocked bool  // nobody takes the lock of what all write: the same
	victims  []int // if any, the clients that faults are about
	enough   int   // so much that is wrong is enough to see
	patient  bool  // the machine may not let somebody run for seconds
	guest    bool  // another kernel looks, too
	apart    bool  // a mount is in a network namespace of its own
}

// torture is a run.
type torture struct {
	o       options
	rng     *rand.Rand
	addr    string // of the server
	export  string
	server  *process
	logs    []*process // all that ever ran
	links   []link
	clients []atomic.Pointer[client]
	workers []*worker
	sharers []*sharer
	ledger  *ledger
	guest   *guest       // nil: there is none
	counter atomic.Int64 // what it was acknowledged to be
	cells   []*cell
	done    chan struct{}
	wg      sync.WaitGroup
	filled  atomic.Int32 // how often the disk is, or was a moment ago, full
	// The server may have refused something since all was last at rest: what was done later may be there without it.
	refusing atomic.Bool

	mu sync.Mutex // guards what follows
	counts
	faults map[string]int
	points map[string]int // of the protocol, at which there were some of them
	lost   []lostUpdate
	wrong  []string
}

type counts struct {
	ops, synced, reads, full, told, cutOff, replaced int
	increments, appends, unlocked, doubtful          int // of what all have in common
	lostTold, lostDied, lostAtOnce                   int // reported by the mount; by the server; of the last moments of a killed client
	lostUntold, stale                                int
	guestLooks, guestCut                             int
	ordered                                          int // times that the order of a client's updates was looked at
}

func (t *torture) count(n *int, by int) {
	t.mu.Lock()
	*n += by
	t.mu.Unlock()
}

// bad notes a violation.
func (t *torture) bad(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	t.wrong = append(t.wrong, text)
	t.o.logf("WRONG: %s", text)
}

func (t *torture) lose(l []lostUpdate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost = append(t.lost, l...)
}

// prepare makes the tree and starts everything.
func prepare(o options) (*torture, error) {
	t := &torture{o: o, rng: rand.New(rand.NewPCG(o.seed, 9)), export: o.export, done: make(chan struct{}), faults: map[string]int{}, points: map[string]int{}}
	if t.export == "" {
		t.export = filepath.Join(o.dir, "export")
	}
	t.clients = make([]atomic.Pointer[client], o.clients+1) // the last one is no mount, but an echo9 cache
	var err error
	if t.ledger, err = newLedger(filepath.Join(o.dir, "ledger")); err != nil {
		return nil, err
	}
	for i := range t.clients {
		if err := t.employ(i); err != nil {
			return t, err
		}
	}
	for path, b := range map[string][]byte{counterPath: count{0, nobody, nobody}.bytes(), logPath: nil} {
		if err := os.WriteFile(filepath.Join(t.export, path), b, 0o644); err != nil {
			return t, err
		}
	}
	if t.addr, err = rig.FreePort(); err != nil { // it is to have it again whenever it was killed
		return t, err
	}
	for i := range t.clients {
		l, err := t.connect(i)
		if err != nil {
			return t, err
		}
		t.links = append(t.links, l)
	}
	if err := t.serve(); err != nil {
		return t, err
	}
	for i := range t.clients {
		if err := t.begin(i); err != nil {
			return t, err
		}
	}
	if o.guest {
		if t.guest, err = newGuest(t); err != nil {
			return t, err
		}
	}
	return t, nil
}

// employ makes those who work by client i, and what they work on.
func (t *torture) employ(i int) error {
	w := &worker{t: t, n: i, rest: 8, rng: rand.New(rand.NewPCG(t.o.seed, uint64(i)))}
	if i < t.o.clients {
		mnt := t.mnt(i)
		if err := os.MkdirAll(mnt.dir, 0o755); err != nil {
			return err
		}
		w.tree = mnt
		t.sharers = append(t.sharers, &sharer{t: t, n: i, tree: mnt, rng: rand.New(rand.NewPCG(t.o.seed, uint64(50+i)))})
	} else {
		w.tree = &plain{addr: "unix!" + t.socket()}
	}
	for k := range kinds {
		c := &cell{kind: k, owner: i, path: fmt.Sprintf("own%d/%s", i, kindNames[k])}
		if k == among {
			c.path, c.prefix = kindNames[k], fmt.Sprintf("w%d-", i)
		}
		if err := t.create(c); err != nil {
			return err
		}
		w.cells = append(w.cells, c)
	}
	t.workers, t.cells = append(t.workers, w), append(t.cells, w.cells...)
	return nil
}

// connect makes the way from client i to the server.
func (t *torture) connect(i int) (link, error) {
	if !t.isApart(i) {
		return faultproxy.New(t.addr)
	}
	_, port, err := net.SplitHostPort(t.addr)
	if err != nil {
		return nil, err
	}
	return newNetwork(port)
}

// create makes a cell's first state, behind everybody's back.
func (t *torture) create(c *cell) error {
	path := filepath.Join(t.export, c.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if !c.isDir() {
		return os.WriteFile(path, c.content(0), 0o644)
	}
	for n := 1; n <= window; n++ {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(path, c.name(n)), c.content(n), 0o644); err != nil {
			return err
		}
	}
	c.last, c.base = window, 1
	return nil
}

func dial(addr string) string { return "tcp!" + strings.Replace(addr, ":", "!", 1) }

func (t *torture) serve() error {
	args := []string{t.o.echo9, "serve", "-v", "--listen", dial(t.addr), "--lease", t.o.lease.String()}
	for _, l := range t.links {
		if n, ok := l.(*network); ok {
			args = append(args, "--listen", dial(n.Addr()))
		}
	}
	p, err := spawn(nil, "try: ", append(args, t.export)...)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.logs = append(t.logs, p)
	t.mu.Unlock()
	t.server = p
	return nil
}

// run does it all.
func (t *torture) run() {
	for _, w := range t.workers {
		t.wg.Go(w.run)
		if _, ok := w.tree.(mounted); !ok {
			continue
		}
		// Somebody else only looks there: who writes waits for the server now and then.
		viewer := &worker{t: t, n: w.n, tree: w.tree, rest: 40, rng: rand.New(rand.NewPCG(t.o.seed, uint64(100+w.n)))}
		t.wg.Go(viewer.run)
	}
	for _, s := range t.sharers {
		t.wg.Go(s.run)
	}
	plains := []*plain{{addr: dial(t.addr)}, {addr: "unix!" + t.socket()}}
	for i, p := range plains {
		r, through := rand.New(rand.NewPCG(t.o.seed, uint64(77+i))), [...]int{direct, t.o.clients}[i]
		t.wg.Go(func() {
			for {
				select {
				case <-t.done:
					return
				case <-time.After(time.Duration(10+r.IntN(60)) * time.Millisecond):
				}
				t.look(p, through, t.cells[r.IntN(len(t.cells))], nil, nil)
			}
		})
	}
	if t.guest != nil {
		t.wg.Go(func() { t.guest.watch(t) })
	}
	end := time.Now().Add(t.o.length)
	for !t.over(end) && len(t.wrongs()) < t.o.enough {
		for range 8 {
			if t.over(end) {
				break
			}
			t.fault()
			time.Sleep(time.Duration(50+t.rng.IntN(400)) * time.Millisecond)
		}
		t.rest()
		t.o.logf("%s", t.summary())
	}
	close(t.done)
	t.wg.Wait()
	for _, p := range plains {
		p.close()
	}
}

func (t *torture) over(end time.Time) bool {
	select {
	case <-t.o.stop:
		return true
	default:
		return time.Now().After(end)
	}
}

func (t *torture) wrongs() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.wrong...)
}

// end stops everything.
func (t *torture) end() {
	if t.guest != nil {
		t.guest.close()
	}
	for i := range t.clients {
		if c := t.clients[i].Load(); c != nil {
			c.proc.stop()
			if i < t.o.clients {
				abort(c.mnt)
				_ = syscall.Unmount(c.mnt, syscall.MNT_DETACH)
			}
		}
	}
	for _, l := range t.links {
		l.Close()
	}
	if t.server != nil {
		t.server.stop()
	}
	for _, w := range t.workers {
		if p, ok := w.tree.(*plain); ok {
			p.close()
		}
	}
	t.ledger.close()
}

// summary is the run in numbers.
func (t *torture) summary() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lost, holders, unordered int
	for _, s := range t.wrong {
		if strings.HasPrefix(s, lostAcknowledged) {
			lost++
		}
		if strings.HasPrefix(s, twoHolders) {
			holders++
		}
		if strings.HasPrefix(s, outOfOrder) {
			unordered++
		}
	}
	return fmt.Sprintf("operations %d (%d acknowledged by fsync, %d looks, and %d of another kernel, which met %d ends of its connection; %d met a dead daemon or server, %d a full disk, %d a loss, %d a file that was just replaced); "+
		"under a file lock %d increments and %d appends (%d met a lock that was lost and said so; %d increments count though nobody was told); faults %d %v, of which %d at %d of the %d points of the protocol %v; "+
		"acknowledged or seen, and lost %d; out of order, of %d times that it was looked at, %d; two holders of a lock %d; of what was only done, losses reported %d by mounts, %d by servers, %d within the last %v of a client killed without a journal; losses not reported %d; stale reads %d; violations %d",
		t.ops, t.synced, t.reads, t.guestLooks, t.guestCut, t.cutOff, t.full, t.told, t.replaced, t.increments, t.appends, t.unlocked, t.doubtful, total(t.faults), t.faults, total(t.points), len(t.points), allPoints, t.points,
		lost, t.ordered, unordered, holders, t.lostTold, t.lostDied, t.lostAtOnce, t.o.bounds().notice, t.lostUntold, t.stale, len(t.wrong))
}

// How complaints of these kinds begin.
const (
	lostAcknowledged = "acknowledged and lost"
	twoHolders       = "two had the lock"
	outOfOrder       = "out of order"
)

func total(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}
