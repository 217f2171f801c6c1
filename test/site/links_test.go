package site

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// addresses are the attributes that lead somewhere.
var addresses = map[atom.Atom]string{
	atom.A: "href", atom.Link: "href", atom.Script: "src", atom.Img: "src", atom.Source: "src", atom.Iframe: "src",
	atom.Object: "data", atom.Form: "action", atom.Video: "src", atom.Audio: "src", atom.Embed: "src",
}

// TestLinks wants every link within the site to lead to a file and an anchor
// that are there, and relative, so that the site works below any path. Nothing
// but a link to click on may lead elsewhere.
func TestLinks(t *testing.T) {
	eachPage(t, func(t *testing.T, p *page) {
		for n := range p.root.Descendants() {
			name, leads := addresses[n.DataAtom]
			if n.Type != html.ElementNode || !leads {
				continue
			}
			if address := attribute(n, name); address != "" {
				checkLink(t, p, n, address)
			}
		}
	})
}

func checkLink(t *testing.T, p *page, n *html.Node, address string) {
	t.Helper()
	u, err := url.Parse(address)
	switch {
	case err != nil:
		t.Errorf("<%s> leads to %q: %v", n.Data, address, err)
	case u.IsAbs() || u.Host != "":
		if n.DataAtom != atom.A {
			t.Errorf("<%s> loads %q from elsewhere", n.Data, address)
		}
	case strings.HasPrefix(u.Path, "/"):
		t.Errorf("<%s> leads to %q, which is not relative", n.Data, address)
	default:
		checkTarget(t, p, address, u)
	}
}

func checkTarget(t *testing.T, p *page, address string, u *url.URL) {
	t.Helper()
	target := p.path
	if u.Path != "" {
		target = path.Join(path.Dir(p.path), u.Path)
	}
	if info, err := os.Stat(filepath.Join(suite.dir, target)); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%q leads to %s, which is not a file of the site", address, target)
		return
	}
	if other := suite.pages[target]; u.Fragment != "" && (other == nil || other.ids[u.Fragment] == 0) {
		t.Errorf("%q leads to an anchor that %s does not have", address, target)
	}
}

// TestEveryPageIsReached follows the links from the first page.
func TestEveryPageIsReached(t *testing.T) {
	seen := map[string]bool{"index.html": true}
	for queue := []string{"index.html"}; len(queue) > 0; queue = queue[1:] {
		p := suite.pages[queue[0]]
		for _, a := range p.elements(atom.A) {
			u, err := url.Parse(attribute(a, "href"))
			if err != nil || u.IsAbs() || u.Path == "" {
				continue
			}
			target := path.Join(path.Dir(p.path), u.Path)
			if suite.pages[target] != nil && !seen[target] {
				seen[target] = true
				queue = append(queue, target)
			}
		}
	}
	for name := range suite.pages {
		if !seen[name] {
			t.Errorf("no link leads to %s", name)
		}
	}
	if len(seen) < 40 {
		t.Errorf("only %d pages", len(seen))
	}
}

// TestFilesOfTheRepository looks at what is named as a file of the repository,
// since it is no page: it must be there. A page of the documentation is never
// named like that.
func TestFilesOfTheRepository(t *testing.T) {
	eachPage(t, func(t *testing.T, p *page) {
		for _, n := range p.elements(atom.Span) {
			file := attribute(n, "data-file")
			if file == "" {
				continue
			}
			if _, err := os.Stat(filepath.Join(suite.repository, file)); err != nil {
				t.Errorf("%q is said to be in the repository: %v", file, err)
			}
			if path.Ext(file) == ".md" {
				t.Errorf("%q should lead to its page", file)
			}
		}
	})
}

// TestLanguages wants each page in both languages, each leading to the other.
func TestLanguages(t *testing.T) {
	eachPage(t, func(t *testing.T, p *page) {
		english, isChinese := strings.CutPrefix(p.path, "zh-cn/")
		other, language := "zh-cn/"+p.path, "en"
		if isChinese {
			other, language = english, "zh-CN"
		}
		if suite.pages[other] == nil {
			t.Fatalf("there is no %s", other)
		}
		if got := attribute(p.elements(atom.Html)[0], "lang"); got != language {
			t.Errorf("language %q, want %q", got, language)
		}
		for _, a := range p.elements(atom.A) {
			if attribute(a, "class") == "language" {
				if got := path.Join(path.Dir(p.path), attribute(a, "href")); got != other {
					t.Errorf("the switch of the language leads to %s, want %s", got, other)
				}
				return
			}
		}
		t.Error("there is no switch of the language")
	})
}
