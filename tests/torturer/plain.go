package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// plain is a tree of 9P2000.L without a cache of its own. It dials again when its connection is gone.
type plain struct {
	addr, aname string

	mu sync.Mutex // guards the rest, and is held by who uses it
	t  *p9client.Tree
}

// answerTime is how long an answer is waited for.
const answerTime = 40 * time.Second

var root = &p9srv.Cred{}

// at does something with what is at path: again on another connection when this one ends meanwhile, if it may.
func (p *plain) at(path string, again bool, do func(ctx context.Context, o p9srv.Object) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	for {
		err := p.try(ctx, path, do)
		if err == nil || !errors.Is(err, p9client.ErrEnded) && p.t != nil {
			return err
		}
		p.end()
		if !again || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *plain) try(ctx context.Context, path string, do func(ctx context.Context, o p9srv.Object) error) error {
	if p.t == nil {
		dialing, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		t, err := p9client.Dial(dialing, p.addr, p9client.Options{Aname: p.aname})
		if err != nil {
			return fmt.Errorf("dialing %s: %w", p.addr, err)
		}
		p.t = t
	}
	o, err := p.t.Root(ctx, root, "")
	if err != nil {
		return err
	}
	for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		next, _, err := o.Walk(ctx, root, name)
		o.Release()
		if err != nil {
			return err
		}
		o = next
	}
	defer o.Release()
	return do(ctx, o)
}

func (p *plain) end() {
	if p.t != nil {
		p.t.Close()
		p.t = nil
	}
}

// close ends the use.
func (p *plain) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

func with(flags uint32, do func(ctx context.Context, f p9srv.File) error) func(context.Context, p9srv.Object) error {
	return func(ctx context.Context, o p9srv.Object) error {
		f, err := o.Open(ctx, root, flags)
		if err != nil {
			return err
		}
		return errors.Join(do(ctx, f), f.Close(ctx))
	}
}

func (p *plain) read(path string) ([]byte, error) { return p.readSome(path, 4096) }

// readSome reads the first most bytes.
func (p *plain) readSome(path string, most int) (b []byte, err error) {
	err = p.at(path, true, with(wire.ORdonly, func(ctx context.Context, f p9srv.File) error {
		b = make([]byte, most)
		n, err := f.ReadAt(ctx, b, 0)
		b = b[:n]
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	}))
	return b, err
}

func (p *plain) list(path string) (names []string, err error) {
	err = p.at(path, true, with(wire.ORdonly|wire.ODirectory, func(ctx context.Context, f p9srv.File) error {
		names = nil
		cookie := uint64(0)
		for {
			n := len(names)
			if err := f.ReadDir(ctx, cookie, func(e wire.Dirent) bool {
				names = append(names, e.Name)
				cookie = e.Offset
				return true
			}); err != nil || len(names) == n {
				return err
			}
		}
	}))
	return names, err
}

func (p *plain) put(path string, flags int, b []byte, sync bool) error {
	write := func(ctx context.Context, f p9srv.File) error {
		_, err := f.WriteAt(ctx, b, 0)
		if err == nil && sync {
			err = f.Fsync(ctx, false)
		}
		return err
	}
	// The numbers of Linux are those of the protocol.
	if flags&os.O_CREATE == 0 {
		return p.at(path, false, with(uint32(flags), write))
	}
	dir, name := filepath.Split(path)
	return p.at(dir, false, func(ctx context.Context, d p9srv.Object) error {
		o, f, _, err := d.Create(ctx, root, name, uint32(flags), 0o644, 0)
		if err != nil {
			return err
		}
		defer o.Release()
		return errors.Join(write(ctx, f), f.Close(ctx))
	})
}

func (p *plain) rename(from, to string) error {
	dir, name := filepath.Split(from)
	return p.at(dir, false, func(ctx context.Context, d p9srv.Object) error {
		return d.Rename(ctx, root, name, d, filepath.Base(to), 0)
	})
}

func (p *plain) remove(path string) error {
	dir, name := filepath.Split(path)
	return p.at(dir, false, func(ctx context.Context, d p9srv.Object) error { return d.Unlink(ctx, root, name, 0) })
}

func (p *plain) fsync(path string) error {
	return p.at(path, false, with(wire.ORdonly, func(ctx context.Context, f p9srv.File) error { return f.Fsync(ctx, false) }))
}

func (*plain) allowed() time.Duration { return 0 }
