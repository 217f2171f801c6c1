package site

import (
	"encoding/xml"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// feed is an Atom feed, as RFC 4287 has it.
type feed struct {
	XMLName xml.Name `xml:"http://www.w3.org/2005/Atom feed"`
	ID      string   `xml:"id"`
	Title   string   `xml:"title"`
	Updated string   `xml:"updated"`
	Links   []link   `xml:"link"`
	Entries []entry  `xml:"entry"`
}

type entry struct {
	ID        string `xml:"id"`
	Title     string `xml:"title"`
	Author    string `xml:"author>name"`
	Published string `xml:"published"`
	Updated   string `xml:"updated"`
	Summary   string `xml:"summary"`
	Links     []link `xml:"link"`
}

type link struct {
	Rel  string `xml:"rel,attr"`
	Href string `xml:"href,attr"`
}

// TestFeed holds the feeds to what RFC 4287 demands, and to the posts.
func TestFeed(t *testing.T) {
	for _, dir := range []string{"blog", "zh-cn/blog"} {
		data, err := os.ReadFile(filepath.Join(suite.dir, dir, "feed.xml"))
		if err != nil {
			t.Fatal(err)
		}
		var f feed
		if err := xml.Unmarshal(data, &f); err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		if f.Title == "" || !isTag(f.ID) || len(f.Links) != 2 {
			t.Errorf("%s: title %q, id %q, links %v", dir, f.Title, f.ID, f.Links)
		}
		if len(f.Entries) < 3 {
			t.Errorf("%s: %d posts, want three at least", dir, len(f.Entries))
		}
		ids := map[string]bool{f.ID: true}
		for _, e := range f.Entries {
			if ids[e.ID] {
				t.Errorf("%s: id %q is there twice", dir, e.ID)
			}
			ids[e.ID] = true
			checkEntry(t, dir, e)
		}
		checkTime(t, f.Updated)
	}
}

func checkEntry(t *testing.T, dir string, e entry) {
	t.Helper()
	if e.Title == "" || e.Author == "" || e.Summary == "" || !isTag(e.ID) || len(e.Links) != 1 {
		t.Errorf("%s: a post lacks something: %+v", dir, e)
		return
	}
	if name := path.Join(dir, e.Links[0].Href); suite.pages[name] == nil {
		t.Errorf("%s: a post leads to %s, which is not there", dir, name)
	}
	checkTime(t, e.Published)
	checkTime(t, e.Updated)
}

func isTag(id string) bool { return strings.HasPrefix(id, "tag:") && strings.Count(id, ":") == 2 }

func checkTime(t *testing.T, s string) {
	t.Helper()
	if when, err := time.Parse(time.RFC3339, s); err != nil || when.Year() < 2026 {
		t.Errorf("time %q: %v", s, err)
	}
}
