package cachefs

import (
	"fmt"
	"strings"
	"testing"

	"echo9/cachefs/order"
	"echo9/p9srv"
)

// TestCausal: what was made after a read of pending work comes after that work, however it was read; with the mutant, and in
// the order object, it does not.
func TestCausal(t *testing.T) {
	for name, read := range map[string]func(t *testing.T, f *FS){
		"content":           func(t *testing.T, f *FS) { hasContent(t, f, "d/foo.c", "source") },
		"attributes":        func(t *testing.T, f *FS) { _, err := f.Stat(bg, "d/foo.c"); ok(t, err) },
		"listing":           func(t *testing.T, f *FS) { same(t, "names", names(t, f, "d"), "foo.c") },
		"page of a mapping": func(t *testing.T, f *FS) { p9srv.Witness(f).Seen(object(t, f, "d/foo.c").ID()) },
		"nothing":           func(*testing.T, *FS) {},
	} {
		for mode, change := range map[string]func(*Options){
			"causal": func(o *Options) { o.Order = order.Causal },
			"object": func(*Options) {},
			"mutant": func(o *Options) { o.Order, o.Mutant = order.Causal, mutantIgnoreReads },
		} {
			t.Run(name+" "+mode, func(t *testing.T) {
				w := newWorld(t)
				a := w.cache(change)
				ok(t, a.Mkdir(bg, "d", 0o755))
				ok(t, a.Mkdir(bg, "e", 0o755))
				ok(t, a.Sync(bg))
				ok(t, a.WriteFile(bg, "d/foo.c", []byte("source"), 0o644))
				read(t, a)
				ok(t, a.WriteFile(bg, "e/foo.o", []byte("object"), 0o644))
				ok(t, a.Fsync(bg, "e/foo.o"))
				_, err := w.direct().Stat(bg, "d/foo.c")
				if ordered := err == nil; ordered != (mode == "causal" && name != "nothing") {
					t.Fatalf("foo.o is at the server; what was read: %v", err)
				}
			})
		}
	}
}

// TestCausalNames: names that were made through a kernel count as read, for it shows them without asking.
func TestCausalNames(t *testing.T) {
	for _, kernel := range []bool{true, false} {
		w := newWorld(t)
		a := w.cache(func(o *Options) { o.Order, o.KernelAbove = order.Causal, kernel })
		ok(t, a.Mkdir(bg, "d", 0o755))
		ok(t, a.Mkdir(bg, "e", 0o755))
		ok(t, a.Sync(bg))
		ok(t, a.WriteFile(bg, "d/flag", nil, 0o644))
		ok(t, a.WriteFile(bg, "e/seen", nil, 0o644))
		ok(t, a.Fsync(bg, "e/seen"))
		_, err := w.direct().Stat(bg, "d/flag")
		same(t, fmt.Sprint("with a kernel ", kernel, ": ordered"), err == nil, kernel)
	}
}

// TestCausalSymlink: a symlink to something that was just built comes after all that is pending on it and below it, if
// it leads into the tree. In the order object that takes a barrier.
func TestCausalSymlink(t *testing.T) {
	for _, c := range []struct {
		target, mountpoint string
		order              order.Policy
		ordered            bool
	}{
		{"../rel/1", "", order.Causal, true},
		{"/rel/1", "", order.Causal, true},
		{"/mnt/src/rel/1", "/mnt/src", order.Causal, true},
		{"/mnt/srcs/rel/1", "/mnt/src", order.Causal, false},
		{"/rel/1", "/mnt/src", order.Causal, false},
		{"nowhere", "", order.Causal, false},
		{"../rel/1", "", order.Object, false},
	} {
		t.Run(strings.TrimSpace(fmt.Sprint(c.target, " ", c.mountpoint, " ", c.order)), func(t *testing.T) {
			w := newWorld(t)
			a := w.cache(func(o *Options) { o.Order, o.Mountpoint = c.order, c.mountpoint })
			ok(t, a.MkdirAll(bg, "links", 0o755))
			ok(t, a.MkdirAll(bg, "rel", 0o755))
			ok(t, a.Sync(bg))
			ok(t, a.MkdirAll(bg, "rel/1/sub", 0o755))
			ok(t, a.WriteFile(bg, "rel/1/sub/f", []byte("built"), 0o644))
			ok(t, a.Symlink(bg, c.target, "links/current"))
			// Another client looks at the link.
			to, err := w.plain().Readlink(bg, "links/current")
			ok(t, err)
			same(t, "target", to, c.target)
			got, err := w.direct().ReadFile(bg, "rel/1/sub/f")
			if ordered := err == nil && string(got) == "built"; ordered != c.ordered {
				t.Fatalf("the link is at the server, and what it leads to: %q, %v", got, err)
			}
		})
	}
}

// TestTotalFlushesPrefix: with the order total a recall sends the log up to the last update that conflicts, and nothing after it; with
// the order object only that one file.
func TestTotalFlushesPrefix(t *testing.T) {
	for _, c := range []struct {
		order order.Policy
		ops   int64
	}{
		{order.Total, 2 * 51}, // create and write of 0 to 50
		{order.Object, 2},
	} {
		w := newWorld(t)
		var sent commits
		a := w.cache(sent.hook, func(o *Options) { o.Order = c.order })
		for i := range 100 {
			ok(t, a.Mkdir(bg, fmt.Sprint(i), 0o755))
		}
		ok(t, a.Sync(bg))
		sent.ops.Store(0)
		for i := range 100 {
			ok(t, a.WriteFile(bg, fmt.Sprint(i, "/f"), []byte("x"), 0o644))
		}
		hasContent(t, w.plain(), "50/f", "x")
		same(t, fmt.Sprint("updates sent for a recall, order ", c.order), sent.ops.Load(), c.ops)
	}
}
