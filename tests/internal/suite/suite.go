// Package suite is what applications do to a mounted tree, as shell functions
// that run on any mount: the kernel's client, FUSE, through a cache; and the real
// input that they work on.
package suite

import (
	"archive/tar"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"echo9/tests/internal/echo9bin"
	"echo9/tests/internal/need"
)

// Script is shell text, to be read in after the library of shcheck: the function suite.
//
//go:embed suite.sh
var Script string

// Least is how many checks the function suite makes at least.
const Least = 17

// sampleSize is how many files of the Go distribution are compared in an
// everyday run, as many from each of sampleRuns places: directories, too, take time;
// a full run takes all. fewSize of them are also copied, unpacked and removed.
const (
	sampleSize = 500
	sampleRuns = 50
	fewSize    = 40
)

// Env makes what the suite works on, in dir, and gives the variables that tell of it.
func Env(t *testing.T, dir string) map[string]string {
	t.Helper()
	need.Tools(t, "git", "sqlite3", "setfattr", "tar")
	bin := filepath.Dir(echo9bin.Build(t, "echo9/tests/treehash", "treehash"))
	echo9bin.Build(t, "echo9/tests/probe", "probe")
	return map[string]string{
		"BIN": bin, "SAMPLE": sample(t, dir), "REPO": repository(t, dir), "MODULE": module(t, dir),
	}
}

// repository makes a bare git repository.
func repository(t *testing.T, dir string) string {
	t.Helper()
	work := filepath.Join(dir, "work")
	run(t, dir, "git", "init", "-q", work)
	for i := range 10 {
		name := fmt.Sprintf("file%d", i)
		write(t, filepath.Join(work, name), strings.Repeat(name+"\n", 100))
	}
	run(t, work, "git", "add", ".")
	run(t, work, "git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "files")
	bare := filepath.Join(dir, "repo.git")
	run(t, dir, "git", "clone", "-q", "--bare", work, bare)
	return bare
}

// module makes a Go module with a program, a library and tests.
func module(t *testing.T, dir string) string {
	t.Helper()
	m := filepath.Join(dir, "module")
	for _, d := range []string{"cmd", "lib"} {
		if err := os.MkdirAll(filepath.Join(m, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(m, "go.mod"), "module example\n\ngo 1.26\n")
	write(t, filepath.Join(m, "lib/lib.go"), "// Package lib has a word.\npackage lib\n\n// Word is the word.\nfunc Word() string { return \"built on a mount\" }\n")
	write(t, filepath.Join(m, "lib/lib_test.go"), "package lib\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\n"+
		"func TestWord(t *testing.T) {\n\tif Word() != \"built on a mount\" {\n\t\tt.Fatal(Word())\n\t}\n"+
		"\tif _, err := os.Stat(\"lib.go\"); err != nil {\n\t\tt.Fatal(err)\n\t}\n}\n")
	write(t, filepath.Join(m, "cmd/main.go"), "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example/lib\"\n)\n\nfunc main() { fmt.Println(lib.Word()) }\n")
	return m
}

// sample makes a tar file: below tree/src/0 and tree/src/1 files of the Go distribution, in halves, below
// tree/few some of them with links, modes and owners of all kinds.
func sample(t *testing.T, dir string) string {
	t.Helper()
	src := filepath.Join(strings.TrimSpace(output(t, "go", "env", "GOROOT")), "src")
	files := sources(t, src)
	step, run := 1, 1 // of step files run are taken
	if !need.Full() {
		step, run = len(files)/sampleRuns, sampleSize/sampleRuns
	}
	name := filepath.Join(dir, "sample.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	add := func(name, from string, mode int64) {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		put(t, w, &tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}, content)
	}
	for i, name := range files {
		if i%step < run {
			add(fmt.Sprintf("tree/src/%d/%s", 2*i/len(files), name), filepath.Join(src, name), 0o644)
		}
	}
	put(t, w, &tar.Header{Name: "tree/few", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	for i := range fewSize {
		d := fmt.Sprintf("tree/few/d%d", i/10)
		if i%10 == 0 {
			put(t, w, &tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
		}
		from := files[i*len(files)/fewSize]
		add(d+"/"+filepath.Base(from), filepath.Join(src, from), int64(0o400+i*0o11%0o400))
	}
	put(t, w, &tar.Header{Name: "tree/few/link", Typeflag: tar.TypeSymlink, Linkname: "d0/nowhere", Mode: 0o777}, nil)
	put(t, w, &tar.Header{Name: "tree/few/file", Typeflag: tar.TypeReg, Mode: 0o640, Size: 5, Uid: 1000, Gid: 1001}, []byte("hello"))
	put(t, w, &tar.Header{Name: "tree/few/hard", Typeflag: tar.TypeLink, Linkname: "tree/few/file", Mode: 0o640}, nil)
	put(t, w, &tar.Header{Name: "tree/few/fifo", Typeflag: tar.TypeFifo, Mode: 0o600}, nil)
	put(t, w, &tar.Header{Name: "tree/few/closed", Typeflag: tar.TypeDir, Mode: 0o1700}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func put(t *testing.T, w *tar.Writer, h *tar.Header, content []byte) {
	t.Helper()
	h.ModTime = time.Unix(1_500_000_000, 123_456_789)
	if strings.HasPrefix(h.Name, "tree/few") {
		h.ModTime = time.Unix(1_500_000_000, 0) // Linux 6.1's v9fs sets whole seconds
	}
	h.Format = tar.FormatPAX
	err := w.WriteHeader(h)
	if err == nil {
		_, err = w.Write(content)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sources lists the regular files below dir.
func sources(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, p)
			list = append(list, rel)
		}
		return err
	})
	if err != nil || len(list) < 5000 {
		t.Fatalf("the Go distribution's src has %d files: %v", len(list), err)
	}
	return list
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}
