package house

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is the module's path.
const module = "dougong.dev/dougong"

// root is the repository's root from this package.
const root = "../.."

// goTool runs the go command at the repository's root and returns what it prints.
func goTool(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out
}

// listFiles returns the paths, from the root, of all files that are in the
// repository or, where this is a tree without git, that may be.
var listFiles = sync.OnceValues(func() ([]string, error) {
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return walkFiles()
	}
	return slices.DeleteFunc(strings.Split(string(out), "\x00"), func(path string) bool {
		info, err := os.Lstat(filepath.Join(root, path))
		return err != nil || !info.Mode().IsRegular()
	}), nil
})

func walkFiles() ([]string, error) {
	var all []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "_build" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if rel, err := filepath.Rel(root, path); err == nil && d.Type().IsRegular() {
			all = append(all, filepath.ToSlash(rel))
		}
		return nil
	})
	return all, err
}

// files returns the repository's files whose names end in one of suffixes;
// without suffixes, all of them.
func files(t *testing.T, suffixes ...string) []string {
	t.Helper()
	all, err := listFiles()
	if err != nil {
		t.Fatal(err)
	}
	var some []string
	for _, path := range all {
		if len(suffixes) == 0 || slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(path, s) }) {
			some = append(some, path)
		}
	}
	if len(some) == 0 {
		t.Fatalf("no files that end in %q: this test looks in the wrong place", suffixes)
	}
	return some
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var generatedMark = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// generated says whether a Go file was written by a program.
func generated(source string) bool {
	head, _, _ := strings.Cut(source, "\npackage ")
	return generatedMark.MatchString(head)
}
