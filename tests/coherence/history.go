// Package coherence checks that what several clients of one server saw is
// explained by one order of their operations (a linearizable history), with
// porcupine. Its clients are p9srv.Backends: cachefs, plain trees, or any face
// that looks like one.
//
// Two kinds of objects are checked: files as registers of eight bytes, and two
// directories with a few names between which files are created, removed,
// renamed, looked up and listed.
package coherence

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// Client is one client of the history.
type Client struct {
	Name    string
	Backend p9srv.Backend
	Cred    *p9srv.Cred
}

// Load says what the clients do.
type Load struct {
	Seed    uint64
	Workers int // a client
	Ops     int // a worker
	Files   int
	Pause   time.Duration // between operations of a worker, at most
	// FilesOnly leaves the directories out.
	FilesOnly bool
}

type input struct {
	part   string // "f0", "d"
	verb   string
	name   string // dir digit and name
	name2  string
	value  uint64
	client string
}

type output struct {
	value uint64
	names string
	err   syscall.Errno
}

var names = []string{"a", "b", "c"}

// Setup makes the files and the directories below the root of c.
func Setup(ctx context.Context, c Client, l Load) error {
	root, err := c.Backend.Root(ctx, c.Cred, "")
	if err != nil {
		return fmt.Errorf("attaching: %w", err)
	}
	defer root.Release()
	for _, d := range []string{"0", "1"} {
		o, _, err := root.Mkdir(ctx, c.Cred, d, 0o777, 0)
		if err != nil {
			return fmt.Errorf("making directory %s: %w", d, err)
		}
		o.Release()
	}
	for i := range l.Files {
		o, f, _, err := root.Create(ctx, c.Cred, fmt.Sprintf("f%d", i), wire.ORdwr, 0o666, 0)
		if err != nil {
			return fmt.Errorf("creating a file: %w", err)
		}
		var zero [8]byte
		if _, err := f.WriteAt(ctx, zero[:], 0); err != nil {
			return fmt.Errorf("writing a file: %w", err)
		}
		if err := f.Close(ctx); err != nil {
			return err
		}
		o.Release()
	}
	return nil
}

// Run has all clients work at once and gives the history; with an error, what there is of it.
func Run(ctx context.Context, clients []Client, l Load) ([]porcupine.Operation, error) {
	var (
		mu    sync.Mutex
		ops   []porcupine.Operation
		value atomic.Uint64
		wg    sync.WaitGroup
		errs  = make(chan error, len(clients)*l.Workers)
		start = time.Now()
	)
	for ci, c := range clients {
		for w := range l.Workers {
			id := ci*l.Workers + w
			wg.Add(1)
			go func() {
				defer wg.Done()
				rng := rand.New(rand.NewPCG(l.Seed, uint64(id)))
				h, err := open(ctx, c, l)
				if err != nil {
					errs <- fmt.Errorf("client %s: %w", c.Name, err)
					return
				}
				defer h.close(ctx)
				mine := make([]porcupine.Operation, 0, l.Ops)
				for range l.Ops {
					in := choose(rng, l, &value)
					in.client = c.Name
					call := time.Since(start).Nanoseconds()
					out, err := h.do(ctx, in)
					ret := time.Since(start).Nanoseconds()
					if err != nil {
						errs <- fmt.Errorf("client %s, %s %s %s: %w", c.Name, in.verb, in.name, in.name2, err)
						if in.verb == "write" { // it may happen yet
							mine = append(mine, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: math.MaxInt64})
						}
						break
					}
					mine = append(mine, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: ret})
					if l.Pause > 0 {
						time.Sleep(time.Duration(rng.Int64N(int64(l.Pause))))
					}
				}
				mu.Lock()
				ops = append(ops, mine...)
				mu.Unlock()
			}()
		}
	}
	wg.Wait()
	close(errs)
	return ops, <-errs
}

