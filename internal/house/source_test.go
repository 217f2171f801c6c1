package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxLines is the longest that a hand-written source may be.
const maxLines = 600

func TestFilesAreShort(t *testing.T) {
	for _, file := range files(t, ".go", ".sh", "Makefile") {
		source := read(t, file)
		if n := strings.Count(source, "\n"); n > maxLines && !generated(source) {
			t.Errorf("%s has %d lines, and may have %d: split it", file, n, maxLines)
		}
	}
}

// Every package says what it owns. Test packages of a directory, and programs
// in testdata, speak for themselves.
func TestPackageComments(t *testing.T) {
	documented := map[string]bool{}
	for _, file := range files(t, ".go") {
		if strings.Contains(file, "/testdata/") || generated(read(t, file)) {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Error(err)
			continue
		}
		dir := path.Dir(file)
		documented[dir] = documented[dir] || isPackageComment(parsed)
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment: say what the package owns and what it must not do", dir)
		}
	}
}

func isPackageComment(f *ast.File) bool {
	text := f.Doc.Text()
	return strings.HasPrefix(text, "Package "+f.Name.Name+" ") || f.Name.Name == "main" && strings.HasPrefix(text, "Command ")
}

// markers are written in two parts, or this file would hold them.
var markers = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

func TestNoMarkers(t *testing.T) {
	for _, file := range files(t, ".go", ".sh", ".md", ".proto", ".yml", ".yaml", "Makefile") {
		for i, line := range strings.Split(read(t, file), "\n") {
			if m := markers.FindString(line); m != "" {
				t.Errorf("%s:%d: %s: finish it, or say in docs/limitations.md what is missing", file, i+1, m)
			}
		}
	}
}

// machinePath finds paths of somebody's machine. The home of a container's
// user, and temporary files as such, are not meant.
var machinePath = regexp.MustCompile(`(^|[\s"'` + "`" + `(=:])/(work|builds|home/[a-z]+/(src|go|git|projects))/[A-Za-z.]|/tmp/[a-z]+-(area|work)\b|/root/go/`)

func TestNoPathsOfBuildMachines(t *testing.T) {
	for _, file := range files(t, ".go", ".sh", ".md", ".proto", ".yml", ".yaml", ".json", ".args", ".txt", ".toml", "Makefile") {
		if strings.HasPrefix(file, "internal/house/") {
			continue
		}
		for i, line := range strings.Split(read(t, file), "\n") {
			if m := machinePath.FindString(line); m != "" {
				t.Errorf("%s:%d: %q is a path of one machine", file, i+1, m)
			}
		}
	}
}

func TestPatternsFind(t *testing.T) {
	for text, want := range map[string]bool{
		"// TO" + "DO: later": true, "FIX" + "ME(me)": true, "mktemp .new-XXXXXX": false, "TODOS": false,
	} {
		if got := markers.MatchString(text); got != want {
			t.Errorf("marker in %q: %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]bool{
		"see /work/main/x": true, `"/work/shared"`: true, "/root/go/bin": true, "/tmp/my-area/x": true,
		"the workdir=/u/work/x": false, "/home/trap": false, "/tmp/x": false, "-w /work": false,
	} {
		if got := machinePath.MatchString(text); got != want {
			t.Errorf("machine's path in %q: %v, want %v", text, got, want)
		}
	}
}
