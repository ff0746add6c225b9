package p9srv

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
)

// gateHook stops operations of one kind until they are let go or cancelled.
type gateHook struct {
	what    string
	started chan uint64
	goOn    chan struct{}
	deaf    bool // goes on only when it is let go
}

func newGateHook(fs *memFS, what string) *gateHook {
	g := &gateHook{what: what, started: make(chan uint64, 1000), goOn: make(chan struct{})}
	fs.setHook(func(ctx context.Context, what string, id uint64) error {
		if what != g.what {
			return nil
		}
		g.started <- id
		if g.deaf {
			<-g.goOn
			return nil
		}
		select {
		case <-g.goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return g
}

// A case of flush(5) each. In all, the reply of the flushed request never follows its Rflush.

func TestFlushUnknownTag(t *testing.T) {
	s, _ := newTestServer(t, Config{})
	c := dialRaw(t, s)
	c.sendTag(9, &wire.Tflush{OldTag: 77})
	c.recv(9, &wire.Rflush{})
	c.sendTag(9, &wire.Tflush{OldTag: 9}) // itself
	c.recv(9, &wire.Rflush{})
}

func TestFlushAnswered(t *testing.T) {
	// Who leads the connection keeps it, however long he is not let run: the flush is read when the request is answered.
	s, _ := newTestServer(t, Config{HandOff: time.Hour})
	c := dialRaw(t, s)
	c.sendTag(8, &wire.Tgetattr{Fid: 0})
	c.sendTag(9, &wire.Tflush{OldTag: 8})
	c.recv(8, &wire.Rgetattr{})
	c.recv(9, &wire.Rflush{})
}

// A request that runs is cancelled; then it has no reply.
func TestFlushRunning(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	c := dialRaw(t, s)
	g := newGateHook(fs, "getattr")
	c.sendTag(8, &wire.Tgetattr{Fid: 0})
	<-g.started
	c.sendTag(9, &wire.Tflush{OldTag: 8})
	c.recv(9, &wire.Rflush{})
	c.sendTag(8, &wire.Tstatfs{Fid: 0}) // the tag is free
	c.recv(8, &wire.Rstatfs{})
}

// One that cannot be cancelled is answered, and then comes the Rflush.
func TestFlushRunningToItsEnd(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	c := dialRaw(t, s)
	g := newGateHook(fs, "mkdir")
	g.deaf = true
	c.sendTag(8, &wire.Tmkdir{Dfid: 0, Name: "d", Mode: 0o755})
	<-g.started
	c.sendTag(9, &wire.Tflush{OldTag: 8})
	c.sendTag(10, &wire.Tflush{OldTag: 9}) // a flush of the flush
	c.sendTag(11, &wire.Tflush{OldTag: 8}) // and of the same request again
	c.sendTag(12, &wire.Tstatfs{Fid: 0})
	c.recv(12, &wire.Rstatfs{}) // others go on meanwhile
	close(g.goOn)
	c.recv(8, &wire.Rmkdir{})
	got := map[uint16]int{}
	for i := range 3 {
		tag, m := c.next()
		if _, ok := m.(*wire.Rflush); !ok {
			t.Fatalf("tag %d: %v", tag, m)
		}
		got[tag] = i
	}
	if len(got) != 3 || got[10] < got[9] {
		t.Errorf("order of the Rflushes: %v", got)
	}
}

// A request that has not begun is dropped.
func TestFlushNotStarted(t *testing.T) {
	s, fs := newTestServer(t, Config{Workers: 1})
	c := dialRaw(t, s)
	c.walk(0, 1)
	c.ok(&wire.Tlopen{Fid: 1, Flags: wire.ODirectory}, &wire.Rlopen{})
	g := newGateHook(fs, "fsync")
	g.deaf = true
	c.sendTag(8, &wire.Tfsync{Fid: 1}) // the only worker
	<-g.started
	c.sendTag(9, &wire.Tfsync{Fid: 1}) // waits for it
	c.sendTag(10, &wire.Tflush{OldTag: 9})
	c.recv(10, &wire.Rflush{})
	close(g.goOn)
	c.recv(8, &wire.Rfsync{})
	c.ok(&wire.Tstatfs{Fid: 0}, &wire.Rstatfs{})
	if len(g.started) != 0 {
		t.Error("the flushed request was done all the same")
	}
}

// A flushed walk makes no fid; a flushed clunk has clunked.
func TestFlushLeavesNothing(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	fs.put("a/b", "")
	c := dialRaw(t, s)
	g := newGateHook(fs, "walk")
	c.sendTag(8, &wire.Twalk{Fid: 0, NewFid: 5, Names: []string{"a", "b"}})
	<-g.started
	g.goOn <- struct{}{} // the first step
	<-g.started
	c.sendTag(9, &wire.Tflush{OldTag: 8})
	c.recv(9, &wire.Rflush{})
	fs.setHook(nil)
	c.walk(0, 5, "a")
	if refs, _ := fs.out(); refs != 2 { // of fid 0, from where fid 5 was walked, and of fid 5
		t.Errorf("%d objects are out", refs)
	}
}

// Under load the order holds as well: of every pair, the reply comes before the Rflush or not at all.
func TestFlushUnderLoad(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	fs.put("f", "x")
	c := dialRaw(t, s)
	c.walk(0, 1, "f")
	c.ok(&wire.Tlopen{Fid: 1}, &wire.Rlopen{})
	const rounds, lanes = 60, 100
	for range rounds {
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			var b []byte
			for i := range uint16(lanes) {
				m := []wire.Message{&wire.Tgetattr{Fid: 1}, &wire.Tread{Fid: 1, Count: 10}, &wire.Tfsync{Fid: 1}}[i%3]
				b = wire.AppendFrame(b, i, m)
				b = wire.AppendFrame(b, 1000+i, &wire.Tflush{OldTag: i})
			}
			if _, err := c.nc.Write(b); err != nil {
				t.Error(err)
			}
		}()
		flushed := map[uint16]bool{}
		for len(flushed) < lanes {
			tag, m := c.next()
			if _, ok := m.(*wire.Rflush); ok {
				flushed[tag-1000] = true
			} else if flushed[tag] {
				t.Fatalf("%v of tag %d follows its Rflush", m, tag)
			}
		}
		wg.Wait()
	}
}

// A tag in use again is an error of the client's that cannot be answered: the server hangs up.
func TestTagInUse(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	c := dialRaw(t, s)
	g := newGateHook(fs, "getattr")
	c.sendTag(8, &wire.Tgetattr{Fid: 0})
	<-g.started
	c.sendTag(8, &wire.Tstatfs{Fid: 0})
	c.hungUp()
}

// Tversion in the middle of requests: none of them is answered any more.
func TestVersionAborts(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	c := dialRaw(t, s)
	g := newGateHook(fs, "getattr")
	for i := range uint16(10) {
		c.sendTag(i, &wire.Tgetattr{Fid: 0})
		<-g.started
	}
	c.sendTag(20, &wire.Tflush{OldTag: 3})
	c.sendTag(wire.NoTag, &wire.Tversion{Msize: 8192, Version: wire.Version9P})
	for {
		tag, m := c.next()
		if _, ok := m.(*wire.Rversion); ok {
			break
		}
		if _, ok := m.(*wire.Rflush); !ok || tag != 20 {
			t.Fatalf("tag %d: %v", tag, m)
		}
	}
	fs.setHook(nil)
	c.attach(0)
	c.ok(&wire.Tgetattr{Fid: 0}, &wire.Rgetattr{})
}

// What was pipelined behind a request is done with the fids as they were: a Tclunk does not take away what a write before it uses.
func TestClunkBehindAWrite(t *testing.T) {
	s, fs := newTestServer(t, Config{})
	id := fs.put("f", "")
	c := dialRaw(t, s)
	c.walk(0, 1, "f")
	c.ok(&wire.Tlopen{Fid: 1, Flags: wire.ORdwr}, &wire.Rlopen{})
	g := newGateHook(fs, "write")
	c.sendTag(8, &wire.Twrite{Fid: 1, Data: []byte("late")})
	<-g.started
	c.sendTag(9, &wire.Tclunk{Fid: 1})
	c.recv(9, &wire.Rclunk{})
	c.fails(&wire.Tgetattr{Fid: 1}, syscall.EBADF)
	close(g.goOn)
	c.recv(8, &wire.Rwrite{})
	fs.mu.Lock()
	data := string(fs.nodes[id].data)
	fs.mu.Unlock()
	if data != "late" {
		t.Errorf("the file has %q", data)
	}
	eventually(t, "the file is closed", func() bool { _, files := fs.out(); return files == 0 })
}
