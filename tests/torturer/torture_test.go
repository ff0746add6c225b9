package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"echo9/internal/loopfs"
	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/uml"
)

func TestMain(m *testing.M) { echo9bin.Main(m) }

// tormented runs a torture, and gives what was wrong.
func tormented(t *testing.T, o options) (*torture, []string) {
	t.Helper()
	need.Root(t)
	need.Path(t, "/dev/fuse", "no FUSE")
	need.Tools(t, "ip")
	if o.guest {
		uml.Need(t)
	}
	o.dir, o.clients, o.apart, o.logf, o.patient = t.TempDir(), 3, true, t.Logf, !need.Full()
	if o.enough == 0 {
		o.enough = 20
	}
	if o.lease == 0 {
		o.lease = 1500 * time.Millisecond
	}
	if o.echo9 == "" {
		o.echo9 = echo9bin.Echo9(t)
	}
	tt, err := prepare(o)
	if tt != nil {
		defer tt.end()
	}
	if err != nil {
		t.Fatal(err)
	}
	tt.run()
	t.Log(tt.summary())
	return tt, tt.wrongs()
}

// A few seconds of everything: nothing is wrong.
func TestTorture(t *testing.T) {
	length, seeds := 6*time.Second, 2
	if need.Full() {
		length, seeds = 5*time.Minute, 10
	}
	firsts := [][]string{{"kill-server", "stop-client", "kill-client", "half-open", "kill-server", "at-message", "full-disk"}, {"partition", "stop-server", "kill-client", "cut", "kill-server"}}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			tt, wrong := tormented(t, options{seed: uint64(seed), length: length, export: loopfs.Ext4(t, 64), first: firsts[seed%len(firsts)], guest: need.Full()})
			for _, s := range wrong {
				t.Error(s)
			}
			if total(tt.faults) == 0 || tt.synced == 0 || tt.reads == 0 || need.Full() && (tt.guestLooks == 0 || len(tt.points) == 0) {
				t.Errorf("it is too quiet: %s", tt.summary())
			}
			if t.Failed() {
				for _, p := range tt.logs {
					t.Logf("%v said:\n%s", p.cmd.Args[1:], tail(p.said(), 6000))
				}
			}
		})
	}
}

// What is broken is noticed: in the mounts, and around them.
func TestMutants(t *testing.T) {
	for _, m := range []struct {
		name  string
		cache string // of the cache: built into the program
		o     options
		want  string
		full  bool // only in the long version
	}{
		{name: "a server that comes back with an older tree", o: options{restore: true, only: []string{"kill-server"}}, want: "acknowledged"},
		{name: "who writes in common takes no lock", o: options{unlocked: true, only: []string{"delay"}}, want: twoHolders},
		{name: "mounts that keep no order", o: options{jumbled: true, first: []string{"delay", "delay", "kill-client", "delay", "delay", "kill-client", "delay", "kill-client"}, only: []string{"delay"}, long: 0.8, victims: []int{0}}, want: outOfOrder, full: true},
		{name: "a journal that is gone when it is needed", o: options{shredded: true, only: []string{"kill-client"}, victims: []int{1}}, want: "in spite of a journal", full: true},
		{name: "losses that nobody hears of", o: options{deaf: true, only: []string{"partition"}, long: 2}, want: "", full: true},
		{name: "a client that answers nothing from the server when it is asked for its tokens", cache: "skipRecall", o: options{only: []string{"cut"}}, want: "", full: true},
		{name: "a client that serves past its lease", cache: "serveOver", o: options{only: []string{"partition"}, long: 4}, want: "stale", full: true},
	} {
		if m.full && !need.Full() {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			if m.cache != "" {
				m.o.echo9 = filepath.Join(t.TempDir(), "echo9")
				cmd := exec.Command("go", "build", "-ldflags", "-X main.cacheMutant="+m.cache, "-o", m.o.echo9, "echo9/cli")
				cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			const most = 10
			for seed := range most {
				m.o.seed, m.o.length, m.o.enough = uint64(seed), 8*time.Second, 1
				_, wrong := tormented(t, m.o)
				for _, s := range wrong {
					if strings.Contains(s, m.want) {
						t.Logf("found with seed %d: %.300s", seed, s)
						return
					}
				}
			}
			t.Errorf("not found with %d seeds", most)
		})
	}
}
