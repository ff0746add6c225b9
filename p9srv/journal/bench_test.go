package journal

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"echo9/internal/loopfs"

	"golang.org/x/sys/unix"
)

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkSmall is one small entry, appended and waited for, in turns with the least that a log can do: a pwrite
// to, and an fdatasync of, a file that was written before.
func BenchmarkSmall(b *testing.B) {
	dir := loopfs.Ext4(b, 256)
	fd, err := unix.Open(filepath.Join(dir, "bare"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	const size = 16 << 20
	if _, err := unix.Pwrite(fd, make([]byte, size), 0); err != nil {
		b.Fatal(err)
	}
	if err := unix.Fsync(fd); err != nil {
		b.Fatal(err)
	}
	l, _ := openAt(b, dir, Options{Sync: true})
	defer l.Close()
	durable(b, l, aCut(1, 100))
	prepared(l)
	entry := make([]byte, 200)
	var bare, log []time.Duration
	var off int64
	for b.Loop() {
		begin := time.Now()
		if _, err := unix.Pwrite(fd, entry, off%(size-4096)); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(fd); err != nil {
			b.Fatal(err)
		}
		off += int64(len(entry))
		middle := time.Now()
		durable(b, l, aCut(1, 100))
		bare, log = append(bare, middle.Sub(begin)), append(log, time.Since(middle))
	}
	p, q := median(bare), median(log)
	b.ReportMetric(float64(p.Microseconds()), "bare-µs")
	b.ReportMetric(float64(q.Microseconds()), "log-µs")
	b.ReportMetric(float64(q)/float64(p), "ratio")
}

// BenchmarkSixteen is sixteen that append small entries and wait at a time.
func BenchmarkSixteen(b *testing.B) {
	l, _ := openAt(b, loopfs.Ext4(b, 512), Options{Sync: true})
	defer l.Close()
	durable(b, l, aCut(1, 100))
	prepared(l)
	before := l.Stats()
	begin := time.Now()
	n := 0
	for b.Loop() {
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 10 {
					durable(b, l, aCut(1, 100))
				}
			})
		}
		wg.Wait()
		n += 160
		if err := l.Checkpoint(l.Last()+1, nil); err != nil {
			b.Fatal(err)
		}
	}
	s := l.Stats()
	b.ReportMetric(float64(n)/time.Since(begin).Seconds(), "entries/s")
	b.ReportMetric(float64(n)/float64(s.Syncs-before.Syncs), "entries/sync")
}

// BenchmarkLarge is an entry of 4 MiB.
func BenchmarkLarge(b *testing.B) {
	l, _ := openAt(b, loopfs.Ext4(b, 512), Options{Sync: true})
	defer l.Close()
	c := aCut(1, 4<<20)
	for range 20 {
		if err := l.Checkpoint(durable(b, l, c)+1, nil); err != nil {
			b.Fatal(err)
		}
	}
	prepared(l)
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		lsn := durable(b, l, c)
		took = append(took, time.Since(begin))
		if len(took)%3 == 0 {
			if err := l.Checkpoint(lsn+1, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	m := median(took)
	b.ReportMetric(float64(m.Microseconds()), "p50-µs")
	b.ReportMetric(float64(len(c.Records[0].Bytes))/m.Seconds()/1e6, "MB/s")
}
