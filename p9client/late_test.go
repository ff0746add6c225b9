package p9client

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"echo9/internal/wire"
)

// lateWalk plays testdata/diod-late.txt: a walk is cancelled, declared flushed, and its
// reply comes when the next request is under way. It gives the next request's error and what
// was sent to give the fid up.
func lateWalk(t *testing.T, b breaks) (err error, clunked bool) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{})
		c.breaks = b
		defer end(t, c)
		fid := c.NewFid()
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			first <- c.RPC(ctx, &wire.Twalk{Fid: 9, NewFid: fid, Names: []string{"f"}}, &wire.Rwalk{})
		}()
		walk, _ := p.next()
		cancel()
		flush, _ := p.next()
		p.send(flush, &wire.Rflush{})
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled walk: %v", err)
		}
		c.FreeFid(fid) // its caller's clunk was answered: no such fid
		if again := c.NewFid(); again == fid && !b.forgetFlushed {
			t.Error("the fid of a walk that may yet succeed is used again")
		}

		second := make(chan error, 1)
		go func() {
			var r wire.Rwalk
			err := c.RPC(t.Context(), &wire.Twalk{Fid: 9, NewFid: 100, Names: []string{"g"}}, &r)
			if err == nil && r.QIDs[0].Path != 2 {
				err = errors.New("the late reply was taken for that of another walk")
			}
			second <- err
		}()
		next, _ := p.next()
		p.send(walk, &wire.Rwalk{QIDs: []wire.QID{{Path: 1}}})
		if next != walk {
			tag, m := p.next()
			if m, ok := m.(*wire.Tclunk); ok && m.Fid == fid {
				clunked = true
			}
			p.send(tag, &wire.Rclunk{})
			p.send(next, &wire.Rwalk{QIDs: []wire.QID{{Path: 2}}})
		}
		err = <-second
		synctest.Wait()
		if again := c.NewFid(); clunked && again != fid {
			t.Errorf("fid %d is new, though %d was given up", again, fid)
		}
	})
	return err, clunked
}

func TestReplyAfterRflush(t *testing.T) {
	if err, clunked := lateWalk(t, breaks{}); err != nil || !clunked {
		t.Errorf("the next request: %v; the late walk's fid was given up: %v", err, clunked)
	}
	if err, _ := lateWalk(t, breaks{forgetFlushed: true}); err == nil {
		t.Error("a late reply that another request took went unnoticed")
	}
}

// Only one reply of a request that was flushed is excused, and not by everybody.
func TestLateRepliesThatAreNoExcuse(t *testing.T) {
	for _, test := range []struct {
		name, says string
		ext        bool
		replies    []wire.Message
	}{
		{"two of them", "Rclunk with tag 0, which no request has", false, []wire.Message{&wire.Rclunk{}, &wire.Rclunk{}}},
		{"after an error", "Rclunk with tag 0, which no request has", false, []wire.Message{&wire.Rlerror{Errno: 5}, &wire.Rclunk{}}},
		{"another message's", "Rwrite to a flushed Tclunk", false, []wire.Message{&wire.Rwrite{}}},
		{"from who speaks the extension", "Rclunk with tag 0, which no request has", true, []wire.Message{&wire.Rclunk{}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := pair(t, Options{})
				c.ext = test.ext
				told := make(chan error, 1)
				call := c.Go(&wire.Tclunk{}, &wire.Rclunk{}, func(err error) { told <- err })
				tag, _ := p.next()
				call.Flush()
				flush, _ := p.next()
				p.send(flush, &wire.Rflush{})
				if err := <-told; !errors.Is(err, syscall.EINTR) {
					t.Errorf("flushed: %v", err)
				}
				for _, m := range test.replies {
					p.send(tag, m)
				}
				<-c.finished
				if !strings.Contains(c.Err().Error(), test.says) {
					t.Errorf("the connection ended with %q, not %q", c.Err(), test.says)
				}
			})
		})
	}
}

// However many are cancelled, tags and fids are kept of maxLate requests only.
func TestKeptTagsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := pair(t, Options{})
		defer end(t, c)
		var flushed atomic.Int64
		go func() {
			for {
				tag, m := p.next()
				switch m.(type) {
				case nil:
					return
				case *wire.Tflush:
					p.send(tag, &wire.Rflush{})
				}
			}
		}()
		for range 3 * maxLate {
			fid := c.NewFid()
			c.Go(&wire.Twalk{Fid: 1 << 20, NewFid: fid}, &wire.Rwalk{}, func(error) {
				c.FreeFid(fid)
				flushed.Add(1)
			}).Flush()
			synctest.Wait()
		}
		if n := flushed.Load(); n != 3*maxLate {
			t.Errorf("%d of %d were flushed", n, 3*maxLate)
		}
		c.mu.Lock()
		tags := len(c.tags.calls)
		c.mu.Unlock()
		if fids := int(c.fids.next); tags > maxLate+3 || fids > maxLate+3 {
			t.Errorf("%d tags and %d fids were used for %d requests, one at a time", tags, fids, 3*maxLate)
		}
	})
}
