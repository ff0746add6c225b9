package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"
)

func umountCommand() *cli.Command {
	return &cli.Command{
		Name: "umount", ArgsUsage: "MNT", Usage: "send everything to the server, unmount, wait for the daemon's end",
		Category: "Server and mounts", HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "give-up", Usage: "do not wait for the server: what it has not is given up, and kept (echo9 lost, or the journal)"},
		},
		Description: `   echo9 umount /mnt/src
   echo9 umount --give-up /mnt/src   the server is gone for good

When it returns with 0, all that was done is at the server. It waits for a server
that is away; a Ctrl-C ends that wait, and leaves the mount as it is.`,
		Action: func(c *cli.Context) error {
			if err := checkOperands(c, 1, 1); err != nil {
				return err
			}
			freeDead(c.Args().First())
			m, err := findMount("umount", c.Args().First())
			if err != nil {
				return err
			}
			if c.Bool("give-up") {
				return m.unmountNow(c)
			}
			lost, err := m.unmountSent(c.Context)
			if err != nil {
				return errors.Join(lost, err)
			}
			return errors.Join(lost, m.waitExit(c.Context))
		},
	}
}

// unmountSent sends everything and unmounts. What is lost is lost, mounted or not: it is told, and that is no failure.
func (m *mountCtl) unmountSent(ctx context.Context) (lost, err error) {
	if !m.mounted {
		return nil, nil
	}
	if lost = m.sync(ctx); ctx.Err() != nil {
		return nil, fmt.Errorf("umount %s: interrupted; it stays mounted, and goes on sending", m.path)
	}
	if errors.Is(lost, syscall.ENOTCONN) {
		lost = fmt.Errorf("umount %s: the process that served it had died; the mount is taken away, but whether all that was done is at the server nobody knows here (echo9 status ADDR tells)", m.path)
	}
	return lost, m.unmount()
}

// unmountNow unmounts without the server.
func (m *mountCtl) unmountNow(c *cli.Context) error {
	s, _, unknown := m.status(c.Context)
	if err := m.giveUp(c.Context); err != nil {
		return err
	}
	detached := false
	if m.mounted && !slices.ContainsFunc(m.served, func(r mountRecord) bool { return r.Socket != "" }) {
		// Nobody takes it away who was told.
		err := m.unmount()
		if detached = errors.Is(err, syscall.EBUSY); detached {
			fmt.Fprintf(c.App.ErrWriter, "echo9: %v; it is detached, and they get errors from now on\n", err)
			err = lazyUnmount(m.path)
		}
		if err != nil {
			return err
		}
	}
	if !detached { // then its process ends with the last who uses it
		if err := m.waitExit(c.Context); err != nil {
			return err
		}
	}
	switch {
	case unknown != nil:
		return fmt.Errorf("umount %s: it is taken away, but whether all that was done is at the server nobody knows here (echo9 lost list and echo9 status ADDR tell): %w", m.path, unknown)
	case s != nil && s.Pending > 0:
		return fmt.Errorf("umount %s: %d changes are not at the server (echo9 lost list shows what is kept of them; what is in a journal is sent when the mount is made again)", m.path, s.Pending)
	}
	return nil
}
