package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"echo9/p9client"
	"echo9/tests/internal/faultproxy"
	"echo9/tests/internal/rig"
)

// options say how it is done.
type options struct {
	echo9   string // the program under test
	dir     string // scratch
	export  string // "": in dir
	seed    uint64
	length  time.Duration
	clients int
	lease   time.Duration
	without []string        // kinds of faults that are left out
	only    []string        // if any, others are left out
	stop    <-chan struct{} // closed: end sooner
	first   []string        // kinds that come first, in this order
	long    float64         // faults last for so many leases at least
	logf    func(format string, args ...any)
	restore bool // the server comes back with an older state: a mutant of the surroundings
	deaf    bool // what is reported as lost is not heard: the same
	patient bool // the machine may not let somebody run for seconds
}

// bounds are how long, or how often, something may be that is wrong when it lasts.
type bounds struct {
	notice time.Duration // a server need not know yet that a client has work pending
	kernel time.Duration // a kernel may show what it knows of a mount without asking
	full   time.Duration // a client may take a disk for full that has room again
	name   time.Duration // a server need not have named who died, besides its lease
	stale  int           // a file may be replaced while it is opened
}

func (o *options) bounds() bounds {
	if o.patient {
		return bounds{notice: 6 * time.Second, kernel: 4 * time.Second, full: 20 * time.Second, name: time.Minute, stale: 20}
	}
	return bounds{notice: 1500 * time.Millisecond, kernel: 1200 * time.Millisecond, full: 3 * time.Second, name: 5 * time.Second, stale: 2}
}

// client is a life of a mount.
type client struct {
	n     int
	proc  *process
	dead  atomic.Bool
	died  time.Time    // once dead
	told  int64        // losses that it had reported when all was last at rest
	seen  atomic.Int64 // and when its cells were last looked at
	fresh atomic.Bool  // its cells were not looked at: those before it may have lost something
}

func name(c *client) string {
	if c == nil {
		return "a plain client"
	}
	return fmt.Sprintf("mount %d (process %d)", c.n, c.proc.pid())
}

// torture is a run.
type torture struct {
	o       options
	rng     *rand.Rand
	addr    string // of the server
	export  string
	server  *process
	logs    []*process // all that ever ran
	proxies []*faultproxy.Proxy
	clients []atomic.Pointer[client]
	workers []*worker
	cells   []*cell
	done    chan struct{}
	wg      sync.WaitGroup
	filled  atomic.Bool

	mu sync.Mutex // guards what follows
	counts
	faults map[string]int
	lost   []lostUpdate
	wrong  []string
}

type counts struct {
	ops, synced, reads, full, told, cutOff, replaced int
	lostTold, lostDied, lostAtOnce                   int // reported by the mount; by the server; of the last moments of a killed client
	lostUntold, stale                                int
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
	t := &torture{o: o, rng: rand.New(rand.NewPCG(o.seed, 9)), export: o.export, done: make(chan struct{}), faults: map[string]int{}}
	if t.export == "" {
		t.export = filepath.Join(o.dir, "export")
	}
	t.clients = make([]atomic.Pointer[client], o.clients+1) // the last one is no mount, but an echo9 cache
	for i := range o.clients {
		w := &worker{t: t, n: i, tree: mounted{filepath.Join(o.dir, fmt.Sprint("mnt", i)), o.bounds().kernel}, rest: 8, rng: rand.New(rand.NewPCG(o.seed, uint64(i)))}
		if err := os.MkdirAll(w.tree.dir, 0o755); err != nil {
			return nil, err
		}
		for k := range kinds {
			c := &cell{kind: k, owner: i, path: fmt.Sprintf("own%d/%s", i, kindNames[k])}
			if err := t.create(c); err != nil {
				return nil, err
			}
			w.cells = append(w.cells, c)
		}
		t.workers, t.cells = append(t.workers, w), append(t.cells, w.cells...)
	}
	var err error
	if t.addr, err = rig.FreePort(); err != nil { // it is to have it again whenever it was killed
		return nil, err
	}
	if err := t.serve(); err != nil {
		return nil, err
	}
	for i := range t.clients {
		p, err := faultproxy.New(t.addr)
		if err != nil {
			return t, err
		}
		t.proxies = append(t.proxies, p)
		if err := t.begin(i); err != nil {
			return t, err
		}
	}
	return t, nil
}

