package cachefs

import (
	"fmt"
	"testing"

	"echo9/internal/wire"
)

// benchCache gives a cache for benchmarks.
func benchCache(b *testing.B) *FS {
	b.Helper()
	return newWorld(b).cache(func(o *Options) { o.Logf = func(string, ...any) {} })
}

func BenchmarkStat(b *testing.B) {
	f := benchCache(b)
	if err := f.WriteFile(bg, "f", []byte("x"), 0o644); err != nil {
		b.Fatal(err)
	}
	o, _, err := f.walk(bg, []string{"f"}, false)
	if err != nil {
		b.Fatal(err)
	}
	defer o.Release()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.GetAttr(bg, &f.opt.Cred); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenReadClose(b *testing.B) {
	f := benchCache(b)
	if err := f.WriteFile(bg, "f", make([]byte, 4096), 0o644); err != nil {
		b.Fatal(err)
	}
	o, _, err := f.walk(bg, []string{"f"}, false)
	if err != nil {
		b.Fatal(err)
	}
	defer o.Release()
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		h, err := o.Open(bg, &f.opt.Cred, wire.ORdonly)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.ReadAt(bg, p, 0); err != nil {
			b.Fatal(err)
		}
		h.Close(bg)
	}
}

func BenchmarkCreateWriteRename(b *testing.B) {
	f := benchCache(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if err := f.WriteFile(bg, "tmp", []byte("content"), 0o644); err != nil {
			b.Fatal(err)
		}
		if err := f.Rename(bg, "tmp", fmt.Sprintf("f%d", i)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := f.Sync(bg); err != nil {
		b.Fatal(err)
	}
}
