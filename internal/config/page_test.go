package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

func TestPage(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "configuration.md")
	if *update {
		if err := os.WriteFile(file, []byte(Page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Page() {
		t.Errorf("%s is not what the program knows; run 'go generate ./internal/config'", file)
	}
}

func TestEveryKeyIsDocumented(t *testing.T) {
	keys := Keys()
	if len(keys) < 20 {
		t.Fatalf("%d keys, want all of Config", len(keys))
	}
	seen := map[string]bool{}
	for _, k := range keys {
		if seen[k.Name] || strings.HasSuffix(k.Name, ".") {
			t.Errorf("key %q is twice there or has no name", k.Name)
		}
		seen[k.Name] = true
		if !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: %q is not a sentence", k.Name, k.Doc)
		}
		if k.Default == "" {
			t.Errorf("%s has no default", k.Name)
		}
	}
}

// uncomment makes the keys of the example count.
func uncomment(example string) string {
	var lines []string
	for line := range strings.Lines(example) {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") {
			line = line[1:]
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

func TestExampleIsTheDefaults(t *testing.T) {
	text := uncomment(Example())
	if text == Example() {
		t.Fatal("the example has no keys")
	}
	c, err := Parse("example", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.VM != Default().VM || c.Storage != Default().Storage || c.Share != Default().Share || c.Runtime != Default().Runtime {
		t.Errorf("the example says %+v", c)
	}
}