func choose(rng *rand.Rand, l Load, value *atomic.Uint64) input {
	if l.FilesOnly || rng.IntN(2) == 0 {
		f := fmt.Sprintf("f%d", rng.IntN(l.Files))
		if rng.IntN(3) == 0 {
			return input{part: f, verb: "write", name: f, value: value.Add(1)}
		}
		return input{part: f, verb: "read", name: f}
	}
	pick := func() string { return fmt.Sprint(rng.IntN(2)) + names[rng.IntN(len(names))] }
	in := input{part: "d", name: pick()}
	switch rng.IntN(8) {
	case 0, 1:
		in.verb = "create"
	case 2:
		in.verb = "unlink"
	case 3:
		in.verb, in.name2 = "rename", pick()
	case 4, 5, 6:
		in.verb = "lookup"
	case 7:
		in.verb, in.name = "list", in.name[:1]
	}
	return in
}

type handles struct {
	c     Client
	dirs  [2]p9srv.Object
	objs  []p9srv.Object
	files []p9srv.File
}

func open(ctx context.Context, c Client, l Load) (*handles, error) {
	root, err := c.Backend.Root(ctx, c.Cred, "")
	if err != nil {
		return nil, fmt.Errorf("attaching: %w", err)
	}
	defer root.Release()
	h := &handles{c: c}
	for i := range h.dirs {
		if h.dirs[i], _, err = root.Walk(ctx, c.Cred, fmt.Sprint(i)); err != nil {
			return nil, fmt.Errorf("walking to directory %d: %w", i, err)
		}
	}
	for i := range l.Files {
		o, _, err := root.Walk(ctx, c.Cred, fmt.Sprintf("f%d", i))
		if err != nil {
			return nil, fmt.Errorf("walking to file %d: %w", i, err)
		}
		f, err := o.Open(ctx, c.Cred, wire.ORdwr)
		if err != nil {
			return nil, fmt.Errorf("opening file %d: %w", i, err)
		}
		h.objs, h.files = append(h.objs, o), append(h.files, f)
	}
	return h, nil
}

func (h *handles) close(ctx context.Context) {
	for i, f := range h.files {
		f.Close(ctx)
		h.objs[i].Release()
	}
	for _, d := range h.dirs {
		d.Release()
	}
}

func (h *handles) do(ctx context.Context, in input) (output, error) {
	if in.part != "d" {
		var b [8]byte
		f := h.files[in.part[1]-'0']
		if in.verb == "write" {
			binary.BigEndian.PutUint64(b[:], in.value)
			_, err := f.WriteAt(ctx, b[:], 0)
			return output{}, err
		}
		n, err := f.ReadAt(ctx, b[:], 0)
		if err == nil && n != 8 {
			err = fmt.Errorf("%d bytes of 8 read: %w", n, syscall.EIO)
		}
		return output{value: binary.BigEndian.Uint64(b[:])}, err
	}
	dir := h.dirs[in.name[0]-'0']
	switch in.verb {
	case "create":
		o, f, _, err := dir.Create(ctx, h.c.Cred, in.name[1:], wire.OWronly|wire.OExcl, 0o666, 0)
		if err != nil {
			return allow(err, syscall.EEXIST)
		}
		defer o.Release()
		return output{value: o.ID()}, f.Close(ctx)
	case "unlink":
		return allow(dir.Unlink(ctx, h.c.Cred, in.name[1:], 0), syscall.ENOENT)
	case "rename":
		return allow(dir.Rename(ctx, h.c.Cred, in.name[1:], h.dirs[in.name2[0]-'0'], in.name2[1:], 0), syscall.ENOENT)
	case "lookup":
		o, _, err := dir.Walk(ctx, h.c.Cred, in.name[1:])
		if err != nil {
			return allow(err, syscall.ENOENT)
		}
		defer o.Release()
		return output{value: o.ID()}, nil
	default:
		return h.list(ctx, dir)
	}
}

func (h *handles) list(ctx context.Context, dir p9srv.Object) (output, error) {
	f, err := dir.Open(ctx, h.c.Cred, wire.ORdonly|wire.ODirectory)
	if err != nil {
		return output{}, err
	}
	var got []string
	err = f.ReadDir(ctx, 0, func(e wire.Dirent) bool {
		if e.Name != "." && e.Name != ".." {
			got = append(got, e.Name)
		}
		return true
	})
	if cerr := f.Close(ctx); err == nil {
		err = cerr
	}
	sort.Strings(got)
	return output{names: strings.Join(got, " ")}, err
}

// allow makes an expected errno part of the output.
func allow(err error, expected syscall.Errno) (output, error) {
	if errors.Is(err, expected) {
		return output{err: expected}, nil
	}
	return output{}, err
}
