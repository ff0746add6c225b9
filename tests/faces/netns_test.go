package faces

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"echo9/tests/internal/need"
)

// hostIP and guestIP are the two ends of a guest's network, which nobody else sees.
const hostIP, guestIP = "10.99.0.1", "10.99.0.2"

// newNetwork makes a network namespace with a tap for one guest.
func newNetwork(t *testing.T) (ns, tap string) {
	t.Helper()
	need.Path(t, "/sbin/ip", "no ip (package iproute2)")
	need.Path(t, "/dev/net/tun", "no taps")
	ns, tap = fmt.Sprintf("echo9-faces-%d", os.Getpid()), "tap1"
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("/sbin/ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	ip("netns", "add", ns)
	t.Cleanup(func() { ip("netns", "del", ns) })
	ip("-n", ns, "link", "set", "lo", "up")
	ip("-n", ns, "tuntap", "add", tap, "mode", "tap")
	ip("-n", ns, "addr", "add", hostIP+"/24", "dev", tap)
	ip("-n", ns, "link", "set", tap, "up")
	return ns, tap
}

// listenIn listens at a port of hostIP in a network namespace; the listener stays in it wherever it is used.
func listenIn(t *testing.T, ns, port string) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		l, err := listenHere(ns, port)
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatalf("listening in %s: %v", ns, r.err)
	}
	return r.l
}

// listenHere moves this thread to ns and back. Where it cannot go back the thread ends with its goroutine.
func listenHere(ns, port string) (net.Listener, error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	there, err := os.Open(filepath.Join("/run/netns", ns))
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", net.JoinHostPort(hostIP, port))
	if err2 := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err2 == nil {
		runtime.UnlockOSThread()
	}
	return l, err
}
