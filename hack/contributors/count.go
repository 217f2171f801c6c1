package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// mark begins the line of a commit in git's output; no file name begins so.
const mark = "\x01"

// metrics is what the site shows. Dates are days, as in 2006-01-02.
type metrics struct {
	Commits      int           `json:"commits"`
	First        string        `json:"first"`
	Last         string        `json:"last"`
	Contributors []contributor `json:"contributors"`
	Months       []named       `json:"months"`
	Areas        []named       `json:"areas"`
}

// contributor is a person, by the name in the history.
type contributor struct {
	Name    string `json:"name"`
	Commits int    `json:"commits"`
	First   string `json:"first"`
	Last    string `json:"last"`
}

// named is a number of commits of a month or an area.
type named struct {
	Name    string `json:"name"`
	Commits int    `json:"commits"`
}

// count reads git's output: see logArgs.
func count(r io.Reader) (metrics, error) {
	var m metrics
	people, months, areas := map[string]*contributor{}, map[string]int{}, map[string]int{}
	var touched map[string]bool
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		head, isCommit := strings.CutPrefix(line, mark)
		switch {
		case isCommit:
			day, name, ok := strings.Cut(head, "\t")
			if !ok || len(day) != len("2006-01-02") {
				return m, fmt.Errorf("a commit in the history has no date and name: %q", head)
			}
			m.add(people, day, name)
			months[day[:len("2006-01")]]++
			touched = map[string]bool{}
		case line != "":
			if area := areaOf(line); !touched[area] {
				touched[area] = true
				areas[area]++
			}
		}
	}
	if err := lines.Err(); err != nil {
		return m, fmt.Errorf("read the history: %w", err)
	}
	for _, p := range people {
		m.Contributors = append(m.Contributors, *p)
	}
	slices.SortFunc(m.Contributors, func(a, b contributor) int {
		return cmp.Or(cmp.Compare(b.Commits, a.Commits), cmp.Compare(a.Name, b.Name))
	})
	m.Months = sorted(months, func(a, b named) int { return cmp.Compare(a.Name, b.Name) })
	m.Areas = sorted(areas, func(a, b named) int {
		return cmp.Or(cmp.Compare(b.Commits, a.Commits), cmp.Compare(a.Name, b.Name))
	})
	return m, nil
}

// add counts a commit for its author and for the whole.
func (m *metrics) add(people map[string]*contributor, day, name string) {
	p := people[name]
	if p == nil {
		p = &contributor{Name: name, First: day, Last: day}
		people[name] = p
	}
	p.Commits++
	p.First, p.Last = min(p.First, day), max(p.Last, day)
	m.Commits++
	if m.First == "" {
		m.First, m.Last = day, day
	}
	m.First, m.Last = min(m.First, day), max(m.Last, day)
}

// areaOf is the part of the repository that a file belongs to: its directory
// at the top, two deep where the code is.
func areaOf(file string) string {
	parts := strings.Split(file, "/")
	switch {
	case len(parts) == 1:
		return "."
	case len(parts) > 2 && slices.Contains([]string{"internal", "cmd", "test", "hack"}, parts[0]):
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

func sorted(counts map[string]int, order func(a, b named) int) []named {
	var all []named
	for name := range maps.Keys(counts) {
		all = append(all, named{name, counts[name]})
	}
	slices.SortFunc(all, order)
	return all
}
