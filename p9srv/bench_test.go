package p9srv

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"echo9/internal/wire"
)

// The benchmarks send depth requests in one write and take the replies, over a unix socket.

func benchmark(b *testing.B, depth int, bytes int64, frame func(c *rawClient) []byte) {
	s, fs := newTestServer(b, Config{Logf: func(string, ...any) {}})
	fs.put("d/f", strings.Repeat("x", 1<<16))
	c := dialServer(b, s)
	c.version(1<<17, wire.Version9P)
	c.attach(0)
	one := frame(c)
	var batch []byte
	for range depth {
		batch = append(batch, one...)
	}
	frames := 0
	for p := 0; p < len(batch); p += int(binary.LittleEndian.Uint32(batch[p:])) {
		batch[p+5] = byte(frames) // a tag for each
		frames++
	}
	if bytes > 0 {
		b.SetBytes(bytes)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += depth {
		if _, err := c.nc.Write(batch); err != nil {
			b.Fatal(err)
		}
		takeFrames(b, c.nc, frames)
	}
}

var scratch [1 << 20]byte

// takeFrames reads so many frames, and nothing else, from nc.
func takeFrames(b *testing.B, nc net.Conn, frames int) {
	have, skip := 0, 0
	for frames > 0 {
		n, err := nc.Read(scratch[have:])
		if err == io.EOF || err != nil {
			b.Fatal(err)
		}
		have += n
		p := min(skip, have)
		skip -= p
		for have-p >= 4 {
			size := int(binary.LittleEndian.Uint32(scratch[p:]))
			frames--
			if size > have-p {
				skip = size - (have - p)
				p = have
				break
			}
			p += size
		}
		have = copy(scratch[:], scratch[p:have])
	}
	if skip > 0 {
		io.ReadFull(nc, scratch[:skip])
	}
}

func getattrFrame(c *rawClient) []byte {
	c.walk(0, 1, "d", "f")
	return wire.AppendFrame(nil, 0, &wire.Tgetattr{Fid: 1, Mask: wire.GetBasic})
}

func BenchmarkGetattr1(b *testing.B)  { benchmark(b, 1, 0, getattrFrame) }
func BenchmarkGetattr32(b *testing.B) { benchmark(b, 32, 0, getattrFrame) }

func walkFrame(*rawClient) []byte {
	f := wire.AppendFrame(nil, 0, &wire.Twalk{Fid: 0, NewFid: 1, Names: []string{"d", "f"}})
	return wire.AppendFrame(f, 0, &wire.Tclunk{Fid: 1})
}

func BenchmarkWalkClunk1(b *testing.B)  { benchmark(b, 1, 0, walkFrame) }
func BenchmarkWalkClunk32(b *testing.B) { benchmark(b, 32, 0, walkFrame) }

func readFrame(c *rawClient) []byte {
	c.walk(0, 1, "d", "f")
	c.ok(&wire.Tlopen{Fid: 1}, &wire.Rlopen{})
	return wire.AppendFrame(nil, 0, &wire.Tread{Fid: 1, Count: 1 << 16})
}

func BenchmarkRead64K1(b *testing.B) { benchmark(b, 1, 1<<16, readFrame) }
func BenchmarkRead64K8(b *testing.B) { benchmark(b, 8, 1<<16, readFrame) }

// The same with a session about, so that every operation asks the token manager.
func BenchmarkGetattrAdmitted32(b *testing.B) {
	s, a, fs := newAuthorityServer(b, AuthorityConfig{Logf: func(string, ...any) {}})
	fs.put("f", "")
	dialExt(b, s, "idle")
	c := dialRaw(b, s)
	c.walk(0, 1, "f")
	var batch []byte
	for i := range uint16(32) {
		batch = wire.AppendFrame(batch, i, &wire.Tgetattr{Fid: 1})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += 32 {
		if _, err := c.nc.Write(batch); err != nil {
			b.Fatal(err)
		}
		takeFrames(b, c.nc, 32)
	}
	if a.Status().PlainAsked == 0 {
		b.Error("the manager was not asked")
	}
}