// create makes a cell's first state, behind everybody's back.
func (t *torture) create(c *cell) error {
	path := filepath.Join(t.export, c.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if c.kind != logged {
		return os.WriteFile(path, c.content(0), 0o644)
	}
	for n := 1; n <= window; n++ {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(path, fmt.Sprint(n)), c.content(n), 0o644); err != nil {
			return err
		}
	}
	c.last, c.base = window, 1
	return nil
}

func dial(addr string) string { return "tcp!" + strings.Replace(addr, ":", "!", 1) }

func (t *torture) serve() error {
	p, err := spawn("try: ", t.o.echo9, "serve", "-v", "--listen", dial(t.addr), "--lease", t.o.lease.String(), t.export)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.logs = append(t.logs, p)
	t.mu.Unlock()
	t.server = p
	return nil
}

// socket is where the echo9 cache listens.
func (t *torture) socket() string { return filepath.Join(t.o.dir, "cache.sock") }

// begin begins a life of client i.
func (t *torture) begin(i int) error {
	says, args := "is mounted on", []string{t.o.echo9, "mount"}
	if i == t.o.clients {
		says, args = "try: ", []string{t.o.echo9, "cache", "--listen", "unix!" + t.socket()}
	}
	args = append(args, "-v", "--write-behind", "1500ms", "--spool", filepath.Join(t.o.dir, fmt.Sprint("spool", i)), "--connect-timeout", "50s", dial(t.proxies[i].Addr()))
	if i < t.o.clients {
		args = append(args, t.workers[i].tree.dir)
	}
	p, err := spawn(says, args...)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.logs = append(t.logs, p)
	t.mu.Unlock()
	c := &client{n: i, proc: p}
	c.fresh.Store(true)
	t.clients[i].Store(c)
	return nil
}

// losses asks a mount how many updates it has lost.
func (t *torture) losses(c *client) int64 {
	if t.o.deaf {
		return 0
	}
	out, _ := exec.Command(t.o.echo9, "status", "--json", t.workers[c.n].tree.dir).Output()
	var s struct {
		Status struct{ Lost int64 }
	}
	if json.Unmarshal(out, &s) != nil {
		return 0
	}
	return s.Status.Lost
}

// retriable reports whether a mount may fail like that just now.
func (t *torture) retriable(c *client, err error) bool {
	return c.dead.Load() || t.losses(c) > c.seen.Load() || errors.Is(err, syscall.ENOSPC) && t.filled.Load()
}

// serverTrouble reports whether a plain client may fail like that: its connection, or its server, is gone.
func (t *torture) serverTrouble(err error) bool {
	var ne net.Error
	return errors.Is(err, p9client.ErrEnded) || errors.As(err, &ne) || errors.Is(err, syscall.ECONNREFUSED)
}

