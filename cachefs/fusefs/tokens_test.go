package fusefs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"
)

// tokenServer is what a test needs of tokens: several clients of one backend, each with read and write
// tokens for objects that the others make it give up. It caches nothing: what is cached is in the kernels.
type tokenServer struct {
	inner p9srv.Backend

	mu      sync.Mutex
	changed chan struct{}
	toks    map[uint64]map[*tokenClient]*hold
}

const (
	rd = 1
	wr = 2
)

type hold struct {
	mode     int
	pins     int
	recalled bool
	dropping bool // those above were told
}

// tokenClient is one client: a Backend, and Coherent.
type tokenClient struct {
	s *tokenServer

	mu       sync.Mutex
	ttl      time.Duration
	hook     func(what string, id uint64) // after the backend answered, with no token held
	got      func(what string, id uint64) // after the backend answered, before the tokens are unpinned
	flushErr error
	revokers []func(context.Context, []p9srv.Revocation)
}

func newTokenServer(inner p9srv.Backend) *tokenServer {
	return &tokenServer{inner: inner, changed: make(chan struct{}), toks: map[uint64]map[*tokenClient]*hold{}}
}

func (s *tokenServer) client() *tokenClient { return &tokenClient{s: s, ttl: time.Second} }

func (c *tokenClient) OnRevoke(fn func(context.Context, []p9srv.Revocation)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revokers = append(c.revokers, fn)
}

func (c *tokenClient) TTL(id uint64) time.Duration {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if h := c.s.toks[id][c]; h != nil && !h.recalled {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.ttl
	}
	return 0
}

// set changes what tests may change.
func (c *tokenClient) set(change func(c *tokenClient)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *tokenClient) hooks() (got, hook func(what string, id uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got, c.hook
}

// holds says whether c has a token for id.
func (c *tokenClient) holds(id uint64) bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.toks[id][c] != nil
}

// expire takes all tokens of c away without a word, as when its lease is over.
func (c *tokenClient) expire() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for _, hs := range c.s.toks {
		delete(hs, c)
	}
}

func (s *tokenServer) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

type want map[uint64]int

// acquire takes the whole set and pins it. Reads are admitted by what is held though it is recalled.
func (c *tokenClient) acquire(ctx context.Context, w want) error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		ok := true
		for id, mode := range w {
			own := s.toks[id][c]
			if own != nil && own.mode >= mode && !own.dropping && (!own.recalled || mode == rd) {
				continue
			}
			if own != nil && own.recalled {
				ok = false
				continue
			}
			for other, h := range s.toks[id] {
				if other != c && (mode == wr || h.mode == wr) {
					ok = false
					s.recall(other, id, h, mode)
				}
			}
		}
		if ok {
			break
		}
		ch := s.changed
		s.mu.Unlock()
		select {
		case <-ch:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			return ctx.Err()
		}
	}
	for id, mode := range w {
		c.grant(id, mode).pins++
	}
	return nil
}

// grant gives c a token; s.mu is held.
func (c *tokenClient) grant(id uint64, mode int) *hold {
	hs := c.s.toks[id]
	if hs == nil {
		hs = map[*tokenClient]*hold{}
		c.s.toks[id] = hs
	}
	h := hs[c]
	if h == nil {
		h = &hold{}
		hs[c] = h
	}
	h.mode = max(h.mode, mode)
	return h
}

func (c *tokenClient) unpin(w want) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for id := range w {
		if h := c.s.toks[id][c]; h != nil {
			h.pins--
		}
	}
	c.s.wake()
}

