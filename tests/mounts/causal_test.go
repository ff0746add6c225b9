package mounts

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"echo9/tests/internal/need"
)

// saveFile is an editor's save: under another name, then renamed.
func saveFile(name, text string) error {
	if err := os.WriteFile(name+".tmp", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}

// edit saves foo.c in one directory, compiles what it reads there to foo.o in another, and does the same with
// a file that is only looked at: which the kernel does without asking.
func edit(mnt string, gen int) error {
	at := func(name string) string { return filepath.Join(mnt, name) }
	if err := saveFile(at("src/foo.c"), strconv.Itoa(gen)); err != nil {
		return err
	}
	source, err := os.ReadFile(at("src/foo.c"))
	if err != nil {
		return err
	}
	if err := saveFile(at("obj/foo.o"), string(source)); err != nil {
		return err
	}
	flag := fmt.Sprintf("flag%d", gen)
	if err := os.WriteFile(at("src/"+flag), nil, 0o644); err != nil {
		return err
	}
	if _, err := os.Stat(at("src/" + flag)); err != nil {
		return err
	}
	return os.WriteFile(at("obj/"+flag), nil, 0o644)
}

// newer looks for what must never be seen in an export: foo.o newer than foo.c, a flag in obj without the one in src.
func newer(dir string) error {
	gen := func(name string) int {
		n, err := strconv.Atoi(content(filepath.Join(dir, name)))
		if err != nil {
			return -1
		}
		return n
	}
	// foo.o first: it may only get older than what is read later.
	if o, c := gen("obj/foo.o"), gen("src/foo.c"); o > c {
		return fmt.Errorf("foo.o is of generation %d, and foo.c of %d", o, c)
	}
	flags, err := filepath.Glob(filepath.Join(dir, "obj/flag*"))
	if err != nil {
		return err
	}
	for _, f := range flags {
		if _, err := os.Stat(filepath.Join(dir, "src", filepath.Base(f))); err != nil {
			return fmt.Errorf("obj/%s is there: %w", filepath.Base(f), err)
		}
	}
	return nil
}

// killedMount works in a mount of addr, with another client looking at obj now and then, kills its process, and says whether the
// export shows what it must not. At last the other one looks once more, so that obj is at the server, with what must be there before
// it; what sends by itself is left out if alone.
func killedMount(t *testing.T, addr, dir, order string, alone bool, rng *rand.Rand) error {
	t.Helper()
	at, err := os.MkdirTemp(dir, "run")
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(at, "src"), filepath.Join(at, "obj"))
	mnt := t.TempDir()
	behind := fmt.Sprintf("--write-behind=%dms", 1+rng.IntN(2000))
	if alone {
		behind = slow
	}
	p := start(t, "mount", "--aname", filepath.Base(at), "--order", order, behind, addr, mnt)
	p.says("is mounted on")
	defer func() { _ = syscall.Unmount(mnt, syscall.MNT_DETACH) }()
	looked, pause := make(chan struct{}), time.Duration(rng.IntN(20))*time.Millisecond
	stop := make(chan struct{})
	go func() {
		defer close(looked)
		for !alone {
			select {
			case <-stop:
				return
			default:
				_, _ = echo9(t, "-a", addr, "ls", filepath.Base(at)+"/obj")
				time.Sleep(pause)
			}
		}
	}()
	for gen, end := 1, time.Now().Add(time.Duration(20+rng.IntN(300))*time.Millisecond); gen < 3 || time.Now().Before(end); gen++ {
		if err := edit(mnt, gen); err != nil {
			t.Fatal(err)
		}
	}
	if alone {
		for _, c := range [][]string{{"ls", "/obj"}, {"cat", "/obj/foo.o"}} {
			_ = ok(t, "-a", addr, c[0], filepath.Base(at)+c[1])
		}
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	close(stop)
	<-looked
	return newer(at)
}

// With the order causal a mount that is killed at any time never leaves a new foo.o with an old foo.c: what its kernel shows counts as
// read. The order object, which does not promise it, is the mutant.
func TestCausalMountKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		need.Missing(t, "only root can take a dead mount away")
	}
	dir, _ := setUp(t)
	_, addr := serve(t, dir)
	runs := 4
	if need.Full() {
		runs = 200
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range runs {
		if err := killedMount(t, addr, dir, "causal", n == 0, rng); err != nil {
			t.Fatalf("run %d: %v", n, err)
		}
	}
	err := killedMount(t, addr, dir, "object", true, rng)
	if err == nil {
		t.Fatal("the order object is not caught: the test would see nothing")
	}
	t.Logf("the order object is caught: %v", err)
}