// run does it all.
func (t *torture) run() {
	for _, w := range t.workers {
		t.wg.Go(w.run)
		// Somebody else only looks there: who writes waits for the server now and then.
		viewer := &worker{t: t, n: w.n, tree: w.tree, rest: 40, rng: rand.New(rand.NewPCG(t.o.seed, uint64(100+w.n)))}
		t.wg.Go(viewer.run)
	}
	plains := []*plain{{addr: dial(t.addr)}, {addr: "unix!" + t.socket()}}
	for n, p := range plains {
		r := rand.New(rand.NewPCG(t.o.seed, uint64(77+n)))
		t.wg.Go(func() {
			for {
				select {
				case <-t.done:
					return
				case <-time.After(time.Duration(10+r.IntN(60)) * time.Millisecond):
				}
				t.look(p, t.cells[r.IntN(len(t.cells))], nil, nil)
			}
		})
	}
	end := time.Now().Add(t.o.length)
	for !t.over(end) && len(t.wrongs()) < 20 {
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

// restTime is what everybody gets to come to rest when there are no faults any more.
const restTime = 3 * time.Minute

// rest ends all faults, has everything written back, and compares.
func (t *torture) rest() {
	t.heal()
	for _, w := range t.workers {
		held := make(chan struct{})
		go func() { w.idle.Lock(); close(held) }()
		select {
		case <-held:
		case <-time.After(restTime):
			c := t.clients[w.n].Load()
			c.proc.signal(syscall.SIGQUIT)
			time.Sleep(time.Second)
			t.bad("%s does not come to rest; it said: %s", name(c), tail(c.proc.said(), 20000))
			<-held
		}
		defer w.idle.Unlock()
	}
	for i := range t.workers {
		cmd := exec.Command(t.o.echo9, "sync", t.workers[i].tree.dir)
		out := make(chan []byte, 1)
		go func() { b, _ := cmd.CombinedOutput(); out <- b }()
		select {
		case b := <-out:
			if !cmd.ProcessState.Success() && t.losses(t.clients[i].Load()) == 0 {
				t.bad("sync of mount %d: %s", i, b)
			}
		case <-time.After(restTime):
			t.bad("sync of mount %d does not end: %s", i, tail(t.clients[i].Load().proc.said(), 3000))
			_ = cmd.Process.Kill()
		}
	}
	direct := &plain{addr: dial(t.addr)}
	defer direct.close()
	for _, c := range t.cells {
		owner := t.clients[c.owner].Load()
		n, err := state(direct, c)
		if err != nil && errors.As(err, new(*gap)) && (owner.fresh.Load() || t.losses(owner) > owner.seen.Load()) {
			t.workers[c.owner].unsure = true
			continue
		}
		if err != nil {
			t.bad("at rest, %s: %v", c.path, err)
			continue
		}
		if floor := c.floorAt(time.Now()); n < floor {
			t.bad("acknowledged and lost: at rest, %s is at %d, and %d was acknowledged or seen", c.path, n, floor)
		}
		lost := c.resync(n)
		t.lose(lost)
		if len(lost) > 0 {
			t.workers[c.owner].unsure = true
		}
		c.raise(n)
	}
	t.settle()
}

// settle looks whether what was lost was reported.
func (t *torture) settle() {
	t.mu.Lock()
	lost := t.lost
	t.lost = nil
	t.mu.Unlock()
	told := map[*client]bool{}
	for i := range t.workers {
		c := t.clients[i].Load()
		if n := t.losses(c); n > c.told {
			c.told, told[c] = n, true
		}
	}
	for _, l := range lost {
		switch {
		case !l.by.dead.Load() && told[l.by]:
			t.count(&t.lostTold, 1)
		case l.by.dead.Load() && t.spooled(l.by):
			t.count(&t.lostTold, 1)
		case l.by.dead.Load() && t.deathReported(l.by, l.by.died.Sub(l.at) >= t.o.bounds().notice):
			t.count(&t.lostDied, 1)
		case l.by.dead.Load() && l.by.died.Sub(l.at) < t.o.bounds().notice:
			t.count(&t.lostAtOnce, 1)
		default:
			t.count(&t.lostUntold, 1)
			t.bad("lost, and nobody was told: update %d of %s by %s, made %v before it was found out", l.n, l.cell.path, name(l.by), l.when.Sub(l.at))
		}
	}
}

// spooled: the client, which is dead now, had said that it lost something.
func (t *torture) spooled(c *client) bool {
	return !t.o.deaf && strings.Contains(c.proc.said(), "lost: ")
}

// deathReported reports whether a server has named the client as one that died, or was away too long, with work pending; if it must, that is waited for.
func (t *torture) deathReported(c *client, must bool) bool {
	if t.o.deaf {
		return false
	}
	said := regexp.MustCompile(fmt.Sprintf(`\([^)]* %d\).*work`, c.proc.pid()))
	for end := time.Now().Add(2*t.o.lease + t.o.bounds().name); ; time.Sleep(100 * time.Millisecond) {
		t.mu.Lock()
		logs := append([]*process(nil), t.logs...)
		t.mu.Unlock()
		for _, p := range logs {
			if p.cmd.Args[1] == "serve" && said.MatchString(p.said()) {
				return true
			}
		}
		if !must || time.Now().After(end) {
			return false
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// end stops everything.
func (t *torture) end() {
	for i := range t.clients {
		if c := t.clients[i].Load(); c != nil {
			c.proc.stop()
			if i < t.o.clients {
				_ = syscall.Unmount(t.workers[i].tree.dir, syscall.MNT_DETACH)
			}
		}
	}
	for _, p := range t.proxies {
		p.Close()
	}
	if t.server != nil {
		t.server.stop()
	}
}

// summary is the run in numbers.
func (t *torture) summary() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("operations %d (%d acknowledged by fsync, %d looks; %d met a dead daemon or server, %d a full disk, %d a loss, %d a file that was just replaced), faults %d %v; losses reported %d by mounts, %d by servers, %d within the last %v of a killed client; losses not reported %d; stale reads %d; violations %d",
		t.ops, t.synced, t.reads, t.cutOff, t.full, t.told, t.replaced, total(t.faults), t.faults, t.lostTold, t.lostDied, t.lostAtOnce, t.o.bounds().notice, t.lostUntold, t.stale, len(t.wrong))
}

func total(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}
