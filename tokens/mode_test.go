package tokens

import (
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestTables: the tables are total (their type says so), symmetric where they
// must be, and agree with each other.
func TestTables(t *testing.T) {
	modes := []Mode{None, Read, Write}
	for _, a := range modes {
		for _, b := range modes {
			if conflict[a][b] != conflict[b][a] {
				t.Errorf("conflict %v %v is not symmetric", a, b)
			}
			if want := a == Write && b != None || b == Write && a != None; conflict[a][b] != want {
				t.Errorf("conflict %v %v = %v", a, b, conflict[a][b])
			}
			if raise[a][b] != max(a, b) {
				t.Errorf("raise %v by %v = %v", a, b, raise[a][b])
			}
			if leave[a][b] != min(a, b) {
				t.Errorf("leave %v of %v = %v", b, a, leave[a][b])
			}
			if keep := keepFor[a]; (b <= keep) == conflict[a][b] {
				t.Errorf("keepFor %v = %v, but %v conflicts: %v", a, keep, b, conflict[a][b])
			}
		}
	}
	if s := None.String() + Read.String() + Write.String() + Mode(7).String(); s != "-rw?" {
		t.Errorf("modes print as %q", s)
	}
	if !Conflict(Read, Write) || Conflict(Read, Read) {
		t.Error("Conflict")
	}
}

// TestPure: the cores import nothing that could make them depend on anything but their inputs.
func TestPure(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	may := map[string]bool{"fmt": true, "slices": true, "strconv": true, "strings": true}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if path := strings.Trim(i.Path.Value, `"`); !may[path] {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

// TestRulesAreOn: whoever uses the package has all rules.
func TestRulesAreOn(t *testing.T) {
	if NewManager(Config{}, 0).off != (rulesOff{}) || NewHolder(0).off != (rulesOff{}) {
		t.Error("a rule is off")
	}
}
