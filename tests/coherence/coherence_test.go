package coherence

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"echo9/cachefs"
	"echo9/p9client"
	"echo9/p9srv"
	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
	"echo9/tests/internal/served"
)

// patience is how long a load, and the check of its history, may take on a busy machine.
const patience = 3 * time.Minute

func TestMain(m *testing.M) { echo9bin.Main(m) }

func self() *p9srv.Cred {
	return &p9srv.Cred{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
}

func caching(t testing.TB, srv *served.Server, name, mutant string) (Client, *cachefs.FS) {
	t.Helper()
	fs, err := cachefs.Open(t.Context(), srv.Addr, cachefs.Options{WriteBehind: 20 * time.Millisecond, Mutant: mutant, Name: name, Logf: t.Logf})
	if err != nil {
		t.Fatalf("opening the cache %s: %v", name, err)
	}
	if !fs.Cached() {
		t.Fatal("the server does not know the extension")
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := fs.Close(ctx); err != nil && mutant == "" {
			t.Errorf("closing the cache %s: %v", name, err)
		}
	})
	return Client{Name: name, Backend: fs, Cred: self()}, fs
}

func plain(t testing.TB, srv *served.Server) Client {
	t.Helper()
	tree, err := p9client.Dial(t.Context(), srv.Addr, p9client.Options{})
	if err != nil {
		t.Fatalf("dialing the plain client: %v", err)
	}
	t.Cleanup(func() { tree.Close() })
	return Client{Name: "plain", Backend: tree, Cred: self()}
}

// round runs one load of two caching clients and a plain one on a fresh server, and checks its history.
func round(t *testing.T, srv *served.Server, seed uint64, mutant string) (porcupine.CheckResult, string, error) {
	a, _ := caching(t, srv, "A", mutant)
	b, _ := caching(t, srv, "B", mutant)
	p := plain(t, srv)
	// A broken client's names soon do not fit the server's any more, and its operations fail: files alone show it.
	l := Load{Seed: seed, Workers: 2, Ops: 60, Files: 2, Pause: 2 * time.Millisecond, FilesOnly: mutant != ""}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := Setup(ctx, p, l); err != nil {
		return porcupine.Unknown, "", err
	}
	history, err := Run(ctx, []Client{a, b, p}, l)
	if err != nil {
		r, why := Check(history, patience)
		return r, why, err
	}
	if len(history) < 3*l.Workers*l.Ops {
		return porcupine.Unknown, "", fmt.Errorf("%d operations of %d in the history", len(history), 3*l.Workers*l.Ops)
	}
	r, why := Check(history, patience)
	return r, why, nil
}

// TestLinearizable: what two caching clients and a plain one see is explained by one order.
func TestLinearizable(t *testing.T) {
	rounds := uint64(12)
	if need.Full() {
		rounds = 200
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r, why, err := round(t, served.Start(t, ""), seed, "")
			if err != nil {
				t.Fatal(err)
			}
			if r != porcupine.Ok {
				t.Fatalf("the history is %s:\n%s", r, why)
			}
		})
	}
}

// TestMutantsAreCaught: a client that skips recalls, and one that returns tokens before its cut, fail the check.
func TestMutantsAreCaught(t *testing.T) {
	for _, mutant := range []string{"ignoreRecall", "skipRecall"} {
		t.Run(mutant, func(t *testing.T) {
			for seed := range uint64(30) {
				r, why, err := round(t, served.Start(t, ""), seed, mutant)
				if err != nil {
					t.Logf("seed %d fails: %v", seed, err)
				}
				if r == porcupine.Illegal {
					t.Logf("caught with seed %d:\n%.2000s", seed, why)
					return
				}
			}
			t.Fatal("not caught in 30 histories")
		})
	}
}
