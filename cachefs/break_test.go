package cachefs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/p9client"
)

// breakAt says where a connection breaks: at the n-th frame in one direction, before or after it is delivered. 0: never.
type breakAt struct {
	n      int
	toward bool // the server
	after  bool
}

func (b breakAt) String() string {
	way, when := "from", "before"
	if b.toward {
		way = "to"
	}
	if b.after {
		when = "after"
	}
	return fmt.Sprintf("%s frame %d %s the server", when, b.n, way)
}

// frames counts the frames of a stream.
type frames struct {
	head   []byte
	left   int // of the frame under way
	n      int // begun
	broken bool
}

// upTo says how many of p's bytes may pass, given where the stream breaks.
func (s *frames) upTo(p []byte, at int, after bool) int {
	for i := 0; i < len(p); {
		if s.left > 0 {
			k := min(s.left, len(p)-i)
			s.left -= k
			i += k
			if s.left == 0 && after && s.n == at {
				s.broken = true
				return i
			}
			continue
		}
		if len(s.head) == 0 {
			if s.n++; s.n == at && !after {
				s.broken = true
				return i
			}
		}
		s.head = append(s.head, p[i])
		i++
		if len(s.head) == 4 {
			s.left = int(binary.LittleEndian.Uint32(s.head)) - 4
			s.head = s.head[:0]
		}
	}
	return len(p)
}

// brittle is a connection that breaks.
type brittle struct {
	net.Conn
	at      breakAt
	mu      sync.Mutex // of in
	in, out frames     // out is the writers' own: one at a time
	counts  *[2]atomic.Int64
}

var errBrittle = errors.New("broken by the test")

func (c *brittle) Write(p []byte) (int, error) {
	if c.out.broken {
		return 0, errBrittle
	}
	at := 0
	if c.at.toward {
		at = c.at.n
	}
	k := c.out.upTo(p, at, c.at.after)
	if c.counts != nil {
		c.counts[0].Store(int64(c.out.n))
	}
	n, err := c.Conn.Write(p[:k])
	if c.out.broken {
		c.Conn.Close()
		return n, errBrittle
	}
	return n, err
}

func (c *brittle) Read(p []byte) (int, error) {
	c.mu.Lock()
	broken := c.in.broken
	c.mu.Unlock()
	if broken {
		return 0, errBrittle
	}
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	at := 0
	if !c.at.toward {
		at = c.at.n
	}
	k := c.in.upTo(p[:n], at, c.at.after)
	if c.counts != nil {
		c.counts[1].Store(int64(c.in.n))
	}
	if c.in.broken {
		c.Conn.Close()
		if k == 0 {
			return 0, errBrittle
		}
		return k, nil
	}
	return n, err
}

// brittleCache opens a cache whose connections break as said, the later ones never.
func (w *world) brittleCache(breaks []breakAt, counts *[2]atomic.Int64, change ...func(*Options)) *FS {
	w.t.Helper()
	dial := func(ctx context.Context) (*p9client.Conn, error) {
		c := &brittle{Conn: w.pipe()}
		if len(breaks) > 0 {
			c.at, breaks = breaks[0], breaks[1:]
			c.counts = counts
		}
		return p9client.NewConn(ctx, c, p9client.Options{Extension: true, Msize: 16 << 10})
	}
	conn, err := dial(bg)
	ok(w.t, err)
	o := Options{WriteBehind: time.Hour, Logf: w.t.Logf, Cred: processCred(), Dial: dial}
	for _, c := range change {
		c(&o)
	}
	f, err := OpenConn(bg, conn, o)
	ok(w.t, err)
	w.t.Cleanup(func() {
		if f.Status().Error == "" {
			f.Close(bg)
		}
	})
	return f
}

