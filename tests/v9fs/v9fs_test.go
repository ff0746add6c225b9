// Package v9fs has the tests with the Linux kernel's own 9P client.
package v9fs

import (
	"archive/tar"
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
	"echo9/tests/internal/uml"
)

func TestMain(m *testing.M) { echo9bin.Main(m) }

// sampleSize is how many files of the Go distribution are compared in an
// everyday run, and how many of them are also copied, unpacked and removed: a
// guest does hundreds of system calls a second.
const (
	sampleSize = 500
	fewSize    = 40
)

// TestApplicationsOnAKernelMount serves a tree over TCP inside the guest and
// does to it, on mounts with the kernel's client, what applications do.
func TestApplicationsOnAKernelMount(t *testing.T) {
	serve := echo9bin.Echo9(t) + " serve --listen 127.0.0.1:5640 --as client"
	for _, cache := range []string{"none", "mmap"} {
		t.Run(cache, func(t *testing.T) {
			t.Parallel()
			runSuite(t, serve, "cache="+cache+",msize=65536", "cache="+cache+",msize=1048576")
		})
	}
}

// runSuite boots a guest with a server and runs testdata/suite.sh on mounts with the options.
func runSuite(t *testing.T, serve string, mounts ...string) {
	uml.Need(t)
	need.Tools(t, "git", "sqlite3", "setfattr", "mkfs.ext4")
	dir := t.TempDir()
	script, err := os.ReadFile("testdata/suite.sh")
	if err != nil {
		t.Fatal(err)
	}
	limit := 8 * time.Minute
	if need.Full() {
		limit = 60 * time.Minute
	}
	treehash := echo9bin.Build(t, "echo9/tests/treehash", "treehash")
	echo9bin.Build(t, "echo9/tests/probe", "probe")
	r := uml.Run(t, uml.Guest{
		Script: string(script),
		Limit:  limit,
		Disks:  []string{disk(t, dir)},
		Env: map[string]string{
			"SERVE": serve, "MOUNTS": strings.Join(mounts, " "), "BIN": filepath.Dir(treehash),
			"SAMPLE": sample(t, dir), "REPO": repository(t, dir),
		},
	})
	t.Logf("guest took %v", r.Took)
	for _, c := range r.Checks {
		t.Logf("%-40s %v", c.Name, c.Took)
	}
	r.Report(t, 18*len(mounts))
}

// disk makes an ext4 image, with a journal.
func disk(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "disk")
	f, err := os.Create(name)
	if err == nil {
		err = f.Truncate(1 << 30)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", name)
	return name
}

// repository makes a bare git repository with a few commits.
func repository(t *testing.T, dir string) string {
	t.Helper()
	work := filepath.Join(dir, "work")
	run(t, dir, "git", "init", "-q", work)
	for i := range 10 {
		name := fmt.Sprintf("file%d", i)
		if err := os.WriteFile(filepath.Join(work, name), []byte(strings.Repeat(name+"\n", 100)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, work, "git", "add", ".")
	run(t, work, "git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "files")
	bare := filepath.Join(dir, "repo.git")
	run(t, dir, "git", "clone", "-q", "--bare", work, bare)
	return bare
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// sample makes a tar file with files of the Go distribution's src below
// tree/src (all of them in a full run), and below tree/few some that are
// copied about, with links, modes and owners of all kinds.
func sample(t *testing.T, dir string) string {
	t.Helper()
	goroot := strings.TrimSpace(output(t, "go", "env", "GOROOT"))
	files := sources(t, filepath.Join(goroot, "src"))
	step := 1
	if !need.Full() {
		step = max(1, len(files)/sampleSize)
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
	for i := 0; i < len(files); i += step {
		add("tree/src/"+files[i], filepath.Join(goroot, "src", files[i]), 0o644)
	}
	put(t, w, &tar.Header{Name: "tree/few", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	for i := range fewSize {
		dir := fmt.Sprintf("tree/few/d%d", i/10)
		if i%10 == 0 {
			put(t, w, &tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
		}
		from := files[i*len(files)/fewSize]
		add(dir+"/"+filepath.Base(from), filepath.Join(goroot, "src", from), int64(0o400+i*0o11%0o400))
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

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}
