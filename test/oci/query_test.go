package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestQueries asks about a running container in every way.
func TestQueries(t *testing.T) {
	c := newContainer(t, `sleep 1001 & echo ready; wait`)
	c.create(nil)
	c.run("start", c.id)
	c.out.until(t, "ready\n")
	if got := c.run("list"); !strings.HasPrefix(got, "ID ") || !strings.Contains(got, c.id) || !strings.Contains(got, "running") || !strings.Contains(got, c.bundle) {
		t.Errorf("list prints:\n%s", got)
	}
	if got := c.run("list", "--quiet"); !strings.Contains(got, c.id+"\n") {
		t.Errorf("list --quiet prints:\n%s", got)
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(c.run("list", "--format", "json")), &list); err != nil || len(list) == 0 {
		t.Errorf("list --format json: %v, %v", list, err)
	}
	if got := c.run("ps", c.id); !strings.Contains(got, "sleep 1001") {
		t.Errorf("ps prints:\n%s", got)
	}
	var pids []int
	if err := json.Unmarshal([]byte(c.run("ps", "--format", "json", c.id)), &pids); err != nil || len(pids) != 2 || pids[0] != pid(t, c.pidFile()) {
		t.Fatalf("ps --format json: %v, %v", pids, err)
	}
	// The other is a process of the host, for those who ask ps about it.
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pids[1])); string(line) != "sleep\x001001\x00" {
		t.Errorf("process %d is %q, %v", pids[1], line, err)
	}
	var event struct {
		Type, ID string
		Data     struct {
			CPU    struct{ Usage struct{ Total uint64 } }
			Memory struct{ Usage struct{ Usage, Limit uint64 } }
			Pids   struct{ Current uint64 }
		}
	}
	c.run("update", "--memory", "64m", "--pids-limit", "50", c.id)
	if err := json.Unmarshal([]byte(c.run("events", "--stats", c.id)), &event); err != nil {
		t.Fatal(err)
	}
	if event.Type != "stats" || event.ID != c.id || event.Data.CPU.Usage.Total == 0 || event.Data.Memory.Usage.Usage == 0 || event.Data.Memory.Usage.Limit != 64<<20 || event.Data.Pids.Current != 2 {
		t.Errorf("events --stats: %+v", event)
	}
	cmd := c.command("update", "--resources", "-", c.id)
	cmd.Stdin = strings.NewReader(`{"memory":{"limit":83886080}}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("update: %v: %s", err, out)
	}
	if err := json.Unmarshal([]byte(c.run("events", "--stats", c.id)), &event); err != nil || event.Data.Memory.Usage.Limit != 80<<20 {
		t.Errorf("after the second update: %+v, %v", event, err)
	}
}

// TestCgroup finds the process that stands for a container in the cgroup that
// the spec names, together with the machine.
func TestCgroup(t *testing.T) {
	c := newContainer(t, `echo ready; sleep 1000`)
	path := filepath.Join(cgroup(), "named")
	c.spec["linux"].(map[string]any)["cgroupsPath"] = path
	c.create(nil)
	c.run("start", c.id)
	c.out.until(t, "ready\n")
	child := pid(t, c.pidFile())
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", child))
	if err != nil || len(cgroupDirs(path)) == 0 {
		t.Fatalf("the host has no cgroup %s: %v", path, err)
	}
	if !strings.Contains(string(data), ":"+path+"\n") {
		t.Errorf("process %d is in\n%s", child, data)
	}
	procs, err := os.ReadFile(filepath.Join(cgroupDirs(path)[0], "cgroup.procs"))
	// The sandbox process, the machine, the daemon that shares, the stand-in.
	if err != nil || len(strings.Fields(string(procs))) < 4 {
		t.Errorf("the cgroup has %q, %v", procs, err)
	}
	c.run("kill", c.id, "KILL")
	reap(t, child)
	if left := cgroupDirs(path); len(left) > 0 {
		t.Errorf("the end of the process leaves %q", left)
	}
}

// TestRoot keeps containers of callers with different roots apart.
func TestRoot(t *testing.T) {
	c := running(t)
	other := filepath.Join(t.TempDir(), "root")
	if got := c.run("--root", other, "list", "--quiet"); got != "" {
		t.Errorf("another root has %q", got)
	}
	if got := c.run("--root", suite.state, "list", "--quiet"); !strings.Contains(got, c.id) {
		t.Errorf("the root has %q", got)
	}
}

// TestFeatures looks at what is told of this runtime itself.
func TestFeatures(t *testing.T) {
	c := &container{t: t, id: "none", bundle: t.TempDir()}
	var f struct {
		OCIVersionMin, OCIVersionMax string
		Hooks                        []string
		Linux                        struct{ Namespaces, Capabilities []string }
	}
	if err := json.Unmarshal([]byte(c.run("features")), &f); err != nil {
		t.Fatal(err)
	}
	if f.OCIVersionMin != "1.0.0" || len(f.Hooks) != 6 || len(f.Linux.Namespaces) < 6 || len(f.Linux.Capabilities) < 40 {
		t.Errorf("features are %+v", f)
	}
	for _, verb := range []string{"checkpoint", "restore"} {
		if said := c.fails(verb, "--image-path", "/x", "c1"); !strings.Contains(said, "not implemented") {
			t.Errorf("%s says %q", verb, said)
		}
	}
	if err := exec.Command(filepath.Join(suite.bin, "dougong"), "--version").Run(); err != nil {
		t.Errorf("--version: %v", err)
	}
	// A spec that is there is not overwritten.
	c.run("spec", "--bundle", c.bundle)
	if said := c.fails("spec", "--bundle", c.bundle); !strings.Contains(said, "exists") {
		t.Errorf("a second spec says %q", said)
	}
	if _, err := os.Stat(filepath.Join(c.bundle, "config.json")); err != nil {
		t.Error(err)
	}
}
