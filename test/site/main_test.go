package site

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// suite is what all tests share.
var suite struct {
	// dir is the built site, node the checkers' modules, repository the source.
	dir, node, repository string
	pages                 map[string]*page
}

// page is one HTML file of the site.
type page struct {
	// path is that of the file from the site's root, such as "docs/install.html".
	path string
	root *html.Node
	// ids are the anchors, each with how often it is there.
	ids map[string]int
}

func TestMain(m *testing.M) {
	if err := load(); err != nil {
		fmt.Fprintln(os.Stderr, "test/site:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func load() error {
	suite.dir, suite.node, suite.repository = os.Getenv("DOUGONG_SITE"), os.Getenv("DOUGONG_SITE_NODE"), "../.."
	if suite.dir == "" {
		suite.dir = "../../_build/site"
	}
	if suite.node == "" {
		suite.node = "../../_build/site-node"
	}
	if _, err := os.Stat(filepath.Join(suite.dir, "index.html")); err != nil {
		return fmt.Errorf("%w; make it with: make site", err)
	}
	suite.pages = map[string]*page{}
	return fs.WalkDir(os.DirFS(suite.dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".html" {
			return err
		}
		p, err := parse(name)
		suite.pages[name] = p
		return err
	})
}

func parse(name string) (*page, error) {
	f, err := os.Open(filepath.Join(suite.dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &page{path: name, ids: map[string]int{}}
	if p.root, err = html.Parse(f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for n := range p.root.Descendants() {
		if id := attribute(n, "id"); id != "" {
			p.ids[id]++
		}
	}
	return p, nil
}

// attribute is the value of an element's attribute; empty without one.
func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// elements lists those of one kind.
func (p *page) elements(kind atom.Atom) []*html.Node {
	var all []*html.Node
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && n.DataAtom == kind {
			all = append(all, n)
		}
	}
	return all
}

// text is what an element says.
func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

// eachPage runs a test for every page.
func eachPage(t *testing.T, test func(t *testing.T, p *page)) {
	t.Helper()
	for name, p := range suite.pages {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}
