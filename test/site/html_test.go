package site

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/html/atom"
)

// maxWeight is what a page may weigh with all that it loads, in bytes.
const maxWeight = 100_000

// TestWeight adds up a page and what it loads. A page must be whole without a
// script, and may have only that of the theme.
func TestWeight(t *testing.T) {
	eachPage(t, func(t *testing.T, p *page) {
		files := map[string]bool{p.path: true}
		for kind, name := range map[atom.Atom]string{atom.Link: "href", atom.Script: "src", atom.Img: "src"} {
			for _, n := range p.elements(kind) {
				if kind == atom.Link && attribute(n, "rel") == "alternate" {
					continue
				}
				files[path.Join(path.Dir(p.path), attribute(n, name))] = true
			}
		}
		var sum int64
		for name := range files {
			info, err := os.Stat(filepath.Join(suite.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			sum += info.Size()
		}
		if sum > maxWeight {
			t.Errorf("%d bytes, want at most %d", sum, maxWeight)
		}
		if n := len(p.elements(atom.Script)); n != 1 {
			t.Errorf("%d scripts, want one", n)
		}
	})
}

// TestOutline wants what readers and search engines go by: a title and a
// description of each page that no other has, and one heading of the first
// level.
func TestOutline(t *testing.T) {
	titles := map[string]string{}
	for name, p := range suite.pages {
		if n := len(p.elements(atom.H1)); n != 1 {
			t.Errorf("%s: %d headings of the first level, want one", name, n)
		}
		title := text(p.elements(atom.Title)[0])
		language := strings.HasPrefix(name, "zh-cn/")
		key := title
		if language {
			key = "zh-cn " + title
		}
		if other := titles[key]; other != "" || title == "" {
			t.Errorf("%s and %s have the same title, or none: %q", name, other, title)
		}
		titles[key] = name
		described := false
		for _, n := range p.elements(atom.Meta) {
			described = described || attribute(n, "name") == "description" && len(attribute(n, "content")) > 20
		}
		if !described {
			t.Errorf("%s has no description", name)
		}
		for id, times := range p.ids {
			if times > 1 {
				t.Errorf("%s: %d elements have the id %q", name, times, id)
			}
		}
	}
}

// TestValidHTML has html-validate look at each page.
func TestValidHTML(t *testing.T) {
	program, err := filepath.Abs(filepath.Join(suite.node, "node_modules/.bin/html-validate"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v; install it with: make test-site-quick", err)
	}
	config, err := filepath.Abs("testdata/htmlvalidate.json")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config", config, "--formatter", "text", "--max-warnings", "0", suite.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestValidHTMLCanFail has it look at a page with mistakes of several kinds.
func TestValidHTMLCanFail(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.html")
	const page = `<!doctype html><html lang="en"><head><title>x</title></head><body><p><div>in a p</div><img src="x"><a>b</body></html>`
	if err := os.WriteFile(bad, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(suite.node, "node_modules/.bin/html-validate")
	out, err := exec.Command(program, "--config", "testdata/htmlvalidate.json", "--formatter", "text", bad).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "bad.html") {
		t.Errorf("a bad page passes: %v\n%s", err, out)
	}
}
