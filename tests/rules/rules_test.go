// Package rules has the house rules as tests: what may import what, and what
// every package must have.
package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath, Dir, Name                string
	Imports, TestImports, XTestImports   []string
	GoFiles, TestGoFiles, IgnoredGoFiles []string
}

const module = "echo9"

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Imports,TestImports,XTestImports,GoFiles,TestGoFiles,IgnoredGoFiles", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("only %d packages are listed", len(list))
	}
	return list
}

// own gives the imports that are of this module, without its name.
func own(imports []string) []string {
	var out []string
	for _, i := range imports {
		if rest, ok := strings.CutPrefix(i, module+"/"); ok {
			out = append(out, rest)
		}
	}
	return out
}

// allowed is the table of docs/architecture.md, read from it, with the packages
// that it does not list: those below internal/ which import nothing of ours may
// be used by anybody.
func allowed(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	table := make(map[string][]string)
	for _, line := range strings.Split(string(text), "\n") {
		cols := strings.Split(line, "|")
		if len(cols) != 5 || !strings.Contains(cols[1], "`") {
			continue
		}
		name := strings.Trim(cols[1], " `")
		var may []string
		for _, w := range strings.Split(cols[3], ",") {
			w = strings.Trim(strings.TrimSuffix(strings.TrimSpace(w), " (interface)"), " `")
			if w != "" {
				may = append(may, w)
			}
		}
		table[name] = may
	}
	if len(table) < 10 {
		t.Fatalf("the table of docs/architecture.md has only %d rows", len(table))
	}
	return table
}

// full gives the import path for a name in the table's last column.
func full(name string) []string {
	return []string{name, "internal/" + name, "cachefs/" + name}
}

func mayImport(may []string, imp string, free map[string]bool) bool {
	if free[imp] {
		return true
	}
	for _, m := range may {
		if m == "everything" || slices.Contains(full(m), imp) {
			return true
		}
	}
	return false
}

// violations says which imports the table forbids.
func violations(table map[string][]string, list []pkg) []string {
	free := make(map[string]bool)
	for _, p := range list {
		_, listed := table[p.ImportPath]
		if strings.HasPrefix(p.ImportPath, "internal/") && !listed && len(own(p.Imports)) == 0 {
			free[p.ImportPath] = true
		}
	}
	var bad []string
	for _, p := range list {
		top, _, _ := strings.Cut(p.ImportPath, "/")
		if top == "tests" || top == "cli" || p.ImportPath == "" {
			continue
		}
		may, listed := table[p.ImportPath]
		if !listed && free[p.ImportPath] {
			continue
		}
		if !listed {
			bad = append(bad, p.ImportPath+" is not in the table of docs/architecture.md")
			continue
		}
		for _, imp := range own(p.Imports) {
			if !mayImport(may, imp, free) {
				bad = append(bad, p.ImportPath+" may not import "+imp)
			}
		}
	}
	return bad
}

func TestImportsFollowTheTable(t *testing.T) {
	table, list := allowed(t), packages(t)
	for _, v := range violations(table, list) {
		t.Error(v)
	}
	// The mutant: a core that reaches up.
	for i := range list {
		if list[i].ImportPath == "tokens" {
			list[i].Imports = append(slices.Clone(list[i].Imports), module+"/p9srv")
		}
	}
	if v := violations(table, list); !slices.Contains(v, "tokens may not import p9srv") {
		t.Errorf("a wrong import is not seen: %q", v)
	}
}

func TestNobodyImportsTheCommandLine(t *testing.T) {
	for _, p := range packages(t) {
		all := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		if slices.Contains(all, module+"/cli") {
			t.Errorf("%s imports cli", p.ImportPath)
		}
		if top, _, _ := strings.Cut(p.ImportPath, "/"); top != "tests" {
			for _, imp := range own(p.Imports) {
				if strings.HasPrefix(imp, "tests/") {
					t.Errorf("%s imports %s", p.ImportPath, imp)
				}
			}
		}
	}
}

// cores are pure: inputs in, outputs out.
var cores = []string{"tokens", "cachefs/order", "internal/cut"}

func TestCoresArePure(t *testing.T) {
	seen := 0
	for _, p := range packages(t) {
		if !slices.Contains(cores, p.ImportPath) {
			continue
		}
		seen++
		for _, imp := range p.Imports {
			// syscall's errnos are plain data.
			for _, no := range []string{"net", "os", "time", "sync", "context", "math/rand", "log", "math/rand/v2", "crypto/rand"} {
				if imp == no || strings.HasPrefix(imp, no+"/") {
					t.Errorf("%s is a core and may not import %s", p.ImportPath, imp)
				}
			}
		}
		forEachFile(t, p, func(name string, f *ast.File) {
			ast.Inspect(f, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s: a core starts no goroutine", name)
				}
				return true
			})
		})
	}
	if seen != len(cores) {
		t.Errorf("%d of %d cores found", seen, len(cores))
	}
}

func forEachFile(t *testing.T, p pkg, fn func(name string, f *ast.File)) {
	t.Helper()
	for _, name := range p.GoFiles {
		name = filepath.Join(p.Dir, name)
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		fn(name, f)
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		doc := ""
		forEachFile(t, p, func(_ string, f *ast.File) {
			if f.Doc != nil {
				doc += f.Doc.Text()
			}
		})
		want := "Package " + p.Name
		if p.Name == "main" {
			want = "Command "
		}
		if !strings.HasPrefix(doc, want) {
			t.Errorf("%q has no package comment that begins with %q", p.ImportPath, want)
		}
	}
}

// Leases are counted on one clock, which is read in one place.
func TestBoottimeIsReadInOnePlace(t *testing.T) {
	inPlace := false
	for _, p := range packages(t) {
		forEachFile(t, p, func(name string, f *ast.File) {
			ast.Inspect(f, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && id.Name == "CLOCK_BOOTTIME" {
					if p.ImportPath == "internal/boottime" {
						inPlace = true
					} else {
						t.Errorf("%s reads CLOCK_BOOTTIME; that is for internal/boottime", name)
					}
				}
				return true
			})
		})
	}
	if !inPlace {
		t.Error("internal/boottime does not read CLOCK_BOOTTIME")
	}
}

// Nothing of the machine that somebody happened to use gets into the tree.
func TestNoPathsOfOneMachine(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "grep", "-nE", `/(work|shared)/(main|shared)\b`, "--", "*.go", "*.md", "tests/run", ".ci/run").Output()
	var ee *exec.ExitError
	if err != nil && (!errors.As(err, &ee) || ee.ExitCode() != 1) {
		t.Fatalf("git grep: %v", err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if line != "" && !strings.HasPrefix(line, "tests/rules/") {
			t.Errorf("names a place of one machine: %s", line)
		}
	}
}
