package vm

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// benchRow is a part of one row of bench's JSON.
type benchRow struct {
	Name    string
	Median  float64
	Runs    int
	Missing string
}

// TestBench measures everything once, and leaves nothing behind.
func TestBench(t *testing.T) {
	in := install(t)
	file := in.path("bench.json")
	// What a containerd that happens to be here would add is not for this test.
	cmd := in.command("bench", "--containerd", in.mkdir("no-containerd"), "--runs", "1", "--clones", "2", "--image", busybox(), "--json", file, "--chart", in.path("bench.svg"))
	cmd.Env = append(os.Environ(), "TMPDIR="+in.mkdir("temp"))
	r := in.finish(cmd, nil)
	if r.code != 0 || !strings.Contains(r.stdout, "≤ 1.35 × floor") || !strings.Contains(r.stderr, "starts, round 1 of 1") {
		t.Fatal(r)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Runs    int
		Machine struct{ QEMU, Accelerator, GuestKernel string }
		Rows    []benchRow
	}
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	if m := report.Machine; report.Runs != 1 || m.QEMU == "" || m.Accelerator == "" || m.GuestKernel == "" {
		t.Errorf("report: %s", clip(string(data)))
	}
	// Other runtimes need not be here, or work; Podman refuses to in a directory
	// whose name is as long as the test's. What else is not measured says
	// what for want of.
	others := []string{"runc", "crun", "runsc", "podman run", "podman run runc"}
	for _, row := range report.Rows {
		lacking := strings.HasSuffix(row.Missing, "not installed")
		if (row.Runs != 1 || !(row.Median > 0)) && !slices.Contains(others, row.Name) && !lacking {
			t.Errorf("row %s: %+v", row.Name, row)
		}
	}
	if chart, err := os.ReadFile(in.path("bench.svg")); err != nil || !strings.Contains(string(chart), "<title>thaw") {
		t.Errorf("chart: %v, %s", err, clip(string(chart)))
	}
	if left := in.leftIn("temp"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestBenchTimeline draws one start of each kind, and the kernel's own.
func TestBenchTimeline(t *testing.T) {
	in := install(t)
	cmd := in.command("bench", "--timeline", "--runs", "1", "--image", busybox())
	cmd.Env = append(os.Environ(), "TMPDIR="+in.mkdir("temp"))
	r := in.finish(cmd, nil)
	if r.code != 0 {
		t.Fatal(r)
	}
	if !inOrder(" "+strings.Join(strings.Fields(r.stdout), " ")+" ", strings.Fields("cold: boot kernel messages, clone: thaw agent start")) {
		t.Error(r)
	}
	if left := in.leftIn("temp"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// leftIn lists what is in a directory of the installation.
func (in *installation) leftIn(name string) []string {
	in.t.Helper()
	entries, err := os.ReadDir(in.path(name))
	if err != nil {
		in.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestBenchInterrupted presses Ctrl-C while machines run.
func TestBenchInterrupted(t *testing.T) {
	in := install(t)
	cmd := in.command("bench", "--image", busybox())
	cmd.Env = append(os.Environ(), "TMPDIR="+in.mkdir("temp"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(stderr)
	for said.Scan() {
		if strings.Contains(said.Text(), "memory of idle sandboxes") {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("ended with %v", err)
	}
	if left := in.leftIn("temp"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
