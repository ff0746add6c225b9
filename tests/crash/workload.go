// Package crash kills caching clients while they work and checks what the
// others see afterwards: always the state of whole cuts, never an empty or torn file under its
// final name, never a later operation without an earlier one that it comes
// after.
//
// The order of issue is recorded outside the killed process: it writes a line to a pipe
// before each operation. The check trusts nothing else that the dead process said.
package crash

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// A writer works below one directory of a tree until it is killed, and says what it is going to do.
type writer struct {
	ctx  context.Context
	cred *p9srv.Cred
	root p9srv.Object
	say  io.Writer
	n    uint64 // operations announced
}

func (w *writer) announce(verb, what string, gen int) error {
	w.n++
	_, err := fmt.Fprintf(w.say, "%d %s %s %d\n", w.n, verb, what, gen)
	return err
}

const pages = 3 // a file's content, each of 4096 bytes with the generation all over

func page(gen, i int) []byte {
	b := make([]byte, 4096)
	for off := 0; off < len(b); off += 8 {
		binary.BigEndian.PutUint32(b[off:], uint32(gen))
		binary.BigEndian.PutUint32(b[off+4:], uint32(i))
	}
	return b
}

// write makes a file in pieces, so that there are states in between.
func (w *writer) write(dir p9srv.Object, name string, gen int) error {
	if err := w.announce("create", name, gen); err != nil {
		return err
	}
	o, f, _, err := dir.Create(w.ctx, w.cred, name, wire.OWronly|wire.OExcl, 0o644, 0)
	if err != nil {
		return fmt.Errorf("creating %s: %w", name, err)
	}
	defer o.Release()
	for i := range pages {
		if err := w.announce("write", name, gen); err != nil {
			return err
		}
		if _, err := f.WriteAt(w.ctx, page(gen, i), int64(i)*4096); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return f.Close(w.ctx)
}

func (w *writer) rename(d1 p9srv.Object, from string, d2 p9srv.Object, to string, gen int) error {
	if err := w.announce("rename", to, gen); err != nil {
		return err
	}
	if err := d1.Rename(w.ctx, w.cred, from, d2, to, 0); err != nil {
		return fmt.Errorf("renaming %s to %s: %w", from, to, err)
	}
	return nil
}

func (w *writer) mkdir(dir p9srv.Object, name string, gen int) (p9srv.Object, error) {
	if err := w.announce("mkdir", name, gen); err != nil {
		return nil, err
	}
	o, _, err := dir.Mkdir(w.ctx, w.cred, name, 0o755, 0)
	if err != nil {
		err = fmt.Errorf("making directory %s: %w", name, err)
	}
	return o, err
}

// step does the gen-th round of a workload.
type step func(w *writer, gen int) error

// workloads are what the writers do; check tells what may be seen afterwards.
var workloads = map[string]struct {
	step  step
	check func(t *state, issued int) error
}{
	"vi":   {viStep, viCheck},
	"tree": {treeStep, treeCheck},
	"cc":   {ccStep, ccCheck},

	"barrier": {barrierStep, barrierCheck},
}

// viStep is an editor's save: a temporary file, renamed over the old one. Then a marker in the same directory.
func viStep(w *writer, gen int) error {
	tmp := fmt.Sprintf(".f.%d.swp", gen)
	if err := w.write(w.root, tmp, gen); err != nil {
		return err
	}
	if err := w.rename(w.root, tmp, w.root, "f", gen); err != nil {
		return err
	}
	if err := w.write(w.root, fmt.Sprintf("after-%d", gen), gen); err != nil {
		return err
	}
	return nil
}

// viCheck: f is whole, of one generation, and at least as new as the newest marker.
func viCheck(t *state, issued int) error {
	f, there := t.files["f"]
	gen := -1
	if there {
		var err error
		if gen, err = whole(f); err != nil {
			return fmt.Errorf("f: %w", err)
		}
	}
	for name := range t.files {
		var k int
		if n, _ := fmt.Sscanf(name, "after-%d", &k); n == 1 && k > gen {
			return fmt.Errorf("%s is there, which was created after generation %d of f, and f is of generation %d", name, k, gen)
		}
	}
	if gen > issued {
		return fmt.Errorf("f is of generation %d, and %d was the last one issued", gen, issued)
	}
	return nil
}

// treeStep builds a tree under a temporary name and renames it into place.
func treeStep(w *writer, gen int) error {
	tmp := fmt.Sprintf("tmp-%d", gen)
	d, err := w.mkdir(w.root, tmp, gen)
	if err != nil {
		return err
	}
	defer d.Release()
	sub, err := w.mkdir(d, "sub", gen)
	if err != nil {
		return err
	}
	defer sub.Release()
	if err := w.write(d, "f", gen); err != nil {
		return err
	}
	if err := w.write(sub, "g", gen); err != nil {
		return err
	}
	return w.rename(w.root, tmp, w.root, fmt.Sprintf("release-%d", gen), gen)
}

// treeCheck: what has its final name is complete.
func treeCheck(t *state, issued int) error {
	for name := range t.dirs {
		var gen int
		if n, _ := fmt.Sscanf(name, "release-%d", &gen); n != 1 || name != fmt.Sprintf("release-%d", gen) {
			continue
		}
		for _, file := range []string{name + "/f", name + "/sub/g"} {
			b, there := t.files[file]
			if !there {
				return fmt.Errorf("%s is there without %s", name, file)
			}
			if k, err := whole(b); err != nil || k != gen {
				return fmt.Errorf("%s is of generation %d: %w", file, k, err)
			}
		}
	}
	return nil
}

// ccStep saves foo.c as an editor does and compiles it to foo.o in the same directory.
func ccStep(w *writer, gen int) error {
	if err := w.write(w.root, "foo.c.tmp", gen); err != nil {
		return err
	}
	if err := w.rename(w.root, "foo.c.tmp", w.root, "foo.c", gen); err != nil {
		return err
	}
	if err := w.write(w.root, "foo.o.tmp", gen); err != nil {
		return err
	}
	return w.rename(w.root, "foo.o.tmp", w.root, "foo.o", gen)
}

// ccCheck: never a new foo.o with an old foo.c.
func ccCheck(t *state, issued int) error {
	o, there := t.files["foo.o"]
	if !there {
		return nil
	}
	ogen, err := whole(o)
	if err != nil {
		return fmt.Errorf("foo.o: %w", err)
	}
	c, there := t.files["foo.c"]
	if !there {
		return fmt.Errorf("foo.o of generation %d without foo.c", ogen)
	}
	cgen, err := whole(c)
	if err != nil {
		return fmt.Errorf("foo.c: %w", err)
	}
	if ogen > cgen {
		return fmt.Errorf("foo.o is of generation %d and foo.c of %d", ogen, cgen)
	}
	return nil
}

// barrierStep writes a file in one directory, asks for a barrier on it, and writes one in another directory.
func barrierStep(w *writer, gen int) error {
	if gen == 0 {
		for _, name := range []string{"a", "b"} {
			d, err := w.mkdir(w.root, name, gen)
			if err != nil {
				return err
			}
			d.Release()
		}
	}
	a, _, err := w.root.Walk(w.ctx, w.cred, "a")
	if err != nil {
		return err
	}
	defer a.Release()
	b, _, err := w.root.Walk(w.ctx, w.cred, "b")
	if err != nil {
		return err
	}
	defer b.Release()
	name := fmt.Sprintf("f%d", gen)
	if err := w.write(a, name, gen); err != nil {
		return err
	}
	if err := w.announce("barrier", name, gen); err != nil {
		return err
	}
	f, _, err := a.Walk(w.ctx, w.cred, name)
	if err != nil {
		return err
	}
	defer f.Release()
	if err := f.SetXattr(w.ctx, w.cred, p9srv.BarrierXattr, []byte("1"), 0); err != nil {
		return fmt.Errorf("barrier on %s: %w", name, err)
	}
	return w.write(b, name, gen)
}

// barrierCheck: never one of b without its one of a.
func barrierCheck(t *state, issued int) error {
	for path := range t.files {
		name, ok := strings.CutPrefix(path, "b/")
		if !ok {
			continue
		}
		if _, err := whole(t.files["a/"+name]); err != nil {
			return fmt.Errorf("%s is there, and a/%s, written before it and a barrier: %w", path, name, err)
		}
	}
	return nil
}

// whole gives the generation of a file's content, an error when it is empty, short or torn.
func whole(b []byte) (int, error) {
	if len(b) != pages*4096 {
		return 0, fmt.Errorf("%d bytes of %d", len(b), pages*4096)
	}
	gen := int(binary.BigEndian.Uint32(b))
	for i := range pages {
		for off := 0; off < 4096; off += 8 {
			at := b[i*4096+off:]
			if g, p := int(binary.BigEndian.Uint32(at)), int(binary.BigEndian.Uint32(at[4:])); g != gen || p != i {
				return gen, fmt.Errorf("torn: generation %d at the start, %d (piece %d) at byte %d", gen, g, p, i*4096+off)
			}
		}
	}
	return gen, nil
}

// state is what a client sees below a directory: files by path with contents, directories.
type state struct {
	files map[string][]byte
	dirs  map[string]bool
}

// look reads everything below dir.
func look(ctx context.Context, cred *p9srv.Cred, dir p9srv.Object) (*state, error) {
	t := &state{files: map[string][]byte{}, dirs: map[string]bool{}}
	return t, t.read(ctx, cred, dir, "")
}

func (t *state) read(ctx context.Context, cred *p9srv.Cred, dir p9srv.Object, at string) error {
	f, err := dir.Open(ctx, cred, wire.ORdonly|wire.ODirectory)
	if err != nil {
		return fmt.Errorf("opening directory %q: %w", at, err)
	}
	defer f.Close(ctx)
	var entries []wire.Dirent
	if err := f.ReadDir(ctx, 0, func(e wire.Dirent) bool {
		if e.Name != "." && e.Name != ".." {
			entries = append(entries, e)
		}
		return true
	}); err != nil {
		return fmt.Errorf("listing %q: %w", at, err)
	}
	for _, e := range entries {
		if err := t.entry(ctx, cred, dir, at+e.Name, e.Name); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

func (t *state) entry(ctx context.Context, cred *p9srv.Cred, dir p9srv.Object, path, name string) error {
	o, attr, err := dir.Walk(ctx, cred, name)
	if err != nil {
		return fmt.Errorf("walking to %q: %w", path, err)
	}
	defer o.Release()
	if attr.QID.Type&wire.QTDir != 0 {
		t.dirs[path] = true
		return t.read(ctx, cred, o, path+"/")
	}
	f, err := o.Open(ctx, cred, wire.ORdonly)
	if err != nil {
		return fmt.Errorf("opening %q: %w", path, err)
	}
	defer f.Close(ctx)
	b := make([]byte, pages*4096+1)
	n, err := f.ReadAt(ctx, b, 0)
	if err != nil {
		return fmt.Errorf("reading %q: %w", path, err)
	}
	t.files[path] = b[:n]
	return nil
}

// gone: a name that was listed is there no longer: somebody works on.
func gone(err error) bool { return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESTALE) }
