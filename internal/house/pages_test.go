package house

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	code    = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)[^)]*\)|(?:src|srcset|href)="([^"]+)"`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+?) *$`)
)

// links returns the targets in a page, without those in code.
func links(page string) []string {
	page = code.ReplaceAllString(fence.ReplaceAllString(page, ""), "")
	var all []string
	for _, m := range link.FindAllStringSubmatch(page, -1) {
		all = append(all, m[1]+m[2])
	}
	return all
}

// anchors returns the names that a page's headings have on the web.
func anchors(page string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ' || r == '-':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return all
}

// deadLink says what is wrong with a link of a page, or nothing.
func deadLink(page, target string) string {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return ""
	}
	name, anchor, _ := strings.Cut(target, "#")
	path := filepath.Join(root, page)
	if name != "" {
		path = filepath.Join(filepath.Dir(path), name)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "there is no such file"
	}
	if anchor == "" || info.IsDir() || !strings.HasSuffix(path, ".md") {
		return ""
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if !slices.Contains(anchors(string(data)), anchor) {
		return "the page has no such heading"
	}
	return ""
}

func TestLinks(t *testing.T) {
	checked := 0
	for _, page := range files(t, ".md") {
		for _, target := range links(read(t, page)) {
			checked++
			if problem := deadLink(page, target); problem != "" {
				t.Errorf("%s: link to %s: %s", page, target, problem)
			}
		}
	}
	if checked == 0 {
		t.Error("not one link was found: this test looks in the wrong place")
	}
}

func TestLinksAreFound(t *testing.T) {
	page := "# A Page, really\n[a](b.md \"title\") `[no](x)` <img src=\"p.svg\">\n```\n[no](y)\n```\n[c](#a-page-really)\n"
	if got, want := links(page), []string{"b.md", "p.svg", "#a-page-really"}; !slices.Equal(got, want) {
		t.Errorf("links: got %q, want %q", got, want)
	}
	if got, want := anchors(page), []string{"a-page-really"}; !slices.Equal(got, want) {
		t.Errorf("anchors: got %q, want %q", got, want)
	}
	for target, dead := range map[string]bool{
		"nowhere.md": true, "README.md#nothing-of-this-name": true, "README.md": false, "https://example.org/": false, "docs/": false,
	} {
		if got := deadLink("README.md", target) != ""; got != dead {
			t.Errorf("link to %s dead: %v, want %v", target, got, dead)
		}
	}
}

var (
	release = regexp.MustCompile(`^\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}$`)
	groups  = []string{"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
)

// changelogProblem says where a change log is not of the form of
// https://keepachangelog.com/en/1.1.0.
func changelogProblem(page string) error {
	lines := strings.Split(page, "\n")
	if lines[0] != "# Changelog" {
		return fmt.Errorf("it begins with %q instead of # Changelog", lines[0])
	}
	releases, inGroup := 0, false
	for i, line := range lines {
		switch name, version := strings.CutPrefix(line, "## "); {
		case version && (releases == 0) != (name == "[Unreleased]"), version && releases > 0 && !release.MatchString(name):
			return fmt.Errorf("line %d: %q: want [Unreleased] first and then [x.y.z] - YYYY-MM-DD", i+1, line)
		case version:
			releases, inGroup = releases+1, false
		case strings.HasPrefix(line, "### "):
			if inGroup = slices.Contains(groups, line[4:]); !inGroup {
				return fmt.Errorf("line %d: %q: want one of %q", i+1, line, groups)
			}
		case strings.HasPrefix(line, "- ") && !inGroup:
			return fmt.Errorf("line %d: an entry outside of %q", i+1, groups)
		}
	}
	if releases == 0 {
		return fmt.Errorf("there is no [Unreleased]")
	}
	return nil
}

func TestChangelog(t *testing.T) {
	if err := changelogProblem(read(t, "CHANGELOG.md")); err != nil {
		t.Errorf("CHANGELOG.md: %v", err)
	}
	for page, ok := range map[string]bool{
		"# Changelog\n\n## [Unreleased]\n\n### Added\n- a\n\n## [0.1.0] - 2026-01-01\n": true,
		"# Changes\n":                                  false,
		"# Changelog\n":                                false,
		"# Changelog\n## [0.1.0] - yes\n":              false,
		"# Changelog\n## [Unreleased]\n- a\n":          false,
		"# Changelog\n## [Unreleased]\n### New\n- a\n": false,
		"# Changelog\n## [Unreleased]\n### Added\n## [0.1.0] - today\n- a\n": false,
	} {
		if got := changelogProblem(page); (got == nil) != ok {
			t.Errorf("change log %q: %v", page, got)
		}
	}
}
