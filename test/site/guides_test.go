package site

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dougong.dev/dougong/test/guide"
)

var (
	guidePage = regexp.MustCompile(`"/(docs/[a-z-]+)"`)
	namedTest = regexp.MustCompile(`^(test/[a-z]+) (Test\w+)$`)
)

// guides lists the install guides that exist, by their paths without ".md".
func guides(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(suite.repository, "site/data/guides.toml"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range guidePage.FindAllStringSubmatch(string(data), -1) {
		if _, err := os.Stat(filepath.Join(suite.repository, m[1]+".md")); err == nil && !slices.Contains(all, m[1]) {
			all = append(all, m[1])
		}
	}
	if len(all) < 2 {
		t.Fatalf("only these guides: %q", all)
	}
	return all
}

func blocks(t *testing.T, file string) []guide.Block {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(suite.repository, file))
	if err != nil {
		t.Fatal(err)
	}
	all, err := guide.Blocks(string(page))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return all
}

// TestGuidesAreTested wants a mark at each command block of the install guides,
// and that the tests they name exist.
func TestGuidesAreTested(t *testing.T) {
	for _, name := range guides(t) {
		for _, b := range blocks(t, name+".md") {
			switch b.Mark.Kind {
			case "":
				t.Errorf("%s.md:%d: nothing says what tests these commands; CONTRIBUTING.md has the marks:\n%s", name, b.Line, b.Text)
			case guide.AsIn:
				for test := range strings.SplitSeq(b.Mark.Text, ", ") {
					checkTestExists(t, name, b.Line, test)
				}
			}
		}
	}
}

func checkTestExists(t *testing.T, guide string, line int, test string) {
	t.Helper()
	m := namedTest.FindStringSubmatch(test)
	if m == nil {
		t.Errorf("%s.md:%d: %q names no test: want \"test/DIR TestName\"", guide, line, test)
		return
	}
	files, err := filepath.Glob(filepath.Join(suite.repository, m[1], "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "\nfunc "+m[2]+"(") {
			return
		}
	}
	t.Errorf("%s.md:%d: there is no %s in %s", guide, line, m[2], m[1])
}

// TestTranslatedGuides wants the command blocks of a translated guide to be
// those of the original, all of them and in their order.
func TestTranslatedGuides(t *testing.T) {
	translated := 0
	for _, name := range guides(t) {
		file := filepath.Join("site/content/zh-cn", name+".md")
		if _, err := os.Stat(filepath.Join(suite.repository, file)); err != nil {
			continue
		}
		translated++
		want, got := commands(blocks(t, name+".md")), commands(blocks(t, file))
		if !slices.Equal(want, got) {
			t.Errorf("%s: commands\n%q\nwant those of %s.md:\n%q", file, got, name, want)
		}
	}
	if translated == 0 {
		t.Error("no guide is translated")
	}
}

// commands are the blocks without comments, which are translated.
func commands(blocks []guide.Block) []string {
	var all []string
	for _, b := range blocks {
		for line := range strings.Lines(b.Text) {
			line, _, _ = strings.Cut(line, " # ")
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}
