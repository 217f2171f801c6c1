package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCount(t *testing.T) {
	const history = mark + "2026-02-03\tBo\n\ninternal/qmp/a.go\ninternal/qmp/b.go\nREADME.md\n" +
		mark + "2026-02-01\tAn\n\ninternal/qmp/a.go\ndocs/design/x.md\n" +
		mark + "2026-01-31\tBo\n" +
		mark + "2026-03-01\tZu\n\ncmd/dougong/run.go\n"
	got, err := count(strings.NewReader(history))
	if err != nil {
		t.Fatal(err)
	}
	want := metrics{
		Commits: 4, First: "2026-01-31", Last: "2026-03-01",
		Contributors: []contributor{
			{"Bo", 2, "2026-01-31", "2026-02-03"}, {"An", 1, "2026-02-01", "2026-02-01"}, {"Zu", 1, "2026-03-01", "2026-03-01"},
		},
		Months: []named{{"2026-01", 1}, {"2026-02", 2}, {"2026-03", 1}},
		Areas:  []named{{"internal/qmp", 2}, {".", 1}, {"cmd/dougong", 1}, {"docs", 1}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestCountRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, history := range []string{mark + "2026-02-03 Bo\n", mark + "yesterday\tBo\n", strings.Repeat("x", 2<<20)} {
		if _, err := count(strings.NewReader(history)); err == nil {
			t.Errorf("%.40q is no error", history)
		}
	}
}

func TestAreaOf(t *testing.T) {
	for file, want := range map[string]string{
		"Makefile": ".", "docs/a.md": "docs", "docs/design/a.md": "docs", "internal/x/y.go": "internal/x",
		"internal/guest/agent/a.go": "internal/guest", "test/go.mod": "test", ".github/x.yml": ".github",
	} {
		if got := areaOf(file); got != want {
			t.Errorf("areaOf(%q) = %q, want %q", file, got, want)
		}
	}
}