// recall has h given up, or made a read token; s.mu is held.
func (s *tokenServer) recall(c *tokenClient, id uint64, h *hold, mode int) {
	if h.recalled {
		return
	}
	h.recalled = true
	rev := p9srv.Revocation{ID: id}
	if mode == rd {
		rev.Keep = 1
	}
	c.mu.Lock()
	revokers := c.revokers
	c.mu.Unlock()
	go func() {
		for _, fn := range revokers {
			fn(context.Background(), []p9srv.Revocation{rev})
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		h.dropping = true
		for h.pins > 0 {
			ch := s.changed
			s.mu.Unlock()
			<-ch
			s.mu.Lock()
		}
		if s.toks[id][c] == h {
			if mode == rd {
				*h = hold{mode: rd}
			} else {
				delete(s.toks[id], c)
			}
		}
		s.wake()
	}()
}

// do runs fn with w held.
func (c *tokenClient) do(ctx context.Context, what string, id uint64, w want, fn func() error) error {
	if err := c.acquire(ctx, w); err != nil {
		return err
	}
	err := fn()
	got, hook := c.hooks()
	if got != nil {
		got(what, id)
	}
	c.unpin(w)
	if hook != nil {
		hook(what, id)
	}
	return err
}

func (c *tokenClient) Root(ctx context.Context, cred *p9srv.Cred, aname string) (p9srv.Object, error) {
	o, err := c.s.inner.Root(ctx, cred, aname)
	return c.wrap(o), err
}

func (c *tokenClient) Lookup(ctx context.Context, id uint64) (p9srv.Object, error) {
	o, err := c.s.inner.Lookup(ctx, id)
	return c.wrap(o), err
}

func (c *tokenClient) StatFS(ctx context.Context) (wire.StatFS, error) { return c.s.inner.StatFS(ctx) }

func (c *tokenClient) wrap(o p9srv.Object) p9srv.Object {
	if o == nil {
		return nil
	}
	return &tokenObject{o, c}
}

type tokenObject struct {
	p9srv.Object // the inner one: what does not change goes straight through
	c            *tokenClient
}

func (o *tokenObject) Walk(ctx context.Context, cred *p9srv.Cred, name string) (p9srv.Object, wire.Attr, error) {
	w := want{o.ID(): rd}
	for {
		var found p9srv.Object
		var attr wire.Attr
		err := o.c.do(ctx, "walk", o.ID(), w, func() (err error) {
			found, attr, err = o.Object.Walk(ctx, cred, name)
			return err
		})
		if err != nil {
			return nil, attr, err
		}
		if w[found.ID()] != 0 {
			return o.c.wrap(found), attr, nil
		}
		w = want{o.ID(): rd, found.ID(): rd}
		found.Release()
	}
}

func (o *tokenObject) GetAttr(ctx context.Context, cred *p9srv.Cred) (a wire.Attr, err error) {
	err = o.c.do(ctx, "getattr", o.ID(), want{o.ID(): rd}, func() (err error) {
		a, err = o.Object.GetAttr(ctx, cred)
		return err
	})
	return a, err
}

func (o *tokenObject) SetAttr(ctx context.Context, cred *p9srv.Cred, f p9srv.File, set wire.SetAttr) error {
	if tf, ok := f.(*tokenFile); ok {
		f = tf.File
	}
	return o.c.do(ctx, "setattr", o.ID(), want{o.ID(): wr}, func() error { return o.Object.SetAttr(ctx, cred, f, set) })
}

func (o *tokenObject) Open(ctx context.Context, cred *p9srv.Cred, flags uint32) (f p9srv.File, err error) {
	mode := rd
	if flags&wire.OTrunc != 0 {
		mode = wr
	}
	err = o.c.do(ctx, "open", o.ID(), want{o.ID(): mode}, func() error {
		inner, err := o.Object.Open(ctx, cred, flags)
		f = &tokenFile{inner, o.c, o.ID()}
		return err
	})
	return f, err
}

// named runs fn with write tokens of the directories, of what is bound to the names in them, and of more.
func (o *tokenObject) named(ctx context.Context, cred *p9srv.Cred, what string, names map[p9srv.Object][]string, more want, fn func() error) error {
	w := want{}
	for {
		for d := range names {
			w[d.ID()] = wr
		}
		for id, m := range more {
			w[id] = m
		}
		complete := true
		err := o.c.do(ctx, what, o.ID(), w, func() error {
			for d, ns := range names {
				for _, n := range ns {
					if found, _, err := d.Walk(ctx, cred, n); err == nil {
						if w[found.ID()] != wr {
							complete = false
							more[found.ID()] = wr
						}
						found.Release()
					}
				}
			}
			if !complete {
				return nil
			}
			return fn()
		})
		if err != nil || complete {
			return err
		}
		w = want{}
	}
}

func (o *tokenObject) Create(ctx context.Context, cred *p9srv.Cred, name string, flags, mode, gid uint32) (obj p9srv.Object, f p9srv.File, a wire.Attr, err error) {
	err = o.named(ctx, cred, "create", map[p9srv.Object][]string{o.Object: {name}}, want{}, func() (err error) {
		inner, file, attr, err := o.Object.Create(ctx, cred, name, flags, mode, gid)
		if err != nil {
			return err
		}
		o.c.own(inner.ID())
		obj, f, a = o.c.wrap(inner), &tokenFile{file, o.c, inner.ID()}, attr
		return nil
	})
	return obj, f, a, err
}

// own gives c the token of what it has just made.
func (c *tokenClient) own(id uint64) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(c.s.toks[id]) == 0 {
		c.grant(id, wr)
	}
}

