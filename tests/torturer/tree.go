package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// A tree is a way to the files.
type tree interface {
	read(path string) ([]byte, error)
	list(path string) ([]int, error) // names that are numbers, sorted
	// allowed is how old what it shows may be.
	allowed() time.Duration
}

// mounted is a tree of this machine, of which the kernel may show for a while what it remembers.
type mounted struct {
	dir    string
	memory time.Duration
}

func (m mounted) read(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(m.dir, path))
}

func (m mounted) list(path string) ([]int, error) {
	f, err := os.Open(filepath.Join(m.dir, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	return numbers(names), err
}

func (m mounted) allowed() time.Duration { return m.memory }

func numbers(names []string) (all []int) {
	for _, s := range names {
		if n, err := strconv.Atoi(s); err == nil {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

// plain is a tree of 9P2000.L without a cache of its own. It dials again when its connection is gone.
type plain struct {
	addr string

	mu sync.Mutex // guards the rest, and is held by who uses it
	t  *p9client.Tree
}

// answerTime is how long an answer is waited for.
const answerTime = 40 * time.Second

var root = &p9srv.Cred{}

func (p *plain) with(path string, flags uint32, do func(ctx context.Context, f p9srv.File) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	for {
		err := p.try(ctx, path, flags, do)
		if err == nil || !errors.Is(err, p9client.ErrEnded) && p.t != nil || ctx.Err() != nil {
			return err
		}
		p.close()
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *plain) try(ctx context.Context, path string, flags uint32, do func(ctx context.Context, f p9srv.File) error) error {
	if p.t == nil {
		dialing, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		t, err := p9client.Dial(dialing, p.addr, p9client.Options{})
		if err != nil {
			return fmt.Errorf("dialing %s: %w", p.addr, err)
		}
		p.t = t
	}
	o, err := p.t.Root(ctx, root, "")
	if err != nil {
		return err
	}
	for _, name := range strings.Split(path, "/") {
		next, _, err := o.Walk(ctx, root, name)
		o.Release()
		if err != nil {
			return err
		}
		o = next
	}
	defer o.Release()
	f, err := o.Open(ctx, root, flags)
	if err != nil {
		return err
	}
	defer f.Close(ctx)
	return do(ctx, f)
}

func (p *plain) close() {
	if p.t != nil {
		p.t.Close()
		p.t = nil
	}
}

func (p *plain) read(path string) (b []byte, err error) {
	err = p.with(path, wire.ORdonly, func(ctx context.Context, f p9srv.File) error {
		b = make([]byte, 4096)
		n, err := f.ReadAt(ctx, b, 0)
		b = b[:n]
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	})
	return b, err
}

func (p *plain) list(path string) (all []int, err error) {
	err = p.with(path, wire.ORdonly|wire.ODirectory, func(ctx context.Context, f p9srv.File) error {
		var names []string
		cookie := uint64(0)
		for {
			n := len(names)
			if err := f.ReadDir(ctx, cookie, func(e wire.Dirent) bool {
				names = append(names, e.Name)
				cookie = e.Offset
				return true
			}); err != nil {
				return err
			}
			if len(names) == n {
				all = numbers(names)
				return nil
			}
		}
	})
	return all, err
}

func (*plain) allowed() time.Duration { return 0 }
