package cachefs

import (
	"bytes"
	"sync/atomic"
	"syscall"
	"testing"

	"echo9/internal/cut"
	"echo9/internal/wire"
)

// staged waits until a cache has sent a cut ahead.
func staged(f *FS) bool {
	return soon(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.ahead != nil
	})
}

// TestStream: while the server applies a cut of a stream the next one is on its way; when it is
// refused instead, that one is taken back, its number is used again, and what does not depend on it arrives.
func TestStream(t *testing.T) {
	const piece, pieces, bad = 640 << 10, 40, 16 // two pieces are too much for one operation
	for _, refuse := range []bool{false, true} {
		w, r := refusing(t)
		f := w.cache(quiet, func(o *Options) { o.CutBytes, o.Dirty = piece, 8<<20 })
		r.refuse.Store(nil)
		var ahead, refused atomic.Int64
		fn := func(rec *cut.Record) error {
			if rec.Kind != cut.Data || rec.Off < piece*8 || rec.Off > piece*bad {
				return nil // the beginning, and what follows when the writer may be at its end
			}
			if staged(f) {
				ahead.Add(1)
			}
			if refuse && rec.Off+uint64(len(rec.Bytes)) > piece*bad {
				refused.Add(1)
				return syscall.ENOSPC
			}
			return nil
		}
		r.refuse.Store(&fn)
		h, err := f.OpenFile(bg, "stream", wire.OCreat|wire.ORdwr, 0o644)
		ok(t, err)
		want := make([]byte, piece*pieces)
		for i := range want {
			want[i] = byte(i>>19) + byte(i)
		}
		for i := range pieces {
			if _, err = h.WriteAt(bg, want[i*piece:][:piece], int64(i*piece)); err != nil {
				break
			}
			if i == bad-2 {
				ok(t, f.WriteFile(bg, "other", []byte("goes its own way"), 0o644))
			}
		}
		if !refuse {
			ok(t, err)
			ok(t, h.Close(bg))
			ok(t, f.Sync(bg))
		} else {
			fails(t, f.Sync(bg), syscall.EIO)
			fails(t, h.Close(bg), syscall.EIO)
			r.refuse.Store(nil)
			if refused.Load() != 1 {
				t.Errorf("refused %d times", refused.Load())
			}
			want = want[:piece*bad]
		}
		if ahead.Load() == 0 {
			t.Error("nothing was ever sent ahead")
		}
		// The session goes on, and the server has a prefix of whole cuts.
		ok(t, f.WriteFile(bg, "after", []byte("after"), 0o644))
		ok(t, f.Sync(bg))
		got, err := w.direct().ReadFile(bg, "stream")
		ok(t, err)
		if len(got) > len(want) || !bytes.Equal(got, want[:len(got)]) || !refuse && len(got) != len(want) {
			t.Errorf("refused: %v: %d of %d bytes at the server, or others", refuse, len(got), len(want))
		}
		hasContent(t, w.direct(), "other", "goes its own way")
		hasContent(t, w.direct(), "after", "after")
		hasContent(t, f, "stream", string(got))
	}
}
