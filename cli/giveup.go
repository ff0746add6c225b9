package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"echo9/cachefs"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
)

// givingUp gives a context that ends at the second interrupt from now on: who waits for the server to have everything does so no
// longer then, and what it has not is kept. A third one ends the process at once.
func (b *cached) givingUp() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		for range 2 {
			select {
			case <-signals:
			case <-ctx.Done():
				return
			}
		}
		if b.cache != nil {
			b.cache.GiveUp()
		}
		cancel()
	}()
	return ctx, cancel
}

// givenUp is closed when nobody waits for the server any more.
func (b *cached) givenUp() <-chan struct{} {
	if b.cache == nil {
		return nil
	}
	return b.cache.GivenUp()
}

func (b *cached) isGivenUp() bool {
	select {
	case <-b.givenUp():
		return true
	default:
		return false
	}
}

// keptWhere says, for people, where what never reached the server is.
func keptWhere(o *cachefs.Options) string {
	switch {
	case o.Backlog != nil:
		return "they are in the journal: start it again in the same way, and they are sent"
	case o.Spool != nil:
		return "they are kept: echo9 lost list"
	}
	return "they are lost"
}

// giveUp has the process that serves the mount wait for the server no longer.
func (m *mountCtl) giveUp(ctx context.Context) error {
	for _, r := range m.served {
		if err := r.tell(ctx, "giveup"); err != nil {
			return err
		}
	}
	return nil
}

// tell writes a line to .echo9/ctl of the process that serves a mount, past the mount.
func (r mountRecord) tell(ctx context.Context, line string) error {
	if r.Socket == "" {
		return nil // nothing is cached
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	tree, err := p9client.Dial(ctx, r.Socket, p9client.Options{})
	if err != nil {
		return r.failed(err)
	}
	defer tree.Close()
	return writeLine(ctx, tree, "ctl", line)
}

// writeLine writes a line to a file of a tree.
func writeLine(ctx context.Context, tree p9srv.Backend, name, line string) error {
	cred := new(p9srv.Cred)
	root, err := tree.Root(ctx, cred, "")
	if err != nil {
		return err
	}
	defer root.Release()
	o, _, err := root.Walk(ctx, cred, name)
	if err != nil {
		return err
	}
	defer o.Release()
	f, err := o.Open(ctx, cred, wire.OWronly)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(ctx, []byte(line+"\n"), 0)
	return errors.Join(err, f.Close(ctx))
}