func (o *tokenObject) made(ctx context.Context, cred *p9srv.Cred, name string, fn func() (p9srv.Object, wire.Attr, error)) (obj p9srv.Object, a wire.Attr, err error) {
	err = o.named(ctx, cred, "make", map[p9srv.Object][]string{o.Object: {name}}, want{}, func() error {
		inner, attr, err := fn()
		if err != nil {
			return err
		}
		o.c.own(inner.ID())
		obj, a = o.c.wrap(inner), attr
		return nil
	})
	return obj, a, err
}

func (o *tokenObject) Mkdir(ctx context.Context, cred *p9srv.Cred, name string, mode, gid uint32) (p9srv.Object, wire.Attr, error) {
	return o.made(ctx, cred, name, func() (p9srv.Object, wire.Attr, error) { return o.Object.Mkdir(ctx, cred, name, mode, gid) })
}

func (o *tokenObject) Symlink(ctx context.Context, cred *p9srv.Cred, name, target string, gid uint32) (p9srv.Object, wire.Attr, error) {
	return o.made(ctx, cred, name, func() (p9srv.Object, wire.Attr, error) {
		return o.Object.Symlink(ctx, cred, name, target, gid)
	})
}

func (o *tokenObject) Mknod(ctx context.Context, cred *p9srv.Cred, name string, mode, major, minor, gid uint32) (p9srv.Object, wire.Attr, error) {
	return o.made(ctx, cred, name, func() (p9srv.Object, wire.Attr, error) {
		return o.Object.Mknod(ctx, cred, name, mode, major, minor, gid)
	})
}

func (o *tokenObject) Link(ctx context.Context, cred *p9srv.Cred, target p9srv.Object, name string) error {
	inner := target.(*tokenObject).Object
	return o.named(ctx, cred, "link", map[p9srv.Object][]string{o.Object: {name}}, want{inner.ID(): wr}, func() error {
		return o.Object.Link(ctx, cred, inner, name)
	})
}

func (o *tokenObject) Unlink(ctx context.Context, cred *p9srv.Cred, name string, flags uint32) error {
	return o.named(ctx, cred, "unlink", map[p9srv.Object][]string{o.Object: {name}}, want{}, func() error {
		return o.Object.Unlink(ctx, cred, name, flags)
	})
}

func (o *tokenObject) Rename(ctx context.Context, cred *p9srv.Cred, oldName string, dir p9srv.Object, newName string, flags uint32) error {
	inner := dir.(*tokenObject).Object
	names := map[p9srv.Object][]string{o.Object: {oldName}, inner: {newName}}
	if inner.ID() == o.ID() {
		names = map[p9srv.Object][]string{o.Object: {oldName, newName}}
	}
	return o.named(ctx, cred, "rename", names, want{}, func() error {
		return o.Object.Rename(ctx, cred, oldName, inner, newName, flags)
	})
}

func (o *tokenObject) SetXattr(ctx context.Context, cred *p9srv.Cred, name string, value []byte, flags uint32) error {
	return o.c.do(ctx, "setxattr", o.ID(), want{o.ID(): wr}, func() error { return o.Object.SetXattr(ctx, cred, name, value, flags) })
}

func (o *tokenObject) RemoveXattr(ctx context.Context, cred *p9srv.Cred, name string) error {
	return o.c.do(ctx, "removexattr", o.ID(), want{o.ID(): wr}, func() error { return o.Object.RemoveXattr(ctx, cred, name) })
}

type tokenFile struct {
	p9srv.File
	c  *tokenClient
	id uint64
}

func (f *tokenFile) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	err = f.c.do(ctx, fmt.Sprintf("read %d", off), f.id, want{f.id: rd}, func() (err error) {
		n, err = f.File.ReadAt(ctx, p, off)
		return err
	})
	return n, err
}

func (f *tokenFile) WriteAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	err = f.c.do(ctx, "write", f.id, want{f.id: wr}, func() (err error) {
		n, err = f.File.WriteAt(ctx, p, off)
		return err
	})
	return n, err
}

func (f *tokenFile) ReadDir(ctx context.Context, cookie uint64, fn func(wire.Dirent) bool) error {
	return f.c.do(ctx, "readdir", f.id, want{f.id: rd}, func() error { return f.File.ReadDir(ctx, cookie, fn) })
}

func (f *tokenFile) Allocate(ctx context.Context, mode uint32, off, length uint64) error {
	return f.c.do(ctx, "allocate", f.id, want{f.id: wr}, func() error { return f.File.Allocate(ctx, mode, off, length) })
}

// Flush tells of write behind: here there is none, but tests may set an error.
func (f *tokenFile) Flush(context.Context) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.c.flushErr
}

// bare makes c one that gets no lasting tokens: what it does is admitted, and covered no longer than it takes.
func (c *tokenClient) bare() { c.set(func(c *tokenClient) { c.ttl = 0 }) }