// breakWorkload is done by a, whose connection breaks; b has it recalled.
func breakWorkload(ctx context.Context, a, b *FS) error {
	var errs []error
	try := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	same := func(what string, f *FS, name, want string) {
		got, err := f.ReadFile(ctx, name)
		try(what, err)
		if err == nil && string(got) != want {
			errs = append(errs, fmt.Errorf("%s: %q, not %q", what, got, want))
		}
	}
	big := strings.Repeat("0123456789abcdef", 4000)
	try("mkdir", a.Mkdir(ctx, "d", 0o755))
	try("write", a.WriteFile(ctx, "d/new", []byte("one"), 0o644))
	try("rename", a.Rename(ctx, "d/new", "d/file"))
	h, err := a.OpenFile(ctx, "d/file", wire.ORdwr, 0)
	try("open", err)
	if err != nil {
		return errors.Join(errs...)
	}
	try("fsync", h.Fsync(ctx, false))
	same("b reads", b, "d/file", "one")
	_, err = h.WriteAt(ctx, []byte("two"), 3)
	try("write through the handle", err)
	try("big write", a.WriteFile(ctx, "d/big", []byte(big), 0o600))
	try("link", a.Link(ctx, "d/big", "d/big2"))
	same("b reads what a has pending", b, "d/big2", big)
	try("b writes", b.WriteFile(ctx, "d/file", []byte("three"), 0o644))
	p := make([]byte, 10)
	n, err := h.ReadAt(ctx, p, 0)
	try("read what b wrote", err)
	if err == nil && string(p[:n]) != "three" {
		errs = append(errs, fmt.Errorf("a reads %q", p[:n]))
	}
	try("remove", a.Remove(ctx, "d/big"))
	try("symlink", a.Symlink(ctx, "file", "d/sym"))
	try("chmod", a.Chmod(ctx, "d/file", 0o640))
	try("b removes", b.Remove(ctx, "d/file"))
	_, err = h.WriteAt(ctx, []byte("unseen"), 0)
	try("write to what has no name", err)
	try("close", h.Close(ctx))
	try("mkdir e", a.Mkdir(ctx, "e", 0o755))
	try("move", a.Rename(ctx, "d/big2", "e/big"))
	list, err := b.ReadDir(ctx, "e")
	try("b lists", err)
	if err == nil && !slices.ContainsFunc(list, func(d wire.Dirent) bool { return d.Name == "big" }) {
		errs = append(errs, fmt.Errorf("b does not see e/big in %v", list))
	}
	target, err := b.Readlink(ctx, "d/sym")
	try("b reads the link", err)
	if err == nil && target != "file" {
		errs = append(errs, fmt.Errorf("the symlink leads to %q", target))
	}
	try("sync", a.Sync(ctx))
	try("b syncs", b.Sync(ctx))
	return errors.Join(errs...)
}

// breakOnce runs the workload with a's connections breaking as said, and gives what is wrong then.
func breakOnce(t *testing.T, breaks []breakAt, counts *[2]atomic.Int64, mutant string) error {
	w := newWorld(t)
	a := w.brittleCache(breaks, counts, func(o *Options) { o.Mutant = mutant })
	b := w.cache()
	ctx, cancel := context.WithTimeout(bg, 5*patience)
	defer cancel()
	if err := breakWorkload(ctx, a, b); err != nil {
		return err
	}
	if s := a.Status(); s.Lost > 0 || s.Error != "" {
		return fmt.Errorf("%d updates were lost, %s: %v", s.Lost, s.Error, s.Events)
	}
	want := dump(t, w.direct())
	for name, f := range map[string]*FS{"a": a, "b": b} {
		if got := dump(t, f); got != want {
			return fmt.Errorf("%s sees\n%s\nthe server has\n%s", name, got, want)
		}
	}
	if !strings.Contains(want, "e/big") || strings.Contains(want, "d/file") {
		return fmt.Errorf("the tree is\n%s", want)
	}
	return nil
}

