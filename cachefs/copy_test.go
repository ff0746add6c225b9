package cachefs

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"echo9/cachefs/order"
	"echo9/internal/wire"
	"echo9/p9srv"
)

func copyFrom(t *testing.T, to, from *File, fromOff, off, n int64) int64 {
	t.Helper()
	got, err := to.File.(p9srv.Copier).CopyFrom(bg, from, fromOff, off, n)
	ok(t, err)
	return got
}

// TestCopyAtServer: the bytes are neither fetched nor sent, and read as copied before the server has them and after.
func TestCopyAtServer(t *testing.T) {
	w := newWorld(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // 4 MiB
	ok(t, w.direct().WriteFile(bg, "src", want, 0o644))
	var sent commits
	a := w.cache(sent.hook)
	src := open(t, a, "src", wire.ORdonly)
	dst := open(t, a, "dst", wire.ORdwr|wire.OCreat)
	same(t, "copied", copyFrom(t, dst, src, 16, 0, 1<<40), int64(len(want)-16))
	same(t, "copied at the end", copyFrom(t, dst, src, int64(len(want)), 0, 10), 0)
	same(t, "fetches", a.stats.fetches, 0)
	ok(t, dst.Fsync(bg, false))
	same(t, "bytes sent", sent.bytes.Load(), 0)
	same(t, "fetches", a.stats.fetches, 0)
	got, err := w.direct().ReadFile(bg, "dst")
	ok(t, err)
	if !bytes.Equal(got, want[16:]) {
		t.Fatal("the copy differs")
	}
	hasContent(t, a, "dst", string(want[16:]))

	// Read before it is at the server.
	two := open(t, a, "two", wire.ORdwr|wire.OCreat)
	_, err = two.WriteAt(bg, []byte("begin"), 0)
	ok(t, err)
	other := w.cache()
	_, err = other.ReadFile(bg, "src")
	ok(t, err)
	ok(t, a.Drop(bg)) // so that nothing of src is known here
	same(t, "copied", copyFrom(t, two, open(t, a, "src", wire.ORdonly), 0, 10, 20), 20)
	_, err = two.WriteAt(bg, []byte("end"), 27)
	ok(t, err)
	hasContent(t, a, "two", "begin\x00\x00\x00\x00\x00"+string(want[:17])+"end")
	ok(t, a.Sync(bg))
	hasContent(t, w.direct(), "two", "begin\x00\x00\x00\x00\x00"+string(want[:17])+"end")
}

// TestCopyReadsSource: the source is a read operand: another client's update of it comes after the copy.
func TestCopyReadsSource(t *testing.T) {
	w := newWorld(t)
	ok(t, w.direct().WriteFile(bg, "src", []byte("old"), 0o644))
	a, b := w.cache(), w.cache()
	dst := open(t, a, "dst", wire.ORdwr|wire.OCreat)
	same(t, "copied", copyFrom(t, dst, open(t, a, "src", wire.ORdonly), 0, 0, 3), 3)
	ok(t, b.WriteFile(bg, "src", []byte("new"), 0o644))
	hasContent(t, w.direct(), "dst", "old")
	hasContent(t, a, "dst", "old")
	ok(t, b.Sync(bg))
	hasContent(t, w.direct(), "src", "new")
}

// TestCopyRefused: what cannot be copied at the server is left to the caller, who reads and writes.
func TestCopyRefused(t *testing.T) {
	w := newWorld(t)
	a := w.cache()
	ok(t, a.WriteFile(bg, "dirty", []byte("x"), 0o644))
	h := open(t, a, "f", wire.ORdwr|wire.OCreat)
	cp := h.File.(p9srv.Copier)
	try := func(from p9srv.File, n int64) error { _, err := cp.CopyFrom(bg, from, 0, 0, n); return err }
	fails(t, try(open(t, a, "dirty", wire.ORdonly), 1), syscall.EXDEV)
	fails(t, try(h, 1), syscall.EXDEV)
	fails(t, try(open(t, w.cache(), "dirty", wire.ORdonly), 1), syscall.EXDEV)
	fails(t, try(open(t, a, "dirty", wire.OWronly), 1), syscall.EBADF)
	fails(t, try(open(t, a, "dirty", wire.ORdonly), -1), syscall.EINVAL)
}

// TestCopies does random writes, truncations, copies between three files, and syncs, and compares with a model.
func TestCopies(t *testing.T) {
	w := newWorld(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		a := w.cache(func(o *Options) { o.Cache = 1 })
		defer a.Close(bg)
		dir := fmt.Sprint("d", n)
		ok(t, a.Mkdir(bg, dir, 0o755))
		var files [3]*File
		var model [3][]byte
		for i := range files {
			files[i] = open(t, a, fmt.Sprint(dir, "/", i), wire.ORdwr|wire.OCreat)
			defer files[i].Close(bg)
		}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			i := rapid.IntRange(0, 2).Draw(rt, "file")
			off := int64(rapid.IntRange(0, 100).Draw(rt, "off"))
			length := int64(rapid.IntRange(0, 100).Draw(rt, "len"))
			grow := func(size int64) {
				if d := size - int64(len(model[i])); d > 0 {
					model[i] = append(model[i], make([]byte, d)...)
				}
			}
			switch rapid.SampledFrom([]string{"write", "write", "copy", "copy", "copy", "truncate", "sync", "read", "drop"}).Draw(rt, "do") {
			case "write":
				b := bytes.Repeat([]byte{byte('a' + length%26)}, int(length))
				_, err := files[i].WriteAt(bg, b, off)
				ok(t, err)
				if length > 0 {
					grow(off + length)
					copy(model[i][off:], b)
				}
			case "copy":
				j := (i + 1 + rapid.IntRange(0, 1).Draw(rt, "other")) % 3
				from := int64(rapid.IntRange(0, 100).Draw(rt, "from"))
				got, err := files[i].File.(p9srv.Copier).CopyFrom(bg, files[j], from, off, length)
				if err != nil {
					fails(t, err, syscall.EXDEV)
					continue
				}
				if want := max(0, min(length, int64(len(model[j]))-from)); got != want {
					rt.Fatalf("copied %d of %d bytes", got, want)
				}
				if got > 0 {
					grow(off + got)
					copy(model[i][off:], model[j][from:from+got])
				}
			case "truncate":
				ok(t, a.Truncate(bg, fmt.Sprint(dir, "/", i), uint64(off)))
				grow(off)
				model[i] = model[i][:off]
			case "sync":
				ok(t, a.Sync(bg))
			case "drop":
				ok(t, a.Drop(bg))
			case "read":
				b := make([]byte, 300)
				got, err := files[i].ReadAt(bg, b, 0)
				ok(t, err)
				if !bytes.Equal(b[:got], model[i]) {
					rt.Fatalf("file %d is %q, want %q", i, b[:got], model[i])
				}
			}
		}
		ok(t, a.Sync(bg))
		for i := range files {
			got, err := w.direct().ReadFile(bg, fmt.Sprint(dir, "/", i))
			ok(t, err)
			if !bytes.Equal(got, model[i]) {
				rt.Fatalf("at the server file %d is %q, want %q", i, got, model[i])
			}
		}
	})
}

// TestCopyingBounded: what is being copied at the server at once is bounded.
func TestCopyingBounded(t *testing.T) {
	w := newWorld(t)
	ok(t, w.direct().WriteFile(bg, "src", nil, 0o644))
	ok(t, w.direct().Truncate(bg, "src", maxCopy))
	most := int64(0)
	a := w.cache(func(o *Options) {
		o.Hooks.Commit = func(i CutInfo) {
			n := int64(0)
			for _, op := range i.Ops {
				if op.Kind == order.Copy {
					n += int64(op.Len)
				}
			}
			most = max(most, n)
		}
	})
	src, dst := open(t, a, "src", wire.ORdonly), open(t, a, "dst", wire.ORdwr|wire.OCreat)
	for i := range int64(10) {
		same(t, "copied", copyFrom(t, dst, src, 0, i*maxCopy, maxCopy), maxCopy)
	}
	ok(t, a.Sync(bg))
	if most == 0 || most > maxCopying {
		t.Fatalf("a cut copies %d bytes", most)
	}
	same(t, "copies pending", a.copying, 0)
}
