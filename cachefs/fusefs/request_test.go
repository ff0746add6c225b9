package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"echo9/internal/wire"
	"echo9/p9srv"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// slowBackend keeps look-ups of the name "slow" waiting.
type slowBackend struct {
	p9srv.Backend
	arrived chan context.Context
	goOn    chan struct{}
}

func (b *slowBackend) Root(ctx context.Context, cred *p9srv.Cred, aname string) (p9srv.Object, error) {
	o, err := b.Backend.Root(ctx, cred, aname)
	return &slowObject{o, b}, err
}

type slowObject struct {
	p9srv.Object
	b *slowBackend
}

func (o *slowObject) Walk(ctx context.Context, cred *p9srv.Cred, name string) (p9srv.Object, wire.Attr, error) {
	if name == "slow" {
		select {
		case o.b.arrived <- ctx:
		default:
		}
		select {
		case <-ctx.Done():
			return nil, wire.Attr{}, fmt.Errorf("walk: %w", ctx.Err())
		case <-o.b.goOn:
			return nil, wire.Attr{}, fmt.Errorf("walk: %w", syscall.ENOENT)
		}
	}
	return o.Object.Walk(ctx, cred, name)
}

func slow(t *testing.T) (*slowBackend, *Mounted) {
	t.Helper()
	inner, _ := exportDir(t)
	b := &slowBackend{Backend: inner, arrived: make(chan context.Context, 10), goOn: make(chan struct{})}
	return b, mounted(t, b, Options{})
}

// A signal that the program handles does not make its stat(2) fail.
func TestHandledSignal(t *testing.T) {
	b, m := slow(t)
	r := startHelper(t, "stat", m.Path()+"/slow", "handled")
	if s := r.says(t); s != "ready" {
		t.Fatal(s)
	}
	ctx := <-b.arrived
	for range 10 { // some thread of it gets them
		must(t, r.cmd.Process.Signal(syscall.SIGUSR1))
		time.Sleep(5 * time.Millisecond)
	}
	select {
	case <-ctx.Done():
		t.Error("the request was cancelled")
	case <-time.After(2 * fatalPoll):
	}
	close(b.goOn)
	if s := r.says(t); s != "no such file or directory" {
		t.Errorf("%q", s)
	}
}

// A signal that ends the program cancels what it asked for.
func TestFatalSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		b, m := slow(t)
		r := startHelper(t, "stat", m.Path()+"/slow")
		r.says(t)
		ctx := <-b.arrived
		must(t, r.cmd.Process.Signal(syscall.SIGUSR1)) // handled: the kernel says so once, and not again
		must(t, r.cmd.Process.Signal(sig))
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("%v", ctx.Err())
			}
		case <-time.After(patience):
			t.Errorf("%v does not cancel", sig)
			close(b.goOn)
		}
		r.stop()
	}
}

// Requests that wait end when the mount is torn away.
func TestForcedUnmountCancels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root unmounts by force")
	}
	inner, _ := exportDir(t)
	b := &slowBackend{Backend: inner, arrived: make(chan context.Context, 10), goOn: make(chan struct{})}
	m, err := Mount(t.Context(), b, t.TempDir(), Options{})
	must(t, err)
	r := startHelper(t, "stat", m.Path()+"/slow")
	r.says(t)
	<-b.arrived
	must(t, syscall.Unmount(m.Path(), 1|2)) // MNT_FORCE, MNT_DETACH
	select {
	case <-m.Done():
	case <-time.After(patience):
		t.Error("the request waits on")
		close(b.goOn)
	}
}

// Many requests wait at once, and others are served.
func TestManyWait(t *testing.T) {
	b, m := slow(t)
	const many = 100
	must(t, os.Mkdir(m.Path()+"/d", 0o755)) // the kernel's lock of the root is held by the look-up
	done := make(chan error, many)
	for i := range many {
		go func() { done <- lstat(fmt.Sprintf("%s/slow/%d", m.Path(), i)) }()
	}
	<-b.arrived
	write(t, m.Path()+"/d/f", "x")
	wantFile(t, m.Path()+"/d/f", "x")
	close(b.goOn)
	for range many {
		if err := <-done; !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

func TestStatus(t *testing.T) {
	f := &fileSystem{}
	for _, tt := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{syscall.ENOENT, syscall.ENOENT},
		{fmt.Errorf("x: %w", syscall.EDQUOT), syscall.EDQUOT},
		{fmt.Errorf("x: %w", context.Canceled), syscall.EINTR},
		{context.DeadlineExceeded, syscall.ETIMEDOUT},
		{syscall.ENOSYS, syscall.EOPNOTSUPP},
		{syscall.Errno(524), syscall.EIO},
		{fs.ErrNotExist, syscall.ENOENT},
		{errors.New("what"), syscall.EIO},
	} {
		if got := f.status(tt.err); got != fuse.Status(tt.want) {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestDoom(t *testing.T) {
	status := func(pnd, shd, blk, ign, cgt uint64) []byte {
		return fmt.Appendf(nil, "Name:\tx\nSigQ:\t0/1\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t%016x\nSigIgn:\t%016x\nSigCgt:\t%016x\n", pnd, shd, blk, ign, cgt)
	}
	const kill, usr1, term, chld, urg = 1 << 8, 1 << 9, 1 << 14, 1 << 16, 1 << 22
	for name, tt := range map[string]struct {
		status []byte
		want   doom
	}{
		"nothing":           {status(0, 0, 0, 0, 0), lives},
		"SIGKILL":           {status(kill, 0, 0, 0, 0), dies},
		"SIGTERM":           {status(0, term, 0, 0, 0), dies},
		"SIGTERM, handled":  {status(0, term, 0, 0, term), asked},
		"SIGTERM, ignored":  {status(0, term, 0, term, 0), lives},
		"SIGTERM, blocked":  {status(0, term, term, 0, 0), lives},
		"SIGUSR1":           {status(0, usr1, 0, 0, 0), dies},
		"SIGUSR1, handled":  {status(0, usr1, 0, 0, usr1), lives},
		"SIGCHLD, SIGURG":   {status(urg, chld, 0, 0, 0), lives},
		"no such fields":    {[]byte("Name:\tx\n"), lives},
		"handled and fatal": {status(kill, term, 0, 0, term), dies},
	} {
		if got := doomIn(tt.status); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestGroups(t *testing.T) {
	runtime.LockOSThread() // groups are a thread's
	defer runtime.UnlockOSThread()
	want, err := syscall.Getgroups()
	must(t, err)
	var g groupCache
	for range 2 { // the second time from memory
		got := g.of(uint32(syscall.Gettid()), 1, 1)
		if len(got) != len(want) {
			t.Fatalf("%v, want %v", got, want)
		}
		for i := range got {
			if int(got[i]) != want[i] {
				t.Errorf("%v, want %v", got, want)
			}
		}
	}
	if got := g.of(0, 1, 1); got != nil {
		t.Errorf("of nobody: %v", got)
	}
}