// TestBreaks: wherever the connection breaks nobody gets an error, nothing is lost, and all is done once.
func TestBreaks(t *testing.T) {
	var counts [2]atomic.Int64
	ok(t, breakOnce(t, []breakAt{{}}, &counts, ""))
	t.Logf("%d frames to the server, %d from it", counts[0].Load(), counts[1].Load())
	stride := 3
	if os.Getenv("ECHO9_FULL") != "" {
		stride = 1
	}
	for way := range 2 {
		for when := range 2 {
			for n := 2 + (way+when)%stride; n <= int(counts[way].Load()); n += stride {
				at := breakAt{n, way == 0, when == 1}
				if n == 2 && way == 1 || n == 3 && way == 1 && when == 0 {
					continue // then there never was a session
				}
				if n <= 3 && way == 0 {
					continue
				}
				// The next connection breaks, too, at one of its first frames: while the session is resumed.
				again := breakAt{1 + n%8, n%2 == 0, n%3 == 0}
				t.Run(strings.ReplaceAll(at.String(), " ", "-"), func(t *testing.T) {
					ok(t, breakOnce(t, []breakAt{at, again}, nil, ""))
				})
			}
		}
	}
}

// TestBreaksUnderLoad: connections that break again and again, anywhere, beneath clients that do everything to the same few
// objects: no error comes that a local file system would not give, nothing is lost, and in the end all see the same.
func TestBreaksUnderLoad(t *testing.T) {
	w := newWorld(t)
	steps := 30
	if os.Getenv("ECHO9_FULL") != "" {
		steps = 400
	}
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 5))
	var calm atomic.Bool
	var dials atomic.Int64
	dial := func(ctx context.Context) (*p9client.Conn, error) {
		nc, err := w.dial()
		if err != nil {
			return nil, err
		}
		dials.Add(1)
		mu.Lock()
		at := breakAt{15 + r.IntN(150), r.IntN(2) == 0, r.IntN(2) == 0}
		mu.Unlock()
		if !calm.Load() {
			nc = &brittle{Conn: nc, at: at}
		}
		return p9client.NewConn(ctx, nc, p9client.Options{Extension: true})
	}
	ctx, cancel := context.WithTimeout(bg, 5*patience)
	defer cancel()
	var clients []*FS
	for range 3 {
		conn, err := p9client.NewConn(bg, w.pipe(), p9client.Options{Extension: true})
		ok(t, err)
		f, err := OpenConn(bg, conn, Options{WriteBehind: 20 * time.Millisecond, Logf: t.Logf, Cred: processCred(), Dial: dial})
		ok(t, err)
		defer f.Close(bg)
		conn.Close() // it begins with a break
		clients = append(clients, f)
	}
	for i := range 3 {
		ok(t, clients[0].Mkdir(ctx, fmt.Sprintf("d%d", i), 0o777))
	}
	var wg sync.WaitGroup
	for c, f := range clients {
		for g := range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				r := rand.New(rand.NewPCG(uint64(c), uint64(g)))
				for i := 0; i < steps || dials.Load() < 4 && ctx.Err() == nil; i++ {
					if err := stressStep(ctx, f, r, fmt.Sprintf("%d.%d.%d", c, g, i)); surprising(err) {
						t.Errorf("client %d, step %d: %v", c, i, err)
						return
					}
				}
			}()
		}
	}
	wg.Wait()
	calm.Store(true)
	breaks := 0
	for i, f := range clients {
		if err := f.Sync(ctx); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
		if s := f.Status(); s.Lost > 0 {
			t.Errorf("client %d lost %d updates: %v", i, s.Lost, f.Events())
		}
		for _, e := range f.Events() {
			if strings.Contains(e.Text, "broken") {
				breaks++
			}
		}
	}
	want := dump(t, w.direct())
	for i, f := range clients {
		same(t, fmt.Sprintf("view of client %d", i), dump(t, f), want)
	}
	if breaks < 4 { // three are there from the start
		t.Errorf("only %d breaks", breaks)
	}
	t.Logf("%d breaks", breaks)
}

// TestBreaksMutant: a client that does not ask which cut was applied last is found out.
func TestBreaksMutant(t *testing.T) {
	found := 0
	for n := 6; n < 30; n++ {
		if err := breakOnce(t, []breakAt{{n, false, false}}, nil, mutantResendBlind); err != nil {
			found++
			t.Logf("frame %d: %v", n, err)
			break
		}
	}
	if found == 0 {
		t.Error("a client that sends everything again passes for one that looks at what was applied")
	}
}
