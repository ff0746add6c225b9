package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"echo9/internal/cut"
	"echo9/internal/wire"
	"echo9/p9srv"

	"golang.org/x/sys/unix"
)

const smallSize = 100

// overwriter overwrites some bytes of a file that is there, durably, in one of three ways.
type overwriter struct {
	local *os.File // pwrite and fdatasync

	e      *export // a cut
	id     uint64
	number uint64

	c *client // a write and an fsync through a cache
	f p9srv.File
}

func newOverwriter(ctx context.Context, mnt, name string) (*overwriter, error) {
	o := &overwriter{}
	var err error
	if o.local, err = os.OpenFile(filepath.Join(mnt, name+".local"), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	if _, err := o.local.Write(make([]byte, 1<<20)); err != nil {
		return nil, err
	}
	if err := o.local.Sync(); err != nil {
		return nil, err
	}
	if o.e, err = newExport(ctx, mnt, name); err != nil {
		return nil, err
	}
	for _, f := range []string{"direct", "cached"} {
		if err := os.WriteFile(filepath.Join(o.e.dir, f), make([]byte, 1<<20), 0o644); err != nil {
			return nil, err
		}
	}
	unix.Sync()
	root, err := o.e.fs.Root(ctx, nil, "")
	if err != nil {
		return nil, err
	}
	defer root.Release()
	if o.id, err = o.e.fs.ResolveName(ctx, root.ID(), "direct"); err != nil {
		return nil, err
	}
	if o.c, err = o.e.client(ctx); err != nil {
		return nil, err
	}
	o.f, err = openFile(ctx, o.c, "cached")
	return o, err
}

func openFile(ctx context.Context, c *client, name string) (p9srv.File, error) {
	o, _, err := c.root.Walk(ctx, c.cred, name)
	if err != nil {
		return nil, err
	}
	defer o.Release()
	return o.Open(ctx, c.cred, wire.ORdwr)
}

func (o *overwriter) close(ctx context.Context) error {
	o.f.Close(ctx)
	if err := o.c.close(ctx); err != nil {
		return err
	}
	o.local.Close()
	os.Remove(o.local.Name())
	return o.e.close()
}

func (o *overwriter) byHand(b []byte, off int64) error {
	if _, err := o.local.WriteAt(b, off); err != nil {
		return err
	}
	return unix.Fdatasync(int(o.local.Fd()))
}

func (o *overwriter) byCut(ctx context.Context, b []byte, off int64) error {
	o.number++
	now := time.Now().UnixNano()
	return o.e.fs.Apply(ctx, &p9srv.Cred{Session: 1}, &cut.Cut{Number: o.number, Records: []cut.Record{
		{Kind: cut.Data, ID: o.id, Off: uint64(off), Bytes: b},
		{Kind: cut.Attr, ID: o.id, Valid: cut.AttrMtime | cut.AttrCtime, Mtime: now, Ctime: now},
	}})
}

func (o *overwriter) byCache(ctx context.Context, b []byte, off int64) error {
	if _, err := o.f.WriteAt(ctx, b, off); err != nil {
		return err
	}
	return o.f.Fsync(ctx, true)
}

type samples struct{ local, direct, cached []time.Duration }

// turns has the three ways take turns, until done says so.
func (o *overwriter) turns(ctx context.Context, done func(n int) bool) (samples, error) {
	var s samples
	for n := 0; !done(n); n++ {
		b := make([]byte, smallSize)
		b[0] = byte(n)
		off := int64(n%200) * 4096
		for _, way := range []struct {
			into *[]time.Duration
			do   func() error
		}{
			{&s.local, func() error { return o.byHand(b, off) }},
			{&s.direct, func() error { return o.byCut(ctx, b, off) }},
			{&s.cached, func() error { return o.byCache(ctx, b, off) }},
		} {
			took, err := timed(way.do)
			if err != nil {
				return s, err
			}
			*way.into = append(*way.into, took)
		}
	}
	return s, nil
}

func smallPart(ctx context.Context, mnt string, c config) ([]row, error) {
	o, err := newOverwriter(ctx, mnt, "small")
	if err != nil {
		return nil, err
	}
	s, err := o.turns(ctx, func(n int) bool { return n == c.rounds })
	if err != nil {
		return nil, err
	}
	detail := func(d []time.Duration) string {
		return fmt.Sprintf("p90 %s, local %s", show(quantile(d, 0.9)), show(quantile(s.local, 0.9)))
	}
	return []row{
		{what: "small overwrite, durable: a cut", local: median(s.local), echo9: median(s.direct), goal: 1.3, detail: detail(s.direct)},
		{what: "small overwrite, durable: through a cache, unix socket", local: median(s.local), echo9: median(s.cached), goal: 1.3, detail: detail(s.cached)},
	}, o.close(ctx)
}

// sharedPart has many clients fsync at the same time, each its own file.
func sharedPart(ctx context.Context, mnt string, c config) ([]row, error) {
	e, err := newExport(ctx, mnt, "shared")
	if err != nil {
		return nil, err
	}
	defer e.close() // after all clients
	var files []p9srv.File
	for i := range c.clients {
		name := fmt.Sprint("f", i)
		if err := os.WriteFile(filepath.Join(e.dir, name), make([]byte, 1<<16), 0o644); err != nil {
			return nil, err
		}
		cl, err := e.client(ctx)
		if err != nil {
			return nil, err
		}
		defer cl.close(ctx)
		f, err := openFile(ctx, cl, name)
		if err != nil {
			return nil, err
		}
		defer f.Close(ctx)
		files = append(files, f)
	}
	before := e.fs.LogStats()
	each := max(1, c.rounds/4)
	var wg sync.WaitGroup
	errs := make(chan error, len(files))
	start := time.Now()
	for i, f := range files {
		wg.Go(func() {
			for n := range each {
				b := []byte(fmt.Sprintf("%09d", n))
				_, err := f.WriteAt(ctx, b, int64(n%10)*4096+int64(i))
				if err == nil {
					err = f.Fsync(ctx, true)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	close(errs)
	for err := range errs {
		return nil, err
	}
	after := e.fs.LogStats()
	cuts, syncs := after.Cuts-before.Cuts, after.Syncs-before.Syncs
	return []row{{
		what:  fmt.Sprintf("%d clients that fsync: syncs per cut", c.clients),
		echo9: took / time.Duration(each*len(files)), ratio: float64(syncs) / float64(cuts), goal: 0.999,
		detail: fmt.Sprintf("%d cuts, %d syncs; the time is per fsync of all", cuts, syncs),
	}}, nil
}
