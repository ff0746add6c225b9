package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"echo9/cachefs"
	"echo9/internal/wire"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/tests/internal/rig"
	"echo9/tests/internal/slowproxy"
)

// policy is when and in which order a mount sends what was changed.
type policy struct {
	name  string
	flags []string
	what  string
}

// atOnce is the most k that a policy is measured with which leaves nothing unsent: more says nothing more.
const atOnce = 1000

// sweeps are the numbers of unsent files that a policy is measured with.
func (p policy) sweeps(ks []int) []int {
	if p.name != "sync" && p.name != "close" {
		return ks
	}
	return slices.DeleteFunc(slices.Clone(ks), func(k int) bool { return k > atOnce })
}

// policies are compared, the default last.
var policies = []policy{
	{"sync", []string{"--writes", "sync"}, "every change is sent by itself, and its program waits for the answer"},
	{"close", []string{"--writes", "close"}, "a file's data go when it is closed, every other change at once; the program waits (what NFS does, but with tokens: nothing is asked again at open)"},
	{"total", []string{"--order", "total"}, "written behind; everything stays in the order in which it was done: a log"},
	{"causal", []string{"--order", "causal"}, "written behind; what comes after a look at something unsent stays behind that"},
	{"object", []string{"--order", "object"}, "written behind; what touches a same object stays in order. The default"},
}

// stand is a server, a mount of it through a proxy that counts, and a plain client beside it that looks.
type stand struct {
	mnt    string
	server *rig.Process
	proxy  *slowproxy.Proxy
	daemon *rig.Process
	looker *p9client.Tree
	base   string
}

// never is a --write-behind that does not come.
const never = time.Hour

// longLease is one that is not renewed while something is measured: that would cost messages by the hour, and not by the work.
const longLease = time.Hour

// newStand makes a stand in a directory of its own. rtt and rate (bytes a second, 0 for any) are those of the mount's link.
func newStand(ctx context.Context, c config, p policy, rtt time.Duration, rate int64, flags ...string) (s *stand, err error) {
	s = &stand{}
	if s.base, err = os.MkdirTemp(c.dir, "stand-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	export := filepath.Join(s.base, "export")
	s.mnt = filepath.Join(s.base, "mnt")
	for _, d := range []string{export, s.mnt} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	addr, err := rig.FreePort()
	if err != nil {
		return nil, err
	}
	if s.server, err = rig.Start([]string{c.echo9, "serve", "--lease", longLease.String(), "--listen", addr, export}, rig.Listening(addr)); err != nil {
		return nil, err
	}
	if s.proxy, err = slowproxy.NewLink(addr, rtt, rate); err != nil {
		return nil, err
	}
	args := append([]string{c.echo9, "mount"}, p.flags...)
	args = append(append(args, flags...), s.proxy.Addr(), s.mnt)
	if s.daemon, err = rig.Start(args, func() bool { _, err := s.status(); return err == nil }); err != nil {
		return nil, err
	}
	s.looker, err = p9client.Dial(ctx, addr, p9client.Options{})
	return s, err
}

// close ends everything and removes the directory.
func (s *stand) close() error {
	var errs []error
	if s.looker != nil {
		errs = append(errs, s.looker.Close())
	}
	if s.daemon != nil {
		errs = append(errs, s.daemon.Stop())
	}
	if s.proxy != nil {
		s.proxy.Close()
	}
	if s.server != nil {
		errs = append(errs, s.server.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(s.base))...)
}

// status is how the cache under the mount stands.
func (s *stand) status() (cachefs.Status, error) {
	var st cachefs.Status
	text, err := os.ReadFile(filepath.Join(s.mnt, ".echo9", "status.json"))
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if err == nil && !st.Cached {
		err = fmt.Errorf("%s is not cached", s.mnt)
	}
	if err == nil && (st.Error != "" || st.Lost > 0) {
		err = fmt.Errorf("%s has lost %d updates; %s", s.mnt, st.Lost, st.Error)
	}
	return st, err
}

// sync sends everything that is pending.
func (s *stand) sync() error {
	return os.WriteFile(filepath.Join(s.mnt, ".echo9", "ctl"), []byte("sync\n"), 0o600)
}

// settled waits until the background does not send any more, and gives how things stand then.
func (s *stand) settled() (cachefs.Status, error) {
	last, err := s.status()
	for same := 0; same < 3 && err == nil; {
		time.Sleep(100 * time.Millisecond)
		var st cachefs.Status
		if st, err = s.status(); st.InFlight == 0 && st.Cuts == last.Cuts && st.Pending == last.Pending {
			same++
		} else {
			same = 0
		}
		last = st
	}
	return last, err
}

// look does what somebody else does who reads a file: it walks there, asks for the attributes, and reads.
func (s *stand) look(ctx context.Context, path string) (time.Duration, error) {
	cred := &p9srv.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	start := time.Now()
	o, err := s.looker.Root(ctx, cred, "")
	if err != nil {
		return 0, fmt.Errorf("looking at %s: %w", path, err)
	}
	defer func() { o.Release() }()
	var a wire.Attr
	for name := range strings.SplitSeq(path, "/") {
		next, at, err := o.Walk(ctx, cred, name)
		if err != nil {
			return 0, fmt.Errorf("looking at %s: %s: %w", path, name, err)
		}
		o.Release()
		o, a = next, at
	}
	f, err := o.Open(ctx, cred, wire.ORdonly)
	if err != nil {
		return 0, fmt.Errorf("looking at %s: %w", path, err)
	}
	defer f.Close(ctx)
	buf := make([]byte, a.Size)
	n, err := f.ReadAt(ctx, buf, 0)
	took := time.Since(start)
	if err != nil || n == 0 && a.Size > 0 {
		return 0, fmt.Errorf("reading %s: %d bytes of %d: %w", path, n, a.Size, err)
	}
	return took, nil
}

// recall looks at a file and tells what that made the mount send until the answer was there.
func (s *stand) recall(ctx context.Context, path string) (flush, error) {
	before, err := s.status()
	if err != nil {
		return flush{}, err
	}
	wire := s.proxy.Counts()
	took, err := s.look(ctx, path)
	if err != nil {
		return flush{}, err
	}
	n := s.proxy.Counts().Sub(wire)
	after, err := s.status()
	if err != nil {
		return flush{}, err
	}
	return flush{
		Pending: before.Pending, PendingBytes: before.PendingBytes, Updates: after.Landed - before.Landed, Records: after.Records - before.Records,
		Cuts: after.Cuts - before.Cuts, Bytes: n.Sent, Seconds: took.Seconds(),
	}, nil
}
