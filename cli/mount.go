package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"echo9/cachefs/fusefs"
)

func mountCommand() *cli.Command {
	return &cli.Command{
		Name: "mount", ArgsUsage: "ADDR MNT", Usage: "mount a server's tree by FUSE, cached and written behind",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: append(append(append(mountFlags(), cacheFlags()...), journalFlag()), withoutAddr(connectFlags())...),
		Description: `   echo9 mount unix!/run/echo9/src.sock /mnt/src
   echo9 mount --detach tcp!server!5640 ~/src && make -C ~/src; echo9 umount ~/src
   echo9 mount --order causal --dirty 64MiB --cache 512MiB tcp!server!5640 ~/src

Needs neither root nor a kernel module of 9P: only /dev/fuse, and fusermount3
for ordinary users. Stays in the foreground until it is unmounted or
interrupted; Ctrl-C sends what is not at the server yet, and unmounts.

Changes are at the server for sure after fsync(2), echo9 sync MNT, or
echo9 umount MNT. sync(1) and umount(8) do not reach the daemon: after them it
goes on in the background until everything is sent.

Whatever crashes, changes of one file or directory are never there without those
before them; --order causal adds: nor without what was read before; --order total:
nor without any. echo9 barrier PATH orders one thing before all later ones.
With --journal DIR everything is on this machine's disk, too, before a program's call
returns: if this process is killed, the same command started again within the
server's --courtesy sends it, in order; echo9 lost keeps what others took meanwhile.
Writers wait while --dirty is not at the server; echo9 status MNT says who does,
echo9 pending MNT what is not there yet.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 2, 2); err != nil {
				return err
			}
			addr, err := serverAddr(c, c.Args().Get(0))
			if err != nil {
				return err
			}
			o, err := cacheOptions(c)
			if err != nil {
				return err
			}
			o.Mountpoint = fullPath(c.Args().Get(1))
			o.Place = o.Mountpoint
			if done, err := detached(c); done {
				return err
			}
			b, err := openCached(c, addr, o)
			if err != nil {
				return err
			}
			tellDeaths(c, addr, logger(c.App.ErrWriter))
			return runMount(c, b, c.Args().Get(1), addr, func() error { return nil })
		},
	}
}

// mountFlags are those of mount and up.
func mountFlags() []cli.Flag {
	return append(daemonFlags(),
		&cli.BoolFlag{Name: "allow-other", Usage: "let other users use the mount, too"},
		&cli.BoolFlag{Name: "ro", Usage: "mount read-only"},
		&cli.BoolFlag{Name: "nonempty", Usage: "mount over a directory that is not empty"},
	)
}

// withoutAddr leaves -a out, for commands whose operand is the address.
func withoutAddr(flags []cli.Flag) []cli.Flag { return flags[1:] }

// fullPath is the path by which programs know a mount point.
func fullPath(mnt string) string {
	freeDead(mnt)
	full, err := mountpoint(mnt)
	if err != nil {
		return mnt // whoever mounts there will say what is wrong with it
	}
	return full
}

// stopTime bounds the unmounting after an interrupt.
const stopTime = 5 * time.Second

// lingerTime is what processes get that still use a mount that is detached.
const lingerTime = time.Second

// runMount mounts b, and returns when it is unmounted and all is sent. It closes b, and then calls after.
func runMount(c *cli.Context, b *cached, mnt, source string, after func() error) (err error) {
	say := logger(c.App.ErrWriter)
	late, done := b.givingUp()
	defer done()
	logf := func(string, ...any) {}
	if c.Bool("verbose") {
		logf = say
	}
	m, err := fusefs.Mount(c.Context, b.Backend, mnt, fusefs.Options{
		AllowOther: c.Bool("allow-other"), ReadOnly: c.Bool("ro"), NonEmpty: c.Bool("nonempty"), FsName: source, Logf: logf,
	})
	if err != nil {
		return errors.Join(mountError(err), b.drain(late, say), after())
	}
	record := mountRecord{PID: os.Getpid(), Mountpoint: m.Path(), Server: source, Cached: b.cache != nil, Started: time.Now()}
	socket, stop, err := answers(b, m.Path())
	if err != nil {
		say("nobody can ask this process past the mount: %v", err)
	}
	record.Socket = socket
	defer stop()
	unregister, err := register(record)
	if err != nil {
		return errors.Join(err, m.Unmount(context.Background()), b.drain(late, say), after())
	}
	defer unregister()
	ready(c, fmt.Sprintf("%s is mounted on %s, %s\nunmount with: echo9 umount %s\n", source, m.Path(), b.kind(), m.Path()))

	select {
	case <-m.Done():
		if n, bytes := b.pending(); n > 0 {
			say("%s was unmounted; %d changes (%sB) are still to be sent, going on until they are (Ctrl-C twice gives them up)", m.Path(), n, byteCount(uint64(bytes)))
		}
	case <-b.givenUp():
		if err := stopMount(m, b, say); err != nil {
			say("%v", err)
		}
	case <-c.Context.Done():
		say("unmounting %s; a second Ctrl-C gives up what is not at the server", m.Path())
		if err := stopMount(m, b, say); err != nil {
			say("%v", err)
		}
	}
	err = b.drain(late, say)
	if err == nil && c.Bool("verbose") {
		say("everything is at the server")
	}
	return errors.Join(err, after())
}

// stopMount flushes and unmounts after an interrupt. What still uses the mount
// keeps a dead one.
func stopMount(m *fusefs.Mounted, b *cached, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := b.sync(ctx); err != nil && ctx.Err() == nil && !b.isGivenUp() {
		say("%v", err)
	}
	err := m.Unmount(ctx)
	if err == nil || !errors.Is(err, syscall.EBUSY) {
		return err
	}
	say("%v", err)
	if err := lazyUnmount(m.Path()); err != nil {
		return err
	}
	say("%s is detached; the processes that still use it get errors from now on", m.Path())
	select {
	case <-m.Done():
	case <-time.After(lingerTime):
	}
	return nil
}

// mountError says what to do about a mount that fails.
func mountError(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w (make the mount point first: mkdir)", err)
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("%w (a mount whose daemon is gone is still there: echo9 umount, or umount -l)", err)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%w (choose another mount point, or take that mount away first: echo9 umount)", err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w (a tree can only be mounted on a directory)", err)
	case errors.Is(err, syscall.ENOTEMPTY):
		return fmt.Errorf("%w (choose an empty directory, or say --nonempty)", err)
	}
	return err
}
