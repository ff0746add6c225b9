package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"echo9/cachefs"
	"echo9/p9client"
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

// giveUp has the processes that serve the mount wait for the server no longer.
func (m *mountCtl) giveUp(ctx context.Context) error {
	for _, r := range m.served {
		if r.Socket == "" {
			continue // nothing is cached
		}
		if err := r.giveUp(ctx); err != nil {
			return r.failed(err)
		}
	}
	return nil
}

// giveUpTime bounds the wait until a process that serves a mount has been told.
const giveUpTime = 30 * time.Second

// giveUp tells one of them, past the mount. It may end before it answers: whether it does is for who waits for its end to see.
func (r mountRecord) giveUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, giveUpTime)
	defer cancel()
	tree, err := p9client.Dial(ctx, r.Socket, p9client.Options{})
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := writeWhole(ctx, tree, "ctl", []byte("giveup\n")); !errors.Is(err, p9client.ErrEnded) {
		return err
	}
	return nil
}
