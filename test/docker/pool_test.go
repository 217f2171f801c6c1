package docker

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"dougong.dev/dougong/test/enclave"
)

// TestPool has 'docker run' start a keeper, whose machines serve the containers
// after the first one, on a network that Docker fills by a hook.
func TestPool(t *testing.T) {
	if newDaemon() {
		t.Skip("it is about a runtime by its path, which the older Docker is tested with")
	}
	config := filepath.Join(suite.Base, "pool.toml")
	if err := os.WriteFile(config, []byte("[pool]\nsize = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pool := func(args ...string) []byte {
		out, err := exec.Command(filepath.Join(suite.Bin, "dougong"), append([]string{"--config", config, "pool"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("pool %q: %v: %s", args, err, out)
		}
		return out
	}
	t.Cleanup(func() { pool("stop") })
	if _, err := docker.Run("network", "create", "--subnet", "10.94.0.0/24", "pooled"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = docker.Run("network", "rm", "pooled") })
	var status struct {
		Waiting      []struct{ PID int }
		Hits, Misses int
		Trouble      string
	}
	for i := range 3 {
		out, err := docker.Run("run", "--rm", "--runtime", "pooled", "--network", "pooled", "busybox", "sh", "-c", "ip -o -4 addr show eth0 | awk '{print $4}'; ping -c 1 -W 10 10.94.0.1 >/dev/null && echo answers")
		if want := "10.94.0.2/24\nanswers"; out != want || err != nil {
			t.Errorf("run %d says %q, %v, want %q", i, out, err, want)
		}
		for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			status.Waiting = nil
			if err := json.Unmarshal(pool("status", "--format", "json"), &status); err != nil {
				t.Fatal(err)
			}
			if len(status.Waiting) == 1 {
				break
			}
			if time.Since(begin) > enclave.Patience {
				t.Fatalf("no machine waits: %+v", status)
			}
		}
	}
	if status.Hits != 2 || status.Misses != 1 {
		t.Errorf("hits and misses: %+v", status)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/docker/*/cgroup.procs"); len(left) > 0 {
		t.Errorf("cgroups of containers stay: %q", left)
	}
	if entries, err := filepath.Glob(filepath.Join(suite.Base, "exec", "*", "moby", ".pool")); len(entries) > 0 || err != nil {
		t.Errorf("there is a pool of Docker's own: %q, %v", entries, err)
	}
}
