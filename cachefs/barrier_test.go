package cachefs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// barriers are the ways to ask for one on a file.
var barriers = []struct {
	name string
	ask  func(t *testing.T, f *FS, name string)
}{
	{"object", func(t *testing.T, f *FS, name string) { ok(t, f.Barrier(object(t, f, name))) }},
	{"path", func(t *testing.T, f *FS, name string) { ok(t, f.BarrierAt(bg, name)) }},
	{"all", func(t *testing.T, f *FS, name string) { ok(t, f.BarrierAll()) }},
	{"file", func(t *testing.T, f *FS, name string) {
		h, err := f.OpenFile(bg, name, wire.ORdonly, 0)
		ok(t, err)
		ok(t, h.Barrier())
		ok(t, h.Close(bg))
		fails(t, h.Barrier(), syscall.EBADF)
	}},
	{"xattr", func(t *testing.T, f *FS, name string) {
		o := object(t, f, name)
		ok(t, o.SetXattr(bg, &f.opt.Cred, p9srv.BarrierXattr, []byte("1"), 0))
		_, err := o.GetXattr(bg, &f.opt.Cred, p9srv.BarrierXattr)
		fails(t, err, syscall.ENODATA)
		list, err := o.ListXattr(bg, &f.opt.Cred)
		ok(t, err)
		same(t, "attributes", len(list), 0)
	}},
	{"ctl", func(t *testing.T, f *FS, name string) {
		h := open(t, f, ".echo9/ctl", wire.OWronly)
		_, err := h.WriteAt(bg, []byte("barrier /"+name+"\n"), 0)
		ok(t, err)
		ok(t, h.Close(bg))
	}},
}

// TestBarrier: what comes after a barrier is not at the server before what came before it, though in other directories;
// the barrier itself sends nothing. Without barriers (the mutant) it is.
func TestBarrier(t *testing.T) {
	for _, b := range barriers {
		for _, mutant := range []string{"", mutantIgnoreBarrier} {
			t.Run(strings.TrimSpace(b.name+" "+mutant), func(t *testing.T) {
				w := newWorld(t)
				a := w.cache(func(o *Options) { o.Mutant = mutant })
				ok(t, a.Mkdir(bg, "d", 0o755))
				ok(t, a.Mkdir(bg, "e", 0o755))
				ok(t, a.Sync(bg))
				ok(t, a.WriteFile(bg, "d/data", []byte("x"), 0o644))
				cuts := a.Status().Cuts
				b.ask(t, a, "d/data")
				same(t, "cuts sent by the barrier", a.Status().Cuts, cuts)
				ok(t, a.WriteFile(bg, "e/flag", nil, 0o644))
				ok(t, a.Fsync(bg, "e/flag"))
				_, err := w.direct().ReadFile(bg, "d/data")
				if ordered := err == nil; ordered != (mutant == "") {
					t.Fatalf("e/flag is at the server, and d/data: %v", err)
				}
			})
		}
	}
}

// TestBarrierOfDirectory: a barrier on a directory is of its names, and not of the files' contents.
func TestBarrierOfDirectory(t *testing.T) {
	w := newWorld(t)
	a := w.cache()
	ok(t, a.Mkdir(bg, "d", 0o755))
	ok(t, a.Mkdir(bg, "e", 0o755))
	ok(t, a.Sync(bg))
	ok(t, a.WriteFile(bg, "d/data", []byte("x"), 0o644))
	ok(t, a.BarrierAt(bg, "d"))
	ok(t, a.WriteFile(bg, "e/flag", nil, 0o644))
	ok(t, a.Fsync(bg, "e/flag"))
	hasContent(t, w.direct(), "d/data", "")
}

// TestBarrierRights: who may not change a file's attributes cannot order it, and the attribute is nowhere stored, on the server's own
// backend neither.
func TestBarrierRights(t *testing.T) {
	w := newWorld(t)
	a := w.cache()
	ok(t, a.WriteFile(bg, "f", nil, 0o600))
	o := object(t, a, "f")
	stranger := &p9srv.Cred{UID: 1001, GID: 1001}
	if os.Geteuid() == 0 { // to a server that is an ordinary user everybody is that user
		fails(t, o.SetXattr(bg, stranger, p9srv.BarrierXattr, []byte("1"), 0), syscall.EACCES)
	}
	ok(t, a.Sync(bg))
	for _, f := range []*FS{w.direct(), w.plain()} {
		o := object(t, f, "f")
		ok(t, o.SetXattr(bg, &f.opt.Cred, p9srv.BarrierXattr, []byte("1"), 0))
		if _, err := o.GetXattr(bg, &f.opt.Cred, p9srv.BarrierXattr); !errors.Is(err, syscall.ENODATA) && !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Fatalf("the attribute is there: %v", err)
		}
	}
}

// TestPending: the listing says what is pending on which names and waiting for what, and what is on its way.
func TestPending(t *testing.T) {
	w := newWorld(t)
	sending, goOn := make(chan struct{}), make(chan struct{})
	a := w.cache(func(o *Options) {
		o.Hooks.Commit = func(i CutInfo) {
			if i.Why == "fsync" {
				close(sending)
				<-goOn
			}
		}
	})
	ok(t, a.MkdirAll(bg, "src/lib", 0o755))
	ok(t, a.WriteFile(bg, "src/lib/a.tmp", []byte("hello"), 0o644))
	ok(t, a.Rename(bg, "src/lib/a.tmp", "src/lib/a b"))
	ok(t, a.WriteFile(bg, "src/other", nil, 0o644))
	h := open(t, a, "src/lib/a b", wire.ORdwr)
	ok(t, a.Remove(bg, "src/lib/a b"))
	_, err := h.WriteAt(bg, []byte("more"), 5)
	ok(t, err)
	var got []string
	for _, p := range a.Pending() {
		fields := strings.SplitN(p.String(), "\t", 3)
		got = append(got, fmt.Sprint(p.Seq, " ", fields[2]))
	}
	same(t, "pending", strings.Join(got, "\n"), strings.ReplaceAll(strings.Join([]string{
		"1 mkdir /src\tmay go",
		"2 mkdir /src/lib\twaits for 1",
		"3 create /src/lib/a.tmp\twaits for 2",
		"4 write 5 bytes at 0 of object(ID)\twaits for 3",
		`5 rename /src/lib/a.tmp to "/src/lib/a b"` + "\twaits for 3, 4",
		"6 create /src/other\twaits for 2",
		`7 unlink "/src/lib/a b"` + "\twaits for 5",
		"8 write 4 bytes at 5 of object(ID)\twaits for 7",
	}, "\n"), "ID", fmt.Sprint(a.Pending()[3].Object)))

	done := make(chan error)
	go func() { done <- a.Fsync(bg, "src/other") }()
	<-sending
	list := a.Pending()
	close(goOn)
	for _, p := range list {
		if inCut := p.Seq == 1 || p.Seq == 2 || p.Seq == 6; inCut != (p.Cut == 1) {
			t.Errorf("%v is in cut %d", p, p.Cut)
		}
		if p.Cut == 1 && !strings.HasSuffix(p.String(), "in cut 1") {
			t.Errorf("%q does not say that it is on its way", p)
		}
	}
	ok(t, <-done)
	text, err := a.ReadFile(bg, ".echo9/pending")
	ok(t, err)
	same(t, "lines", strings.Count(string(text), "\n"), 5)
	ok(t, h.Close(bg))
}
