package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"echo9/tests/internal/faultproxy"
)

// link is what connects a client to the server.
type link interface {
	Addr() string // of the server, for the client
	Cut()
	HalfOpen()
	Block(toServer, toClient bool)
	Refuse(on bool)
	Delay(d time.Duration)
	Arm(t *faultproxy.Trap)
	Close()
}

// network is a link to a network namespace with one client in it: a cable with nothing between. It can only be pulled out, or carry nothing in
// one direction: whoever is at its ends learns of it by silence.
type network struct {
	port         string
	dev          string // the end that is here
	here, inside string // addresses
	ns           *os.File
}

// networks numbers those of this process.
var networks atomic.Int32

// newNetwork makes a namespace that nobody else can see, and that is gone with the last process in it.
func newNetwork(port string) (*network, error) {
	id := (os.Getpid()*8 + int(networks.Add(1))) % (1 << 16)
	n := &network{port: port, dev: fmt.Sprintf("e9t%d", id), here: address(id, 1), inside: address(id, 2)}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		n.ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	there := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.ns.Fd())
	for _, err := range []error{
		ip("link", "add", n.dev, "type", "veth", "peer", "name", "up0", "netns", there),
		ip("addr", "add", n.here+"/30", "dev", n.dev),
		ip("link", "set", n.dev, "up"),
		n.within("addr", "add", n.inside+"/30", "dev", "up0"),
		n.within("link", "set", "up0", "up"),
	} {
		if err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

// address is one of two in the smallest net number id.
func address(id, host int) string {
	return fmt.Sprintf("10.%d.%d.%d", 100+id>>14, id>>6&255, id&63*4+host)
}

// onThread does something that changes a thread's namespace, and brings the thread back; one that cannot come back ends.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		err = do()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enter does something in the namespace: what it starts stays there.
func (n *network) enter(do func() error) error {
	if n == nil {
		return do()
	}
	return onThread(func() error {
		if err := unix.Setns(int(n.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return do()
	})
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

func (n *network) within(args ...string) error { return n.enter(func() error { return ip(args...) }) }

func (n *network) Addr() string { return n.here + ":" + n.port }

// Block pulls the cable out, or has one side's packets thrown away.
func (n *network) Block(toServer, toClient bool) {
	state := "up"
	if toServer && toClient {
		state = "down"
	}
	// What is so already is refused.
	_ = ip("link", "set", n.dev, state)
	_ = n.within("route", verb(toServer && !toClient), "blackhole", n.here+"/32")
	_ = ip("route", verb(toClient && !toServer), "blackhole", n.inside+"/32")
}

func verb(add bool) string {
	if add {
		return "replace"
	}
	return "del"
}

// Cut is a short interruption.
func (n *network) Cut() {
	n.Block(true, true)
	time.Sleep(200 * time.Millisecond)
	n.Block(false, false)
}

func (n *network) HalfOpen()             { n.Block(true, true) }
func (n *network) Refuse(on bool)        { n.Block(on, on) }
func (n *network) Delay(d time.Duration) { n.Block(d > 0, d > 0) }
func (n *network) Arm(*faultproxy.Trap)  {}

func (n *network) Close() {
	_ = ip("link", "del", n.dev)
	n.ns.Close()
}
