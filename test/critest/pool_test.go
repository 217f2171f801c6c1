package critest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// poolStatus is what 'pool status --format json' tells.
type poolStatus struct {
	PID          int
	Waiting      []struct{ PID int }
	Hits, Misses int
}

// dougong runs the command with the configuration of the daemon's sandboxes.
func (c *client) dougong(args ...string) string {
	c.t.Helper()
	out, err := exec.Command(filepath.Join(os.Getenv("DOUGONG_BIN"), "dougong"), append([]string{"--config", filepath.Join(c.dir, "dougong.toml")}, args...)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("dougong %q: %v: %s", args, err, out)
	}
	return string(out)
}

// usePool has sandboxes come from a pool of one machine, until the end of the test.
func (c *client) usePool() {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.dir, "dougong.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "state = %q\n[pool]\nsize = 1\n", filepath.Join(c.dir, "pool")); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { c.dougong("pool", "stop") })
}

func (c *client) poolStatus() (s poolStatus) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.dougong("pool", "status", "--format", "json")), &s); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// cgroupOf is in which cgroups a process is.
func (c *client) cgroupOf(pid int) string {
	c.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		c.t.Error(err)
	}
	return string(data)
}

// Pods with a network of CNI find machines that wait, and are like others.
func TestPodsFromThePool(t *testing.T) {
	eachSandboxer(t, testPodsFromThePool)
	t.Run("disks", func(t *testing.T) { testPodsFromThePool(t, newClient(t, "podsandbox", "erofs")) })
}

func testPodsFromThePool(t *testing.T, c *client) {
	t.Helper()
	c.usePool()
	var waited poolStatus
	for i := range 3 {
		name := fmt.Sprintf("pod%d", i)
		pod, config := c.pod(name, "")
		if i > 0 {
			machine, shims := waited.Waiting[0].PID, c.processes("containerd-shim-dougong")
			if len(shims) != 1 || c.cgroupOf(machine) != c.cgroupOf(shims[0]) {
				t.Errorf("%d shims, and the machine is in\n%s", len(shims), c.cgroupOf(machine))
			}
		}
		id := c.container(pod, config, "c-"+name, "", "hostname; ip -o -4 addr show dev eth0 | awk '{print $4}'; ping -c 1 -W 10 10.88.0.1 >/dev/null && echo answers; sleep 1000")
		address := c.ok("inspectp", "-o", "go-template", "--template", "{{.status.network.ip}}", pod)
		want := name + "\n" + address + "/24\nanswers"
		c.eventually("the container says "+want, func() bool { return c.ok("logs", id) == want })
		if out := c.ok("exec", "-s", id, "cat", "/proc/sys/kernel/hostname"); out != name {
			t.Errorf("the host name is %q", out)
		}
		c.ok("rmp", "-f", pod)
		c.eventually("a machine waits", func() bool { waited = c.poolStatus(); return len(waited.Waiting) == 1 })
	}
	if waited.Hits != 2 || waited.Misses != 1 {
		t.Errorf("hits and misses: %+v", waited)
	}
	if out := c.dougong("pool", "status"); !strings.Contains(out, "hits 2, misses 1") {
		t.Errorf("pool status says %s", out)
	}
}
