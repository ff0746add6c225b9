package badinput

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"echo9/cachefs"
	"echo9/internal/wire"
	"echo9/p9client"
)

// recorder notes what a client sends.
type recorder struct {
	net.Conn
	mu  sync.Mutex
	out []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.out = append(r.out, b...)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// frames cuts what was sent into frames.
func (r *recorder) frames() (list [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := r.out; len(b) >= wire.HeaderSize; {
		n := binary.LittleEndian.Uint32(b)
		list = append(list, b[:n])
		b = b[n:]
	}
	return list
}

// record is what a caching client sends that does a bit of everything.
func record(t *testing.T, v victim) [][]byte {
	t.Helper()
	nc, err := net.Dial("unix", strings.TrimPrefix(v.addr, "unix!"))
	must(t, err)
	rec := &recorder{Conn: nc}
	ctx := context.Background()
	conn, err := p9client.NewConn(ctx, rec, p9client.Options{Extension: true})
	must(t, err)
	f, err := cachefs.OpenConn(ctx, conn, cachefs.Options{WriteBehind: time.Hour})
	must(t, err)
	must(t, f.MkdirAll(ctx, "made/below", 0o755))
	must(t, f.WriteFile(ctx, "made/a", []byte(strings.Repeat("content ", 2000)), 0o644))
	must(t, f.Rename(ctx, "made/a", "made/below/b"))
	must(t, f.Symlink(ctx, "b", "made/below/link"))
	must(t, f.Sync(ctx))
	_, err = f.ReadFile(ctx, "big")
	must(t, err)
	_, err = f.ReadDir(ctx, "dirs")
	must(t, err)
	must(t, f.WriteFile(ctx, "sub/file", []byte("other text"), 0o600))
	must(t, f.Rename(ctx, "made/below", "dirs/moved"))
	p := plain(t, v.addr) // recalls it
	p.walk(0, 1, "sub", "file")
	p.ok(&wire.Tlopen{Fid: 1})
	p.ok(&wire.Tread{Fid: 1, Count: 100})
	must(t, f.Remove(ctx, "sub/file"))
	must(t, f.Close(ctx))
	return rec.frames()
}

// mutatedSession: the frames of a true caching session, with some of them changed, left out, doubled or swapped.
func mutatedSession(t *testing.T, v victim) {
	frames := record(t, v)
	types := map[string]int{}
	for _, f := range frames {
		types[wire.TypeName(f[4])]++
	}
	for _, need := range []string{"Tsession", "Tgrant", "Tcommit", "Trecall", "Treturn", "Treaddirplus"} {
		if types[need] == 0 {
			t.Fatalf("the session has no %s: %v", need, types)
		}
	}
	const runs = 400
	for seed := range int64(runs) {
		replay(t, v, frames, rand.New(rand.NewSource(seed)), seed)
	}
	c := plain(t, v.addr)
	c.ok(&wire.Tgetattr{Fid: 0, Mask: wire.GetBasic})
	t.Logf("%d sessions of %d frames: %v", runs, len(frames), types)
}

// replay sends the frames, changed, as far as the server takes them, and waits until it has done with them.
func replay(t *testing.T, v victim, frames [][]byte, rng *rand.Rand, seed int64) {
	t.Helper()
	c := connect(t, v.addr)
	defer c.nc.Close()
	var out []byte
	for i, f := range frames {
		f = append([]byte{}, f...)
		switch {
		case f[4] == wire.TypeTsession: // a client of its own
			var m wire.Tsession
			must(t, wire.Decode(f[4], f[wire.HeaderSize:], &m))
			copy(m.Client[:], fmt.Sprintf("%016d", seed%200)) // some of them begin anew
			f = wire.AppendFrame(nil, binary.LittleEndian.Uint16(f[5:]), &m)
			if rng.Intn(4) > 0 {
				break
			}
			fallthrough
		case i > 0 && rng.Intn(8) == 0:
			switch rng.Intn(8) {
			case 0:
				continue // is left out
			case 1:
				out = append(out, f...)
			case 2:
				f = frames[rng.Intn(len(frames))]
			case 3: // another length, and as many bytes
				f = f[:wire.HeaderSize+rng.Intn(len(f)-wire.HeaderSize+1)]
				binary.LittleEndian.PutUint32(f, uint32(len(f)))
			case 4:
				f[4] = byte(rng.Intn(256))
			case 5: // a length that is a lie
				if rng.Intn(4) == 0 {
					f[rng.Intn(4)] ^= byte(1 << rng.Intn(8))
				}
			default:
				for range 1 + rng.Intn(3) {
					if n := len(f) - wire.HeaderSize; n > 0 {
						f[wire.HeaderSize+rng.Intn(min(n, 200))] ^= byte(1 << rng.Intn(8))
					}
				}
			}
		}
		out = append(out, f...)
	}
	done := make(chan struct{})
	go func() { defer close(done); c.drain() }()
	_ = c.bytes(out) // it may be hung up on
	_ = c.nc.(*net.UnixConn).CloseWrite()
	<-done
}
