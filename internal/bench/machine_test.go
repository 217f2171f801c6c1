package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCPUModel(t *testing.T) {
	for content, want := range map[string]string{
		"processor\t: 0\nmodel name\t: Fast CPU: one\nmodel name\t: other\n": "Fast CPU: one",
		"processor\t: 0\n": "unknown",
		"":                 "unknown",
	} {
		if got := cpuModel(writeFile(t, "cpuinfo", content)); got != want {
			t.Errorf("model in %q: %q, want %q", content, got, want)
		}
	}
	if got := cpuModel("/no/such/file"); got != "unknown" {
		t.Errorf("model without a file: %q", got)
	}
}

func TestLoadAverage(t *testing.T) {
	for content, want := range map[string]float64{"4.71 3.23 2.74 1/2 3\n": 4.71, "": 0, "x y": 0} {
		if got := loadAverage(writeFile(t, "loadavg", content)); got != want {
			t.Errorf("load in %q: %v, want %v", content, got, want)
		}
	}
}

func TestBusyMachine(t *testing.T) {
	if _, busy := (Machine{Cores: 2, Load: 0.5}).busy(); busy {
		t.Error("a quiet machine counts as busy")
	}
	note, busy := (Machine{Cores: 2, Load: 4.71}).busy()
	if !busy || !strings.Contains(note, "4.71") {
		t.Errorf("busy %v: %q", busy, note)
	}
}

func TestNotes(t *testing.T) {
	b := &bench{Options: Options{Runs: fullRuns}}
	if notes := b.notes(Machine{Cores: 1}); len(notes) != 0 {
		t.Errorf("notes of a proper run: %q", notes)
	}
	b.Runs = 1
	if notes := b.notes(Machine{Cores: 1, Load: 9}); len(notes) != 2 {
		t.Errorf("notes of a single run on a busy machine: %q", notes)
	}
}
