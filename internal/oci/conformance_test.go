package oci

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files and generated pages")

const conformanceHead = `# What becomes of each field of the OCI runtime spec

Written from the table in internal/oci by ` + "`go test ./internal/oci -update`" + `; a test holds page and table together,
and another fails when a new version of the specification brings a field without a row. It describes runtime-spec
v1.3.0. A row covers everything below its field.

- **honoured**: reaches the container in the guest as it is.
- **translated**: takes effect in another form or place, as the rule says.
- **refused**: an error that names the field, when it is set to anything that asks for something.

| field | class | rule | test |
|---|---|---|---|
`

func conformancePage() string {
	var b strings.Builder
	b.WriteString(conformanceHead)
	for _, f := range Fields() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Path, f.Class, f.Rule, f.Test)
	}
	return b.String()
}

func TestConformancePage(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "spec-conformance.md"), []byte(conformancePage()))
}

// golden compares got with the file, or writes the file when told to.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the code says; run with -update and read the difference (-file +code):\n%s", path, diff)
	}
}

// The table may only name tests that exist.
func TestFieldsNameRealTests(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				tests[fn.Name.Name] = true
			}
		}
	}
	for _, f := range Fields() {
		if name, _, _ := strings.Cut(f.Test, "/"); !tests[name] {
			t.Errorf("%s names test %q, which does not exist", f.Path, f.Test)
		}
	}
}
