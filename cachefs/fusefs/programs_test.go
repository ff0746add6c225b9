package fusefs

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"echo9/p9srv"
)

// tool finds a program that a test needs; that it is missing fails the run.
func tool(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs %s (see tests/run, which installs it): %v", name, err)
	}
	return p
}

// faces are the backends on which real programs run.
func faces(t *testing.T, do func(t *testing.T, dir string)) {
	t.Helper()
	for name, backend := range map[string]func() p9srv.Backend{
		"plain":  func() p9srv.Backend { b, _ := exportDir(t); return b },
		"tokens": func() p9srv.Backend { b, _ := exportDir(t); return newTokenServer(b).client() },
	} {
		t.Run(name, func(t *testing.T) { do(t, mounted(t, backend(), Options{}).Path()) })
	}
}

// run runs a program with its working directory on the mount. A shell goes there: between fork and exec a Go
// program cannot serve its own mount (its garbage collector may be waiting for the forking thread).
func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", `cd "$0" && exec "$@"`, dir, name}, args...)...)
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@t", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@t")
	return output(t, cmd)
}

func TestGoBuildAndExec(t *testing.T) {
	goTool := tool(t, "go")
	faces(t, func(t *testing.T, dir string) {
		must(t, os.Mkdir(dir+"/m", 0o755))
		write(t, dir+"/m/go.mod", "module m\n\ngo 1.24\n")
		write(t, dir+"/m/main.go", "package main\n\nfunc main() { println(\"it runs\") }\n")
		run(t, dir+"/m", goTool, "build", "-o", "prog", ".")
		if s := run(t, dir+"/m", dir+"/m/prog"); s != "it runs\n" {
			t.Errorf("%q", s)
		}
	})
}

func TestGit(t *testing.T) {
	git := tool(t, "git")
	faces(t, func(t *testing.T, dir string) {
		r := dir + "/repo"
		must(t, os.Mkdir(r, 0o755))
		run(t, r, git, "init", "-q", "-b", "main")
		for i := range 50 {
			write(t, fmt.Sprintf("%s/f%d", r, i), strings.Repeat(fmt.Sprintln(i), i))
		}
		run(t, r, git, "add", ".")
		run(t, r, git, "commit", "-q", "-m", "one")
		if s := run(t, r, git, "status", "--porcelain"); s != "" {
			t.Errorf("not clean: %s", s)
		}
		write(t, r+"/f7", "changed")
		if s := run(t, r, git, "status", "--porcelain"); strings.TrimSpace(s) != "M f7" {
			t.Errorf("%q", s)
		}
		run(t, r, git, "commit", "-q", "-a", "-m", "two")
		run(t, r, git, "checkout", "-q", "HEAD~1")
		run(t, dir, git, "clone", "-q", r, "clone")
		run(t, r, git, "gc", "-q")
		run(t, r, git, "fsck", "--full")
	})
}

func TestSQLite(t *testing.T) {
	sqlite := tool(t, "sqlite3")
	faces(t, func(t *testing.T, dir string) {
		for _, mode := range []string{"delete", "wal"} {
			db := dir + "/" + mode + ".db"
			run(t, dir, sqlite, db, "pragma journal_mode="+mode+"; create table t(who int, n int);")
			var wg sync.WaitGroup
			for who := range 2 {
				wg.Go(func() {
					for n := range 5 {
						cmd := exec.Command(sqlite, "-cmd", ".timeout 120000", db, fmt.Sprintf("insert into t values(%d, %d);", who, n))
						if out, err := cmd.CombinedOutput(); err != nil {
							t.Errorf("%s: %v: %s", mode, err, out)
						}
					}
				})
			}
			wg.Wait()
			if s := run(t, dir, sqlite, db, "pragma integrity_check; select count(*), count(distinct who) from t;"); s != "ok\n10|2\n" {
				t.Errorf("%s: %q", mode, s)
			}
		}
	})
}

// A large directory that changes while it is listed: what is there all the time is listed once.
func TestLargeDirectoryChanges(t *testing.T) {
	const many = 10_000
	for name, backend := range map[string]func(b p9srv.Backend) p9srv.Backend{
		"plain":  func(b p9srv.Backend) p9srv.Backend { return b },
		"tokens": func(b p9srv.Backend) p9srv.Backend { return newTokenServer(b).client() },
	} {
		t.Run(name, func(t *testing.T) {
			b, host := exportDir(t)
			for i := range many {
				write(t, fmt.Sprintf("%s/stays-%d", host, i), "")
			}
			dir := mounted(t, backend(b), Options{}).Path()
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					p := fmt.Sprintf("%s/comes-%d", dir, i)
					if err := os.WriteFile(p, nil, 0o644); err != nil {
						t.Error(err)
					}
					if i >= 10 {
						if err := os.Remove(fmt.Sprintf("%s/comes-%d", dir, i-10)); err != nil {
							t.Error(err)
						}
					}
				}
			})
			for range 3 {
				stays := 0
				for n := range dirents(t, dir) { // complains of names that come twice
					if strings.HasPrefix(n, "stays-") {
						stays++
					}
				}
				if stays != many {
					t.Errorf("%d of %d names", stays, many)
				}
			}
			close(stop)
			wg.Wait()
		})
	}
}
