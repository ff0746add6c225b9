package p9client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"echo9/internal/wire"
)

func TestRPCAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{Extension: true})
		defer end(t, c)
		if c.Version() != wire.ExtVersion || !c.Ext() || c.Msize() != DefaultMsize {
			t.Errorf("%s %v %d", c.Version(), c.Ext(), c.Msize())
		}
		go func() {
			tag, m := p.next()
			p.send(tag, &wire.Rlopen{QID: wire.QID{Path: uint64(m.(*wire.Tlopen).Fid)}, Iounit: 7})
			tag, _ = p.next()
			p.send(tag, &wire.Rlerror{Errno: uint32(syscall.ENOENT)})
		}()
		var r wire.Rlopen
		if err := c.RPC(t.Context(), &wire.Tlopen{Fid: 5}, &r); err != nil || r.QID.Path != 5 || r.Iounit != 7 {
			t.Errorf("%v, %v", &r, err)
		}
		err := c.RPC(t.Context(), &wire.Tlopen{Fid: 6}, &r)
		if !errors.Is(err, syscall.ENOENT) || !strings.HasPrefix(err.Error(), "Tlopen: ") {
			t.Errorf("an Rlerror gave %v", err)
		}
	})
}

func TestRreadFillsTheCallersBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{})
		defer end(t, c)
		want := bytes.Repeat([]byte("0123456789"), 20_000)
		go func() {
			for range 2 {
				tag, _ := p.next()
				p.send(tag, &wire.Rread{Data: want})
			}
		}()
		buf := make([]byte, len(want))
		r := wire.Rread{Data: buf}
		if err := c.RPC(t.Context(), &wire.Tread{Count: uint32(len(buf))}, &r); err != nil || !bytes.Equal(buf, want) || &r.Data[0] != &buf[0] {
			t.Errorf("in place: %d bytes, %v", len(r.Data), err)
		}
		r = wire.Rread{}
		if err := c.RPC(t.Context(), &wire.Tread{Count: uint32(len(buf))}, &r); err != nil || !bytes.Equal(r.Data, want) {
			t.Errorf("without a buffer: %d bytes, %v", len(r.Data), err)
		}
	})
}

// The done functions of Go run in the order of the replies, which is not that of the requests.
func TestGoKeepsTheOrderOfReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if replied, told := replyOrder(t, breaks{}); told != replied {
			t.Errorf("replies came as\n%v\nand were told as\n%v", replied, told)
		}
		if replied, told := replyOrder(t, breaks{anyOrder: true}); told == replied {
			t.Error("replies that are told in any order went unnoticed")
		}
	})
}

// replyOrder tells in which order the server answered, and in which the client was told.
func replyOrder(t *testing.T, b breaks) (replied, told string) {
	c, p := pair(t, Options{})
	c.breaks = b
	defer end(t, c)
	const n = 500
	order := rand.New(rand.NewPCG(1, 2)).Perm(n)
	go func() {
		tags := make([]uint16, n)
		for i := range n {
			tag, m := p.next()
			if f := m.(*wire.Tclunk).Fid; int(f) != i {
				t.Errorf("request %d came as number %d", f, i)
			}
			tags[i] = tag
		}
		var all []byte
		for _, i := range order {
			all = wire.AppendFrame(all, tags[i], &wire.Rclunk{})
		}
		p.raw(all)
	}()
	var mu sync.Mutex
	var got []int
	last := make(chan struct{})
	for i := range n {
		c.Go(&wire.Tclunk{Fid: uint32(i)}, &wire.Rclunk{}, func(err error) {
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if got = append(got, i); len(got) == n {
				close(last)
			}
		})
	}
	<-last
	return fmt.Sprint(order), fmt.Sprint(got)
}

// A done function may start the next request: a Trecall is posted again so.
func TestGoFromDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{})
		defer end(t, c)
		go func() {
			for {
				tag, m := p.next()
				if m == nil {
					return
				}
				p.send(tag, &wire.Rrecall{Any: 1})
			}
		}()
		left, last := 100, make(chan struct{})
		var post func(error)
		post = func(err error) {
			if err != nil {
				t.Error(err)
			}
			if left--; left == 0 {
				close(last)
				return
			}
			c.Go(&wire.Trecall{}, &wire.Rrecall{}, post)
		}
		c.Go(&wire.Trecall{}, &wire.Rrecall{}, post)
		<-last
	})
}

