package dirfs

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

func benchFS(b *testing.B) (*FS, string) {
	dir, err := os.MkdirTemp(os.Getenv("DIRFS_BENCH_DIR"), "dirfs")
	if err != nil {
		b.Fatal(err)
	}
	fs, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		fs.Close()
		os.RemoveAll(dir)
	})
	return fs, dir
}

func BenchmarkGetAttr(b *testing.B) {
	fs, _ := benchFS(b)
	for b.Loop() {
		if _, err := fs.root.GetAttr(ctx, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWalk(b *testing.B) {
	fs, dir := benchFS(b)
	for i := range 1000 {
		os.WriteFile(dir+"/"+strconv.Itoa(i), nil, 0o644)
	}
	for _, c := range []struct {
		name string
		cred *p9srv.Cred
	}{{"self", nil}, {"other", &p9srv.Cred{UID: 3001, GID: 3001}}} {
		b.Run(c.name, func(b *testing.B) {
			os.Chmod(dir, 0o755)
			i := 0
			for b.Loop() {
				i++
				o, _, err := fs.root.Walk(ctx, c.cred, strconv.Itoa(i%1000))
				if err != nil {
					b.Fatal(err)
				}
				o.Release()
			}
		})
	}
}

// BenchmarkCut10000 tells the cost of each file of cuts that create, rename over and unlink 10,000.
func BenchmarkCut10000(b *testing.B) {
	const count = 10_000
	fs, dir := benchFS(b)
	cred := &p9srv.Cred{UID: fs.uid, GID: fs.gid, Session: 1}
	apply := func(records []cut.Record) {
		if err := fs.Apply(ctx, cred, &cut.Cut{Records: records}); err != nil {
			b.Fatal(err)
		}
	}
	root := fs.root.id
	data := make([]byte, 4096)
	make10000 := func(prefix string, dir, first uint64) []cut.Record {
		var r []cut.Record
		for i := range uint64(count) {
			r = append(r,
				cut.Record{Kind: cut.Create, ID: first + i, Mode: unix.S_IFREG | 0o644, UserID: fs.uid, GroupID: fs.gid},
				cut.Record{Kind: cut.Data, ID: first + i, Bytes: data},
				cut.Record{Kind: cut.Attr, ID: first + i, Valid: cut.AttrMtime | cut.AttrSize | cut.AttrCtime, Size: 4096, Mtime: 1e18, Ctime: 1e18},
				cut.Record{Kind: cut.Bind, Dir: dir, Name: prefix + strconv.FormatUint(i, 10), ID: first + i})
		}
		return r
	}
	timed := func(what string, fn func()) {
		b.StartTimer()
		start := b.Elapsed()
		fn()
		b.ReportMetric(float64((b.Elapsed()-start).Nanoseconds())/count/1000, what+"-µs/file")
		b.StopTimer()
	}
	b.StopTimer()
	for n := range b.N {
		timed("host-create", func() {
			for i := range count {
				fd, err := unix.Open(fmt.Sprintf("%s/h%d", dir, i), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644)
				if err != nil {
					b.Fatal(err)
				}
				unix.Pwrite(fd, data, 0)
				unix.Close(fd)
			}
		})
		first, err := fs.AllocIDs(2 * count)
		if err != nil {
			b.Fatal(err)
		}
		timed("create", func() { apply(make10000("f", root, first)) })
		apply(make10000("tmp", root, first+count))
		var over, gone []cut.Record
		for i := range uint64(count) {
			k := strconv.FormatUint(i, 10)
			over = append(over,
				cut.Record{Kind: cut.Bind, Dir: root, Name: "tmp" + k, Before: first + count + i},
				cut.Record{Kind: cut.Bind, Dir: root, Name: "f" + k, Before: first + i, ID: first + count + i})
			gone = append(gone, cut.Record{Kind: cut.Bind, Dir: root, Name: "f" + k, Before: first + count + i})
		}
		timed("rename-over", func() { apply(over) })
		timed("unlink", func() { apply(gone) })
		timed("host-unlink", func() {
			for i := range count {
				unix.Unlink(fmt.Sprintf("%s/h%d", dir, i))
			}
		})
		_ = n
	}
}

func BenchmarkCreatePlain(b *testing.B) {
	fs, _ := benchFS(b)
	i := 0
	for b.Loop() {
		i++
		o, f, _, err := fs.root.Create(ctx, nil, strconv.Itoa(i), wire.OWronly, 0o644, noGID)
		if err != nil {
			b.Fatal(err)
		}
		f.Close(ctx)
		o.Release()
	}
}

func BenchmarkReadDir4000(b *testing.B) {
	fs, dir := benchFS(b)
	for i := range 4000 {
		os.WriteFile(fmt.Sprintf("%s/file%05d", dir, i), nil, 0o644)
	}
	b.ReportAllocs()
	for b.Loop() {
		f, err := fs.root.Open(ctx, nil, wire.ORdonly|wire.ODirectory)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if err := f.ReadDir(ctx, 0, func(wire.Dirent) bool { n++; return true }); err != nil || n != 4002 {
			b.Fatal(n, err)
		}
		if err := f.Close(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
