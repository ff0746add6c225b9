package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"echo9/internal/netaddr"
	"echo9/p9srv"
	"echo9/p9srv/dirfs"
)

// A server in the same process sets its umask to 0, so the client's is read before.
func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	umask()
	os.Exit(m.Run())
}

// testServer serves a fresh directory on a unix socket.
func testServer(t *testing.T) (dir, addr string) {
	t.Helper()
	dir = t.TempDir()
	fs, err := dirfs.Open(dir, dirfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv := p9srv.New(p9srv.Config{Backend: fs})
	a, err := netaddr.Parse("unix!" + filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := a.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(t.Context(), l) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir, a.String()
}

// echo9 runs a command line.
func echo9(stdin string, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(append([]string{"echo9"}, args...), strings.NewReader(stdin), &o, &e)
	return code, o.String(), e.String()
}

func TestClientCommands(t *testing.T) {
	dir, addr := testServer(t)
	t.Setenv("ECHO9_ADDR", addr)
	local := t.TempDir()
	if err := os.WriteFile(filepath.Join(local, "notes.txt"), []byte("some notes\n"), 0o604); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line, stdin string
		code        int
		out, errs   string // parts of what is printed
	}{
		{"mkdir -p /a/b /c", "", 0, "", ""},
		{"mkdir -m 700 /private", "", 0, "", ""},
		{"put " + local + "/notes.txt /a", "", 0, "", ""},
		{"cat /a/notes.txt", "", 0, "some notes\n", ""},
		{"put - /a/in", "typed", 0, "", ""},
		{"cat /a/in /a/notes.txt", "", 0, "typedsome notes\n", ""},
		{"put -", "", 2, "", "stdin has no name"},
		{"ls /a", "", 0, "b/\nin\nnotes.txt\n", ""},
		{"ls -l /a/notes.txt", "", 0, "-rw----r--   1", ""},
		{"ls /a /c", "", 0, "/a:\nb/\nin\nnotes.txt\n\n/c:\n", ""},
		{"ls --json /a/in", "", 0, `"type":"file"`, ""},
		{"stat /a/in", "", 0, "Size: 5", ""},
		{"stat --json /a/in", "", 0, `"size":5`, ""},
		{"mv /a/in /a/out", "", 0, "", ""},
		{"mv /a/out /a/notes.txt /c", "", 0, "", ""},
		{"mv /a /c /c/out", "", 1, "", "not a directory"},
		{"ln -s /c/out /link", "", 0, "", ""},
		{"cat /link", "", 0, "typed", ""},
		{"ln /c/out /hard", "", 0, "", ""},
		{"stat /hard", "", 0, "Links: 2", ""},
		{"touch /new", "", 0, "", ""},
		{"touch -c /absent", "", 0, "", ""},
		{"truncate -s 1K /new", "", 0, "", ""},
		{"truncate /new", "", 2, "", "say the size"},
		{"chmod g+w /new", "", 0, "", ""},
		{"chmod frob /new", "", 2, "", "no mode"},
		{"ls -l /new", "", 0, "-rw-rw-r--   1", ""},
		{"get /c/notes.txt " + local + "/back", "", 0, "", ""},
		{"get /c/notes.txt -", "", 0, "some notes\n", ""},
		{"get -r /c " + local + "/tree", "", 0, "", ""},
		{"get /c " + local + "/tree2", "", 1, "", "-r does whole trees"},
		{"get -r /", "", 2, "", "say where"},
		{"tree -L 1 /", "", 0, "├── a\n", ""},
		{"tree --json /c", "", 0, `"path":"/c/out"`, ""},
		{"df --json", "", 0, `"available":`, ""},
		{"df extra", "", 2, "", "df takes"},
		{"rm /c", "", 1, "", "-r does whole trees"},
		{"rm -f /absent", "", 0, "", ""},
		{"rm /absent", "", 1, "", "no such file"},
		{"cat", "", 2, "", "cat takes"},
		{"cat /c", "", 1, "", "is a directory"},
		{"rm -r /c /a /link /hard /new /private", "", 0, "", ""},
		{"ls", "", 0, "", ""},
	} {
		code, out, errs := echo9(c.stdin, strings.Fields(c.line)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || (code == 0) != (errs == "") {
			t.Errorf("echo9 %s: exit code %d\n%s%s", c.line, code, out, errs)
		}
	}
	if b, err := os.ReadFile(filepath.Join(local, "tree/out")); err != nil || string(b) != "typed" {
		t.Errorf("get -r: %q, %v", b, err)
	}
	if fi, err := os.Stat(filepath.Join(local, "back")); err != nil || fi.Mode() != 0o604 {
		t.Errorf("get: %v, %v", fi, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 1 { // the private directory
		t.Errorf("left: %v", left)
	}
}

func TestJSONIsJSON(t *testing.T) {
	dir, addr := testServer(t)
	name := "odd \"name\"\n\x01<&>"
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, errs := echo9("", "-a", addr, "ls", "--json", "/")
	var e entryJSON
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != 0 || e.Name != name || e.Mode != "0644" {
		t.Errorf("exit code %d, %q, %+v, %v %s", code, out, e, err, errs)
	}
	if _, out, _ := echo9("", "-a", addr, "ls"); strings.Contains(out, "\x01") {
		t.Errorf("a name plays with the terminal: %q", out)
	}
}

func TestExitCodes(t *testing.T) {
	_, addr := testServer(t)
	t.Setenv("ECHO9_ADDR", "")
	other := filepath.Join(t.TempDir(), "nobody")
	for _, c := range []struct {
		line string
		code int
		errs string
	}{
		{"ls", 2, "which server?"},
		{"-a tcp!host!noport ls", 2, "port"},
		{"-a unix!" + other + " ls", 3, "cannot reach"},
		{"-a tcp!127.0.0.1!1 ls", 3, "cannot reach"},
		{"-a " + addr + " ls /nope", 1, "no such file"},
		{"-a " + addr + " --msize 17 ls", 2, "--msize"},
		{"frob", 2, "no command"},
		{"serve", 2, "serve takes"},
		{"serve --as frob " + t.TempDir(), 2, "--as"},
		{"serve --listen frob!x " + t.TempDir(), 2, "--listen"},
		{"serve " + other, 1, "no such file"},
		{"script", 2, "script takes"},
		{"script " + other, 1, "no such file"},
	} {
		code, out, errs := echo9("", strings.Fields(c.line)...)
		if code != c.code || !strings.Contains(errs, c.errs) || out != "" {
			t.Errorf("echo9 %s: exit code %d, not %d\n%s%s", c.line, code, c.code, out, errs)
		}
	}
}

func TestScripts(t *testing.T) {
	dir, addr := testServer(t)
	t.Setenv("ECHO9_ADDR", addr)
	for _, c := range []struct {
		name, text string
		flags      []string
		code       int
		out, errs  string
		there      []string
	}{
		{
			name: "good", text: "# comment\n\nmkdir -p '/x y/z'\ntouch \"/x y/f\"\nbarrier\nbarrier '/x y'\nsync\nls '/x y'\n",
			out: "f\nz/\n", there: []string{"x y/z", "x y/f"},
		},
		{name: "stops", text: "touch /one\ncat /absent\ntouch /two\n", code: 1, errs: "line 2: find /absent", there: []string{"one"}},
		{name: "goes on", text: "touch /1\ncat /absent\nrm\ntouch /2", flags: []string{"-k"}, code: 1, errs: "line 3: rm takes", there: []string{"1", "2"}},
		{name: "no such command", text: "serve /", code: 2, errs: "line 1: there is no command"},
		{name: "no address", text: "ls -a other /", code: 2, errs: "line 1: echo9 ls has no flag -a"},
		{name: "open quote", text: "ls\nls '/x\n", code: 2, errs: "line 2: a ' is not closed"},
		{name: "stdin is the script", text: "put - /x\n", code: 2, errs: "stdin is the script"},
		{name: "barrier takes one", text: "barrier /a /b\n", code: 2, errs: "barrier takes one path"},
		{name: "sync takes nothing", text: "sync now\n", code: 2, errs: "sync takes no operands"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := echo9(c.text, append([]string{"script", "-"}, c.flags...)...)
			if code != c.code || !strings.Contains(errs, c.errs) || !strings.Contains(out, c.out) {
				t.Errorf("exit code %d\n%s%s", code, out, errs)
			}
			list, _ := os.ReadDir(dir)
			for _, p := range c.there {
				if _, err := os.Stat(filepath.Join(dir, p)); err != nil {
					t.Error(err)
				}
			}
			if n := len(list); n > len(c.there)+1 {
				t.Errorf("%d names in the export: %v", n, list)
			}
			for _, e := range list {
				if e.Name() != ".echo9" {
					os.RemoveAll(filepath.Join(dir, e.Name()))
				}
			}
		})
	}
	t.Run("file with data from stdin", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(file, []byte("put - /d\ncat /d\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if code, out, errs := echo9("data", "script", file); code != 0 || out != "data" {
			t.Errorf("exit code %d\n%s%s", code, out, errs)
		}
	})
}

func TestTraceAndVerbose(t *testing.T) {
	_, addr := testServer(t)
	code, _, errs := echo9("", "-a", addr, "df", "--trace", "-v")
	if code != 0 || !strings.Contains(errs, "Tstatfs") || !strings.Contains(errs, "Rstatfs") || !strings.Contains(errs, "9P2000.L, msize") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

func TestProgressOnRequest(t *testing.T) {
	_, addr := testServer(t)
	code, _, errs := echo9(strings.Repeat("x", 5000), "-a", addr, "put", "--progress", "-", "/f")
	if code != 0 || !strings.Contains(errs, "1 files, 4.9KB") {
		t.Errorf("exit code %d\n%q", code, errs)
	}
}

func TestHelpTeaches(t *testing.T) {
	code, out, _ := echo9("", "--help")
	for _, want := range []string{"echo9 up DIR MNT", "Exit codes:", "ECHO9_ADDR", "script"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("--help does not tell of %q:\n%s", want, out)
		}
	}
	for _, c := range newApp(nil, nil, nil).Commands {
		code, out, errs := echo9("", c.Name, "--help")
		if code != 0 || !strings.Contains(out, c.Usage) || !strings.Contains(out, "echo9 ") || len(c.Description) < 15 {
			t.Errorf("echo9 %s --help: exit code %d, no example?\n%s%s", c.Name, code, out, errs)
		}
	}
}

// The README's table is what the command line declares.
func TestReadmeTable(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if d := tableDiff(string(text)); d != "" {
		t.Error(d)
	}
	// The mutant: a command that is missing, and one too many.
	changed := strings.Replace(string(text), "| `echo9 df`", "| `echo9 xdf`", 1)
	if d := tableDiff(changed); !strings.Contains(d, "`echo9 df`") || !strings.Contains(d, "xdf") {
		t.Errorf("a wrong table is not seen: %q", d)
	}
}

func tableDiff(readme string) string {
	want := make(map[string]bool)
	for _, c := range newApp(nil, nil, nil).Commands {
		name := strings.TrimSpace("echo9 " + c.Name + " " + strings.TrimSpace(c.ArgsUsage))
		want[fmt.Sprintf("| `%s` | %s |", name, c.Usage)] = true
	}
	var diff []string
	for line := range strings.Lines(readme) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| `echo9 ") {
			continue
		}
		if !want[line] {
			diff = append(diff, "only in the README: "+line)
		}
		delete(want, line)
	}
	for line := range want {
		diff = append(diff, "missing in the README: "+line)
	}
	return strings.Join(diff, "\n")
}