// flush(5), case by case. The server's script gets the tag of the request and of
// its Tflush.
func TestCancel(t *testing.T) {
	gone := errors.New("gone away")
	for _, test := range []struct {
		name   string
		script func(p *peer, tag, flush uint16)
		err    error
	}{
		{"flushed", func(p *peer, tag, flush uint16) { p.send(flush, &wire.Rflush{}) }, gone},
		{"the reply came first", func(p *peer, tag, flush uint16) {
			p.send(tag, &wire.Rclunk{})
			p.send(flush, &wire.Rflush{})
		}, nil},
		{"an error came first", func(p *peer, tag, flush uint16) {
			p.send(tag, &wire.Rlerror{Errno: uint32(syscall.ENOSPC)})
			p.send(flush, &wire.Rflush{})
		}, syscall.ENOSPC},
		{"interrupted, says the server", func(p *peer, tag, flush uint16) {
			p.send(tag, &wire.Rlerror{Errno: uint32(syscall.EINTR)})
			p.send(flush, &wire.Rflush{})
		}, gone},
		{"a server that refuses Tflush", func(p *peer, tag, flush uint16) {
			p.send(flush, &wire.Rlerror{Errno: uint32(syscall.EOPNOTSUPP)})
		}, gone},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pair(t, Options{})
				defer end(t, c)
				go func() {
					tag, _ := p.next()
					flush, m := p.next()
					if f, ok := m.(*wire.Tflush); !ok || f.OldTag != tag {
						t.Errorf("%v came, of tag %d", m, tag)
					}
					time.Sleep(time.Second) // of the bubble's clock: RPC waits for the server
					test.script(p, tag, flush)
					tag, _ = p.next()
					p.send(tag, &wire.Rclunk{})
				}()
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(gone) })
				start := time.Now()
				err := c.RPC(ctx, &wire.Tclunk{}, &wire.Rclunk{})
				if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
					t.Errorf("RPC gave %v, not %v", err, test.err)
				}
				if d := time.Since(start); d != 2*time.Second {
					t.Errorf("RPC returned after %v", d)
				}
				if err := c.RPC(t.Context(), &wire.Tclunk{}, &wire.Rclunk{}); err != nil {
					t.Errorf("the next request: %v", err)
				}
			})
		})
	}
}

// The tag of a flushed request is not used again before Rflush, though its reply came.
func TestTagStaysTakenUntilRflush(t *testing.T) {
	if tagUsedBeforeRflush(t, breaks{}) {
		t.Error("a tag that is being flushed is used again")
	}
	if !tagUsedBeforeRflush(t, breaks{tagBeforeRflush: true}) {
		t.Error("a tag that was used too early went unnoticed")
	}
}

func tagUsedBeforeRflush(t *testing.T, b breaks) (used bool) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{})
		c.breaks = b
		defer end(t, c)
		first := make(chan error, 1)
		call := c.Go(&wire.Tclunk{Fid: 1}, &wire.Rclunk{}, func(err error) { first <- err })
		tag, _ := p.next()
		go call.Flush()
		flush, _ := p.next()
		p.send(tag, &wire.Rclunk{})
		if err := <-first; err != nil {
			t.Errorf("the reply that came first: %v", err)
		}
		for range 20 {
			c.Go(&wire.Tclunk{Fid: 2}, &wire.Rclunk{}, func(error) {})
			if now, _ := p.next(); now == tag {
				used = true
				return
			}
		}
		p.send(flush, &wire.Rflush{})
		synctest.Wait()
		c.Go(&wire.Tclunk{Fid: 3}, &wire.Rclunk{}, func(error) {})
		if now, _ := p.next(); now != tag && now != flush {
			t.Errorf("tag %d is new, though %d and %d are free", now, tag, flush)
		}
	})
	return used
}

