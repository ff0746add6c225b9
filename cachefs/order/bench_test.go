package order

import (
	"fmt"
	"testing"

	"echo9/internal/cut"
)

// fill issues n operations of an unpacking: in each of many directories files are
// created, written and renamed.
func fill(l *Log, n, perDir int) {
	const times = cut.AttrMtime | cut.AttrCtime
	for i := 0; i < n; i += 3 {
		dir, id := uint64(2+i/(3*perDir)), uint64(1<<48+i)
		name := fmt.Sprintf("file%d", i)
		l.Append(&Op{Kind: Create, ID: id, Dir: dir, Name: name + "~", Mode: 0o100644, At: int64(i),
			Attrs: []Attr{{ID: id, Valid: attrTimes}, {ID: dir, Valid: times}}})
		l.Append(&Op{Kind: Write, ID: id, Bytes: make([]byte, 100), At: int64(i), Attrs: []Attr{{ID: id, Valid: times | cut.AttrSize, Size: 100}}})
		l.Append(&Op{Kind: Rename, ID: id, Dir: dir, Name: name + "~", Dir2: dir, Name2: name, At: int64(i),
			Attrs: []Attr{{ID: id, Valid: cut.AttrCtime}, {ID: dir, Valid: times}}})
	}
}

var sizes = []int{10_000, 100_000}

func BenchmarkAppend(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fill(New(Object), n, 100)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/op-appended")
		})
	}
}

// BenchmarkWhole is an operation's whole life: appended, sent in cuts of 16,000, applied.
func BenchmarkWhole(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				l := New(Object)
				fill(l, n, 100)
				for c := uint64(1); ; c++ {
					id := l.Prefix(Limit{Ops: 16_000})
					if len(id.Seqs) == 0 {
						break
					}
					NetEffect(l.Begin(c, l.Take(id.Seqs, 60_000, 16<<20)))
					l.Applied(c)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/op-applied")
		})
	}
}

func BenchmarkIdeal(b *testing.B) {
	for _, n := range sizes {
		l := New(Object)
		fill(l, n, 100)
		l.flush()
		b.Run(fmt.Sprintf("onefile/%d", n), func(b *testing.B) {
			for b.Loop() {
				l.IdealOf(ByWrite|ByRead, 1<<48+30)
			}
		})
		l = New(Object)
		fill(l, n, n)
		l.flush()
		b.Run(fmt.Sprintf("onedir/%d", n), func(b *testing.B) {
			for b.Loop() {
				l.IdealOf(ByWrite|ByRead, 2)
			}
		})
	}
}

func BenchmarkNetEffect(b *testing.B) {
	for _, n := range sizes {
		l := New(Object)
		fill(l, n, 100)
		ops := l.Ops(l.Prefix(Limit{}).Seqs)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				NetEffect(ops)
			}
		})
	}
}

func BenchmarkSmallAppends(b *testing.B) {
	l := New(Object)
	size := uint64(0)
	block := make([]byte, 100)
	for b.Loop() {
		size += 100
		l.Append(&Op{Kind: Write, ID: 9, Off: size - 100, Bytes: block, Attrs: []Attr{{ID: 9, Valid: cut.AttrSize, Size: size}}})
	}
}
