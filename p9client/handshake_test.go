package p9client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hugelgupf/p9/fsimpl/localfs"
	"github.com/hugelgupf/p9/p9"

	"echo9/internal/wire"
)

// A server's ways to answer a version that it does not know, all seen in the
// field, and how the client comes to plain 9P2000.L, or to an error.
func TestVersionNegotiation(t *testing.T) {
	const ext, plain = wire.ExtVersion, wire.Version9P
	type answer func(p *peer, tag uint16, v *wire.Tversion)
	says := func(msize uint32, version string) answer {
		return func(p *peer, tag uint16, v *wire.Tversion) {
			p.send(tag, &wire.Rversion{Msize: msize, Version: version})
		}
	}
	lerror := func(p *peer, tag uint16, v *wire.Tversion) { p.send(tag, &wire.Rlerror{Errno: 5}) }
	hangUp := func(p *peer, tag uint16, v *wire.Tversion) { p.nc.Close() }
	for _, test := range []struct {
		name    string
		plain   bool     // the client does not want the extension
		answers []answer // one a Tversion; after a hang-up on a new connection
		asked   string
		version string // agreed, or
		fails   string
	}{
		{"granted", false, []answer{says(8192, ext)}, ext, ext, ""},
		{"not wanted", true, []answer{says(8192, plain)}, plain, plain, ""},
		{"answers with plain", false, []answer{says(8192, plain)}, ext, plain, ""},
		{"unknown, msize 0", false, []answer{says(0, "unknown"), says(8192, plain)}, ext + " " + plain, plain, ""},
		{"answers with another", false, []answer{says(8192, "9P2000"), says(8192, plain)}, ext + " " + plain, plain, ""},
		{"answers with Google's", false, []answer{says(8192, "9P2000.L.Google.7"), says(8192, plain)}, ext + " " + plain, plain, ""},
		{"Rlerror", false, []answer{lerror, says(8192, plain)}, ext + " " + plain, plain, ""},
		{"hangs up", false, []answer{hangUp, says(8192, plain)}, ext + " " + plain, plain, ""},
		{"Rlerror, then hangs up", false, []answer{lerror, hangUp, says(8192, plain)}, ext + " " + plain + " " + plain, plain, ""},
		{"unknown, then hangs up", false, []answer{says(0, "unknown"), hangUp, says(8192, plain)}, ext + " " + plain + " " + plain, plain, ""},
		{"speaks 9P2000 only", false, []answer{says(8192, "9P2000"), says(8192, "9P2000")}, ext + " " + plain, "", `speaks "9P2000", not 9P2000.L`},
		{"knows nothing", true, []answer{says(0, "unknown")}, plain, "", `speaks "unknown"`},
		{"refuses everything", false, []answer{lerror, lerror}, ext + " " + plain, "", "refuses the version"},
		{"hangs up always", false, []answer{hangUp, hangUp}, ext + " " + plain, "", "asking for version 9P2000.L"},
		{"msize too small", true, []answer{says(100, plain)}, plain, "", "msize 100 is too small"},
		{"msize larger than asked", true, []answer{says(1<<30, plain)}, plain, "", "msize 1073741824 where 8192 was asked for"},
		{"the extension unasked", true, []answer{says(8192, ext)}, plain, "", "not 9P2000.L"},
		{"another reply", true, []answer{func(p *peer, tag uint16, _ *wire.Tversion) { p.send(tag, &wire.Rclunk{}) }}, plain, "", "unexpected"},
		{"half a reply", true, []answer{func(p *peer, tag uint16, _ *wire.Tversion) {
			p.raw(wire.AppendFrame(nil, tag, &wire.Rversion{Version: plain})[:9])
			p.nc.Close()
		}}, plain, "", "unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answers := test.answers
				var asked []string
				opened := 0
				var closed atomic.Int32
				dial := func(context.Context) (net.Conn, error) {
					a, b := net.Pipe()
					opened++
					p := newPeer(t, b)
					go func() {
						for {
							h, body, err := p.rd.ReadFrame()
							if err != nil {
								closed.Add(1)
								return
							}
							v := &wire.Tversion{}
							if err := wire.Decode(h.Type, body, v); err != nil || h.Tag != wire.NoTag || v.Msize != 8192 {
								t.Errorf("asked %v with tag %d, %v", v, h.Tag, err)
							}
							asked = append(asked, v.Version)
							if len(answers) == 0 {
								t.Error("asked once too often")
								p.nc.Close()
								continue
							}
							next := answers[0]
							answers = answers[1:]
							next(p, h.Tag, v)
						}
					}()
					return a, nil
				}
				nc, _ := dial(nil)
				c, err := handshake(t.Context(), nc, Options{Extension: !test.plain, Msize: 8192}, dial)
				switch {
				case test.fails != "":
					if err == nil || !strings.Contains(err.Error(), test.fails) {
						t.Errorf("%v, not %q", err, test.fails)
					}
				case err != nil:
					t.Error(err)
				case c.Version() != test.version || c.Ext() != (test.version == ext) || c.Msize() != 8192:
					t.Errorf("agreed on %q, msize %d", c.Version(), c.Msize())
				}
				if c != nil {
					end(t, c)
				}
				synctest.Wait()
				if got := strings.Join(asked, " "); got != test.asked {
					t.Errorf("asked for %q, not %q", got, test.asked)
				}
				if len(answers) > 0 || opened != int(closed.Load()) {
					t.Errorf("%d answers were not wanted; %d of %d connections are closed", len(answers), closed.Load(), opened)
				}
			})
		})
	}
}

func TestHandshakeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		go newPeer(t, b).next() // says nothing
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := NewConn(ctx, a, Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if _, err := a.Write(nil); err == nil {
			t.Error("the connection was left open")
		}
	})
}

func TestMsizeOptions(t *testing.T) {
	a, _ := net.Pipe()
	if _, err := NewConn(t.Context(), a, Options{Msize: 100}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

// hugelgupf/p9's server answers a version that it does not know with "unknown"
// and msize 0, on the wire of a pipe.
func TestP9Server(t *testing.T) {
	a, b := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- p9.NewServer(localfs.Attacher(t.TempDir())).Handle(b, b) }()
	var lines []string
	c, err := NewConn(t.Context(), a, Options{Extension: true, Trace: func(s string) { lines = append(lines, s) }})
	must(t, err)
	if c.Ext() || c.Version() != wire.Version9P {
		t.Errorf("agreed on %q", c.Version())
	}
	if !slices.Contains(lines, `Rversion tag notag msize 0 version "unknown"`) {
		t.Errorf("it answered otherwise:\n%s", strings.Join(lines, "\n"))
	}
	tree, err := Attach(t.Context(), c, Options{})
	must(t, err)
	put(t, root(t, tree), "f", "x").Release()
	end(t, c)
	b.Close()
	<-served
}

func TestDialConnRedials(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	var conns atomic.Int32
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			first := conns.Add(1) == 1
			p := newPeer(t, nc)
			tag, m := p.next()
			if v, ok := m.(*wire.Tversion); ok && v.Version == wire.Version9P {
				p.send(tag, &wire.Rversion{Msize: v.Msize, Version: v.Version})
			}
			if first { // as a server that knows nothing better
				nc.Close()
			}
		}
	}()
	c, err := DialConn(t.Context(), l.Addr().String(), Options{Extension: true})
	must(t, err)
	defer end(t, c)
	if conns.Load() != 2 || c.Ext() {
		t.Errorf("%d connections, %q", conns.Load(), c.Version())
	}
}

func TestDialErrors(t *testing.T) {
	for addr, want := range map[string]string{
		"":                         "it is empty",
		"gopher!x":                 "unknown network",
		"unix!/nonexistent/socket": "there is no such socket",
		"tcp!127.0.0.1!1":          "nobody serves there",
	} {
		if _, err := DialConn(t.Context(), addr, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", addr, err)
		}
		if _, err := Dial(t.Context(), addr, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", addr, err)
		}
		if _, err := DialP9(t.Context(), addr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

// hugelgupf/p9's client, over our notation, against every server.
func TestDialP9(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		put(t, root(t, s.dial(t, Options{})), "f", "some text").Release()
		if s.name == "diod" {
			// It asks for 9P2000.L.Google.7 and takes no other error than EAGAIN for a hint.
			if _, err := DialP9(t.Context(), s.addr); err == nil {
				t.Error("diod speaks Google's dialect")
			}
			return
		}
		c, err := DialP9(t.Context(), s.addr)
		must(t, err)
		defer c.Close()
		r, err := c.Attach(s.aname)
		must(t, err)
		_, f, err := r.Walk([]string{"f"})
		must(t, err)
		_, _, err = f.Open(p9.ReadOnly)
		must(t, err)
		p := make([]byte, 100)
		if n, _ := f.ReadAt(p, 0); string(p[:n]) != "some text" {
			t.Errorf("read %q", p[:n])
		}
		must(t, f.Close())
		must(t, r.Close())
	})
}

// Connections that come and go in every way leave no goroutines.
func TestNoGoroutinesAreLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for i := range 50 {
		a, b := net.Pipe()
		p := newPeer(t, b)
		go p.version()
		c, err := NewConn(t.Context(), a, Options{})
		must(t, err)
		for range 10 {
			c.Go(&wire.Tclunk{}, &wire.Rclunk{}, func(error) {})
		}
		if i%2 == 0 {
			c.Close()
		} else {
			b.Close()
		}
		<-c.finished
		b.Close()
	}
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Fatal(fmt.Sprint(runtime.NumGoroutine()-before, " goroutines are left"))
		}
		runtime.Gosched()
	}
}