// A peer that breaks the protocol: the error names what it did, all that is pending fails.
func TestBrokenPeers(t *testing.T) {
	for _, test := range []struct {
		name, says string
		frame      []byte
	}{
		{"a tag that no request has", "Rclunk with tag 77", wire.AppendFrame(nil, 77, &wire.Rclunk{})},
		{"NoTag", "tag 65535", wire.AppendFrame(nil, wire.NoTag, &wire.Rclunk{})},
		{"another message's reply", "Rwrite to Tread", wire.AppendFrame(nil, 0, &wire.Rwrite{})},
		{"a request", "Tread to Tread", wire.AppendFrame(nil, 0, &wire.Tread{})},
		{"a type that there is not", "type250 to Tread", []byte{7, 0, 0, 0, 250, 0, 0}},
		{"larger than the msize", "larger than the msize 8192", []byte{0, 0, 1, 0, wire.TypeRread, 0, 0}},
		{"smaller than a header", "smaller than its header", []byte{6, 0, 0, 0, wire.TypeRread, 0, 0}},
		{"more than was asked for", "Rread of 20 bytes where 10 were asked for", wire.AppendFrame(nil, 0, &wire.Rread{Data: make([]byte, 20)})},
		{"a count that lies", "Rread with a count of 5 and 2 bytes", []byte{13, 0, 0, 0, wire.TypeRread, 0, 0, 5, 0, 0, 0, 1, 2}},
		{"a truncated error", "bad Rlerror: truncated", []byte{9, 0, 0, 0, wire.TypeRlerror, 0, 0, 1, 2}},
		{"an end within a frame", "unexpected EOF", []byte{20, 0, 0, 0, wire.TypeRread, 0, 0, 5}},
		{"an end", "the server closed the connection", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pair(t, Options{Msize: 8192})
				var told []string
				c.Go(&wire.Tread{Count: 10}, &wire.Rread{Data: make([]byte, 10)}, func(err error) {
					told = append(told, fmt.Sprintf("read %v", errors.Is(err, syscall.EIO)))
				})
				p.next()
				c.Go(&wire.Tclunk{}, &wire.Rclunk{}, func(err error) { told = append(told, "clunk") })
				p.next()
				p.raw(test.frame)
				p.nc.Close()
				<-c.Done()
				<-c.finished
				if err := c.Err(); !strings.Contains(err.Error(), test.says) {
					t.Errorf("the connection ended with %q, not %q", err, test.says)
				}
				if s := fmt.Sprint(told); s != "[read true clunk]" {
					t.Errorf("told %v", s)
				}
				if err := c.RPC(t.Context(), &wire.Tclunk{}, &wire.Rclunk{}); !errors.Is(err, c.Err()) {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

func TestSecondReplyBreaksTheProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{})
		call := c.Go(&wire.Tclunk{}, &wire.Rclunk{}, func(error) {})
		tag, _ := p.next()
		go call.Flush()
		p.next()
		p.send(tag, &wire.Rclunk{})
		p.send(tag, &wire.Rclunk{})
		<-c.finished
		if !strings.Contains(c.Err().Error(), "which no request has") {
			t.Error(c.Err())
		}
	})
}

func TestCloseFailsWhatIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{})
		go func() {
			for range 50 {
				p.next()
			}
			c.Close()
		}()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if err := c.RPC(t.Context(), &wire.Tclunk{}, &wire.Rclunk{}); !errors.Is(err, ErrClosed) || !errors.Is(err, syscall.EIO) {
					t.Errorf("RPC gave %v", err)
				}
			})
		}
		wg.Wait()
		<-c.finished
	})
}

// Requests that are pending when the connection ends all end; a Conn that forgets them is found out.
func TestNothingIsLeftHanging(t *testing.T) {
	for _, broken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, p := pair(t, Options{})
			c.breaks.forgetPending = broken
			told := 0
			for range 10 {
				c.Go(&wire.Trecall{}, &wire.Rrecall{}, func(error) { told++ })
				p.next()
			}
			p.nc.Close()
			<-c.finished
			if (told == 10) == broken {
				t.Errorf("broken %v: %d of 10 requests have ended", broken, told)
			}
		})
	}
}

