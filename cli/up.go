package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"echo9/p9client"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

func upCommand() *cli.Command {
	return &cli.Command{
		Name: "up", ArgsUsage: "DIR MNT", Usage: "serve a directory and mount it, cached, in one process",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: append(append(append(mountFlags(), cacheFlags()...),
			&cli.StringSliceFlag{Name: "listen", Usage: "also let others in at `ADDR`; may be given many times"},
			&cli.StringFlag{Name: "as", Value: "self", Usage: "as whom those act who come by TCP or vsock: self, a uid, or client (as whom they say)"},
		), withoutRO(serverFlags())...),
		Description: `   echo9 up ~/project /mnt/project
   echo9 up --listen tcp!127.0.0.1!5640 ~/project /mnt/project

What is changed in MNT is in DIR after --write-behind, after fsync, or after
echo9 sync MNT. While it is mounted, change DIR itself only through MNT: the
mount does not notice what others do to DIR directly.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 2, 2); err != nil {
				return err
			}
			return up(c, c.Args().Get(0), c.Args().Get(1))
		},
	}
}

// withoutRO leaves --ro out, which mountFlags have.
func withoutRO(flags []cli.Flag) []cli.Flag { return flags[1:] }

func up(c *cli.Context, dir, mnt string) error {
	users, err := p9srv.ParseUsers(c.String("as"))
	if err != nil {
		return usageError("up: --as: %v", err)
	}
	o, err := cacheOptions(c)
	if err != nil {
		return err
	}
	o.Mountpoint, o.Server = fullPath(mnt), dir
	l := &listenersOf{users: users}
	if len(c.StringSlice("listen")) > 0 {
		if l.addrs, err = listenAddrs(c, dir); err != nil {
			return err
		}
	}
	if err := apart(dir, mnt); err != nil {
		return err
	}
	if done, err := detached(c); done {
		return err
	}
	e, err := openExport(c, dir, users)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	deaths := e.authority.Deaths(uint32(os.Geteuid()))
	for _, d := range deaths {
		sayDeath(d, logger(c.App.ErrWriter))
	}
	e.authority.DeathsTold(deaths)
	near, far, err := connPair()
	if err != nil {
		return errors.Join(err, e.close())
	}
	peer := p9srv.Peer{Addr: "this process", HasCred: true, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), PID: os.Getpid()}
	go e.server.ServeConn(ctx, far, peer)
	b, err := cacheOver(c.Context, near, p9client.Options{}, o)
	if err != nil {
		return errors.Join(err, e.close())
	}
	var listened chan error
	if len(l.addrs) > 0 {
		if err := l.listen(c); err != nil {
			return errors.Join(err, b.drain(context.Background(), logger(c.App.ErrWriter)), e.close())
		}
		listened = make(chan error, 1)
		go func() { listened <- l.accept(ctx, e.server) }()
		fmt.Fprint(c.App.Writer, l.describe())
	}
	return runMount(c, b, mnt, e.fs.Dir(), func() error {
		cancel()
		var err error
		if listened != nil {
			err = <-listened
		}
		return errors.Join(err, e.close())
	})
}

// apart refuses an export and a mount of which one contains the other: the
// server would wait for itself.
func apart(dir, mnt string) error {
	if err := lookAt(dir); err != nil {
		return exportError(fmt.Errorf("serve %s: %w", dir, err))
	}
	switch err := lookAt(mnt); {
	case errors.Is(err, syscall.ENOTCONN):
		return nil // the mount of a daemon that is gone contains nothing
	case err != nil:
		return mountError(fmt.Errorf("mount point %s: %w", mnt, err))
	}
	for _, p := range [][2]string{{dir, mnt}, {mnt, dir}} {
		in, err := dirfs.Contains(p[0], p[1])
		if err != nil {
			return err
		}
		if in {
			return usageError("up: %s contains %s: the server would wait for its own mount; choose a mount point elsewhere", p[0], p[1])
		}
	}
	return nil
}

// lookAt says what is wrong with a name.
func lookAt(name string) error {
	_, err := os.Stat(name)
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// connPair makes two ends of one connection within this process.
func connPair() (near, far net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	a, b := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer a.Close()
	defer b.Close()
	if near, err = net.FileConn(a); err != nil {
		return nil, nil, err
	}
	if far, err = net.FileConn(b); err != nil {
		near.Close()
		return nil, nil, err
	}
	return near, far, nil
}
