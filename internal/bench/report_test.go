package bench

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

func sampleReport() *Report {
	s := newSeries()
	s.readings = map[string][]float64{
		rowFloor: {2.3, 2.4, 2.2}, rowRun: {3.0, 2.9, 3.1}, rowClone: {0.6, 0.7, 0.62}, rowPool: {0.2}, rowPoolAgent: {0.02}, rowPoolCreate: {0.06}, rowRunAgent: {2.5}, rowCloneAgent: {0.08}, rowCreate: {0.3, 0.31, 0.29}, rowExec: {0.1, 0.12, 0.11},
		rowRunc: {0.05, 0.06, 0.055}, rowIdle: {105, 104.2, 130}, rowShimPSS: {9.87}, rowReadImage: {420}, rowReadShare: {99.96},
	}
	s.missing[rowCrun] = "crun: exit status 1: cgroups in hybrid mode not supported, drop all controllers from cgroupv2"
	s.missing[rowRunsc] = "runsc is not installed"
	return &Report{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Image: "oci:busybox:latest", Runs: 3,
		Machine: Machine{
			CPU: "Some CPU", Cores: 2, MemoryMiB: 8000, Kernel: "6.1.0", QEMU: "7.2.22", Accelerator: "tcg",
			Dougong: "v1", GuestKernel: "6.1.0-cloud", Load: 1.5,
		},
		Notes: []string{"the first", "the second"},
		Rows:  judge(plan(), s),
		Starts: []Start{
			{Row: rowPool, Phases: []Phase{{Name: "image", Took: 0.05}, {Name: "claim", Depth: 1, At: 0.1, Took: 0.01}, {Name: "container", At: 0.08, Took: 0.1}}},
			{Row: rowClone, Phases: []Phase{{Name: "image", Took: 0.1}, {Name: "container", At: 0.1, Took: 0.4}, {Name: "restore", Depth: 1, At: 0.2, Took: 0.1}, {Name: "end", At: 0.55, Took: 0.05}}},
			{Row: rowRun, Phases: []Phase{{Name: "image", Took: 0.1}, {Name: "container", At: 0.1, Took: 2.8}}},
		},
	}
}

func golden(t *testing.T, name string, write func(*bytes.Buffer) error) {
	t.Helper()
	var got bytes.Buffer
	if err := write(&got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestTable(t *testing.T) {
	golden(t, "table.txt", func(b *bytes.Buffer) error { return sampleReport().WriteTable(b) })
}

func TestChart(t *testing.T) {
	golden(t, "chart.svg", func(b *bytes.Buffer) error { return sampleReport().WriteChart(b) })
}

// TestChartIsWellFormed has a machine and a phase with names that are markup.
func TestChartIsWellFormed(t *testing.T) {
	r := sampleReport()
	r.Machine.GuestKernel, r.Starts[0].Phases[0].Name = "<&\">", "</svg>"
	var b bytes.Buffer
	if err := r.WriteChart(&b); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(&b); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestChartOfNothing(t *testing.T) {
	if err := (&Report{}).WriteChart(io.Discard); err == nil {
		t.Error("no error where nothing was measured")
	}
}

func TestJSON(t *testing.T) {
	golden(t, "report.json", func(b *bytes.Buffer) error { return sampleReport().WriteJSON(b) })
}

func TestJSONComesBack(t *testing.T) {
	want := sampleReport()
	var b bytes.Buffer
	if err := want.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got := new(Report)
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestPrintingErrors(t *testing.T) {
	if sampleReport().WriteTable(full{}) == nil || sampleReport().WriteJSON(full{}) == nil || sampleReport().WriteChart(full{}) == nil {
		t.Error("an error of the writer is lost")
	}
}
