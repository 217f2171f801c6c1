package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTree(t *testing.T) {
	parents := map[int]int{1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}
	for root, want := range map[int][]int{10: {10, 11, 12}, 20: {20, 21}, 21: {21}} {
		if diff := cmp.Diff(want, tree(parents, root)); diff != "" {
			t.Errorf("below %d (-want +got):\n%s", root, diff)
		}
	}
}

func TestParents(t *testing.T) {
	proc := t.TempDir()
	for name, stat := range map[string]string{
		"1": "1 (init) S 0 1 1", "30": "30 (a) b) (c) S 7 30 30", "31": "31 (x) S", "32": "32 (x) S y 1", "self": "9 (x) S 1 1",
	} {
		if err := os.Mkdir(filepath.Join(proc, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, name, "stat"), []byte(stat), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A process that ended while we looked.
	if err := os.Mkdir(filepath.Join(proc, "40"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := parents(proc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[int]int{1: 0, 30: 7}, got); diff != "" {
		t.Errorf("parents (-want +got):\n%s", diff)
	}
}

func TestProportionalSet(t *testing.T) {
	got, err := proportionalSet(writeFile(t, "smaps", "00-ff ---p 0 0 0 [rollup]\nRss:   99999 kB\nPss:   1000 kB\nPss_Anon:  7 kB\n"))
	if err != nil || got != 1.024 {
		t.Errorf("got %v MB, %v; want 1.024", got, err)
	}
	if _, err := proportionalSet(writeFile(t, "smaps", "Rss: 1 kB\n")); err == nil {
		t.Error("a file without Pss is read")
	}
}

// TestOwnMemory reads this process as it reads a sandbox.
func TestOwnMemory(t *testing.T) {
	out := newSeries()
	if err := readSandbox(os.Getpid(), out, idleRows); err != nil {
		t.Fatal(err)
	}
	own, all := summarize(out.readings[rowShimPSS]).Median, summarize(out.readings[rowIdle]).Median
	if own < 0.5 || own > 1000 || all < own {
		t.Errorf("this process has %v MB, with all below it %v MB", own, all)
	}
}

func TestSizes(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"dougong": 2 << 20, "containerd-shim-dougong-v2": 1 << 20, "initrd": 500_000} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := &lab{command: filepath.Join(dir, "dougong")}
	l.cfg.VM.Initrd = filepath.Join(dir, "initrd")
	out := newSeries()
	l.measureSizes(out)
	want := map[string][]float64{rowDougong: {2}, rowShim: {1}, rowInitramfs: {0.5}}
	if diff := cmp.Diff(want, out.readings); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	if !strings.Contains(out.missing[rowAgent], "dougong-agent") {
		t.Errorf("missing: %q", out.missing)
	}
}
