package fusefs

import (
	"fmt"
	"os"
	"testing"
)

// benchMount is a mount whose kernel may cache.
func benchMount(b *testing.B) string {
	inner, _ := exportDir(b)
	return mounted(b, newTokenServer(inner).client(), Options{Logf: func(string, ...any) {}}).Path()
}

func BenchmarkStat(b *testing.B) {
	p := benchMount(b) + "/f"
	write(b, p, "x")
	for b.Loop() {
		if _, err := os.Lstat(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenReadClose(b *testing.B) {
	p := benchMount(b) + "/f"
	write(b, p, string(make([]byte, 4096)))
	buf := make([]byte, 4096)
	for b.Loop() {
		f, err := os.Open(p)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Read(buf); err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}

func BenchmarkCreateWriteClose(b *testing.B) {
	dir := benchMount(b)
	data := make([]byte, 4096)
	i := 0
	for b.Loop() {
		i++
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite1MiB(b *testing.B) {
	f := openFile(b, benchMount(b)+"/f", os.O_CREATE|os.O_WRONLY)
	data := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	i := int64(0)
	for b.Loop() {
		if _, err := f.WriteAt(data, i%64<<20); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkRead1MiB reads a file of 64 MiB from its beginning, again and again; with "cold" the kernel's pages are
// dropped before each time.
func BenchmarkRead1MiB(b *testing.B) {
	for _, cold := range []bool{false, true} {
		b.Run(map[bool]string{false: "warm", true: "cold"}[cold], func(b *testing.B) {
			inner, _ := exportDir(b)
			m := mounted(b, newTokenServer(inner).client(), Options{Logf: func(string, ...any) {}})
			p := m.Path() + "/f"
			must(b, os.WriteFile(p, make([]byte, 64<<20), 0o644))
			nid := stat(b, p).Ino
			f := openFile(b, p, os.O_RDONLY)
			buf := make([]byte, 1<<20)
			b.SetBytes(1 << 20)
			i := int64(0)
			for b.Loop() {
				if cold && i%64 == 0 {
					must(b, m.fs.notify.invalData(nid, 0, 0))
				}
				if _, err := f.ReadAt(buf, i%64<<20); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
