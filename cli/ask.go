package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"echo9/internal/netaddr"
	"echo9/p9client"
	"echo9/p9srv"
)

// answers lets other processes of the user ask this one, which serves a mount: what is in the mount's .echo9, over a socket of its own.
// So it answers also while the kernel's requests wait for the server, and when it was unmounted and still sends. stop ends it.
func answers(b *cached, mnt string) (socket string, stop func(), err error) {
	stop = func() {}
	if b.cache == nil {
		return "", stop, nil
	}
	a, err := netaddr.Private(fmt.Sprintf("mount-%x-%d", mountKey(mnt), os.Getpid()))
	if err != nil {
		return "", stop, err
	}
	l, err := a.Listen(context.Background())
	if err != nil {
		return "", stop, err
	}
	server := p9srv.New(p9srv.Config{Backend: b.cache.Control()})
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(context.Background(), l)
	}()
	return a.String(), func() {
		server.Close()
		<-done
	}, nil
}

// askTime bounds the wait for a process that serves a mount.
const askTime = 5 * time.Second

// ask reads a file of .echo9 from the process that serves a mount.
func (r mountRecord) ask(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	tree, err := p9client.Dial(ctx, r.Socket, p9client.Options{})
	if err != nil {
		return nil, r.failed(err)
	}
	text, err := readWhole(ctx, tree, name)
	return text, errors.Join(err, tree.Close())
}

// failed says whose failure err is.
func (r mountRecord) failed(err error) error {
	return fmt.Errorf("process %d, which serves %s: %w", r.PID, r.Mountpoint, err)
}

// read reads a file of the mount's .echo9: from the process that serves it, if that can be asked, else through the mount.
func (m *mountCtl) read(ctx context.Context, name string) ([]byte, error) {
	for i := len(m.served) - 1; i >= 0; i-- {
		if m.served[i].Socket != "" {
			return m.served[i].ask(ctx, name)
		}
	}
	if !m.mounted {
		return nil, os.ErrNotExist
	}
	text, err := os.ReadFile(m.file(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		err = m.advise(err)
	}
	return text, err
}