// A peer that reads nothing: Close, and the flush of what was never written, still work.
func TestPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pair(t, Options{})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				w := &wire.Twrite{Data: make([]byte, 100_000)}
				if err := c.RPC(ctx, w, &wire.Rwrite{}); !errors.Is(err, ErrClosed) {
					t.Errorf("RPC gave %v", err)
				}
				clear(w.Data) // with -race: nobody reads it any more
			})
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		c.Close()
		wg.Wait()
	})
}

func TestTooLargeRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{Msize: 4096})
		defer end(t, c)
		for _, n := range []int{4096, 20_000} {
			err := c.RPC(t.Context(), &wire.Twrite{Data: make([]byte, n)}, &wire.Rwrite{})
			if !errors.Is(err, syscall.EMSGSIZE) || !strings.Contains(err.Error(), "4096") {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
		go func() {
			tag, m := p.next()
			p.send(tag, &wire.Rwrite{Count: uint32(len(m.(*wire.Twrite).Data))})
		}()
		var r wire.Rwrite
		n := wire.MaxWrite(4096)
		if err := c.RPC(t.Context(), &wire.Twrite{Data: make([]byte, n)}, &r); err != nil || r.Count != n {
			t.Errorf("what just fits: %d, %v", r.Count, err)
		}
	})
}

// More requests than tags: the rest wait, in order, and are served or cancelled.
func TestOutOfTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{})
		defer end(t, c)
		const extra = 10
		go func() {
			var held []uint16
			for range maxCalls {
				tag, _ := p.next()
				held = append(held, tag)
			}
			for i := range extra {
				p.send(held[i], &wire.Rclunk{})
				tag, m := p.next()
				if f := m.(*wire.Tclunk).Fid; int(f) != maxCalls+i {
					t.Errorf("%d came instead of %d", f, maxCalls+i)
				}
				held = append(held, tag)
			}
			var all []byte
			for _, tag := range held[extra:] {
				all = wire.AppendFrame(all, tag, &wire.Rclunk{})
			}
			p.raw(all)
		}()
		var wg sync.WaitGroup
		for i := range maxCalls + extra {
			wg.Add(1)
			c.Go(&wire.Tclunk{Fid: uint32(i)}, &wire.Rclunk{}, func(err error) {
				if err != nil {
					t.Error(err)
				}
				wg.Done()
			})
		}
		flushed := make(chan error, 1)
		// This one may wait for a tag or have one: either way it ends.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		go func() { flushed <- c.RPC(ctx, &wire.Tclunk{}, &wire.Rclunk{}) }()
		if err := <-flushed; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		wg.Wait()
	})
}

func TestFlushOfARequestWithoutTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pair(t, Options{})
		for range maxCalls {
			c.Go(&wire.Tclunk{}, &wire.Rclunk{}, func(error) {})
		}
		done := make(chan error, 1)
		call := c.Go(&wire.Tclunk{}, &wire.Rclunk{}, func(err error) { done <- err })
		call.Flush()
		if err := <-done; !errors.Is(err, syscall.EINTR) {
			t.Error(err)
		}
		end(t, c)
	})
}

func TestTraceIsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		c, p := pair(t, Options{Trace: func(s string) { lines = append(lines, s) }})
		go func() {
			tag, _ := p.next()
			p.send(tag, &wire.Rlerror{Errno: 2})
		}()
		_ = c.RPC(t.Context(), &wire.Tlopen{Fid: 2}, &wire.Rlopen{})
		end(t, c)
		want := []string{
			`Tversion tag notag msize 1048576 version "9P2000.L"`,
			`Rversion tag notag msize 1048576 version "9P2000.L"`,
			`Tlopen tag 0 fid 2 flags 0x0`,
			`Rlerror tag 0 errno 2`,
		}
		if fmt.Sprint(lines) != fmt.Sprint(want) {
			t.Errorf("traced\n%s\nnot\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
	})
}
